"""The leases that this program holds, renewed while their messages are worked on.

Rule kept here: a lease is renewed when half of it is over, and no more once its message has been
held for `longest` seconds: a program that hangs loses its messages to the others.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridges.queues.backend import MOST_AT_ONCE, OK, QueueError
from bridges.queues.received import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bridges.queues.backend import Backend
    from bridges.queues.received import Received
    from bridges.queues.timing import Timing

RENEWED_AFTER = 0.5  # of a lease
TRIED_AGAIN_AFTER = 0.1  # of a lease
GATHERED = 0.05  # of a lease: what is due so soon goes along


@dataclass(slots=True)
class _Lease:
    seconds: float
    ends: float
    due: float  # when it is renewed; when it is not renewed any more, its end
    given_up: float  # from then on it is not renewed
    on_lost: Callable[[Received], None]


class Keeper:
    """Renews leases with one backend. Its task lives only while there are any."""

    __slots__ = ("_backend", "_earlier", "_leases", "_task", "_timing")

    def __init__(self, backend: Backend, timing: Timing) -> None:
        self._backend = backend
        self._timing = timing
        self._leases: dict[Received, _Lease] = {}
        self._earlier = asyncio.Event()  # something may be due before the task awakes
        self._task: asyncio.Task[None] | None = None

    @property
    def held(self) -> list[Received]:
        """What is leased and not settled, the oldest first."""
        return list(self._leases)

    def add(
        self,
        received: Received,
        seconds: float,
        longest: float,
        on_lost: Callable[[Received], None],
    ) -> None:
        """Keep a message that has just been leased. `on_lost` is called when that fails."""
        now = self._timing.now()
        self._leases[received] = _Lease(
            seconds, now + seconds, now + seconds * RENEWED_AFTER, now + longest, on_lost
        )
        self._earlier.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def drop(self, received: Received) -> None:
        """It is settled."""
        self._leases.pop(received, None)

    async def renew(self, received: Received, seconds: float | None) -> None:
        """At once, and whatever `longest` says. Raises LeaseLost, QueueError."""
        lease = self._leases.get(received)
        if lease is None:
            raise LeaseLost(received.id, received.queue)
        seconds = seconds or lease.seconds
        results = await self._backend.renew([received.receipt], seconds)
        self._on_result(received, results[0], seconds)
        self._earlier.set()
        if received.lost:
            raise LeaseLost(received.id, received.queue)

    async def close(self) -> None:
        """Nothing is renewed any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while self._leases:
            self._earlier.clear()
            pause = min(lease.due for lease in self._leases.values()) - self._timing.now()
            if pause > 0:
                await self._rest(pause)
            else:
                await self._work()

    async def _rest(self, seconds: float) -> None:
        """So long, or until something is due earlier."""
        tasks = [
            asyncio.ensure_future(self._timing.sleep(seconds)),
            asyncio.ensure_future(self._earlier.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _work(self) -> None:
        now = self._timing.now()
        for received, lease in list(self._leases.items()):
            if now >= lease.ends:
                self._lose(received)
            elif now >= lease.given_up:
                lease.due = lease.ends
        for seconds, due in self._due(now).items():
            for first in range(0, len(due), MOST_AT_ONCE):
                some = due[first : first + MOST_AT_ONCE]
                await self._renew([each for each in some if each in self._leases], seconds)

    def _due(self, now: float) -> dict[float, list[Received]]:
        """By the length of the lease, for one call renews for one length."""
        groups: dict[float, list[Received]] = {}
        for received, lease in self._leases.items():
            if lease.due <= now + lease.seconds * GATHERED and lease.due < lease.ends:
                groups.setdefault(lease.seconds, []).append(received)
        return groups

    async def _renew(self, some: Sequence[Received], seconds: float) -> None:
        try:
            results = await self._backend.renew([each.receipt for each in some], seconds)
        except QueueError:
            self._try_again_later(some, seconds)
            return
        for received, result in zip(some, results, strict=True):
            self._on_result(received, result, seconds)

    def _try_again_later(self, some: Sequence[Received], seconds: float) -> None:
        share = TRIED_AGAIN_AFTER * self._timing.rng.uniform(0.5, 1.0)
        for received in some:
            if (lease := self._leases.get(received)) is not None:
                lease.due = min(self._timing.now() + seconds * share, lease.ends)

    def _on_result(self, received: Received, result: str, seconds: float) -> None:
        lease = self._leases.get(received)
        if lease is None:  # settled meanwhile
            return
        if result != OK:
            self._lose(received)
            return
        now = self._timing.now()
        lease.ends = now + seconds
        lease.due = now + seconds * RENEWED_AFTER

    def _lose(self, received: Received) -> None:
        lease = self._leases.pop(received)
        received.lost = True
        lease.on_lost(received)
