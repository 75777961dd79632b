"""The balance of a ledger: every message counted once on each side, and the promises broken."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

from firmware_sim.books.ledger import Fate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from firmware_sim.books.ledger import Line, Stream


@dataclass(slots=True)
class Balance:
    """Numbers of messages: made = kept + dropped + in_flight + refused + acknowledged."""

    made: int = 0
    # the sender's side
    kept: int = 0
    dropped: int = 0
    in_flight: int = 0
    refused: int = 0
    acknowledged: int = 0
    # the other side
    arrived: int = 0
    once: int = 0
    repeated: int = 0  # arrived more than once
    copies: int = 0  # arrivals beyond the first
    allowed_copies: int = 0  # of those, what QoS 1 or the sender's own repetition explains
    missing: int = 0  # QoS 0: it left the device, and nobody promised more
    # broken promises
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    unknown: int = 0

    @property
    def is_good(self) -> bool:
        """Whether every promise was kept, and the columns add up."""
        sides = self.kept + self.dropped + self.in_flight + self.refused + self.acknowledged
        return not self.broken and sides == self.made and self.once + self.repeated == self.arrived

    @property
    def broken(self) -> int:
        """How many promises were broken."""
        return self.lost + self.duplicated + self.out_of_order + self.unknown

    def add(self, other: Balance) -> None:
        """Add another one's numbers."""
        for entry in fields(self):
            value = getattr(self, entry.name) + getattr(other, entry.name)
            setattr(self, entry.name, value)


_COLUMNS: Final = {
    Fate.KEPT: "kept",
    Fate.DROPPED: "dropped",
    Fate.IN_FLIGHT: "in_flight",
    Fate.REFUSED: "refused",
    Fate.ACKNOWLEDGED: "acknowledged",
}


def balance_of(streams: Iterable[Stream]) -> Balance:
    """Count the lines of some streams."""
    total = Balance()
    for stream in streams:
        for line in stream:
            _count(total, line, stream.qos)
        total.made += len(stream)
        total.out_of_order += stream.out_of_order
        total.unknown += stream.unknown
    return total


def _count(total: Balance, line: Line, qos: int) -> None:
    column = _COLUMNS[line.fate]
    setattr(total, column, getattr(total, column) + 1)
    if line.copies:
        _count_arrival(total, line, qos)
    elif line.fate is Fate.ACKNOWLEDGED and qos > 0:
        total.lost += 1
    elif line.fate is Fate.ACKNOWLEDGED:
        total.missing += 1


def _count_arrival(total: Balance, line: Line, qos: int) -> None:
    total.arrived += 1
    if line.copies == 1:
        total.once += 1
        return
    total.repeated += 1
    total.copies += line.copies - 1
    allowed = line.copies if qos == 1 else line.handed
    total.allowed_copies += min(line.copies, allowed) - 1
    total.duplicated += line.copies > allowed
