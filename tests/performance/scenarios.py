"""The scenarios, as a table: what runs, what is counted, how often."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.performance import wire
from tests.performance.brokers import Kind, Running
from tests.performance.driver import Budget, Loop, drive, judged
from tests.performance.load.absent import SESSIONS, WINDOW, AbsentLoad
from tests.performance.load.drain import measure_drain
from tests.performance.load.durable import DurableLoad
from tests.performance.load.fan_in import PUBLISHERS, FanInLoad
from tests.performance.load.fan_out import SUBSCRIBERS, FanOutLoad
from tests.performance.load.idle import measure_idle
from tests.performance.load.one_sync import time_syncs
from tests.performance.load.pairs import PairsLoad
from tests.performance.load.retained import measure_retained
from tests.performance.load.subscribing import CLIENTS, SubscribingLoad
from tests.performance.load.work import NARROW_QUEUE, WIDE_QUEUE, WorkLoad, measure_idle_queue
from tests.performance.measure import (
    Figures,
    Latencies,
    Snapshot,
    between,
    memory_into,
    written_bytes,
)

SETTLE = 0.5  # seconds after the start until the memory of an idle broker is read
MANY = 1_000_000  # messages in a deep queue
SYNCS = 100  # timed before the load, and again after it

USUAL = ("heliograph", "mosquitto", "amqtt")
WITH_MEMORY = ("heliograph", "heliograph-memory", "mosquitto", "amqtt")
BARE = ("heliograph", "mosquitto")
STORES = ("heliograph", "heliograph-memory", "mosquitto", "mosquitto-persistent")
QUEUES = ("heliograph-queues", "heliograph-postgresql", "rabbitmq")


@dataclass(frozen=True, slots=True)
class Scenario:
    """`run` measures one fresh broker once; `unit` is what its rate and its CPU are counted by."""

    name: str
    title: str
    unit: str
    run: Callable[[Running, Budget], Figures]
    version: int = wire.V311
    rounds: int | None = None  # None: as many as asked for
    brokers: tuple[str, ...] = USUAL  # those measured when none are asked for
    durable: bool = False  # says nothing where the data lies in memory
    queued: bool = False  # by one of the queues that only some brokers have

    def suits(self, kind: Kind) -> bool:
        """Whether that broker can be measured by it."""
        return bool(kind.speech) if self.queued else self.version in kind.versions


def _pairs(qos: int, version: int) -> Scenario:
    suffix, protocol = ("-v5", "MQTT 5") if version == wire.V5 else ("", "MQTT 3.1.1")

    def run(broker: Running, budget: Budget) -> Figures:
        return drive(PairsLoad(broker.port, qos, version), broker, budget)

    name, title = f"qos{qos}{suffix}", f"Pairs QoS {qos}, {protocol}"
    brokers = USUAL if qos else WITH_MEMORY
    return Scenario(name, title, "message", run, version, brokers=brokers)


def _fan_in(broker: Running, budget: Budget) -> Figures:
    return drive(FanInLoad(broker.port, PUBLISHERS // budget.shrink), broker, budget)


def _fan_out(window: int) -> Callable[[Running, Budget], Figures]:
    def run(broker: Running, budget: Budget) -> Figures:
        return drive(FanOutLoad(broker.port, SUBSCRIBERS // budget.shrink, window), broker, budget)

    return run


def _subscribing(broker: Running, budget: Budget) -> Figures:
    """By count rather than by time: every filter is new only once."""
    load = SubscribingLoad(broker.port, CLIENTS // budget.shrink)
    with contextlib.closing(load), contextlib.closing(Loop(load.readers)) as loop:
        before = Snapshot.take(broker.pid, 0)
        load.start()
        loop.run(3 * budget.seconds, until=load.complete)
        figures = between(before, Snapshot.take(broker.pid, load.delivered))
        memory_into(figures, broker.pid)
        load.latencies.into(figures)
        load.stop()
        loop.run(5, until=load.settled)
    return judged(figures, load.tally)


def _start(broker: Running, budget: Budget) -> Figures:
    time.sleep(SETTLE)
    figures = Figures(start_ms=broker.start_ms)
    memory_into(figures, broker.pid)
    return figures


def _durable(broker: Running, budget: Budget) -> Figures:
    return _drive_and_weigh(DurableLoad(broker.port), broker, budget)


def _absent(publishers: int) -> Callable[[Running, Budget], Figures]:
    def run(broker: Running, budget: Budget) -> Figures:
        load = AbsentLoad(broker.port, SESSIONS, publishers, WINDOW)
        return _drive_and_weigh(load, broker, budget)

    return run


def _one_by_one(broker: Running, budget: Budget) -> Figures:
    """One message outstanding, one absent session, and what a sync costs in that folder."""
    syncs = Latencies()
    time_syncs(broker.data, SYNCS, syncs)
    load = AbsentLoad(broker.port, sessions=1, publishers=1, window=1)
    figures = _drive_and_weigh(load, broker, budget)
    time_syncs(broker.data, SYNCS, syncs)
    figures.sync_ms, figures.sync_p99_ms = syncs.percentiles()
    return figures


def _drive_and_weigh(load: DurableLoad | AbsentLoad, broker: Running, budget: Budget) -> Figures:
    """With the bytes written for each message published, warm-up and end included."""
    before = written_bytes(broker.pid)
    figures = drive(load, broker, budget)
    broker.save()
    figures.written = (written_bytes(broker.pid) - before) / load.published
    return figures


def _work(queue: tuple[str, int], waiting: int = 0) -> Callable[[Running, Budget], Figures]:
    def run(broker: Running, budget: Budget) -> Figures:
        load = WorkLoad(broker, queue, waiting // budget.shrink if waiting >= MANY else waiting)
        return drive(load, broker, budget)

    return run


def _queued(
    name: str,
    title: str,
    run: Callable[[Running, Budget], Figures],
    rounds: int | None = None,
    brokers: tuple[str, ...] = QUEUES,
) -> Scenario:
    return Scenario(
        name, title, "message", run, rounds=rounds, brokers=brokers, durable=True, queued=True
    )


def _stored(
    name: str,
    title: str,
    unit: str,
    run: Callable[[Running, Budget], Figures],
    brokers: tuple[str, ...] = STORES,
) -> Scenario:
    return Scenario(name, title, unit, run, brokers=brokers, durable=True)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        *(_pairs(qos, version) for qos in (0, 1, 2) for version in (wire.V311, wire.V5)),
        Scenario("fan-in", "Fan-in, 1000 to 1", "message", _fan_in),
        Scenario("fan-out", "Fan-out, 1 to 500, window 32", "message", _fan_out(window=32)),
        Scenario("fan-out-1", "Fan-out, 1 to 500, window 1", "message", _fan_out(window=1)),
        Scenario("retained", "Retained replay, 10,000", "message", measure_retained),
        Scenario("subscribe", "Subscribe, 100,000 filters", "subscription", _subscribing),
        Scenario("idle", "Idle connections, 10,000", "connection", measure_idle, rounds=1),
        _stored("durable", "Durable pairs QoS 1", "message", _durable),
        _stored("absent", "100 absent, 1 publisher", "copy", _absent(1)),
        _stored("absent-8", "100 absent, 8 publishers", "copy", _absent(8), BARE),
        _stored("drain", "100 absent return", "copy", measure_drain),
        _stored("durable-1", "1 absent, window 1", "message", _one_by_one),
        _queued("queue", "Queue", _work(NARROW_QUEUE), brokers=(*QUEUES, "rabbitmq-quorum")),
        _queued("queue-wide", "Queue, prefetch 1000", _work(WIDE_QUEUE)),
        _queued("queue-1k", "Queue, 1,000 waiting", _work(NARROW_QUEUE, waiting=1000)),
        _queued("queue-1m", "Queue, 1,000,000 waiting", _work(NARROW_QUEUE, MANY), rounds=1),
        _queued("queue-idle", "Queue, 100 a second", measure_idle_queue, rounds=1),
        Scenario("start", "Start", "start", _start, brokers=WITH_MEMORY),
    )
}
