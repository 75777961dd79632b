"""When something must be looked at again: all deadlines of the engine in buckets of a quarter of a
second.

Nothing is re-armed when a packet arrives: what is due is asked for its next deadline when its
bucket comes, and armed anew if that lies ahead. So ten thousand keep-alives cost one dictionary
entry each, and nothing per packet.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

BUCKETS_PER_SECOND = 4
SPARE_PLACES = 64  # places of dropped buckets that may stay in the order


class Timed(Protocol):
    """What has a deadline. `armed_for` belongs to Deadlines."""

    armed_for: int | None

    def next_deadline(self) -> float | None:
        """The instant of interest; None when there is none any more."""

    def tick(self, now: float) -> None:
        """The deadline may have come."""


class Timer:
    """One call at one instant."""

    __slots__ = ("_call", "_when", "armed_for")

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self._when: float | None = when
        self._call = call
        self.armed_for: int | None = None

    def next_deadline(self) -> float | None:
        """When the call will be made."""
        return self._when

    def tick(self, now: float) -> None:
        """Make the call when it is time."""
        if self._when is not None and now >= self._when:
            self._when = None
            self._call()

    def cancel(self) -> None:
        """Make no call."""
        self._when = None


class Deadlines:
    """Timed things by the bucket in which they must be asked again."""

    __slots__ = ("_buckets", "_order", "on_earlier", "on_fault")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[Timed, None]] = {}
        self._order: list[int] = []
        self.on_earlier: Callable[[], None] | None = None  # the next deadline has moved forward
        self.on_fault: Callable[[Exception], None] | None = None  # a tick has raised it

    def arm(self, timed: Timed) -> None:
        """Take note that the next deadline of `timed` may have come nearer, or is none any more."""
        self._arm_after(timed, 0)

    def after(self, delay: float, now: float, call: Callable[[], None]) -> Timer:
        """Arrange one call, `delay` seconds from `now`."""
        timer = Timer(now + delay, call)
        self.arm(timer)
        return timer

    def disarm(self, timed: Timed) -> None:
        """Forget `timed`."""
        if timed.armed_for is not None:
            members = self._buckets[timed.armed_for]
            members.pop(timed, None)
            if not members:
                self._drop(timed.armed_for)
            timed.armed_for = None

    def next_deadline(self) -> float | None:
        """When `tick` should be called next."""
        while self._order and self._order[0] not in self._buckets:
            heapq.heappop(self._order)
        return self._order[0] / BUCKETS_PER_SECOND if self._order else None

    def tick(self, now: float) -> None:
        """Ask everything that is due, and arm it anew if its time has not come.

        What is still due after its tick is asked again in the next bucket, not in this round: one
        that never tires of being due must not stop the others.
        """
        asked: list[Timed] = []
        while self._order and self._order[0] <= now * BUCKETS_PER_SECOND:
            due = self._buckets.pop(heapq.heappop(self._order), {})
            for timed in due:
                timed.armed_for = None
            for timed in due:
                self._ask(timed, now)
            asked.extend(due)
        for timed in asked:
            self._arm_after(timed, int(now * BUCKETS_PER_SECOND))

    def _ask(self, timed: Timed, now: float) -> None:
        """Tick one; a fault of ours in it must not cost the others their deadlines."""
        try:
            timed.tick(now)
        except Exception as fault:
            if self.on_fault is None:
                raise
            self.on_fault(fault)

    def _arm_after(self, timed: Timed, past: int) -> None:
        """Arm for the bucket of the deadline, or the first one after `past`."""
        deadline = timed.next_deadline()
        if deadline is None:
            self.disarm(timed)
            return
        bucket = max(int(deadline * BUCKETS_PER_SECOND), past) + 1
        if timed.armed_for is not None:
            if timed.armed_for <= bucket:
                return
            self.disarm(timed)
        self._put(timed, bucket)

    def _put(self, timed: Timed, bucket: int) -> None:
        timed.armed_for = bucket
        members = self._buckets.get(bucket)
        if members is not None:
            members[timed] = None
            return
        self._buckets[bucket] = {timed: None}
        heapq.heappush(self._order, bucket)
        if self._order[0] == bucket and self.on_earlier is not None:
            self.on_earlier()

    def _drop(self, bucket: int) -> None:
        """Drop an empty bucket: clients that come and go with ever new expiries must not leave
        theirs behind. Its place in the order goes now and then, with others.
        """
        del self._buckets[bucket]
        if len(self._order) > 2 * len(self._buckets) + SPARE_PLACES:
            self._order = list(self._buckets)
            heapq.heapify(self._order)
