"""A client that is a blocking socket and our codec, nothing else: as rude as a test wants it."""

from __future__ import annotations

import re
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from broker.packets.decode import decode
from broker.packets.encode import encode
from broker.packets.reader import Reader
from broker.packets.types import (
    Connack,
    Connect,
    Packet,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)

if TYPE_CHECKING:
    import socket

    from tests.support.process import BrokerProcess, Certificates, Endpoint

P = TypeVar("P")

PATIENCE = 10.0  # seconds: only a hang reaches it


class Peer:
    """`with Peer(socket) as peer:`; every wait is bounded."""

    def __init__(self, sock: socket.socket, version: int = 5) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE)
        self.version = version
        self._reader = Reader()
        self._received: list[Packet] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    @classmethod
    def of(cls, broker: BrokerProcess, version: int = 5) -> Self:
        """A peer at the broker's plain TCP listener."""
        return cls(broker.endpoints["tcp"].open_socket(), version)

    def connect(self, client_id: str = "", **fields: Any) -> Connack:
        """Send CONNECT and return the CONNACK."""
        self.send(Connect(client_id, version=self.version, **fields))
        return self.take(Connack)

    def subscribe(self, topic_filter: str, qos: int = 0) -> None:
        self.send(Subscribe(1, [SubscriptionRequest(topic_filter, qos)]))
        assert self.take(Suback).reasons == [qos]

    def send(self, *packets: Packet) -> None:
        self.sock.sendall(b"".join(encode(each, self.version) for each in packets))

    def take(self, kind: type[P]) -> P:
        """The next packet, which must be of this type."""
        packet = self._next()
        assert isinstance(packet, kind), f"expected {kind.__name__}, got {packet}"
        return packet

    def take_message(self) -> tuple[str, bytes]:
        publish = self.take(Publish)
        return publish.topic, publish.payload

    def is_cut_off(self) -> bool:
        """Wait for the end of the connection; nothing may come before it."""
        assert self._next() is None
        return True

    def _next(self) -> Packet | None:
        while not self._received:
            data = b""
            with suppress(ConnectionError, ssl.SSLError):
                data = self.sock.recv(65_536)
            if not data:
                return None
            buffer, packets = self._reader.cut(data)
            self._received += [decode(f, buffer, a, b, self.version) for f, a, b in packets]
        return self._received.pop(0)


def is_served(peer: Peer, name: str) -> bool:
    """Whether a client gets in, and gets its own message back."""
    with peer:
        assert peer.connect(name).reason == 0
        peer.subscribe(name)
        peer.send(Publish(name, b"hello"))
        return peer.take_message() == (name, b"hello")


def encrypted(
    endpoint: Endpoint, certificates: Certificates, context: ssl.SSLContext | None = None
) -> ssl.SSLSocket:
    """A TLS connection to an endpoint."""
    context = context or trusting(certificates)
    return context.wrap_socket(endpoint.open_socket(), server_hostname=endpoint.host)


def trusting(certificates: Certificates, *, show_certificate: bool = False) -> ssl.SSLContext:
    """A client's context that knows the test authority."""
    context = ssl.create_default_context(cafile=str(certificates.authority))
    if show_certificate:
        context.load_cert_chain(str(certificates.client), str(certificates.client_key))
    return context


def memory_of(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def wait_for_log(broker: BrokerProcess, pattern: str) -> None:
    deadline = time.monotonic() + 10
    while not re.search(pattern, broker.log):
        assert time.monotonic() < deadline, f"{pattern!r} is not in the log:\n{broker.log}"
        time.sleep(0.05)  # a log tells nobody when it grows: ask again
