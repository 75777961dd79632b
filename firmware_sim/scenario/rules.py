"""What a key of a scenario may hold: each rule reads friendly spellings and words the complaint.

A complaint says what is wrong and what would be right. Durations are in seconds, sizes in bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
UNITS: Final = {
    "ms": 0.001,
    **dict.fromkeys(("", "s", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("h", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), DAY),
    **dict.fromkeys(("w", "week", "weeks"), 7 * DAY),
}


class Rule(Protocol):
    """Raises ValueError with "what is wrong: what would be right"."""

    def read(self, value: object) -> Any:
        """The value from what TOML gave."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def read(self, value: object) -> int:
        good = f"write a whole number from {self.low} to {self.high}"
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{show(value)} is not a whole number: {good}")
        if not self.low <= value <= self.high:
            raise ValueError(f"{show(value)} is out of range: {good}")
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `low` to `high`."""

    low: float = -1e9
    high: float = 1e9

    def read(self, value: object) -> float:
        good = f"write a number from {self.low:.12g} to {self.high:.12g}"
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{show(value)} is not a number: {good}")
        if not self.low <= value <= self.high:  # as NaN is not
            raise ValueError(f"{show(value)} is out of range: {good}")
        return float(value)


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds, or a duration such as "15 min"."""

    low: float
    high: float
    example: str = '30 or "15 min"'

    def read(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"{show(value)} is not a duration: {self._good()}")
        seconds = self._seconds(value) if isinstance(value, str) else value
        if not self.low <= seconds <= self.high:
            raise ValueError(f"{show(value)} is out of range: {self._good()}")
        return float(seconds)

    def _seconds(self, text: str) -> float:
        parts = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]*)", text.strip().lower(), re.ASCII)
        if parts is None or parts[2] not in UNITS:
            raise ValueError(f"{show(text)} is not a duration: {self._good()}")
        return float(parts[1]) * UNITS[parts[2]]

    def _good(self) -> str:
        return f"write {self.example}, from {in_words(self.low)} to {in_words(self.high)}"


@dataclass(frozen=True, slots=True)
class TimeOfDay:
    """Hours and minutes, as seconds since midnight."""

    def read(self, value: object) -> float:
        parts = (
            re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", value) if isinstance(value, str) else None
        )
        if parts is None:
            raise ValueError(f'{show(value)} is not a time of day: write one such as "06:30"')
        return int(parts[1]) * HOUR + int(parts[2]) * MINUTE


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    def read(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueError(f"{show(value)} is not true or false: write true or false, without quotes")


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of a few."""

    words: tuple[str, ...]

    def read(self, value: object) -> str:
        if isinstance(value, str) and value in self.words:
            return value
        near = get_close_matches(str(value), self.words, 1)
        good = " or ".join(f'"{word}"' for word in near or self.words)
        raise ValueError(f"{show(value)} is not known here: write {good}")


@dataclass(frozen=True, slots=True)
class Choices:
    """A list of some words of a few."""

    words: tuple[str, ...]

    def read(self, value: object) -> frozenset[str]:
        if not isinstance(value, list):
            raise ValueError(f'{show(value)} is not a list: write one such as ["{self.words[0]}"]')
        return frozenset(Choice(self.words).read(entry) for entry in value)


@dataclass(frozen=True, slots=True)
class Text:
    """A text that `pattern` fits; `good` says how it has to look."""

    pattern: str
    good: str
    longest: int = 200

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{show(value)} is not a text: write it in quotes")
        if len(value) > self.longest or not re.fullmatch(self.pattern, value):
            raise ValueError(f"{show(value)} is not good here: {self.good}")
        return value


@dataclass(frozen=True, slots=True)
class Range:
    """What the numbers of a sub-table may be: a name -> a rule."""

    what: str
    rules: Mapping[str, Rule]

    def read(self, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(
                f"{show(value)} is not a table: write {{ ... }} with keys of {self.what}"
            )
        return {key: self._read_key(key, entry) for key, entry in value.items()}

    def _read_key(self, key: str, value: object) -> Any:
        if key not in self.rules:
            raise ValueError(f'there is no "{key}" of {self.what}: {did_you_mean(key, self.rules)}')
        try:
            return self.rules[key].read(value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None


NAME: Final = Text(r"[A-Za-z0-9][A-Za-z0-9_-]*", "write letters, digits, - and _", 40)


def show(value: object) -> str:
    """A value as a person wrote it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value[:60]}"'
    return "a table" if isinstance(value, dict) else str(value)[:60]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a complaint about an unknown word."""
    near = get_close_matches(word, list(known), 1, 0.6)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


def in_words(seconds: float) -> str:
    """A duration as a person would write it."""
    for unit, length in (("days", DAY), ("h", HOUR), ("min", MINUTE), ("s", 1.0)):
        if seconds >= length and (seconds / length).is_integer():
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 or seconds == 0 else f"{seconds * 1000:.3g} ms"
