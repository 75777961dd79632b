"""A simulated device on a real pty, opened as a gateway opens it."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest
import serial

from bridges.serial.events import Event, Received
from bridges.serial.frames import Channel
from bridges.serial.link import Link, LinkSettings
from firmware_sim.wire.faults import Faults, Incident, What, errors
from firmware_sim.wire.pty import PtyWire, plain_wire, real_world
from firmware_sim.wire.uart import DEVICE, HOST, LaneSettings, VirtualUart
from tests.support.resources import descriptors

if TYPE_CHECKING:
    from pathlib import Path

    from firmware_sim.wire.worlds import RealWorld


class Echo:
    """A device that says everything again, and Boot when it starts."""

    def __init__(self) -> None:
        self._out = b""
        self.boots = 0

    def plugged(self, _now: float) -> None:
        self.boots += 1
        self._out = b"Boot\n"

    def receive(self, data: bytes, _now: float) -> None:
        self._out += data

    def tick(self, _now: float) -> None: ...

    def next_deadline(self) -> None: ...

    def data_to_send(self) -> bytes:
        data, self._out = self._out, b""
        return data


def wire(folder: Path, baud: int = 115_200, **options: object) -> PtyWire:
    rng = Random(1)
    path = folder / "ttyHELIO0"
    return PtyWire(real_world(), path, Echo(), plain_wire(rng, baud), rng=rng, **options)  # type: ignore[arg-type]


async def hears(port: serial.Serial, count: int) -> bytes:
    """Read so many bytes, with a deadline."""
    return await asyncio.to_thread(port.read, count)


async def use(port: serial.Serial) -> None:
    while True:
        await asyncio.to_thread(port.write, b"x")
        await hears(port, 1)


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def open_port(path: Path, baud: int = 115_200) -> serial.Serial:
    return serial.Serial(str(path), baud, timeout=10)


async def test_a_port_carries_bytes_both_ways(tmp_path: Path) -> None:
    with wire(tmp_path) as device:
        device.plug()
        with open_port(device.path) as port:
            port.write(b"hello")
            assert (await hears(port, 5))[-5:] in {b"hello", b"Boot\n"}


async def test_an_unplugged_port_fails_and_comes_back_under_its_name(tmp_path: Path) -> None:
    with wire(tmp_path) as device:
        device.plug()
        with open_port(device.path) as port:
            device.unplug()
            assert not device.path.is_symlink()
            with pytest.raises((OSError, serial.SerialException)):
                await use(port)
        device.replug()
        with open_port(device.path) as port:
            port.write(b"again")
            assert b"again" in await hears(port, 5)
        device.replug(tmp_path / "ttyHELIO7")
        assert names(tmp_path) == ["ttyHELIO7"]
        assert device.line.device.boots == 1  # type: ignore[attr-defined]


async def test_a_thousand_plugs_leave_no_descriptor(tmp_path: Path) -> None:
    with wire(tmp_path) as device:
        device.plug()
        before = descriptors()
        for _ in range(1000):
            device.unplug()
            device.replug()
        assert descriptors() == before
        assert device.host.counters.opened == 1001
    assert not names(tmp_path)
    assert descriptors() == before - 2


async def test_what_the_wire_cannot_take_waits_with_the_gateway(tmp_path: Path) -> None:
    with wire(tmp_path, baud=9600) as device:
        device.plug()
        with open_port(device.path, 9600) as port:
            await asyncio.to_thread(port.write, bytes(500))
            assert device.line.uart.lanes[HOST].counters.written < 300  # half a second of wire
            got = b""
            while got.count(0) < 500:
                got += await hears(port, 1)
            assert device.line.uart.lanes[DEVICE].counters.overrun == 0


async def test_a_wrong_speed_is_heard_as_garbage(tmp_path: Path) -> None:
    with wire(tmp_path, strict_baud=115_200) as device:
        device.plug()
        with open_port(device.path, 9600) as port:
            port.write(bytes(50))
            assert (await hears(port, 50)).count(0) < 10
            port.baudrate = 115_200
            port.write(b"clear")
            heard = await asyncio.to_thread(port.read_until, b"clear")
            assert heard.endswith(b"clear")


class Reader:
    """The gateway's end of a link, on whatever port is there."""

    def __init__(self, world: RealWorld) -> None:
        self.world = world
        self.link = Link(LinkSettings(uid=b"gw", rate=11_520.0), Random(2))
        self.got: list[bytes] = []
        self.want = 0
        self.has_enough = asyncio.Event()
        self.port: serial.Serial | None = None
        world.add(self)

    def open(self, path: Path) -> None:
        self.port = serial.Serial(str(path), 115_200, timeout=0)
        self.link.plugged(self.world.now)
        self.world.loop.add_reader(self.port.fileno(), self.read)
        self.world.wake(self)

    def close(self) -> None:
        if self.port is not None:
            self.world.loop.remove_reader(self.port.fileno())
            self.port.close()
            self.port = None
            self.take(self.link.receive(b"", self.world.now))

    def read(self) -> None:
        assert self.port is not None
        try:
            data = self.port.read(4096)
        except (OSError, serial.SerialException):
            self.close()
            return
        self.take(self.link.receive(data, self.world.now))
        self.world.wake(self)

    def step(self, now: float) -> None:
        if (when := self.link.next_deadline()) is not None and when <= now:
            self.take(self.link.tick(now))
        if self.port is not None and (data := self.link.data_to_send()):
            self.port.write(data)

    def next_deadline(self) -> float | None:
        return self.link.next_deadline()

    def take(self, events: list[Event]) -> None:
        self.got += [event.payload for event in events if isinstance(event, Received)]
        if len(self.got) >= self.want:
            self.has_enough.set()

    async def has(self, count: int) -> None:
        """Until so many messages are there."""
        self.want = count
        self.has_enough.clear()
        if len(self.got) < count:
            async with asyncio.timeout(20):
                await self.has_enough.wait()


async def test_a_bad_wire_that_is_unplugged_now_and_then_delivers_everything(
    tmp_path: Path,
) -> None:
    world, rng = real_world(), Random(4)
    lane = LaneSettings(faults=errors(0.01))
    device = Link(LinkSettings(uid=b"dev", queue=60), rng)
    messages = [bytes((number,)) * 20 for number in range(60)]
    with PtyWire(world, tmp_path / "tty0", device, VirtualUart(lane, lane, rng), rng=rng) as wire:
        gateway = Reader(world)
        for number in range(3):
            wire.replug() if number else wire.plug()
            gateway.open(wire.path)
            for message in messages[number * 20 : number * 20 + 20]:
                assert device.send(Channel.MQTT_SN, message, world.now)
            wire.wake()
            await gateway.has(number * 20 + 5)
            if number < 2:
                wire.unplug()
                gateway.close()
        await gateway.has(60)
        gateway.close()
        world.close()
    assert gateway.got == messages


async def test_planned_faults_happen_by_themselves(tmp_path: Path) -> None:
    faults = Faults(schedule=(Incident(0.05, What.UNPLUG, 0.1), Incident(0.2, What.RESET)))
    with wire(tmp_path, faults=faults) as device:
        device.plug()
        ticks = asyncio.Event()
        device.world.at(0.3, ticks.set)
        async with asyncio.timeout(10):
            await ticks.wait()
        assert device.host.counters.opened == 2
        assert device.line.device.boots == 2  # type: ignore[attr-defined]


async def test_a_name_that_is_that_of_a_file_stays_the_files(tmp_path: Path) -> None:
    (tmp_path / "ttyHELIO0").write_text("precious")
    with wire(tmp_path) as device, pytest.raises(FileExistsError, match="is no simulated port"):
        device.plug()
    assert (tmp_path / "ttyHELIO0").read_text() == "precious"
