"""The store's time: instants on disk that neither a restart nor a jump of the computer's clock can
spoil. A computer without a battery for its clock starts in the past and learns the time later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

JUMP = 2.0  # seconds that are no drift any more


class Timeline:
    """Instants as the store keeps them: seconds that go on evenly through restarts and through
    jumps of the computer's clock. `wall` reads that clock; it is asked for each batch.
    """

    __slots__ = ("_difference", "_offset", "wall")

    def __init__(self, wall: Callable[[], float]) -> None:
        self.wall = wall
        self._offset = 0.0
        self._difference = 0.0  # of the clock on the wall and the store's, as written last

    def begin(self, store_time: float, wall_time: float, now: float) -> None:
        """Go on where the last batch ended: as much later as the clock on the wall says, but never
        earlier, whatever it says.
        """
        wall = self.wall()
        start = store_time + max(0.0, wall - wall_time) if store_time else wall
        self._offset = start - now
        self._difference = wall_time - store_time if store_time else 0.0

    def pair(self, now: float) -> tuple[float, float]:
        """The store's time and the wall's, to be written."""
        stored, wall = now + self._offset, self.wall()
        self._difference = wall - stored
        return stored, wall

    def has_jumped(self, now: float) -> bool:
        """Whether the clock on the wall is not where it would be after the last batch. Then the
        next start would take the jump for time that has passed.
        """
        return abs(self.wall() - now - self._offset - self._difference) > JUMP

    def stored(self, instant: float) -> float:
        """An instant of the engine's clock, for the store."""
        return instant + self._offset

    def engine(self, stored: float) -> float:
        """An instant out of the store, on the engine's clock."""
        return stored - self._offset
