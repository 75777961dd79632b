"""The boards of a run: the firmware of every device that is no model, built, stamped and, if need
be, standing in an emulator before the run begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmware_sim.books.books import COMMAND
from firmware_sim.firmware.emulator import EmulatedEnd, Emulator, EmulatorError
from firmware_sim.firmware.identity import Identity
from firmware_sim.firmware.images import ImageError
from firmware_sim.firmware.workshop import Workshop, WorkshopError
from firmware_sim.fleet.crew import chance
from firmware_sim.fleet.fleet import FleetError
from firmware_sim.scenario.scenario import COMPILED, MODEL

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from firmware_sim.firmware.compiled import CompiledDevice
    from firmware_sim.scenario.scenario import Kind, Scenario

_NONCES: Final = 0xFFFF


class Boards:
    """Ends with `close`. `run` tells this run from others of the same scenario."""

    def __init__(self, scenario: Scenario, run: str) -> None:
        self._scenario, self._run = scenario, run
        self._workshop: Workshop | None = None
        self._compiled: dict[str, CompiledDevice] = {}
        self._emulators: dict[str, Emulator] = {}

    def prepare(self) -> None:
        """Make them all, which takes a second or two. Raises FleetError."""
        kinds = [kind for kind in self._scenario.kinds if kind.level != MODEL]
        if not kinds:
            return
        self._workshop = Workshop()
        try:
            for kind in kinds:
                for name in kind.names():
                    self._make(self._workshop, kind, name)
        except (WorkshopError, EmulatorError, ImageError) as error:
            raise FleetError(f"{kind.kind}: {error}") from None

    def compiled(self, name: str) -> CompiledDevice:
        """The board of a device whose firmware is compiled for this computer."""
        return self._compiled[name]

    def emulated(self, name: str, loop: AbstractEventLoop) -> EmulatedEnd:
        """The board of a device in an emulator; who takes it closes it."""
        return EmulatedEnd(self._emulators.pop(name), loop)

    def close(self) -> None:
        """Give everything back."""
        for emulator in self._emulators.values():
            emulator.close()
        self._emulators.clear()
        if self._workshop is not None:
            self._workshop.close()

    def _make(self, workshop: Workshop, kind: Kind, name: str) -> None:
        identity = self._identity(kind, name)
        if kind.level == COMPILED:
            self._compiled[name] = workshop.compiled(identity)
        else:
            self._emulators[name] = workshop.emulated(identity, kind.part)

    def _identity(self, kind: Kind, name: str) -> Identity:
        assert kind.interval is not None
        topic = kind.topic_of(name)
        return Identity(
            name,
            topic,
            kind.interval,
            kind.qos,
            kind.keep_alive,
            not kind.is_durable,
            "" if kind.commands is None else topic + COMMAND,
            round(kind.sleep_limit) if kind.sleeps else 0,
            chance(self._scenario, f"{name}/{self._run}").randint(1, _NONCES),
        )
