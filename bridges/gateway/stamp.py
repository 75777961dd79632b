"""When a message was sent, for devices without a clock: when it came, less half the round trip."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bridges.serial import times

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.serial.link import Link


class Stamp:
    """Seconds since 1970 as text, to the millisecond; of what comes just now.

    `link` measures the round trip; None: nobody does, and what comes was sent when it came.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self.link: Link | None = None
        self._wall = wall

    def __call__(self) -> str:
        round_trip = self.link.round_trip if self.link is not None else None
        return f"{times.stamp(self._wall(), round_trip):.3f}"
