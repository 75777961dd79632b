"""Store and forward: readings wait here until the other side owns them.

What was handed over and not acknowledged is kept too, so a brown-out costs nothing: after it, all
of that is handed over once more, in order. Bounded: the oldest that was not handed over is dropped,
and the caller counts it. A `volatile` store is RAM: a brown-out empties it.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Reading(NamedTuple):
    """A message of the device: `seq` is its number in its topic."""

    topic: str
    seq: int
    payload: bytes


class Flash:
    """A ring of readings, oldest first; `window` of them may be on their way."""

    __slots__ = ("_capacity", "_tokens", "_under_way", "_volatile", "_waiting", "_window")

    def __init__(self, capacity: int, window: int = 1, *, volatile: bool = False) -> None:
        self._capacity, self._window, self._volatile = capacity, window, volatile
        self._waiting: deque[Reading] = deque()
        self._under_way: dict[int, Reading] = {}
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._under_way)

    @property
    def is_empty(self) -> bool:
        """Whether everything has been settled."""
        return not self._waiting and not self._under_way

    def store(self, reading: Reading) -> Reading | None:
        """Keep a reading; what had to make room for it, if anything."""
        self._waiting.append(reading)
        return self._waiting.popleft() if len(self) > self._capacity else None

    def offer(self) -> tuple[int, Reading] | None:
        """What is to be handed over next, with its token; None: nothing, or the window is full."""
        if not self._waiting or len(self._under_way) >= self._window:
            return None
        return self._tokens + 1, self._waiting[0]

    def handed_over(self) -> None:
        """What `offer` gave is on its way."""
        self._tokens += 1
        self._under_way[self._tokens] = self._waiting.popleft()

    def give_up(self) -> None:
        """What `offer` gave will never go."""
        self._waiting.popleft()

    def settle(self, token: int) -> Reading | None:
        """It is acknowledged or refused: gone from here. None: it was settled already."""
        return self._under_way.pop(token, None)

    def under_way(self) -> list[Reading]:
        """What is handed over and not settled, oldest first."""
        return list(self._under_way.values())

    def reset(self) -> list[Reading]:
        """A brown-out: what was on its way is not known any more. Returns what is lost."""
        again = list(self._under_way.values())
        self._under_way.clear()
        if self._volatile:
            gone = [*again, *self._waiting]
            self._waiting.clear()
            return gone
        self._waiting.extendleft(reversed(again))
        return []
