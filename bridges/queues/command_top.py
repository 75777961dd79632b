"""`heliograph queue top`: how queues fill and drain, redrawn in place.

`View` turns figures and times into lines and knows no terminal. Rates are the broker's where it
measures them; the change of what waits is measured here.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from bridges.queues.command_api import CommandError
from bridges.queues.command_text import age, plain, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BAR = 20
FRESH = 0.4  # weight of the newest measurement in the smoothed change
SLOWEST = 0.01  # messages a second; a queue that drains more slowly has no end in sight
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
HOME, CLEAR_LINE, CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
OTHER_SCREEN, FIRST_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HEADING = (
    f"{'QUEUE':21}{'READY':>9}{'LEASED':>8}{'DELAYED':>9}{'DEAD':>8}{'IN/s':>8}{'OUT/s':>8}"
    f"{'NET/s':>9}"
)


@dataclass(slots=True)
class Course:
    """What one queue has done since it is watched."""

    at: float
    messages: int
    most: int
    change: float | None = None  # messages a second, smoothed

    def update(self, at: float, messages: int) -> None:
        """Measure once more."""
        if at <= self.at:
            return
        measured = (messages - self.messages) / (at - self.at)
        self.change = (
            measured if self.change is None else FRESH * measured + (1 - FRESH) * self.change
        )
        self.at, self.messages, self.most = at, messages, max(self.most, messages)

    @property
    def done(self) -> float:
        """Which part of the most it has held is gone."""
        return 1 - self.messages / self.most if self.most else 1.0

    @property
    def time_to_drain(self) -> float | None:
        """Seconds until it is empty, if it goes on like this; None: it never is."""
        if not self.messages:
            return 0.0
        if self.change is None or self.change > -SLOWEST:
            return None
        return self.messages / -self.change


class View:
    """All queues that are watched."""

    def __init__(self) -> None:
        self._courses: dict[str, Course] = {}
        self._queues: Sequence[Mapping[str, Any]] = ()

    def update(self, queues: Sequence[Mapping[str, Any]], now: float) -> None:
        """New figures, as of `now` in seconds."""
        self._queues = queues
        for each in queues:
            course = self._courses.get(each["name"])
            if course is None:
                count = each["messages"]
                self._courses[each["name"]] = Course(now, count, count)
            else:
                course.update(now, each["messages"])

    def screen(self, width: int, height: int) -> list[str]:
        """The figures for a terminal; two lines for each queue, as many as there is room for."""
        lines = [HEADING]
        for each in self._queues:
            lines += self._two_lines(each)
        if len(lines) > height:
            room = height - 1
            left = len(self._queues) - (room - 1) // 2
            lines = [*lines[: 1 + (room - 1) // 2 * 2], f"... and {left} more"]
        return [line[:width] for line in lines]

    def log(self) -> list[str]:
        """The figures for a file: one line for each queue."""
        return [self._one_line(each) for each in self._queues]

    def _two_lines(self, queue: Mapping[str, Any]) -> list[str]:
        course = self._courses[queue["name"]]
        rates = queue.get("rates") or {}
        numbers = (
            f"{shortened(queue['name'], 20):21}{short(queue['ready']):>9}"
            f"{short(queue['leased']):>8}{short(queue['delayed'] + queue['waiting']):>9}"
            f"{short(queue['dead']):>8}"
            f"{per_second(rates.get('in')):>8}{per_second(rates.get('out')):>8}"
            f"{signed(course.change):>9}"
        )
        full = round(course.done * BAR)
        mode = "" if queue["mode"] == "running" else f"{plain(queue['mode'])}, "
        state = f"{mode}oldest {age(queue['oldest_age'])}, {ending(course)}"
        return [numbers, f"  [{'#' * full}{'-' * (BAR - full)}] {course.done:>4.0%} {state}"]

    def _one_line(self, queue: Mapping[str, Any]) -> str:
        course = self._courses[queue["name"]]
        rates = queue.get("rates") or {}
        drain = course.time_to_drain
        facts = {
            **{name: queue[name] for name in ("ready", "leased", "waiting", "delayed", "dead")},
            "in": per_second(rates.get("in")),
            "out": per_second(rates.get("out")),
            "net": signed(course.change),
            "oldest": "-" if queue["oldest_age"] is None else f"{queue['oldest_age']:.0f}",
            "drain": "-" if drain is None else f"{drain:.0f}",
        }
        return " ".join((plain(queue["name"]), *(f"{key}={value}" for key, value in facts.items())))


def watch(
    ask: Callable[[], Sequence[Mapping[str, Any]]],
    count: int | None,
    interval: float,
    size: Callable[[], tuple[int, int]],
    output: TextIO | None = None,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Show the queues `count` times (None: for ever), every `interval` seconds. The first answer
    must be a good one; later the broker may be away for a while.
    """
    output = output or sys.stdout
    view = View()
    view.update(ask(), now())
    draw = Screen(output, size) if output.isatty() else Log(output)
    with draw:
        turn = 1
        draw.show(view, "")
        while count is None or turn < count:
            sleep(interval)
            trouble = ""
            try:
                view.update(ask(), now())
            except CommandError as error:
                trouble = str(error)
            draw.show(view, trouble)
            turn += 1


class Screen:
    """A terminal, which gets its own back at the end."""

    def __init__(self, output: TextIO, size: Callable[[], tuple[int, int]]) -> None:
        self._output = output
        self._size = size

    def __enter__(self) -> None:
        self._output.write(OTHER_SCREEN + HIDE)

    def __exit__(self, *_: object) -> None:
        self._output.write(SHOW + FIRST_SCREEN)
        self._output.flush()

    def show(self, view: View, trouble: str) -> None:
        """Draw over what is there."""
        width, height = self._size()
        last = plain(trouble) or "Ctrl-C ends this."
        lines = [*view.screen(width, height - 2), "", last[:width]]
        text = "\n".join(line + CLEAR_LINE for line in lines)
        self._output.write(HOME + text + CLEAR_REST)
        self._output.flush()


class Log:
    """A file or a pipe."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, *_: object) -> None:
        """Nothing to put right."""

    def show(self, view: View, trouble: str) -> None:
        """Write a line for each queue."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        for line in [plain(trouble)] if trouble else view.log():
            self._output.write(f"{stamp} {line}\n")
        self._output.flush()


def short(number: float) -> str:
    """A number in seven characters at most, up to the billions."""
    for size, letter in ((10**9, "G"), (10**6, "M")):
        if abs(number) >= size:
            return f"{number / size:.1f}{letter}"
    return f"{number:,.0f}"


def per_second(rate: float | None) -> str:
    """A rate; "-" where nobody measures it."""
    return "-" if rate is None else short(rate) if rate >= 100 else f"{rate:.1f}"


def signed(rate: float | None) -> str:
    """A change; "-" before the second measurement."""
    if rate is None:
        return "-"
    sign = "-" if rate < 0 else "+"
    return f"{sign}{per_second(abs(rate))}"


def ending(course: Course) -> str:
    """When the queue will be empty, in words."""
    left = course.time_to_drain
    if left is None:
        return "not draining" if course.change is not None else "measuring"
    return f"empty in about {age(left)}" if course.messages else "empty"
