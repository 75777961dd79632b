"""A socket for datagrams serves others whatever one of them does."""

import asyncio
from typing import Any

from bridges.gateway.udp import UdpSocket
from tests.unit.mqttsn.world import World


class Transport:
    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1884)

    def sendto(self, data: bytes, place: Any) -> None:
        self.sent.append((data, place))


async def test_a_fault_of_ours_costs_one_datagram_and_port_0_is_not_answered() -> None:
    loop = asyncio.get_running_loop()
    faults: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    world, transport = World(), Transport()
    sock = UdpSocket(world.gateway, loop, ("255.255.255.255", 1884))
    sock.connection_made(transport)  # type: ignore[arg-type]
    receive = world.gateway.receive

    def fail(*_: Any) -> None:
        raise RuntimeError("a fault")

    world.gateway.receive = fail  # type: ignore[method-assign]
    sock.datagram_received(b"\x03\x01\x00", ("10.0.0.1", 5))
    world.gateway.receive = receive  # type: ignore[method-assign]
    sock.datagram_received(b"\x03\x01\x00", ("10.0.0.2", 0))
    sock.datagram_received(b"\x03\x01\x00", ("10.0.0.3", 7))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [str(each["exception"]) for each in faults] == ["a fault"]
    assert transport.sent == [(b"\x03\x02\x01", ("10.0.0.3", 7))]


async def test_what_is_for_everybody_goes_to_the_address_of_the_settings() -> None:
    world, transport = World(t_adv=900), Transport()
    sock = UdpSocket(world.gateway, asyncio.get_running_loop(), ("255.255.255.255", 1884))
    sock.connection_made(transport)  # type: ignore[arg-type]
    world.gateway.tick(1.0)
    sock._pass_on(1.0)
    assert transport.sent == [(b"\x05\x00\x01\x03\x84", ("255.255.255.255", 1884))]


async def test_an_address_of_one_link_is_answered_on_that_link() -> None:
    world, transport = World(), Transport()
    sock = UdpSocket(world.gateway, asyncio.get_running_loop(), None)
    sock.connection_made(transport)  # type: ignore[arg-type]
    for place in (("fe80::1", 1885, 0, 3), ("2001:db8::1", 1885, 0, 0)):
        sock.datagram_received(b"\x03\x01\x00", place)
    await asyncio.sleep(0)
    assert [place for _, place in transport.sent] == [
        ("fe80::1", 1885, 0, 3),
        ("2001:db8::1", 1885),
    ]
