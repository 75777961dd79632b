"""What the tests of the Python door share: time in hand, and a backend that can be put out of
reach, made to wait, and asked what it was told.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from itertools import count
from random import Random
from typing import Any

from bridges.queues.backend import QueueError
from bridges.queues.client import Queue
from bridges.queues.local import LocalBackend
from bridges.queues.timing import Timing
from tests.support.fake_queues import FakeQueues


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(30):
        await asyncio.sleep(0)


class HandTime:
    """A clock that stands still until it is advanced, with the engine's queues on it."""

    def __init__(self, queues: FakeQueues) -> None:
        self.now = 1000.0
        self.queues = queues
        self.slept: list[float] = []
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    @property
    def timing(self) -> Timing:
        return Timing(lambda: self.now, self.sleep, Random(7))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Second by second at most, so that the two clocks agree about what came first."""
        end = self.now + seconds
        await settle()
        while self.now < end:
            step = min(1.0, end - self.now, max(self._next() - self.now, 0.001))
            self.now += step
            self.queues.advance(step)
            while self._sleepers and self._sleepers[0][0] <= self.now + 1e-9:
                future = heapq.heappop(self._sleepers)[2]
                if not future.done():
                    future.set_result(None)
            await settle()

    def _next(self) -> float:
        return self._sleepers[0][0] if self._sleepers else float("inf")


class Unsteady:
    """The local backend behind a door that the test opens and shuts.

    `calls` counts verbs; `batches` has the receipts of each ack; `away`: every verb fails;
    `answers_lost`: what is done is done, but nobody hears of it.
    """

    def __init__(self, backend: LocalBackend) -> None:
        self.backend = backend
        self.calls: Counter[str] = Counter()
        self.batches: list[list[str]] = []
        self.leased: list[int] = []
        self.away = False
        self.answers_lost = 0
        self.gate = asyncio.Event()  # acks pass only when it is set
        self.gate.set()
        self.closed = False

    def __getattr__(self, verb: str) -> Any:
        async def call(*arguments: Any, **options: Any) -> Any:
            self.calls[verb] += 1
            self._fail_if(self.away)
            if verb == "ack":
                self.batches.append(list(arguments[0]))
                await self.gate.wait()
            if verb == "receive":
                self.leased.append(options["most"])
            result = await getattr(self.backend, verb)(*arguments, **options)
            if self.answers_lost:
                self.answers_lost -= 1
                self._fail_if(True)
            return result

        return call

    async def close(self) -> None:
        self.closed = True

    @staticmethod
    def _fail_if(failing: bool) -> None:
        if failing:
            raise QueueError("unavailable", "nobody there")


class World:
    """A fake broker, its backend, and the client's time."""

    def __init__(self, **policy: Any) -> None:
        self.queues = FakeQueues("work", **policy)
        self.backend = Unsteady(LocalBackend(self.queues, asyncio.get_running_loop()))
        self.time = HandTime(self.queues)

    def queue(self, name: str = "work") -> Queue:
        return Queue(name, backend=self.backend, timing=self.time.timing)

    def add(self, count: int) -> list[int]:
        return [self.queues.add("work", b"%d" % index) for index in range(count)]

    def states(self, name: str = "work") -> list[int]:
        """0 ready, 1 leased, 3 delayed."""
        return [each.state for each in self.queues.of(name)]
