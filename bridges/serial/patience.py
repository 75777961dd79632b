"""How long to wait for an acknowledgement: the round trip as measured (RFC 6298), doubled with each
failure, and a little chance so that two peers do not talk over each other for ever.

Only a frame that was sent once is measured (Karn's rule): of one sent twice nobody knows which copy
was answered. So what has been doubled stays until there is a clean measurement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

_MOST_DOUBLINGS: Final = 12
_JITTER: Final = 0.25  # of the wait, added


class Patience:
    """The wait in seconds, between `shortest` and `longest`, `first` before anything is known."""

    __slots__ = (
        "_deviation",
        "_doublings",
        "_jitter",
        "_longest",
        "_rng",
        "_shortest",
        "_wait",
        "fastest",
        "round_trip",
    )

    def __init__(self, rng: Random, first: float, shortest: float, longest: float) -> None:
        self.round_trip: float | None = None  # smoothed, seconds
        self.fastest = 0.0  # the shortest round trip so far
        self._deviation = 0.0
        self._rng = rng
        self._shortest = shortest
        self._longest = longest
        self._wait = first
        self._doublings = 0
        self._jitter = 1.0

    @property
    def wait(self) -> float:
        """How long the next answer may take."""
        return min(self._wait * float(1 << self._doublings), self._longest) * self._jitter

    def measured(self, round_trip: float) -> None:
        """A frame that was sent once has been answered."""
        known = self.round_trip
        if known is None:
            self.round_trip = round_trip
            self._deviation = round_trip / 2
            self.fastest = round_trip
        else:
            self._deviation += (abs(known - round_trip) - self._deviation) / 4
            self.round_trip = known + (round_trip - known) / 8
            self.fastest = min(self.fastest, round_trip)
        wait = self.round_trip + 4 * self._deviation
        self._wait = max(wait, self._shortest)
        self._doublings = 0

    def failed(self) -> None:
        """There was no answer in time."""
        self._doublings = min(self._doublings + 1, _MOST_DOUBLINGS)
        self._jitter = 1.0 + self._rng.random() * _JITTER

    def heard_damage(self) -> None:
        """It is the noise that loses frames, not a slow peer: being patient helps nobody."""
        self._doublings = 0
