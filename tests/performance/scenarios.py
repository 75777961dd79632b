"""The scenarios, as a table: what runs, what is counted, how often."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.performance import wire
from tests.performance.brokers import Running
from tests.performance.driver import Budget, Loop, drive, judged
from tests.performance.load.fan_in import PUBLISHERS, FanInLoad
from tests.performance.load.fan_out import SUBSCRIBERS, FanOutLoad
from tests.performance.load.idle import measure_idle
from tests.performance.load.pairs import PairsLoad
from tests.performance.load.retained import measure_retained
from tests.performance.load.subscribing import CLIENTS, SubscribingLoad
from tests.performance.measure import Figures, Snapshot, between, rss_kib

SETTLE = 0.5  # seconds after the start until the memory of an idle broker is read


@dataclass(frozen=True, slots=True)
class Scenario:
    """`run` measures one fresh broker once; `unit` is what its rate and its CPU are counted by."""

    name: str
    title: str
    unit: str
    run: Callable[[Running, Budget], Figures]
    version: int = wire.V311
    rounds: int | None = None  # None: as many as asked for


def _pairs(qos: int, version: int) -> Scenario:
    suffix, protocol = ("-v5", "MQTT 5") if version == wire.V5 else ("", "MQTT 3.1.1")

    def run(broker: Running, budget: Budget) -> Figures:
        return drive(PairsLoad(broker.port, qos, version), broker, budget)

    return Scenario(f"qos{qos}{suffix}", f"Pairs QoS {qos}, {protocol}", "message", run, version)


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
        figures.rss_mib = rss_kib(broker.pid) / 1024
        load.latencies.into(figures)
        load.stop()
        loop.run(5, until=load.settled)
    return judged(figures, load.tally)


def _start(broker: Running, budget: Budget) -> Figures:
    time.sleep(SETTLE)
    return Figures(start_ms=broker.start_ms, rss_mib=rss_kib(broker.pid) / 1024)


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
        Scenario("start", "Start", "start", _start),
    )
}
