"""A simulated device on a real pty, opened as a gateway opens it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest
import serial

from firmware_sim.faults import Faults, Incident, What
from firmware_sim.pty import PtyWire, plain_wire, real_world
from firmware_sim.uart import DEVICE, HOST


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


def descriptors() -> int:
    return len(names(Path("/proc/self/fd")))


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
