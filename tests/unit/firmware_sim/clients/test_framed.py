"""What else goes over a framed wire: files, the time, the log."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from typing import Any

import pytest

from bridges.serial import times
from bridges.serial.events import Opened, Received, Restarted
from bridges.serial.files import FileSender, Outcome
from bridges.serial.frames import Capability, Channel
from bridges.serial.link import Link, LinkSettings
from firmware_sim.clients.framed import FramedClient, FramedSettings, sleeping
from firmware_sim.clients.shelf import MemoryShelf
from firmware_sim.clients.sn import SnSettings
from firmware_sim.wire.faults import NONE, Faults, Incident, What, errors
from firmware_sim.wire.uart import LaneSettings, VirtualUart
from firmware_sim.wire.worlds import Line, VirtualWorld

WALL = 1_800_000_000.0  # of the gateway, when the world begins
IMAGE = Random(1).randbytes(20_000)


class Source:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


class FileHost:
    """A gateway's end that sends a file, tells the time and keeps the log."""

    def __init__(self, world: VirtualWorld, image: bytes, digest: bytes) -> None:
        self.world = world
        self.link = Link(LinkSettings(uid=b"gw", rate=11_520.0), Random(3))
        self.sender = FileSender(1, "firmware.bin", len(image), digest, Source(image))
        self.log: list[str] = []
        self.capabilities = Capability.NONE
        self._is_open = False
        self.plugged = self.link.plugged
        self.next_deadline = self.link.next_deadline

    def receive(self, data: bytes, now: float) -> None:
        for event in self.link.receive(data, now):
            self._take(event, now)

    def tick(self, now: float) -> None:
        for event in self.link.tick(now):
            self._take(event, now)

    def data_to_send(self) -> bytes:
        link = self.link
        while self._is_open and link.writable(Channel.FILES):
            payload = self.sender.payload(min(link.payload_limit, 200))
            if payload is None:
                break
            link.send(Channel.FILES, payload, self.world.now)
        return link.data_to_send()

    def _take(self, event: Any, now: float) -> None:
        if isinstance(event, Restarted):
            self.sender.restart()
            self._is_open = False
        elif isinstance(event, Opened):
            self._is_open = True
            self.capabilities = event.peer.capabilities
        elif isinstance(event, Received):
            self._take_payload(event, now)

    def _take_payload(self, event: Received, now: float) -> None:
        if event.channel == Channel.FILES:
            self.sender.receive(event.payload)
        elif event.channel == Channel.LOG:
            self.log.append(event.payload.decode())
        elif event.channel == Channel.TIME:
            told = times.answer(event.payload, WALL + now)
            assert told is not None
            self.link.send_once(Channel.TIME, told, now)


class Bench:
    """A device that takes files, and its gateway. The flash outlives a reset."""

    def __init__(self, faults: Faults = NONE, digest: bytes = b"", capacity: int = 1 << 20) -> None:
        self.rng = Random(5)
        self.world = VirtualWorld()
        self.shelf = MemoryShelf(capacity)
        self.host = FileHost(self.world, IMAGE, digest or sha256(IMAGE).digest())
        lane = LaneSettings(faults=faults)
        uart = VirtualUart(lane, lane, self.rng)
        self.device = self.new_device(0.0)
        self.line = Line.with_faults(
            uart, self.host, self.device, faults, rng=self.rng, reset=self.new_device
        )
        self.line.plug(0.0)
        self.line.power_on(0.0)
        self.world.add(self.line)

    def new_device(self, _now: float) -> FramedClient:
        settings = FramedSettings(
            SnSettings("dev"), LinkSettings(uid=b"dev", firmware="1.0"), asks_time=True
        )
        self.device = FramedClient(settings, Random(self.rng.random()), self.shelf)
        return self.device

    def is_over(self) -> bool:
        return self.host.sender.outcome is not Outcome.UNDERWAY


@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_a_file_arrives(rate: float) -> None:
    bench = Bench(errors(rate))
    assert bench.world.run(600, bench.is_over)
    assert bench.host.sender.outcome is Outcome.DONE
    assert bench.shelf.files == {"firmware.bin": IMAGE}


def test_a_file_is_resumed_after_cuts_and_resets() -> None:
    schedule = (
        Incident(0.5, What.RESET),
        Incident(0.8, What.UNPLUG, 1.0),
        Incident(2.3, What.BROWN_OUT, 2.0),
    )
    bench = Bench(errors(0.002, Faults(schedule=schedule)))
    assert bench.world.run(600, bench.is_over)
    assert bench.shelf.files == {"firmware.bin": IMAGE}
    assert len(bench.shelf.resumed) == 2
    assert 0 < bench.shelf.resumed[0] < bench.shelf.resumed[1] < len(IMAGE)


def test_a_wrong_file_is_refused() -> None:
    bench = Bench(digest=bytes(32))
    assert bench.world.run(600, bench.is_over)
    assert bench.host.sender.outcome is Outcome.DAMAGED
    assert (bench.shelf.files, bench.shelf.discarded) == ({}, 1)


def test_a_file_without_room_is_refused() -> None:
    bench = Bench(capacity=1000)
    assert bench.world.run(600, bench.is_over)
    assert bench.host.sender.outcome is Outcome.REFUSED


def test_a_device_without_a_clock_learns_the_time() -> None:
    bench = Bench()
    assert bench.device.wall(0.0) is None
    bench.world.run(10.0)
    assert bench.device.wall(10.0) == pytest.approx(WALL + 10.0, abs=0.005)


def test_the_log_reaches_the_gateway_and_never_blocks_the_device() -> None:
    bench = Bench()
    bench.world.run(1.0)
    for number in range(100):
        bench.device.log(f"line {number}", 1.0)
    bench.world.wake(bench.line)
    bench.world.run(5.0)
    assert bench.host.log == [f"line {number}" for number in range(16)]
    assert bench.device.log_dropped == 84


def test_a_device_says_what_it_can() -> None:
    bench = Bench()
    bench.world.run(1.0)
    assert Capability.FILES | Capability.TIME in bench.host.capabilities
    assert Capability.SLEEPS not in bench.host.capabilities
    assert Capability.SLEEPS in sleeping(LinkSettings()).capabilities
