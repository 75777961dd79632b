"""The outcome as Markdown tables, for the terminal and for docs/performance.md, and as JSON."""

import dataclasses
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.performance.bars import PEER, Bar, Medians, judge, ratio, share
from tests.performance.brokers import GENERATOR_CORE, KINDS, WORK
from tests.performance.disk import data_disk
from tests.performance.measure import Figures
from tests.performance.scenarios import SCENARIOS

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

Results = Mapping[tuple[str, str], Sequence[Figures]]  # by (scenario, broker), one for each round

_TRAFFIC_HEAD = (
    *("Scenario", "Broker", "per second", "broker µs", "of mosquitto"),
    *("generator µs", "p50 ms", "p99 ms", "RSS MiB", "broker alone"),
)
_QUEUES_HEAD = (
    *("Scenario", "Broker", "per second", "of RabbitMQ", "broker µs", "of RabbitMQ"),
    *("generator µs", "p50 ms", "p99 ms", "RSS MiB"),
)
_REST_HEAD = ("Broker", "start ms", "idle RSS MiB", "broker alone", "KiB per idle client")
_WRITTEN_HEAD = ("Scenario", "Broker", "bytes written per message", "GiB per million messages")
_SYNC_HEAD = (
    *("Scenario", "Broker", "PUBACK p50 ms", "PUBACK p99 ms"),
    *("one sync p50 ms", "one sync p99 ms", "PUBACK p50 less one sync"),
)
_BARS_HEAD = ("Bar", "Limit", "Measured", "")


def medians(results: Results) -> dict[tuple[str, str], Figures]:
    return {place: _median(rounds) for place, rounds in results.items() if rounds}


def markdown(results: Results, machine: Mapping[str, str]) -> str:
    """The machine, traffic, queues, what went wrong, wear, syncs, memory and start, the bars."""
    middle = medians(results)
    parts = (
        "\n".join(f"- {name}: {value}" for name, value in machine.items()),
        _table(_TRAFFIC_HEAD, _traffic(middle)),
        _table(_QUEUES_HEAD, _queues(middle)),
        "\n".join(_faults(middle)),
        _table(_WRITTEN_HEAD, _written(middle)),
        _table(_SYNC_HEAD, _syncs(middle)),
        _table(_REST_HEAD, _at_rest(middle)),
        _table(_BARS_HEAD, _bars(middle)),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(results: Results, machine: Mapping[str, str]) -> str:
    middle = medians(results)
    document = {
        "machine": dict(machine),
        "results": [
            {
                "scenario": scenario,
                "broker": broker,
                "counted_in": SCENARIOS[scenario].unit,
                "cpu_of_mosquitto": share(middle, scenario, broker),
                "rate_of_rabbitmq": ratio(middle, scenario, broker, "rate", PEER),
                "median": dataclasses.asdict(figures),
                "rounds": [dataclasses.asdict(each) for each in results[scenario, broker]],
            }
            for (scenario, broker), figures in middle.items()
        ],
        "bars": [dataclasses.asdict(verdict) | {"mark": verdict.mark} for verdict in judge(middle)],
    }
    return json.dumps(document, indent=2)


def describe_machine(brokers: Iterable[str], broker_cores: Sequence[int]) -> dict[str, str]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "cores": f"the broker {_join(broker_cores)}, the load generator {_join(GENERATOR_CORE)}",
        "kernel": platform.release(),
        "data on": str(data_disk(WORK)),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    } | {name: KINDS[name].version() for name in brokers}


def write_between_markers(page: Path, text: str) -> None:
    """Replace what stands between the markers; a page without them becomes the text alone."""
    old = page.read_text() if page.exists() else ""
    head, begin, rest = old.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if begin and end:
        text = f"{head}{BEGIN}\n\n{text}\n{END}{tail}"
    page.write_text(text)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def in_short(figures: Figures) -> str:
    """One measurement in one line, while the run goes on."""
    if figures.fault:
        return f"FAULT {figures.fault}"
    shown = {
        "/s": figures.rate,
        "µs": figures.broker_us,
        "ms p50": figures.p50_ms,
        "MiB": figures.rss_mib,
        "B written": figures.written,
        "ms to sync": figures.sync_ms,
        "KiB/client": figures.client_kib,
        "ms to start": figures.start_ms,
    }
    return ", ".join(f"{_number(value)} {unit}" for unit, value in shown.items() if value)


def _median(rounds: Sequence[Figures]) -> Figures:
    """Field by field; the first fault of any round is the fault of all."""
    values: dict[str, float | None] = {}
    for field in dataclasses.fields(Figures):
        if field.name not in ("fault", "duplicates"):
            known = [getattr(each, field.name) for each in rounds]
            known = [value for value in known if value is not None]
            values[field.name] = statistics.median(known) if known else None
    fault = next((each.fault for each in rounds if each.fault), None)
    return Figures(**values, duplicates=sum(each.duplicates for each in rounds), fault=fault)


def _traffic(middle: Medians) -> Iterable[tuple[str, ...]]:
    for scenario, broker, figures in _moved(middle, queued=False):
        title = SCENARIOS[scenario].title
        if figures.fault:
            yield title, broker, "fault", *[""] * (len(_TRAFFIC_HEAD) - 3)
        else:
            yield title, broker, *_speeds(figures, share(middle, scenario, broker))


def _queues(middle: Medians) -> Iterable[tuple[str, ...]]:
    for scenario, broker, figures in _moved(middle, queued=True):
        title = SCENARIOS[scenario].title
        if figures.fault:
            yield title, broker, "fault", *[""] * (len(_QUEUES_HEAD) - 3)
        else:
            rate, cpu = (ratio(middle, scenario, broker, of, PEER) for of in ("rate", "broker_us"))
            speeds = _speeds(figures, cpu)
            yield title, broker, speeds[0], _percent(rate), *speeds[1:-1]


def _moved(middle: Medians, *, queued: bool) -> Iterable[tuple[str, str, Figures]]:
    """All that is about messages on the move, by a queue or not."""
    for (scenario, broker), figures in middle.items():
        has_some = figures.fault or figures.rate is not None
        if has_some and SCENARIOS[scenario].queued == queued:
            yield scenario, broker, figures


def _faults(middle: Medians) -> Iterable[str]:
    for (scenario, broker), figures in middle.items():
        if figures.fault:
            yield f"- fault in {SCENARIOS[scenario].title}, {broker}: {figures.fault}"


def _speeds(figures: Figures, of_other: float | None) -> tuple[str, ...]:
    dear = (figures.generator_us or 0) > (figures.broker_us or 0)
    return (
        _number(figures.rate),
        _number(figures.broker_us),
        _percent(of_other),
        _number(figures.generator_us) + (" (!)" if dear else ""),
        *map(_number, (figures.p50_ms, figures.p99_ms, figures.rss_mib, _alone(figures))),
    )


def _percent(share: float | None) -> str:
    return f"{share:.0%}" if share else ""


def _alone(figures: Figures) -> float | None:
    """Memory of the first process, where it is not the only one."""
    return None if figures.alone_mib == figures.rss_mib else figures.alone_mib


def _written(middle: Medians) -> Iterable[tuple[str, ...]]:
    for (scenario, broker), figures in middle.items():
        if figures.written is not None:
            gib = figures.written * 1e6 / 2**30
            yield SCENARIOS[scenario].title, broker, f"{figures.written:,.0f}", _number(gib)


def _syncs(middle: Medians) -> Iterable[tuple[str, ...]]:
    for (scenario, broker), figures in middle.items():
        if figures.sync_ms is not None and figures.p50_ms is not None:
            times = (figures.p50_ms, figures.p99_ms, figures.sync_ms, figures.sync_p99_ms)
            less = figures.p50_ms - figures.sync_ms
            yield SCENARIOS[scenario].title, broker, *map(_number, times), f"{less:+.2f}"


def _at_rest(middle: Medians) -> Iterable[tuple[str, ...]]:
    nothing = Figures()
    for broker in dict.fromkeys(broker for _, broker in middle):
        start = middle.get(("start", broker), nothing)
        idle = middle.get(("idle", broker), nothing)
        values = (start.start_ms, start.rss_mib, _alone(start), idle.client_kib)
        if any(value is not None for value in values):
            yield broker, *map(_number, values)


def _bars(middle: Medians) -> Iterable[tuple[str, ...]]:
    for verdict in judge(middle):
        bar = verdict.bar
        yield (
            bar.sentence,
            _limit(bar),
            _as_limit(verdict.measured, percent=bar.of is not None, unit=bar.unit),
            verdict.mark,
        )


def _limit(bar: Bar) -> str:
    said = f"{bar.limit:.0%}" if bar.of else f"{bar.limit:,g} {bar.unit}"
    return f"at least {said}" if bar.at_least else said


def _as_limit(value: float | None, *, percent: bool, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.0%}" if percent else f"{_number(value)} {unit}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = list(rows)
    if not body:
        return ""
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [head, ["-" * width for width in widths], *body]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _number(value: float | None) -> str:
    """Three digits that mean something."""
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _join(cores: Sequence[int]) -> str:
    return ", ".join(map(str, cores))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()
