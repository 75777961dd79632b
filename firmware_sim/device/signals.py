"""Plausible readings: what a sensor would see, drawn from a seeded generator.

A signal is asked for its values when the device wants them (`read`), and may have something to say
of its own (`next_event`): a door that opens does not wait for the interval. `now` is in seconds
since midnight of the first day, so that noon is warm and nights are quiet.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from random import Random

Value = float | int | bool | str

DAY: Final = 86_400.0
HOUR: Final = 3600.0
WARMEST: Final = 15 * HOUR
WEATHER_PACE: Final = 6 * HOUR  # how long the weather remembers how it was

# how often a door is opened in an hour of the day, beside the mean
DOOR_HOURS: Final = (
    *(0.05,) * 6,
    *(0.6, 1.8, 2.4, 1.6, 1.2, 1.4),
    *(2.0, 1.6, 1.2, 1.2, 1.6, 2.6),
    *(1.8, 0.9, 0.5, 0.3, 0.15, 0.05),
)


class Lines(Protocol):
    """What a reader of CSV is."""

    line_num: int

    def __iter__(self) -> Lines: ...
    def __next__(self) -> list[str]: ...


class Signal(Protocol):
    """What one sensor measures."""

    def read(self, now: float) -> Mapping[str, Value]:
        """The values at this moment; asked with growing times."""

    def next_event(self) -> float | None:
        """When there is something to tell without being asked."""


class Temperature:
    """Warm after noon, cold before dawn, weather that changes over hours, and a noisy sensor."""

    def __init__(
        self, rng: Random, mean: float = 14.0, swing: float = 6.0, weather: float = 2.0
    ) -> None:
        self._rng = rng
        self._mean, self._swing, self._weather = mean, swing, weather
        self._offset = rng.gauss(0.0, weather)
        self._at = 0.0

    def read(self, now: float) -> Mapping[str, Value]:
        self._advance(now)
        daily = self._swing * math.cos((now - WARMEST) / DAY * math.tau)
        noise = self._rng.gauss(0.0, 0.05)
        return {"temperature": round(self._mean + daily + self._offset + noise, 2)}

    def next_event(self) -> None:
        return None

    def _advance(self, now: float) -> None:
        kept = math.exp(-max(now - self._at, 0.0) / WEATHER_PACE)
        self._offset = self._offset * kept + self._rng.gauss(
            0.0, self._weather * math.sqrt(1 - kept * kept)
        )
        self._at = now


class Drift:
    """A value that wanders and never returns by itself: a tank, a pressure, a worn bearing."""

    def __init__(
        self,
        rng: Random,
        name: str = "level",
        start: float = 50.0,
        per_hour: float = 1.0,
        low: float = 0.0,
        high: float = 100.0,
    ) -> None:
        self._rng = rng
        self._name, self._value = name, start
        self._per_hour, self._low, self._high = per_hour, low, high
        self._at = 0.0

    def read(self, now: float) -> Mapping[str, Value]:
        hours = max(now - self._at, 0.0) / HOUR
        self._at = now
        self._value += self._rng.gauss(0.0, self._per_hour * math.sqrt(hours))
        self._value = folded(self._value, self._low, self._high)
        return {self._name: round(self._value, 2)}

    def next_event(self) -> None:
        return None


def folded(value: float, low: float, high: float) -> float:
    """The value, reflected at both ends of its range as often as it needs."""
    span = high - low
    place = (value - low) % (2 * span)
    return low + min(place, 2 * span - place)


class Door:
    """Opens by chance, more often by day, and closes after a while. Tells both at once."""

    def __init__(self, rng: Random, per_hour: float = 4.0, open_for: float = 20.0) -> None:
        self._rng = rng
        self._per_hour, self._open_for = per_hour, open_for
        self._is_open = False
        self._opened = 0
        self._next: float | None = None

    def read(self, now: float) -> Mapping[str, Value]:
        if self._next is None:
            self._next = self._next_opening(now)
        while self._next <= now:
            self._turn(self._next)
        return {"open": self._is_open, "opened": self._opened}

    def next_event(self) -> float | None:
        return self._next

    def _turn(self, now: float) -> None:
        self._is_open = not self._is_open
        self._opened += self._is_open
        if self._is_open:
            self._next = now + max(self._rng.expovariate(1 / self._open_for), 0.5)
        else:
            self._next = self._next_opening(now)

    def _next_opening(self, now: float) -> float:
        """A Poisson process whose rate changes by the hour, by thinning."""
        top = max(DOOR_HOURS) * self._per_hour / HOUR
        while True:
            now += self._rng.expovariate(top)
            rate = DOOR_HOURS[int(now % DAY // HOUR)] * self._per_hour / HOUR
            if self._rng.random() * top <= rate:
                return now


class Vibration:
    """A machine that hums, and shakes in bursts; a burst is told when it begins."""

    def __init__(
        self, rng: Random, rest: float = 0.2, burst: float = 4.0, per_hour: float = 6.0
    ) -> None:
        self._rng = rng
        self._rest, self._burst, self._per_hour = rest, burst, per_hour
        self._until = -1.0
        self._next: float | None = None

    def read(self, now: float) -> Mapping[str, Value]:
        if self._next is None:
            self._next = now + self._gap()
        while self._next <= now:
            self._until = self._next + self._rng.expovariate(1 / 8.0)
            self._next = self._until + self._gap()
        level = self._burst if now < self._until else self._rest
        rms = abs(self._rng.gauss(level, level / 8))
        peak = rms * (1.4 + self._rng.random())
        return {"rms": round(rms, 3), "peak": round(peak, 3)}

    def next_event(self) -> float | None:
        return self._next

    def _gap(self) -> float:
        return self._rng.expovariate(self._per_hour / HOUR)


class Counter:
    """Counts pieces, pulses or litres, and starts at zero."""

    def __init__(self, rng: Random, name: str = "count", per_hour: float = 600.0) -> None:
        self._rng = rng
        self._name, self._rate = name, per_hour / HOUR
        self._count = 0
        self._at: float | None = None

    def read(self, now: float) -> Mapping[str, Value]:
        expected = self._rate * max(now - (now if self._at is None else self._at), 0.0)
        self._at = now
        self._count += max(round(self._rng.gauss(expected, math.sqrt(expected))), 0)
        return {self._name: self._count}

    def next_event(self) -> None:
        return None


class Replay:
    """Tells what was recorded, row by row, at the recorded distances; again from the start."""

    def __init__(self, rows: Sequence[Row], started: float, speed: float = 1.0) -> None:
        self._rows, self._speed = rows, speed
        self._round = started
        self._length = length_of(rows)
        self._place = 0

    def read(self, now: float) -> Mapping[str, Value]:
        values: Mapping[str, Value] = self._rows[self._place].values
        if now < self.next_event():
            return values
        self._place += 1
        if self._place == len(self._rows):
            self._place = 0
            self._round += self._length / self._speed
        return values

    def next_event(self) -> float:
        return self._round + (self._rows[self._place].at - self._rows[0].at) / self._speed


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a recording: seconds, and the values by the names of their columns."""

    at: float
    values: Mapping[str, Value]


def length_of(rows: Sequence[Row]) -> float:
    """From the first row to when it comes again: a typical distance behind the last one."""
    between = rows[-1].at - rows[0].at
    return between + between / (len(rows) - 1) if len(rows) > 1 else 1.0


def read_recording(path: Path, longest: int = 1_000_000) -> tuple[Row, ...]:
    """Read a CSV file whose first column is the time in seconds and whose first line has names.

    Raises ValueError with "line N: what is wrong: what would be right", and OSError.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        try:
            rows = _rows(lines, longest)
        except UnicodeDecodeError:
            raise ValueError("is not UTF-8 text") from None
        except csv.Error as error:
            raise ValueError(f"line {lines.line_num}: {error}") from None
    if not rows:
        raise ValueError("line 2: there are no readings: add lines with a time and values")
    if len(rows) > 1 and rows[0].at == rows[-1].at:
        raise ValueError("all readings have the same time: the first column is in seconds")
    return tuple(rows)


def _rows(lines: Lines, longest: int) -> list[Row]:
    names = next(lines, [])
    if len(names) < 2:
        raise ValueError('line 1: has no columns: begin with a line such as "t,temperature"')
    rows: list[Row] = []
    for line in lines:
        if line:
            rows.append(_row(line, names, lines.line_num, rows))
        if len(rows) > longest:
            raise ValueError(f"line {lines.line_num}: too many: at most {longest} rows")
    return rows


def _row(line: list[str], names: list[str], number: int, before: list[Row]) -> Row:
    if len(line) != len(names):
        raise ValueError(
            f"line {number}: has {len(line)} columns, and there are {len(names)} names"
        )
    try:
        at = float(line[0])
    except ValueError:
        at = math.nan
    if not math.isfinite(at):
        raise ValueError(f'line {number}: "{line[0]}" is not a time: write seconds, such as 12.5')
    if before and at < before[-1].at:
        raise ValueError(f"line {number}: goes back in time: put the lines in order")
    return Row(at, {name: _value(text) for name, text in zip(names[1:], line[1:], strict=True)})


def _value(text: str) -> Value:
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    return int(number) if number.is_integer() and "." not in text else number


# name in a scenario -> the class; its keyword arguments are the settings
SIGNALS: Final[Mapping[str, Callable[..., Signal]]] = {
    "temperature": Temperature,
    "drift": Drift,
    "door": Door,
    "vibration": Vibration,
    "counter": Counter,
}
