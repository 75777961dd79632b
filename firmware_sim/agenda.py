"""Who has to be woken when: one heap for thousands of machines.

The same agenda serves virtual time (the pump jumps to the next entry) and real time (the pump waits
for it). Entries of one moment come in the order in which they were made, so a run repeats exactly.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Ticking(Protocol):
    """What the agenda wakes."""

    def tick(self, now: float) -> None:
        """The deadline has come."""

    def next_deadline(self) -> float | None:
        """When to tick, if ever."""


class Agenda:
    """Deadlines of machines, and single calls. Times in seconds."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Ticking | Callable[[float], None]]] = []
        self._valid: dict[int, int] = {}  # a machine's id: the number of its only good entry
        self._wanted: dict[int, float] = {}
        self._number = 0

    def next_time(self) -> float | None:
        """When the next entry is due; it may turn out to be stale."""
        return self._heap[0][0] if self._heap else None

    def call_at(self, when: float, call: Callable[[float], None]) -> None:
        """Call once."""
        self._push(when, call)

    def refresh(self, machine: Ticking) -> None:
        """Ask a machine for its deadline, and forget the one before."""
        key, when = id(machine), machine.next_deadline()
        if when is None:
            self._valid.pop(key, None)
            self._wanted.pop(key, None)
        elif self._wanted.get(key) != when:
            self._wanted[key] = when
            self._valid[key] = self._push(when, machine)

    def run_due(self, now: float) -> None:
        """Wake all whose time has come, each at `now`."""
        while self._heap and self._heap[0][0] <= now:
            _, number, entry = heapq.heappop(self._heap)
            if not hasattr(entry, "tick"):
                entry(now)
            elif self._valid.get(id(entry)) == number:
                self._wake(entry, now)

    def _wake(self, machine: Ticking, now: float) -> None:
        del self._valid[id(machine)], self._wanted[id(machine)]
        machine.tick(now)
        self.refresh(machine)

    def _push(self, when: float, entry: Ticking | Callable[[float], None]) -> int:
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, entry))
        return self._number
