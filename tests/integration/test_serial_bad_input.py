"""What no device should say, said to the real gateway over UDP and on a raw wire: every MQTT-SN
message truncated, with every length byte and every type, from strangers and from the connected,
with topic ids that nobody registered; frames that are too long. A sound device is served meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tty
from random import Random
from typing import TYPE_CHECKING, Self

import pytest

from firmware_sim.clients.client import Up
from tests.integration.peer import memory_of
from tests.support.process import HOST
from tests.support.serial_bench import PATIENCE, Bench
from tests.support.sn_carriers import Foreign, RawEnd, UdpCarrier
from tests.unit.mqttsn.vectors import UNREADABLE, VECTORS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BATCH = 100  # datagrams, so that no socket's buffer is full
GROWTH = 30e6  # bytes: of what is said below nothing may stay
CONNECTS = {
    "a stranger": [],
    "connected": [b"\x0d\x04\x04\x01\x00\x3c\x68\x6f\x73\x74\x69\x6c\x65"],
    "asked for its will": [b"\x0d\x04\x0c\x01\x00\x3c\x68\x6f\x73\x74\x69\x6c\x65"],
    "asleep": [b"\x0d\x04\x00\x01\x00\x3c\x68\x6f\x73\x74\x69\x6c\x65", b"\x04\x18\x00\x3c"],
}


def spoilt() -> Iterator[bytes]:
    """Everything that can be wrong with a short message, and some that are only wrong here."""
    yield from UNREADABLE.values()
    for vector in VECTORS:
        frame = vector.frame
        if len(frame) > 300 or frame[0] == 1:
            yield frame[:60_000]
            continue
        yield from (frame[:size] for size in range(1, len(frame)))
        yield from (bytes([len(frame[:size])]) + frame[1:size] for size in range(2, len(frame)))
        yield from (bytes([length]) + frame[1:] for length in range(256))
        yield from (frame[:1] + bytes([kind]) + frame[2:] for kind in range(256))
    for topic_id in (0, 1, 2, 0x6162, 0x2B23, 0xFFFF):  # nobody has registered them
        for flags in range(256):
            yield b"\x09\x0c" + bytes([flags]) + topic_id.to_bytes(2, "big") + b"\x00\x07xx"


class Hostile:
    """A UDP socket that says anything and hears nothing."""

    def __init__(self, port: int) -> None:
        self._gateway = (HOST, port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def say(self, *datagrams: bytes) -> None:
        for each in datagrams:
            self._socket.sendto(each, self._gateway)


async def sound(bench: Bench) -> tuple[Foreign, UdpCarrier]:
    """A device over UDP that is served."""
    device = Foreign(bench.ledger, "sound")
    device.sn.connect()
    listener = await bench.listener("listener", "up/#")
    listener.expect("up/2")
    return device, await UdpCarrier.open(bench, device)


async def is_served(bench: Bench, device: Foreign, carrier: UdpCarrier) -> bool:
    """Its message arrives; then all that was said before it has been dealt with."""
    device.publish("up/2", 2)
    carrier.pump()
    await bench.settle()
    return True


@pytest.mark.parametrize("state", CONNECTS)
async def test_nothing_that_is_said_over_udp_harms_the_gateway_or_another_device(
    tmp_path: Path, state: str
) -> None:
    datagrams = list(spoilt())
    async with Bench(tmp_path, []) as bench:
        device, carrier = await sound(bench)
        assert await is_served(bench, device, carrier)
        before = memory_of(bench.broker.pid)
        with Hostile(bench.udp_port) as hostile:
            for start in range(0, len(datagrams), BATCH):
                hostile.say(*CONNECTS[state], *datagrams[start : start + BATCH])
                assert await is_served(bench, device, carrier)
            hostile.say(bytes(60_000), b"\x01\xff\xff" + bytes(60_000), b"", b"\x01", b"\x01\x00")
        assert await is_served(bench, device, carrier)
        assert device.sn.connects == 1
        assert memory_of(bench.broker.pid) - before < GROWTH


class Babbler:
    """Our end of a pty: it says what it is told as fast as the gateway reads, and hears nothing."""

    def __init__(self, name: Path) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._end, device = os.openpty()
        tty.setraw(device)
        os.set_blocking(self._end, False)
        name.symlink_to(os.ttyname(device))
        self._device = device  # so that our end works before the gateway comes
        self._loop.add_reader(self._end, lambda: os.read(self._end, 65_536))

    async def say(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            while data:
                try:
                    data = data[os.write(self._end, data) :]
                except BlockingIOError:
                    self._room.clear()
                    self._loop.add_writer(self._end, self._room.set)
                    await self._room.wait()
                    self._loop.remove_writer(self._end)

    def close(self) -> None:
        self._loop.remove_reader(self._end)
        self._name.unlink()
        os.close(self._device)
        os.close(self._end)


@pytest.mark.parametrize("mode", ["mqtt-sn", "slip", "auto", "framed", "mqtt", "text"])
async def test_nothing_that_is_said_on_a_wire_harms_the_gateway_or_the_next_device(
    tmp_path: Path, mode: str
) -> None:
    rng = Random(7)
    said = [*CONNECTS["connected"], *spoilt()]
    rng.shuffle(said)
    noise = [rng.randbytes(256), bytes(65_536), b"\x01" * 65_536, rng.randbytes(65_536) + b"\0"]
    babble = b"".join([*said, *noise, b"\x01\xff\xff" + b"\x01" * 65_535])
    async with Bench(tmp_path, ["bad", "good"], mode=mode) as bench:
        device, carrier = await sound(bench)
        assert await is_served(bench, device, carrier)
        before = memory_of(bench.broker.pid)
        babbler = Babbler(tmp_path / "bad")
        for start in range(0, len(babble), 100_000):
            await babbler.say(babble[start : start + 100_000])
            assert await is_served(bench, device, carrier)
        assert device.sn.connects == 1
        assert memory_of(bench.broker.pid) - before < GROWTH
        babbler.close()
        if mode in {"auto", "framed"}:
            after = bench.device("bad", seed=2)
            await bench.until(lambda: after.count(Up) == 1)
        elif mode == "mqtt-sn":
            follower = Foreign(bench.ledger, "after")
            follower.sn.connect()
            bench.wire("bad", RawEnd(bench, follower), seed=2)
            await bench.until(lambda: follower.sn.state == "active")
