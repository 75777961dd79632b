"""What is wrong with the settings: where, which key, what is wrong and what would be right."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong.

    `source` is a file, an environment variable or the command line; line 0 is unknown.
    """

    source: str
    key: str
    wrong: str
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return ": ".join(part for part in (place, self.key, self.wrong) if part)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one entry of a list was written; `lines` has those of its keys, "" being its own."""

    source: str = "settings"
    entry: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)

    def problem(self, key: str, wrong: str) -> Problem:
        """What is wrong with a key of the entry, or ("") with the whole of it."""
        dotted = ".".join(part for part in (self.entry, key) if part)
        return Problem(self.source, dotted, wrong, self.lines.get(key) or self.lines.get("", 0))


class SettingsError(Exception):
    """The settings cannot be used; `problems` has every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class Entry(NamedTuple):
    """One entry of a list while it is gathered. Line 0 is unknown."""

    source: str
    line: int
    values: dict[str, Any]
    place: Place = Place()
