"""Which figure becomes which chart. Each is drawn twice: for a wide page and for a phone."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final

from firmware_sim.report import svg
from firmware_sim.report.figures import EDGES, PER_DECADE
from firmware_sim.report.words import count, percent, plural, short, span, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from firmware_sim.report.figures import Figures, Point

    Draw = Callable[[svg.Size], str]

WIDE, PHONE = svg.Size(540, 250), svg.Size(340, 230)
MOST_LINES: Final = 6  # of one chart; more cannot be told apart
MOST_RATES: Final = 60  # points of a line of rates
MOST_MARKS: Final = 3


def both(draw: Draw) -> str:
    """The chart for a wide page and the one for a phone; the page shows one of them."""
    return f'<div class="wide">{draw(WIDE)}</div><div class="phone">{draw(PHONE)}</div>'


def legend(series: Sequence[svg.Series]) -> str:
    """What the lines are, with the last value of each."""
    if len(series) < 2:
        return ""
    keys = "".join(
        f'<span class="key"><i class="c{one.colour % svg.COLOURS}'
        f'{" dashed" if one.dashed else ""}"></i>{escape(one.name)}</span>'
        for one in series
    )
    return f'<p class="legend">{keys}</p>'


def messages(figures: Figures) -> str:
    """Sent and arrived, per second, or in a longer time if there are few."""
    sent = _rates(figures.points, lambda point: point.sent)
    arrived = _rates(figures.points, lambda point: point.arrived)
    unit, seconds = _unit(max((rate for _, rate in (*sent, *arrived)), default=0.0))
    series = [
        svg.Series(f"sent per {unit}", _times(sent, seconds), 0, filled=True),
        svg.Series(f"arrived per {unit}", _times(arrived, seconds), 1),
    ]
    return _over_time(figures, f"Messages per {unit}", series, short)


def connections(figures: Figures) -> str:
    """How many devices are connected; who sleeps between two readings is so for moments only."""
    points = figures.points
    series = [_series("connected", points, lambda point: point.connected, 0, filled=True)]
    if any(point.asleep for point in points):
        there = _series("connected or asleep", points, lambda point: point.there, 1)
        series.append(there)
    return _over_time(figures, "Connected devices", series, short, figures.devices)


def batteries(figures: Figures) -> str:
    """What is left, by kind: the mean, and the lowest."""
    kinds = list(dict.fromkeys(kind for point in figures.points for kind in point.battery))
    series = []
    for colour, kind in enumerate(kinds[: MOST_LINES // 2]):
        series.append(_by_kind(f"{kind}, mean", figures, _mean_of, kind, colour))
        series.append(_by_kind(f"{kind}, lowest", figures, _lowest_of, kind, colour, dashed=True))
    if not series:
        return ""
    values = [y for one in series for _, y in one.points]
    return _drawn(figures, "Battery left", series, svg.nice(min(values), max(values), percent))


def qualities(figures: Figures) -> str:
    """The part of all bytes on the wire that came through unharmed."""
    kinds = list(dict.fromkeys(kind for point in figures.points for kind in point.quality))
    series = [
        _by_kind(kind, figures, _quality_of, kind, colour)
        for colour, kind in enumerate(kinds[:MOST_LINES])
    ]
    if not series:
        return ""
    low = min(y for one in series for _, y in one.points)
    up = svg.nice(math.floor(low * 100) / 100 if low < 1 else 0.99, 1.0, percent)
    return _drawn(figures, "Bytes on the wire that came through unharmed", series, up)


def latencies(figures: Figures) -> str:
    """The distribution, on an axis of powers of ten."""
    latency = figures.latency
    if not latency.messages:
        return ""
    bars = list(_bars(latency.counts))
    first = math.floor(min(bar[0] for bar in bars) + 1e-9)
    last = max(math.ceil(max(bar[1] for bar in bars) - 1e-9), first + 1)
    ticks = range(first, last + 1)
    across = svg.Axis(first, last, lambda power: wait(10**power), ticks)
    top = max(bar[2] for bar in bars)
    marks = [(math.log10(max(latency.percentiles[name], 1e-9)), name) for name in ("p50", "p99")]

    def draw(size: svg.Size) -> str:
        up = svg.nice(0.0, top, short)
        shown = [mark for mark in marks if first <= mark[0] <= last]
        return svg.distribution(size, "Distribution of latencies", bars, across, up, shown)

    return both(draw)


def losses(figures: Figures) -> str:
    """By kind: what did not arrive, and what arrived more than once, as parts of what was made."""
    rows, clean = [], []
    for kind in figures.kinds:
        balance = kind.balance
        parts = (balance.lost + balance.missing, balance.repeated, balance.dropped)
        if any(parts):
            rows.append(_loss_row(kind.kind, parts, balance.made))
        else:
            clean.append(escape(kind.kind))
    all_clear = f"<p>Nothing to report of {', '.join(clean)}.</p>" if clean else ""
    return f'<div class="bars">{"".join(rows)}</div>{_LOSS_LEGEND if rows else ""}{all_clear}'


_LOSS_LEGEND: Final = (
    '<p class="legend"><span class="key"><i class="bad"></i>acknowledged or sent, and not arrived'
    '</span><span class="key"><i class="c1"></i>arrived more than once</span>'
    '<span class="key"><i class="c2"></i>dropped in the device</span></p>'
)


def _loss_row(name: str, parts: tuple[int, int, int], made: int) -> str:
    total = max(made, 1)
    cells = "".join(
        f'<b class="{colour}" style="width:{100 * part / total:.3f}%"></b>'
        for part, colour in zip(parts, ("bad", "c1", "c2"), strict=True)
        if part
    )
    words = ", ".join(
        f"{count(part)} {what}"
        for part, what in zip(parts, ("missing", "repeated", "dropped"), strict=True)
        if part
    )
    return (
        f'<div class="row"><span class="name">{escape(name)}</span>'
        f'<span class="track">{cells}</span>'
        f'<span class="value">{words or "none"} of {plural(made, "message")}</span></div>'
    )


def _bars(counts: Sequence[int]) -> Iterator[tuple[float, float, float]]:
    for place, number in enumerate(counts):
        if number:
            high = math.log10(EDGES[min(place, len(EDGES) - 1)])
            yield high - 1 / PER_DECADE, high, number


def _unit(highest: float) -> tuple[str, int]:
    """The shortest time in which there is a message or two: its name, and seconds."""
    for name, seconds in _UNITS:
        if highest * seconds >= 1:
            return name, seconds
    return _UNITS[0]


_UNITS: Final = (("second", 1), ("minute", 60), ("hour", 3600), ("day", 86_400))


def _times(points: Sequence[tuple[float, float]], factor: float) -> list[tuple[float, float]]:
    return [(at, value * factor) for at, value in points]


def _rates(points: Sequence[Point], value: Callable[[Point], float]) -> list[tuple[float, float]]:
    """Means over a few points each, so that few messages do not look like many spikes."""
    step = max(math.ceil(len(points) / MOST_RATES), 1)
    groups = [points[start : start + step] for start in range(0, len(points), step)]
    return [(group[-1].at, sum(map(value, group)) / len(group)) for group in groups]


def _series(
    name: str,
    points: Sequence[Point],
    value: Callable[[Point], float],
    colour: int,
    *,
    filled: bool = False,
) -> svg.Series:
    places = [(point.at, value(point)) for point in points]
    return svg.Series(name, places, colour, filled=filled)


def _by_kind(
    name: str,
    figures: Figures,
    value: Callable[[Point, str], float | None],
    kind: str,
    colour: int,
    *,
    dashed: bool = False,
) -> svg.Series:
    found = ((point.at, value(point, kind)) for point in figures.points)
    return svg.Series(name, [(at, y) for at, y in found if y is not None], colour, dashed)


def _mean_of(point: Point, kind: str) -> float | None:
    return _of(point.battery, kind, 0)


def _lowest_of(point: Point, kind: str) -> float | None:
    return _of(point.battery, kind, 1)


def _of(table: Mapping[str, tuple[float, float]], kind: str, place: int) -> float | None:
    return table[kind][place] if kind in table else None


def _quality_of(point: Point, kind: str) -> float | None:
    return point.quality.get(kind)


def _over_time(
    figures: Figures,
    title: str,
    series: Sequence[svg.Series],
    show: Callable[[float], str],
    top: float = 0.0,
) -> str:
    highest = max([top, *(y for one in series for _, y in one.points)])
    return _drawn(figures, title, series, svg.nice(0.0, highest or 1.0, show))


def _drawn(figures: Figures, title: str, series: Sequence[svg.Series], up: svg.Axis) -> str:
    last = figures.points[-1].at if figures.points else figures.lasted
    incidents = [(at, text.partition(":")[0]) for at, text in figures.notes if at <= last]
    marks = [(at, word if len(incidents) <= MOST_MARKS else "") for at, word in incidents[:40]]

    def draw(size: svg.Size) -> str:
        across = svg.over_time(last, span, size.width // 85)
        return svg.lines(size, title, series, across, up, marks)

    return legend(series) + both(draw)
