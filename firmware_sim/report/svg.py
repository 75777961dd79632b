"""Small charts as inline SVG: lines over time, a distribution, bars. Colours come from the page.

Each chart is drawn for one width in CSS pixels, so that its letters keep their size; the page has
one for wide screens and one for phones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

COLOURS: Final = 6  # the page has --c0 to --c5
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 12, 26
_LETTER: Final = 6.2  # the width of one, about


@dataclass(frozen=True, slots=True)
class Series:
    """A line with a name. `colour` is a number below COLOURS; `dashed` for a second one of it."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    dashed: bool = False
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """From `low` to `high`; `show` writes a tick."""

    low: float
    high: float
    show: Callable[[float], str]
    ticks: Sequence[float] = ()

    def part(self, value: float) -> float:
        """Where a value lies, 0.0 to 1.0."""
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0


@dataclass(frozen=True, slots=True)
class Size:
    """Of a chart, in CSS pixels."""

    width: int
    height: int

    def x(self, part: float) -> float:
        """A place between left and right."""
        return LEFT + part * (self.width - LEFT - RIGHT)

    def y(self, part: float) -> float:
        """A place between bottom and top."""
        return self.height - BOTTOM - part * (self.height - TOP - BOTTOM)


def lines(
    size: Size,
    title: str,
    series: Sequence[Series],
    across: Axis,
    up: Axis,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Lines over an axis; `marks` are moments with a word."""
    body = [
        *_grid(size, across, up),
        *_marks(size, across, marks),
        *(part for one in series for part in _line(size, one, across, up)),
    ]
    return _svg(size, title, body)


def distribution(
    size: Size,
    title: str,
    bars: Sequence[tuple[float, float, float]],
    across: Axis,
    up: Axis,
    marks: Sequence[tuple[float, str]] = (),
) -> str:
    """Bars that touch: (from, to, height)."""
    body = [*_grid(size, across, up)]
    for low, high, height in bars:
        left, right = size.x(across.part(low)), size.x(across.part(high))
        top = size.y(up.part(height))
        body.append(
            f'<rect class="bar" x="{left + 0.5:.1f}" y="{top:.1f}" rx="1.5" '
            f'width="{max(right - left - 1, 1):.1f}" height="{size.y(0) - top:.1f}"/>'
        )
    return _svg(size, title, [*body, *_marks(size, across, marks)])


def nice(low: float, high: float, show: Callable[[float], str], about: int = 4) -> Axis:
    """An axis with round ticks."""
    span = high - low or 1.0
    raw = span / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = [number * step for number in range(first, last + 1)]
    return Axis(ticks[0], ticks[-1], show, ticks)


def over_time(last: float, show: Callable[[float], str], about: int = 6) -> Axis:
    """Time from 0, with ticks that clocks know."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
    days = [86_400 * number for number in (1, 2, 5, 7, 14, 30, 60, 120)]
    step = next((step for step in (*steps, *days) if last / step <= about), 86_400 * 365)
    ticks = [step * number for number in range(int(last / step) + 1)]
    return Axis(0.0, max(last, 1e-9), show, ticks)


def _svg(size: Size, title: str, body: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {size.width} {size.height}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(body)}</svg>'
    )


def _grid(size: Size, across: Axis, up: Axis) -> Iterator[str]:
    right, bottom = size.x(1), size.y(0)
    for tick in up.ticks:
        y = size.y(up.part(tick))
        yield f'<path class="grid" d="M{LEFT} {y:.1f}H{right:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 7}" y="{y + 3.5:.1f}" text-anchor="end">'
        yield f"{escape(up.show(tick))}</text>"
    yield f'<path class="axis" d="M{LEFT} {bottom:.1f}H{right:.1f}"/>'
    for tick in across.ticks:
        x = size.x(across.part(tick))
        anchor = "end" if x > right - 14 else "middle"
        yield f'<text class="tick" x="{x:.1f}" y="{size.height - 8}" text-anchor="{anchor}">'
        yield f"{escape(across.show(tick))}</text>"


def _marks(size: Size, across: Axis, marks: Sequence[tuple[float, str]]) -> Iterator[str]:
    places = [size.x(across.part(at)) for at, _ in marks]
    taken = float(LEFT)  # up to here there are words
    for (_, word), x, after in zip(marks, places, [*places, size.x(1)][1:], strict=True):
        yield f'<path class="mark" d="M{x:.1f} {TOP}V{size.y(0):.1f}"/>'
        length = len(word) * _LETTER + 5
        if x + length <= after:
            yield _word(word, x + 5, "start")
            taken = x + length
        elif x - length >= taken:
            yield _word(word, x - 5, "end")
            taken = x


def _word(word: str, x: float, anchor: str) -> str:
    """Beside a mark."""
    return (
        f'<text class="word" x="{x:.1f}" y="{TOP + 9}" text-anchor="{anchor}">{escape(word)}</text>'
    )


def _line(size: Size, series: Series, across: Axis, up: Axis) -> Iterator[str]:
    if not series.points:
        return
    places = [
        f"{size.x(across.part(x)):.1f} {size.y(min(max(up.part(y), 0.0), 1.0)):.1f}"
        for x, y in series.points
    ]
    path = "M" + "L".join(places)
    colour = series.colour % COLOURS
    if series.filled:
        first, last = places[0].split()[0], places[-1].split()[0]
        base = f"{size.y(0):.1f}"
        yield f'<path class="area c{colour}" d="{path}L{last} {base}L{first} {base}Z"/>'
    dashed = " dashed" if series.dashed else ""
    yield f'<path class="line c{colour}{dashed}" d="{path}"><title>{escape(series.name)}</title>'
    yield "</path>"
