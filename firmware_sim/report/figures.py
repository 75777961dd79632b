"""The figures of a run, as plain values: what the text, the JSON and the page are made of."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from firmware_sim.books.balance import Balance, balance_of
from firmware_sim.books.diagnosis import Finding, diagnose
from firmware_sim.device.bugs import WHAT_IT_IS
from firmware_sim.scenario.scenario import EMULATED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from firmware_sim.books.ledger import Stream
    from firmware_sim.fleet.fleet import Outcome
    from firmware_sim.scenario.scenario import Kind

PER_DECADE: Final = 6  # steps of the distribution of latencies
_SHORTEST, _DECADES = 1e-4, 9  # from 0.1 ms upwards
EDGES: Final = tuple(
    _SHORTEST * 10 ** (step / PER_DECADE) for step in range(_DECADES * PER_DECADE + 1)
)
LEAST: Final = 0.4  # of the distance between samples
PERCENTILES: Final = (50, 90, 99, 99.9)


@dataclass(frozen=True, slots=True)
class Latency:
    """From handing over to arrival, in seconds. `counts[i]`: from EDGES[i - 1] to EDGES[i]."""

    messages: int
    percentiles: Mapping[str, float]
    longest: float
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class KindFigures:
    """One kind of device."""

    kind: str
    devices: int
    way: str
    level: str  # "model", "compiled", or the controller that is emulated
    qos: int
    balance: Balance
    latency: Latency


@dataclass(frozen=True, slots=True)
class Point:
    """One moment: rates per second since the moment before, parts from 0.0 to 1.0."""

    at: float
    online: int
    asleep: int
    connected: float  # devices, on average since the moment before
    there: float  # connected or asleep, likewise
    sent: float
    arrived: float
    battery: Mapping[str, tuple[float, float]]
    quality: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """All of it. Times in seconds since the start; `started` as text in UTC."""

    scenario: str
    about: str
    seed: int
    time: str
    target: str
    started: str
    lasted: float
    devices: int
    is_good: bool
    balance: Balance
    commands: Balance
    latency: Latency
    kinds: tuple[KindFigures, ...]
    points: tuple[Point, ...]
    notes: tuple[tuple[float, str], ...]
    downs: Mapping[str, int]
    refusals: Mapping[str, int]
    exhausted: tuple[str, ...]  # devices whose batteries are empty
    gone: tuple[str, ...]  # devices whose emulator has ended by itself
    findings: tuple[Finding, ...]
    strangers: int
    ledger: str  # SHA-256


def figures_of(outcome: Outcome) -> Figures:
    """Count everything."""
    scenario, books = outcome.scenario, outcome.books
    kinds = tuple(_kind_figures(kind, books.ledger.streams.values()) for kind in scenario.kinds)
    balance = Balance()
    for kind in kinds:
        balance.add(kind.balance)
    return Figures(
        scenario=scenario.name,
        about=scenario.about,
        seed=scenario.seed,
        time=scenario.time,
        target=outcome.target,
        started=f"{datetime.fromtimestamp(outcome.started, UTC):%Y-%m-%d %H:%M:%S} UTC",
        lasted=outcome.lasted,
        devices=len(outcome.devices),
        is_good=balance.is_good,
        balance=balance,
        commands=balance_of(books.commands.streams.values()),
        latency=_latency(books.ledger.streams.values()),
        kinds=kinds,
        points=tuple(_points(outcome)),
        notes=tuple(outcome.record.notes),
        downs=dict(books.downs),
        refusals=dict(books.refusals),
        exhausted=tuple(books.exhausted),
        gone=tuple(books.gone),
        findings=tuple(diagnose(books.devices.values())),
        strangers=books.ledger.strangers,
        ledger=books.ledger.digest(),
    )


def as_json(figures: Figures) -> dict[str, Any]:
    """Everything with the names that are used here, ready for `json.dumps`."""
    told = asdict(figures)
    told["findings"] = [
        {**finding._asdict(), "bug": str(finding.bug), "means": WHAT_IT_IS[finding.bug]}
        for finding in figures.findings
    ]
    told["latency_edges"] = EDGES
    return told


def _kind_figures(kind: Kind, streams: Iterable[Stream]) -> KindFigures:
    own = [stream for stream in streams if stream.kind == kind.kind]
    level = kind.part if kind.level == EMULATED else kind.level
    return KindFigures(
        kind.kind, kind.count, kind.way, level, kind.qos, balance_of(own), _latency(own)
    )


def _latency(streams: Iterable[Stream]) -> Latency:
    waits = array("f")
    for stream in streams:
        waits.extend(stream.latencies())
    counts = [0] * (len(EDGES) + 1)
    for wait in waits:
        counts[bisect_right(EDGES, wait)] += 1
    ordered = sorted(waits)
    return Latency(
        len(ordered),
        {f"p{part:g}": percentile(ordered, part) for part in PERCENTILES} if ordered else {},
        ordered[-1] if ordered else 0.0,
        counts,
    )


def percentile(ordered: Sequence[float], part: float) -> float:
    """The value that `part` percent do not exceed."""
    return ordered[min(int(len(ordered) * part / 100), len(ordered) - 1)]


def _points(outcome: Outcome) -> Iterable[Point]:
    samples = outcome.record.samples
    for before, sample in pairwise(samples):
        seconds = sample.at - before.at
        if seconds < outcome.record.every * LEAST:
            continue  # too short for a rate
        yield Point(
            sample.at,
            sample.online,
            sample.asleep,
            (sample.presence.connected - before.presence.connected) / seconds,
            (sum(sample.presence) - sum(before.presence)) / seconds,
            (sample.handed - before.handed) / seconds,
            (sample.arrived - before.arrived) / seconds,
            sample.battery,
            sample.quality,
        )
