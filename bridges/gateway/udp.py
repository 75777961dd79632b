"""MQTT-SN on UDP: datagrams in and out of one Gateway.

Peers are "host:port", with "host%scope" for an address that means something on one link only. Rule
kept here: an answer goes to where the question came from and nowhere else; what is for everybody
goes to the one address that the settings name.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast

from bridges.gateway.gate import Gate

if TYPE_CHECKING:
    from bridges.mqttsn.gateway import Gateway

_IPV6 = 4  # host, port, flow, scope

log = logging.getLogger("heliograph")


class UdpSocket(asyncio.DatagramProtocol):
    """One bound socket and its Gateway; `address` has the real port where 0 was asked for."""

    def __init__(
        self, gateway: Gateway, loop: asyncio.AbstractEventLoop, everybody: tuple[str, int] | None
    ) -> None:
        self.gateway = gateway
        self.address: tuple[str, int] = ("", 0)
        self._loop = loop
        self._everybody = everybody
        self._transport: asyncio.DatagramTransport | None = None
        self._gate = Gate(gateway, loop, self._pass_on)

    async def open(self, host: str, port: int) -> None:
        """Bind; raises OSError."""
        sock = _bound(host, port)
        try:
            if self._everybody is not None:
                _speak_to_everybody(sock, self._everybody[0])
            await self._loop.create_datagram_endpoint(lambda: self, sock=sock)
        except OSError:
            sock.close()
            raise
        self.gateway.resume(self._loop.time())
        self._gate.wake()

    def close(self) -> None:
        """Say goodbye and close."""
        self.gateway.close()
        self._pass_on(self._loop.time())
        self._gate.close()
        if self._transport is not None:
            self._transport.close()

    # -- asyncio ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.address = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """A device says something. A fault of ours costs this datagram and nothing else."""
        if not addr[1]:  # nobody can be answered there
            return
        try:
            self.gateway.receive(data, self._loop.time(), _peer(addr))
        except Exception as fault:  # noqa: BLE001  whatever it is, others must be served
            what = f"fault at a datagram from {addr[0]}"
            self._loop.call_exception_handler({"message": what, "exception": fault})
        self._gate.wake()

    def error_received(self, exc: Exception) -> None:
        """A device cannot be reached: it is found out by its silence."""
        self.gateway.count(f"UDP: {exc}")

    def pause_writing(self) -> None:
        """The system takes no more for now."""
        self.gateway.is_writable = False

    def resume_writing(self) -> None:
        """It does again."""
        self.gateway.is_writable = True
        self._gate.wake()

    # -- out --------------------------------------------------------------------------------------

    def _pass_on(self, now: float) -> None:
        transport = self._transport
        if transport is None:
            return
        while self.gateway.is_writable and (sent := self.gateway.data_to_send(now, most=64)):
            for datagram in sent:
                place = self._everybody if datagram.peer is None else _place(datagram.peer)
                if place is not None:
                    transport.sendto(datagram.data, place)


def _peer(addr: tuple[Any, ...]) -> str:
    scope = f"%{addr[3]}" if len(addr) == _IPV6 and addr[3] else ""
    return f"{addr[0]}{scope}:{addr[1]}"


def _place(peer: str) -> tuple[Any, ...]:
    host, _, port = peer.rpartition(":")
    host, _, scope = host.partition("%")
    return (host, int(port), 0, int(scope)) if scope else (host, int(port))


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if sock.family is socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def _speak_to_everybody(sock: socket.socket, group: str) -> None:
    """Broadcast; or join the group, to hear those in it who look for a gateway."""
    if not ip_address(group).is_multicast:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    elif sock.family is socket.AF_INET6:
        member = socket.inet_pton(socket.AF_INET6, group) + bytes(4)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
    else:
        member = socket.inet_aton(group) + bytes(4)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
