"""An emulated controller behind a serial port of this computer, as if it were plugged in.

gateway <-> pty <-> wire with a baud rate <-> emulator
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Final

from firmware_sim.firmware.emulator import EmulatedEnd, Emulator
from firmware_sim.wire.pty import PtyWire
from firmware_sim.wire.uart import LaneSettings, VirtualUart
from firmware_sim.wire.worlds import RealWorld

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from firmware_sim.firmware.images import Part
    from firmware_sim.wire.faults import Faults

_NONE: Final = LaneSettings().faults


class EmulatedPort:
    """What can be done to the port, and to the controller behind it."""

    def __init__(self, wire: PtyWire, end: EmulatedEnd) -> None:
        self.emulator = end.emulator
        self.reset = wire.reset  # press the button
        self.unplug = wire.unplug
        self.replug = wire.replug
        self._wire = wire
        self._end = end

    @property
    def path(self) -> Path:
        """Where the port is, while it is plugged in."""
        return self._wire.path

    async def ended(self) -> str:
        """Wait for the emulator to end by itself; why it has."""
        await self._end.is_gone.wait()
        return self._end.failure or ""


@asynccontextmanager
async def emulated_port(
    image: Path,
    part: Part,
    path: Path,
    *,
    baud: int = 115_200,
    faults: Faults = _NONE,
    seed: int = 1,
) -> AsyncIterator[EmulatedPort]:
    """A port at `path` with the firmware behind it, running. Raises ImageError, EmulatorError."""
    world = RealWorld(asyncio.get_running_loop())
    rng = Random(seed)  # noqa: S311 - a simulation repeats
    lane = LaneSettings(baud=baud, faults=faults)
    with Emulator(image, part) as emulator:
        end = EmulatedEnd(emulator, world.loop)
        uart = VirtualUart(lane, lane, rng)
        wire = PtyWire(world, path, end, uart, rng=rng, reset=lambda _now: end)
        end.wake = wire.wake
        try:
            wire.plug()
            yield EmulatedPort(wire, end)
        finally:
            wire.close()
            world.close()
            end.close()
