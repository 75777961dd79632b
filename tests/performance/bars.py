"""What the project has promised itself, as a table, and whether a run keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.performance.measure import Figures

OURS, YARDSTICK = "heliograph", "mosquitto"
WITHOUT_STORE = "heliograph-memory"
WITH_QUEUES, PEER = "heliograph-queues", "rabbitmq"

Medians = Mapping[tuple[str, str], Figures]  # by (scenario, broker)


@dataclass(frozen=True, slots=True)
class Bar:
    """`limit` is in `unit`; with `of` it is a share of the same value of (scenario, broker).

    It is the most that is allowed, and for a rate the least.
    """

    scenario: str
    value: str  # a field of Figures
    limit: float
    unit: str
    of: tuple[str, str] | None = None
    broker: str = OURS

    @property
    def at_least(self) -> bool:
        return self.value == "rate"

    @property
    def sentence(self) -> str:
        whose = "" if self.broker == OURS else f" ({self.broker})"
        what = f"{self.scenario}{whose}: {_SAID[self.value]}"
        return f"{what}, of {self.of[1]}'s {self.of[0]}" if self.of else what


@dataclass(frozen=True, slots=True)
class Verdict:
    bar: Bar
    measured: float | None

    @property
    def mark(self) -> str:
        if self.measured is None:
            return "not measured"
        limit = self.bar.limit
        kept = self.measured >= limit if self.bar.at_least else self.measured <= limit
        return "met" if kept else "LOST"


_SAID = {
    "rate": "per second",
    "broker_us": "CPU per delivered message",
    "client_kib": "memory per idle subscribed client",
    "rss_mib": "memory of an idle broker, all processes",
    "start_ms": "from spawning to accepting",
    "p99_ms": "p99 from publishing to delivery",
}


def _against(scenario: str, share: float) -> Bar:
    return Bar(scenario, "broker_us", share, "of it", of=(scenario, YARDSTICK))


def _as_fast(scenario: str, share: float) -> Bar:
    return Bar(scenario, "rate", share, "of it", of=(scenario, YARDSTICK))


def _queue(scenario: str, value: str, limit: float, unit: str, of: str = "") -> Bar:
    other = (of, WITH_QUEUES) if of else None
    return Bar(scenario, value, limit, unit, of=other, broker=WITH_QUEUES)


def _v5(qos: int) -> Bar:
    return Bar(f"qos{qos}-v5", "broker_us", 1.20, "of it", of=(f"qos{qos}", OURS))


BARS = (
    _against("qos0", 0.40),
    _against("qos0-v5", 0.40),
    _against("qos1", 0.25),
    _against("qos1-v5", 0.25),
    _against("qos2", 0.25),
    _against("qos2-v5", 0.25),
    _against("fan-out", 0.50),
    _against("fan-in", 0.70),
    _v5(0),
    _v5(1),
    _v5(2),
    Bar("qos0", "broker_us", 1.05, "of it", of=("qos0", WITHOUT_STORE)),
    _as_fast("durable", 1.00),
    _as_fast("absent", 1.00),
    _as_fast("drain", 0.50),
    _queue("queue", "rate", 20_000, "per second"),
    _queue("queue-wide", "rate", 20_000, "per second"),
    _queue("queue-1m", "rate", 0.80, "of it", of="queue-1k"),
    _queue("queue-idle", "p99_ms", 20, "ms"),
    Bar("idle", "client_kib", 4, "KiB"),
    Bar("start", "rss_mib", 35, "MiB"),
    Bar("start", "rss_mib", 35, "MiB", broker=WITHOUT_STORE),
    Bar("start", "start_ms", 300, "ms"),
    Bar("start", "start_ms", 300, "ms", broker=WITHOUT_STORE),
)


def judge(medians: Medians) -> list[Verdict]:
    return [Verdict(bar, _measured(bar, medians)) for bar in BARS]


def share(medians: Medians, scenario: str, broker: str) -> float | None:
    """CPU of this broker as a share of mosquitto's in the same scenario."""
    return ratio(medians, scenario, broker, "broker_us", YARDSTICK)


def ratio(medians: Medians, scenario: str, broker: str, value: str, yardstick: str) -> float | None:
    """A value of this broker as a share of the yardstick's in the same scenario."""
    if broker == yardstick:
        return None
    return _measured(Bar(scenario, value, 1, "", of=(scenario, yardstick), broker=broker), medians)


def _measured(bar: Bar, medians: Medians) -> float | None:
    own = _value(medians, (bar.scenario, bar.broker), bar.value)
    if bar.of is None or own is None:
        return own
    other = _value(medians, bar.of, bar.value)
    return own / other if other else None


def _value(medians: Medians, place: tuple[str, str], name: str) -> float | None:
    """None as well when there was a fault: a broker that loses messages has no speed."""
    figures = medians.get(place)
    if figures is None or figures.fault:
        return None
    value = getattr(figures, name)
    return None if value is None else float(value)
