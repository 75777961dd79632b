"""Runs a load against a broker: warm up, measure, drain, listen for strays."""

import contextlib
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.performance.brokers import Running
from tests.performance.load.clients import Readers
from tests.performance.measure import (
    Figures,
    Latencies,
    Snapshot,
    Tally,
    between,
    memory_into,
)

DRAIN_LIMIT = 5.0  # seconds for what is under way to arrive
STRAY_TIME = 0.1  # seconds in which no copy of anything may follow


@dataclass(frozen=True, slots=True)
class Budget:
    """How long to measure, and by how much to shrink the large counts."""

    seconds: float
    warm_up: float = 0.3
    shrink: int = 1


class Load(Protocol):
    """What the driver needs of a load; every socket of it is connected and subscribed."""

    readers: Readers
    latencies: Latencies
    tally: Tally

    @property
    def delivered(self) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...  # begin nothing new
    def settled(self) -> bool: ...  # everything begun has ended
    def close(self) -> None: ...  # count what is still missing as lost


class Loop:
    """One epoll set; a turn handles every socket that is ready."""

    def __init__(self, readers: Readers) -> None:
        self._readers = {client.fileno(): read for client, read in readers.items()}
        self._poll = select.epoll()
        for client in readers:
            client.setblocking(False)
            self._poll.register(client, select.EPOLLIN)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        deadline = time.perf_counter() + seconds
        poll, readers, now = self._poll.poll, self._readers, time.perf_counter
        while now() < deadline and not until():
            for descriptor, _ in poll(0.05):
                readers[descriptor]()

    def pace(self, seconds: float, pause: float, act: Callable[[], None]) -> None:
        """As `run`, with something to do at the beginning and after each pause."""
        now, due = time.perf_counter, time.perf_counter()
        deadline = due + seconds
        while due < deadline:
            act()
            due += pause
            while (left := due - now()) > 0:
                for descriptor, _ in self._poll.poll(left):
                    self._readers[descriptor]()

    def close(self) -> None:
        self._poll.close()


def drive(
    load: Load,
    broker: Running,
    budget: Budget,
    run: Callable[[Loop, float], None] = Loop.run,
) -> Figures:
    """The figures of the time measured, the faults of all of it."""
    with contextlib.closing(load), contextlib.closing(Loop(load.readers)) as loop:
        load.start()
        run(loop, budget.warm_up)
        load.latencies.clear()
        before = Snapshot.take(broker.pid, load.delivered)
        run(loop, budget.seconds)
        figures = between(before, Snapshot.take(broker.pid, load.delivered))
        memory_into(figures, broker.pid)
        load.latencies.into(figures)
        load.stop()
        loop.run(DRAIN_LIMIT, until=load.settled)
        loop.run(STRAY_TIME)
    return judged(figures, load.tally)


def judged(figures: Figures, tally: Tally) -> Figures:
    figures.duplicates = tally.duplicates
    figures.fault = tally.fault()
    return figures
