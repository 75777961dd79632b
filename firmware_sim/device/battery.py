"""A battery: what being awake, sleeping and sending takes out of it, and what it still has.

Sending is charged by airtime: bytes on the air at the radio's rate, plus the start of the radio.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

SECONDS_PER_HOUR: Final = 3600.0
_CURVE: Final = (  # what is left -> volts of one lithium cell under a small load
    (0.0, 3.00),
    (0.05, 3.35),
    (0.2, 3.60),
    (0.5, 3.75),
    (0.8, 3.95),
    (1.0, 4.18),
)


@dataclass(frozen=True, slots=True)
class BatterySettings:
    """Capacity in mAh, currents in mA, rate in bytes per second, start of the radio in seconds."""

    capacity: float = 1200.0
    asleep: float = 0.015
    awake: float = 12.0
    sending: float = 80.0
    rate: float = 12_000.0
    start: float = 0.02


class Battery:
    """What one device still has. Times in seconds."""

    __slots__ = ("_at", "_current", "_left", "settings")

    def __init__(self, settings: BatterySettings, left: float = 1.0) -> None:
        self.settings = settings
        self._left = settings.capacity * left
        self._current = 0.0  # mA, until it is switched on
        self._at = 0.0

    @property
    def left(self) -> float:
        """The part that is left, from 1.0 down to 0.0."""
        return max(self._left / self.settings.capacity, 0.0)

    @property
    def volts(self) -> float:
        """What the device would measure."""
        left = self.left
        for (low, volts), (high, more) in pairwise(_CURVE):
            if left <= high:
                return volts + (more - volts) * (left - low) / (high - low)
        return _CURVE[-1][1]

    @property
    def is_empty(self) -> bool:
        """Whether the device stops."""
        return self._left <= 0.0

    def advance(self, now: float) -> None:
        """Charge what has passed since the last call."""
        self._left -= self._current * max(now - self._at, 0.0) / SECONDS_PER_HOUR
        self._at = now

    def asleep(self, asleep: bool, now: float) -> None:
        """From now on it sleeps, or not."""
        self.advance(now)
        self._current = self.settings.asleep if asleep else self.settings.awake

    def off(self, now: float) -> None:
        """From now on it takes nothing."""
        self.advance(now)
        self._current = 0.0

    def send(self, size: int) -> None:
        """Charge `size` bytes on the air."""
        seconds = self.settings.start + size / self.settings.rate
        self._left -= self.settings.sending * seconds / SECONDS_PER_HOUR
