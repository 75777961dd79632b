"""The time channel: a device without a clock asks, and halves the round trip.

    01 token                       ask
    02 token, milliseconds (8)     tell: since 1970-01-01 UTC, when the answer is handed to the link

Both go unreliably: an old answer is worth less than none. Of a few answers the fastest counts.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

_TELL: Final = Struct(">BBQ")
_ASK_SIZE: Final = 2


class TimeMessage(IntEnum):
    """The first byte."""

    ASK = 1
    TELL = 2


def answer(payload: bytes, wall: float) -> bytes | None:
    """Return what is told to who asked; `wall` in seconds since 1970. None: it is no question."""
    if len(payload) != _ASK_SIZE or payload[0] != TimeMessage.ASK:
        return None
    return _TELL.pack(TimeMessage.TELL, payload[1], int(wall * 1000))


def stamp(wall: float, round_trip: float | None) -> float:
    """Return when a message was sent by a device without a clock, of the time it arrived."""
    return wall - (round_trip or 0.0) / 2


class TimeAsker:
    """The side that wants to know; its own clock need only run evenly."""

    __slots__ = (
        "_asked_at",
        "_best",
        "_due",
        "_left",
        "_token",
        "offset",
        "period",
        "samples",
        "wait",
    )

    def __init__(self, samples: int = 4, wait: float = 1.0, period: float = 3600.0) -> None:
        self.samples = samples  # questions in a row, of which the best counts
        self.wait = wait  # seconds for an answer; a slower one is worth nothing
        self.period = period  # seconds from one row to the next
        self.offset: float | None = None  # wall clock minus own clock, seconds
        self._best = 0.0  # the round trip that the offset comes from
        self._token = 0
        self._left = samples
        self._asked_at: float | None = None
        self._due = 0.0

    def wall(self, now: float) -> float | None:
        """Return the time in seconds since 1970; None as long as nobody told."""
        return None if self.offset is None else now + self.offset

    def next_deadline(self) -> float:
        """When there is something to ask."""
        return self._due

    def question(self, now: float) -> bytes | None:
        """Take the question to send, if it is time for one."""
        if now < self._due:
            return None
        if not self._left:
            self._left = self.samples
        self._left -= 1
        self._token = (self._token + 1) % 256
        self._asked_at = now
        self._due = now + (self.wait if self._left else self.period)
        return bytes((TimeMessage.ASK, self._token))

    def receive(self, payload: bytes, now: float) -> bool:
        """Somebody told; return whether the clock was set by it."""
        asked_at = self._asked_at
        if len(payload) != _TELL.size or asked_at is None:
            return False
        kind, token, milliseconds = _TELL.unpack(payload)
        if kind != TimeMessage.TELL or token != self._token or now - asked_at > self.wait:
            return False
        self._asked_at = None
        return self._weigh(now - asked_at, milliseconds / 1000, now)

    def _weigh(self, round_trip: float, told: float, now: float) -> bool:
        is_first = self._left == self.samples - 1
        if not is_first and self.offset is not None and round_trip >= self._best:
            return False
        self._best = round_trip
        self.offset = told + round_trip / 2 - now
        return True
