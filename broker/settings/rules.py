"""The rules: which values a setting may hold.

Each reads friendly spellings ("1 MiB", "7 days") and words the complaint: what is wrong, and what
would be right. Sizes are in bytes, durations in seconds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from broker.settings.urls import (
    DATABASE_SCHEMES,
    GOOD_DATABASE_URL,
    check_database_url,
    parse_url,
)
from broker.settings.words import show

NEVER = 0xFFFF_FFFF  # a session expiry of this many seconds means: never [MQTT 5, 3.1.2.11.2]

KIB, MIB, GIB = 1024, 1024**2, 1024**3
SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "kib": KIB,
    "mb": 1000**2,
    "mib": MIB,
    "gb": 1000**3,
    "gib": GIB,
}
MINUTE, HOUR, DAY = 60, 3600, 86_400
MANY = 1_000_000_000  # no broker of this kind meets it; it only catches a slip of the finger
DURATION_UNITS = {
    **dict.fromkeys(("", "s", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("h", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), DAY),
    **dict.fromkeys(("w", "week", "weeks"), 7 * DAY),
}
INTERVAL_UNITS = {**DURATION_UNITS, "ms": 0.001}
FLAG_WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


class Rule(Protocol):
    """What a setting may hold. Raises ValueError with "what is wrong: what would be right"."""

    def read(self, value: object) -> object:
        """The setting's value from what TOML gave."""

    def read_text(self, text: str) -> object:
        """The setting's value from an environment variable."""


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    def read(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueError(f"{show(value)} is not true or false: write true or false, without quotes")

    def read_text(self, text: str) -> bool:
        if text.lower() in FLAG_WORDS:
            return FLAG_WORDS[text.lower()]
        raise ValueError(f"{show(text)} is not true or false: write true or false")


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def read(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{show(value)} is not a whole number: {self._good()}")
        return self.checked(value)

    def read_text(self, text: str) -> int:
        try:
            return self.checked(int(text))
        except ValueError as error:
            raise ValueError(f"{show(text)} is not good here: {self._good()}") from error

    def checked(self, value: int) -> int:
        if self.low <= value <= self.high:
            return value
        raise ValueError(f"{value} is out of range: {self._good()}")

    def _good(self) -> str:
        return f"write a whole number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A whole number with an optional unit, kept in the base unit (bytes or seconds)."""

    what: str
    units: Mapping[str, int]
    examples: str
    low: int
    high: int
    words: Mapping[str, int] = field(default_factory=dict)
    also: tuple[int, ...] = ()  # good although out of the range

    def read(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(f"{show(value)} is not a {self.what}: write {self.examples}")
        amount = self._amount(value) if isinstance(value, str) else value
        if self.low <= amount <= self.high or amount in self.also:
            return amount
        raise ValueError(
            f"{show(value)} is out of range: write {self.examples}, from {self.low} to {self.high}"
        )

    def read_text(self, text: str) -> int:
        return self.read(text)

    def _amount(self, text: str) -> int:
        word = text.strip().lower()
        if word in self.words:
            return self.words[word]
        parts = re.fullmatch(r"(\d{1,18})\s*([a-z]*)", word, re.ASCII)
        if parts is None or parts[2] not in self.units:
            raise ValueError(f"{show(text)} is not a {self.what}: write {self.examples}")
        return int(parts[1]) * self.units[parts[2]]


def size(low: int, high: int) -> Quantity:
    """A number of bytes."""
    return Quantity("size", SIZE_UNITS, 'bytes or a size such as "64 KiB" or "1 MiB"', low, high)


def size_or_none(low: int, high: int) -> Quantity:
    """A number of bytes; 0 means that there is no limit."""
    examples = '0 for no limit, or a size such as "512 MiB" or "2 GiB"'
    return Quantity("size", SIZE_UNITS, examples, low, high, also=(0,))


def duration(low: int, high: int) -> Quantity:
    """A number of seconds."""
    examples = 'seconds or a duration such as "30 s", "15 min" or "7 days"'
    return Quantity("duration", DURATION_UNITS, examples, low, high)


def expiry() -> Quantity:
    """A number of seconds, or "never"."""
    examples = 'seconds, a duration such as "7 days", or "never"'
    return Quantity("duration", DURATION_UNITS, examples, 0, NEVER, {"never": NEVER})


@dataclass(frozen=True, slots=True)
class Interval:
    """Seconds and parts of them, with an optional unit."""

    low: float
    high: float
    example: str = '0.5 or "500 ms"'

    def read(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"{show(value)} is not a duration: {self._good()}")
        amount = self._amount(value) if isinstance(value, str) else float(value)
        if self.low <= amount <= self.high:
            return amount
        raise ValueError(f"{show(value)} is out of range: {self._good()}")

    def read_text(self, text: str) -> float:
        return self.read(text)

    def _amount(self, text: str) -> float:
        parts = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]*)", text.strip().lower(), re.ASCII)
        if parts is None or parts[2] not in INTERVAL_UNITS:
            raise ValueError(f"{show(text)} is not a duration: {self._good()}")
        return float(parts[1]) * INTERVAL_UNITS[parts[2]]

    def _good(self) -> str:
        return f"write seconds from {self.low:.12g} to {self.high:.12g}, such as {self.example}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One word of a few. `also` maps other spellings, true and false among them."""

    words: tuple[str, ...]
    also: Mapping[object, str] = field(default_factory=dict)

    def read(self, value: object) -> str:
        if isinstance(value, str) and value in self.words:
            return value
        if isinstance(value, str | bool) and value in self.also:
            return self.also[value]
        raise ValueError(f"{show(value)} is not known here: write {self._good(value)}")

    def read_text(self, text: str) -> str:
        return self.read(FLAG_WORDS.get(text.lower(), text) if self.also else text)

    def _good(self, value: object) -> str:
        near = get_close_matches(str(value), self.words, 1)
        return " or ".join(f'"{word}"' for word in near or self.words if word)


@dataclass(frozen=True, slots=True)
class Text:
    """Any text without control characters, fit for an MQTT string."""

    longest: int = 65_535

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{show(value)} is not a text: write it in quotes")
        if not value.isprintable() or len(value.encode()) > self.longest:
            raise ValueError(
                f"{show(value)} cannot be sent to a client: write printable characters, "
                f"at most {self.longest} bytes"
            )
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class FilePath:
    """A path; empty means none. `load` makes it relative to the file it was written in."""

    def read(self, value: object) -> Path | None:
        if not isinstance(value, str | Path) or "\0" in str(value):
            raise ValueError(f"{show(value)} is not a path: write it in quotes")
        return Path(value).expanduser() if str(value) else None

    def read_text(self, text: str) -> Path | None:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class FolderPath:
    """A path that cannot be empty."""

    def read(self, value: object) -> Path:
        path = FilePath().read(value)
        if path is None:
            raise ValueError('"" is not a folder: write where it is, such as "data"')
        return path

    def read_text(self, text: str) -> Path:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class Url:
    """Where to listen."""

    def read(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f'{show(value)} is not a URL: write one such as "tcp://0.0.0.0:1883"')
        parse_url(value)
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class FileMode:
    """A file's permission bits, written as octal digits."""

    def read(self, value: object) -> str:
        if isinstance(value, str) and re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
            return value
        raise ValueError(f'{show(value)} is not a file mode: write octal digits such as "0660"')

    def read_text(self, text: str) -> str:
        return self.read(text)


@dataclass(frozen=True, slots=True)
class Filter:
    """An MQTT topic filter that is matched against topics: no shared subscription."""

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not value or "\0" in value or len(value.encode()) > 65_535:
            raise ValueError(f'{show(value)} is not a topic filter: write one such as "sensors/#"')
        if value.startswith("$share/"):
            raise ValueError(
                f"{show(value)} is a shared subscription: write the filter behind the group's name"
            )
        self._check_wildcards(value)
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)

    def _check_wildcards(self, text: str) -> None:
        *levels, last = text.split("/")
        if any("#" in level for level in levels) or ("#" in last and last != "#"):
            raise ValueError(f'{show(text)}: "#" is a whole level, the last: write "sensors/#"')
        if any("+" in level and level != "+" for level in (*levels, last)):
            raise ValueError(f'{show(text)}: "+" is a whole level: write "sensors/+/state"')


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Where the PostgreSQL database is; empty means SQLite.

    No complaint repeats what was written: a password may be anywhere in a URL with a mistake.
    """

    def read(self, value: object) -> str:
        if value == "":
            return ""
        if not isinstance(value, str) or not value.isprintable() or "://" not in value:
            raise ValueError(f"this is not a URL: {GOOD_DATABASE_URL}")
        scheme = value.partition("://")[0]
        if scheme not in DATABASE_SCHEMES:
            shown = show(scheme) if re.fullmatch(r"[\w+]{1,30}", scheme) else "this"
            raise ValueError(f"{shown} is no database of ours: {GOOD_DATABASE_URL}")
        check_database_url(value)
        return value

    def read_text(self, text: str) -> str:
        return self.read(text)
