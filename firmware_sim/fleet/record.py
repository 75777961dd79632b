"""What was seen over time: a sample now and then, so that a report can draw it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from firmware_sim.books.books import Books, Presence
    from firmware_sim.fleet.crew import Device

SAMPLES = 240  # in a whole run


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment. Battery: the mean and the lowest part that is left, by kind."""

    at: float
    online: int
    asleep: int
    presence: Presence  # so far
    handed: int
    acknowledged: int
    arrived: int
    battery: Mapping[str, tuple[float, float]]
    quality: Mapping[str, float] = field(default_factory=dict)  # 1.0: nothing was repeated


class Record:
    """The samples of a run, and what happened to it."""

    def __init__(self, every: float) -> None:
        self.every = every
        self.samples: list[Sample] = []
        self.notes: list[tuple[float, str]] = []

    def note(self, now: float, text: str) -> None:
        """Something happened."""
        self.notes.append((now, text))

    def take(
        self, now: float, books: Books, devices: Iterable[Device], quality: Mapping[str, float]
    ) -> None:
        """Take a sample."""
        ledger = books.ledger
        self.samples.append(
            Sample(
                now,
                sum(books.online.values()),
                books.asleep,
                books.presence(now),
                ledger.handed,
                ledger.acknowledged,
                ledger.arrived,
                _batteries(devices, now),
                quality,
            )
        )


def _batteries(devices: Iterable[Device], now: float) -> dict[str, tuple[float, float]]:
    found: dict[str, list[float]] = {}
    for device in devices:
        battery = device.application.battery
        if battery is not None:
            battery.advance(now)
            found.setdefault(device.kind.kind, []).append(battery.left)
    return {kind: (sum(left) / len(left), min(left)) for kind, left in found.items()}
