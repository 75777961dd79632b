"""Time and chance as the client meets them, so that a test can hand in its own; and patience: how
long to wait before what has failed is tried again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 15.0  # seconds


@dataclass(frozen=True, slots=True)
class Timing:
    """`now` is a monotonic clock in seconds, `sleep` waits so many of them."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep
    rng: Random = field(default_factory=Random)


class Patience:
    """Pauses that double up to a bound, of which chance takes up to a half: many clients that have
    lost the same broker do not all come back at once.
    """

    __slots__ = ("_failures", "_timing")

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._failures = 0

    @property
    def is_tried(self) -> bool:
        """Whether something has failed since the last success."""
        return self._failures > 0

    async def pause(self) -> None:
        """Something has failed: wait."""
        longest = min(FIRST_PAUSE * 2.0 ** min(self._failures, 64), LONGEST_PAUSE)
        self._failures += 1
        await self._timing.sleep(longest * self._timing.rng.uniform(0.5, 1.0))

    def succeeded(self) -> None:
        """The next pause is the first again."""
        self._failures = 0
