"""The torture: load, death at a random moment, restart; every few rounds a drain and a judgement.

Everything random comes from one seed. What is left to chance is the machine: the same seed gives
the same plan, not the same interleaving.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.crash import wire
from tests.crash.clients import Client, Publisher, Reader, Subscriber, first_of
from tests.crash.ledger import Ledger
from tests.crash.queues import WORKERS, Queues

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.ledger import Message
    from tests.crash.victim import Victim

SHORTEST = 0.1  # seconds of load before a death
LONGEST_DRAIN = 90.0  # seconds: a broker that repeats itself for ever must not keep us
TOPICS = 4  # of each publisher
RETAINED_TOPICS = 16  # ... that retains: only what is last on a topic tells something
LARGE, LARGE_SHARE = 100 * 1024, 0.005
SMALL = 2048
TICK, BURST = 0.01, 80  # seconds; messages
SURGE, SURGE_TIME = 300, 0.06  # messages of each; seconds at most between it and the death
CLEARING_SHARE = 0.2  # of retained messages
FENCES = ("t/fence/0", "t/fence/1")
MOVING = ("delivered", "consumed", "acknowledged", "sent")  # while they rise there is progress
RETAINED_FENCE = "r/~"  # the last one in the order of bytes

# name: QoS, window, version, durable
PUBLISHERS = {
    "p1": (1, 1, wire.V3_1_1, True),
    "p2": (1, 64, wire.V5, True),
    "p3": (2, 32, wire.V5, True),
    "p4": (2, 1, wire.V3_1_1, True),
    "p5": (1, 16, wire.V5, False),
    "p6": (2, 8, wire.V3_1_1, False),
    "r1": (1, 8, wire.V5, True),
    "r2": (2, 4, wire.V3_1_1, True),
    "r3": (1, 2, wire.V5, False),
    "fence": (2, 1, wire.V5, True),
    "r~": (1, 1, wire.V5, True),
}
RETAINING = {"r1", "r2", "r3"}
FENCING = {"fence", "r~"}

STAYS, WANDERS, ABSENT = "stays", "wanders", "absent"

# name: filters, how it behaves in a round, and the rest
SUBSCRIBERS: dict[str, tuple[dict[str, int], str, dict[str, Any]]] = {
    "all": ({"t/#": 2}, STAYS, {}),
    "old": ({"t/#": 1}, STAYS, {"version": wire.V3_1_1}),
    "narrow": ({"t/#": 2}, WANDERS, {"receive_maximum": 5}),
    "part": ({"t/+/1": 2, "t/+/2": 1}, WANDERS, {"version": wire.V3_1_1, "is_slow": True}),
    "single": ({"t/p1/#": 1, "t/p4/#": 2}, WANDERS, {"receive_maximum": 1, "is_slow": True}),
    "absent": ({"t/#": 2}, ABSENT, {"receive_maximum": 50}),
    "absent-old": ({"t/p2/#": 1, "t/p3/+": 2}, ABSENT, {"version": wire.V3_1_1}),
    "retained": ({"r/#": 1}, WANDERS, {}),
    "member-1": ({"t/#": 2}, STAYS, {"group": "group"}),
    "member-2": ({"t/#": 2}, WANDERS, {"group": "group", "receive_maximum": 10}),
    "member-3": ({"t/#": 2}, ABSENT, {"group": "group"}),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall be done. `deaths`: the ways to die (victim.py), one is drawn each time."""

    rounds: int = 25
    seed: int = 0
    drain_every: int = 5
    longest: float = 1.5  # seconds of load in a round
    deaths: tuple[str, ...] = ("alone", "all", "children first")
    early_deaths: float = 0.1  # share of the starts that are killed too
    has_queues: bool = True  # the broker has some
    bursts: float = 0.03  # share of the ticks in which a publisher may send many at once
    taken_over_by: int = wire.PUBREC
    patience: float = 5.0  # seconds in which nothing comes: then nothing will come any more
    tell: Callable[[str], None] = field(default=lambda _: None)


class Torture:
    """All clients, one ledger, one broker."""

    def __init__(self, victim: Victim, plan: Plan) -> None:
        self.victim = victim
        self.plan = plan
        self.chance = random.Random(plan.seed)
        self.ledger = Ledger()
        self.publishers = {name: self._publisher(name) for name in PUBLISHERS}
        self.subscribers: dict[str, Client] = {name: self._subscriber(name) for name in SUBSCRIBERS}
        self.behaviours = {name: SUBSCRIBERS[name][1] for name in SUBSCRIBERS}
        self.queues = Queues(self.ledger, self.chance) if plan.has_queues else None
        if self.queues is not None:
            victim.process.settings |= self.queues.settings
            self.publishers |= self.queues.publishers()
            self.subscribers |= self.queues.workers()
            self.behaviours |= {name: behaviour for name, (_, behaviour, _) in WORKERS.items()}
        self.seconds = 0.0

    async def run(self) -> None:
        began = time.monotonic()
        await self.victim.start()
        await self._connect(self.subscribers.values())
        for number in range(1, self.plan.rounds + 1):
            await self._round()
            if number % self.plan.drain_every == 0 or number == self.plan.rounds:
                await self._drain()
                self.plan.tell(f"round {number}: {self._line()}")
        self._everybody_leaves()
        self.victim.process.stop()
        self.seconds = time.monotonic() - began

    def summary(self) -> dict[str, Any]:
        return {
            "seed": self.plan.seed,
            "rounds": self.plan.rounds,
            "seconds": round(self.seconds, 1),
            "kills": self.victim.kills,
            "writes_undone": self.victim.disk.undone if self.victim.disk else 0,
            **self.ledger.counts,
            **self.ledger.faults,
            "lost_by": dict(self.ledger.lost_by),
            "examples": self.ledger.examples,
        }

    # ---- a round ----

    async def _round(self) -> None:
        tasks = [asyncio.create_task(self._behave(name)) for name in self.subscribers]
        tasks.append(asyncio.create_task(self._load()))
        if self.queues is not None:
            tasks.append(asyncio.create_task(self.queues.work()))
            tasks.append(asyncio.create_task(self.queues.publish()))
        tasks += [
            asyncio.create_task(each.connect(self.victim.port))
            for each in self.publishers.values()
            if each.link is None
        ]
        await asyncio.sleep(self.chance.uniform(SHORTEST, self.plan.longest))
        for publisher in self._busy():
            publisher.allow(SURGE)
        await asyncio.sleep(self.chance.uniform(0.0, SURGE_TIME))
        await self.victim.die(self.chance.choice(self.plan.deaths), self.chance)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._hear_the_last()
        self._everybody_leaves()
        await self._start_again()

    async def _load(self) -> None:
        """Trickles and bursts, so that a death at any moment finds messages under way."""
        while True:
            for publisher in self._busy():
                burst = self.chance.random() < self.plan.bursts
                publisher.allow(BURST if burst else self.chance.randrange(3))
            await asyncio.sleep(TICK)

    def _busy(self) -> list[Publisher]:
        return [each for name, each in self.publishers.items() if name not in FENCING]

    async def _start_again(self) -> None:
        while self.chance.random() < self.plan.early_deaths:
            await self.victim.start_and_kill_early(self.chance.uniform(0.05, 0.8))
        await self.victim.start()

    async def _behave(self, name: str) -> None:
        """Online, absent, or coming and going until the round is over."""
        subscriber, behaviour = self.subscribers[name], self.behaviours[name]
        if behaviour == ABSENT:
            subscriber.leave(politely=True)
            return
        if behaviour == STAYS:
            await self._connect([subscriber])
            return
        while True:
            await self._connect([subscriber])
            await asyncio.sleep(self.chance.uniform(0.01, 0.4))
            subscriber.leave(politely=self.chance.random() < 0.5)
            await asyncio.sleep(self.chance.uniform(0.0, 0.2))

    async def _connect(self, clients: Any) -> None:
        await asyncio.gather(
            *(each.connect(self.victim.port) for each in clients if each.link is None)
        )

    async def _hear_the_last(self) -> None:
        """An ack that has left the broker counts, even if it was read after its death."""
        if not self.victim.process.is_running:
            gone = [client.is_gone.wait() for client in self._everybody()]
            await first_of(self.plan.patience, asyncio.gather(*gone))

    def _everybody_leaves(self) -> None:
        for client in self._everybody():
            if client.link is not None:
                client.leave()

    def _everybody(self) -> list[Client]:
        return [*self.publishers.values(), *self.subscribers.values()]

    # ---- a drain ----

    async def _drain(self) -> None:
        """Everybody finishes; then what is missing is lost."""
        for publisher in self.publishers.values():
            publisher.stop()
        await self._until(self._publishers_are_finished)
        self._fence()
        await self._until(self._publishers_are_finished)
        for name, publisher in self.publishers.items():
            if unfinished := publisher.stop():
                self.ledger.stick(name, f"{unfinished} messages are never acknowledged")
        self.ledger.await_all()
        await self._until(self.ledger.is_complete.wait)
        self.ledger.judge()
        await self._judge_retained()
        if self.queues is not None:
            await self._drain_queues(self.queues)

    async def _drain_queues(self, queues: Queues) -> None:
        working = asyncio.create_task(queues.work())
        await self._until(queues.until_empty)
        queues.judge(await queues.left())
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    def _fence(self) -> None:
        """What comes after everything else: behind it nothing is left that may still come."""
        self.publishers["fence"].allow(len(FENCES))
        self.publishers["r~"].allow(1)

    async def _publishers_are_finished(self) -> None:
        for publisher in self.publishers.values():
            await publisher.is_finished.wait()

    async def _until(self, condition: Callable[[], Any]) -> None:
        """Waits for it as long as anything moves; who was cut off comes back."""
        before, latest = None, time.monotonic() + LONGEST_DRAIN
        while before != self._progress() and time.monotonic() < latest:
            before = self._progress()
            await self._connect(self._everybody())
            waiting = asyncio.ensure_future(condition())
            await first_of(self.plan.patience, waiting)
            if waiting.done() and not waiting.cancelled():
                return

    def _progress(self) -> tuple[int, ...]:
        counts = self.ledger.counts
        return tuple(counts[name] for name in MOVING)

    async def _judge_retained(self) -> None:
        reader = Reader("reader", self.ledger, "r/#")
        wanted = self.ledger.retained_expected()
        self.ledger.judge_retained(await reader.read(self.victim.port, wanted, self.plan.patience))

    # ---- who takes part ----

    def _publisher(self, name: str) -> Publisher:
        qos, window, version, is_durable = PUBLISHERS[name]
        return Publisher(
            name,
            self.ledger,
            self._source(name, qos),
            window=window,
            version=version,
            is_durable=is_durable,
            taken_over_by=self.plan.taken_over_by,
        )

    def _source(self, name: str, qos: int) -> Callable[[], Message]:
        fences = count()
        sources: dict[str, Callable[[], Message]] = {
            "fence": lambda: self.ledger.new_message(
                name, FENCES[next(fences) % len(FENCES)], qos, 0
            ),
            "r~": lambda: self.ledger.new_message(name, RETAINED_FENCE, qos, 1, retain=True),
        }
        if name in RETAINING:
            return lambda: self._retained_message(name, qos)
        return sources.get(name, lambda: self._message(name, qos))

    def _message(self, name: str, qos: int) -> Message:
        topic = f"t/{name}/{self.chance.randrange(TOPICS)}"
        return self.ledger.new_message(name, topic, qos, self._size())

    def _retained_message(self, name: str, qos: int) -> Message:
        topic = f"r/{name}/{self.chance.randrange(RETAINED_TOPICS)}"
        size = 0 if self.chance.random() < CLEARING_SHARE else self._size() + 1
        return self.ledger.new_message(name, topic, qos, size, retain=True)

    def _size(self) -> int:
        if self.chance.random() < LARGE_SHARE:
            return LARGE
        return self.chance.randrange(SMALL)

    def _subscriber(self, name: str) -> Subscriber:
        filters, _, rest = SUBSCRIBERS[name]
        return Subscriber(name, self.ledger, filters, self.chance, **rest)

    def _line(self) -> str:
        parts = {**self.ledger.counts, **self.ledger.faults}
        return ", ".join(f"{name} {value}" for name, value in parts.items() if value)
