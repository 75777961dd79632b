"""What a scenario may say of a wire: its rate, its buffers, and what goes wrong on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmware_sim.scenario.rules import Duration, Number, Rule, Whole
from firmware_sim.wire.faults import Faults, errors
from firmware_sim.wire.uart import LaneSettings, VirtualUart

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

WAYS: Final = ("framed", "raw", "slip", "text")
_LONGEST: Final = 1e7  # seconds between two mishaps


@dataclass(frozen=True, slots=True)
class WireSettings:
    """Chances are per byte, `..._every` are means of seconds (0: never); as in `faults.Faults`."""

    baud: int = 115_200
    fifo: int = 64  # bytes the device's receiver holds
    latency: float = 0.001  # of the host's port
    poll: float = 0.0  # the device looks only so often
    errors: float = 0.0  # a mixture of all four below
    drop: float = 0.0
    flip: float = 0.0
    duplicate: float = 0.0
    burst: float = 0.0
    burst_length: int = 20
    jitter: float = 0.0
    unplug_every: float = 0.0
    unplug_seconds: float = 5.0
    stuck_every: float = 0.0
    stuck_seconds: float = 0.1

    @property
    def faults(self) -> Faults:
        """What goes wrong. Raises ValueError when it cannot be so."""
        rest = {name: getattr(self, name) for name in _FAULTS}
        if not self.errors:
            return Faults(**rest)
        mixed = errors(self.errors, Faults(burst_length=self.burst_length))
        chances = {name: getattr(mixed, name) + rest.pop(name) for name in _CHANCES}
        return Faults(**chances, **rest)


_CHANCES: Final = ("drop", "flip", "duplicate", "burst")
_FAULTS: Final = (
    *_CHANCES,
    "burst_length",
    "jitter",
    "unplug_every",
    "unplug_seconds",
    "stuck_every",
    "stuck_seconds",
)


def uart_of(settings: WireSettings, rng: Random) -> VirtualUart:
    """Make the wire."""
    faults = settings.faults
    to_device = LaneSettings(settings.baud, settings.fifo, poll=settings.poll, faults=faults)
    to_host = LaneSettings(settings.baud, latency=settings.latency, faults=faults)
    return VirtualUart(to_device, to_host, rng)


RULES: Final[Mapping[str, Rule]] = {
    "baud": Whole(300, 4_000_000),
    "fifo": Whole(1, 65_536),
    "latency": Duration(0.0, 1.0),
    "poll": Duration(0.0, 1.0),
    "errors": Number(0.0, 0.5),
    "drop": Number(0.0, 0.5),
    "flip": Number(0.0, 0.5),
    "duplicate": Number(0.0, 0.5),
    "burst": Number(0.0, 0.5),
    "burst_length": Whole(1, 10_000),
    "jitter": Duration(0.0, 10.0),
    "unplug_every": Duration(0.0, _LONGEST),
    "unplug_seconds": Duration(0.0, _LONGEST),
    "stuck_every": Duration(0.0, _LONGEST),
    "stuck_seconds": Duration(0.0, _LONGEST),
}
