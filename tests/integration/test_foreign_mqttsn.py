"""MQTT-SN clients that others have written, at the real gateway: over UDP, and over a raw serial
wire, which to their mind is a socket.

`mqtt-sn-12` is on PyPI, tested by its author with EMQX and HiveMQ Edge. It acknowledges nothing
that comes to it (it compares a QoS with a flag), so it subscribes at QoS 0; the rest is left to the
client that the tests have written from the standard alone.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
import tty
from typing import TYPE_CHECKING, Any

import pytest
from mqttsn12.client.MqttSnClient import MqttSnClient, MqttSnListener

from tests.support.process import HOST
from tests.support.serial_bench import Bench
from tests.support.sn_carriers import Foreign, RawEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 10.0  # seconds
WAYS = ("udp", "raw")


class PatientSocket(socket.socket):
    """A client that waits for ever is no use in a test."""

    def setblocking(self, flag: bool) -> None:
        self.settimeout(PATIENCE if flag else 0)


class WireSocket:
    """What the client takes for a UDP socket: our end of a pty, a packet at a time."""

    def __init__(self, end: int) -> None:
        self._end = end
        self._timeout = PATIENCE

    def settimeout(self, seconds: float) -> None:
        self._timeout = seconds

    def setblocking(self, flag: bool) -> None:
        self._timeout = PATIENCE if flag else 0.0

    def sendto(self, data: bytes, _address: Any) -> int:
        return os.write(self._end, data)

    def recvfrom(self, _size: int) -> tuple[bytes, Any]:
        if not self._timeout and not self._is_readable():
            raise BlockingIOError
        self._timeout = PATIENCE
        head = self._read(1)
        return head + self._read(head[0] - 1), ("wire", 0)

    def close(self) -> None:
        os.close(self._end)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not self._is_readable():
                raise TimeoutError
            data += os.read(self._end, size - len(data))
        return data

    def _is_readable(self) -> bool:
        return bool(select.select([self._end], [], [], self._timeout)[0])


class Heard(MqttSnListener):  # type: ignore[misc]
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []

    def message_arrived(self, msg: Any) -> None:
        self.messages.append((msg.topic_name, bytes(msg.payload)))


@pytest.fixture
def plugged(tmp_path: Path) -> Iterator[int]:
    """Our end of a pty that the gateway finds under the name `port`."""
    end, device = os.openpty()
    tty.setraw(end)
    (tmp_path / "port").symlink_to(os.ttyname(device))
    yield end
    os.close(end)
    os.close(device)


def client_of(bench: Bench, way: str, end: int, name: str) -> MqttSnClient:
    client = MqttSnClient()
    client.set_client_id(name)
    client.set_timeout(PATIENCE)
    client.open(HOST, bench.udp_port)
    client.datagram_socket.close()
    is_udp = way == "udp"
    client.datagram_socket = (
        PatientSocket(socket.AF_INET, socket.SOCK_DGRAM) if is_udp else WireSocket(os.dup(end))
    )
    return client


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_from_pypi_publishes_subscribes_and_leaves_a_will(
    tmp_path: Path, plugged: int, way: str
) -> None:
    async with Bench(tmp_path, ["port"]) as bench:
        listener = await bench.listener("listener", "#", qos=2)
        client = client_of(bench, way, plugged, "foreign")
        client.set_will("will/topic", "gone", 1, False)
        client.set_keep_alive(1)  # it falls silent, and is lost half a second later
        try:
            await asyncio.to_thread(_converse, client, lambda: listener.publish("down/a", 1, 3))
            await bench.until(lambda: bench.ledger.got["listener", "up/long"] == [b"a", b"b", b"c"])
            assert bench.ledger.got["listener", "sh"] == [b"short"]
            await bench.until(lambda: bench.ledger.got["listener", "will/topic"] == [b"still gone"])
        finally:
            await asyncio.to_thread(client.close)


def _converse(client: MqttSnClient, answer: Callable[[], None]) -> None:
    client.send_connect()
    heard = Heard()
    client.send_subscribe("down/+", 0, heard)
    for qos, payload in enumerate((b"a", b"b", b"c")):
        client.send_publish("up/long", payload, qos)
    client.send_publish("sh", b"short", 1)
    client.send_will_message_update("still gone")
    client.send_ping_req()
    answer()
    deadline = time.monotonic() + PATIENCE
    while len(heard.messages) < 3 and time.monotonic() < deadline:
        client.polling()
    assert heard.messages == [("down/a", b"0"), ("down/a", b"1"), ("down/a", b"2")]


async def test_our_foreign_client_on_a_raw_wire_loses_nothing_in_either_direction(
    tmp_path: Path,
) -> None:
    async with Bench(tmp_path, ["port"]) as bench:
        listener = await bench.listener("listener", "up/#")
        device = Foreign(bench.ledger, "raw", clean=False)
        device.sn.connect()
        device.subscribe("down/#", 2, "down/1", "down/2")
        wire = bench.wire("port", RawEnd(bench, device), seed=1)
        await bench.until(lambda: device.sn.is_idle)
        for qos in (1, 2):
            device.publish(f"up/{qos}", qos, 20)
            listener.expect(f"up/{qos}")
            listener.publish(f"down/{qos}", qos, 20)
        wire.wake()
        await bench.settle()
        device.sn.sleep(60)
        wire.wake()
        await bench.until(lambda: device.sn.state == "asleep")
        listener.publish("down/1", 1, 5)
        await bench.until(lambda: not bench.ledger.open())
        device.sn.wake()
        wire.wake()
        await bench.settle()
