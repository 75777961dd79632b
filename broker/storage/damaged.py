"""Reading a table of a damaged SQLite file by SQLite itself: everything but the bad pages.

Rule kept here: an error ends one run of reading, not the table. Behind the error the reading goes
on at the first key that can be reached, from there also backwards, and what lies between two errors
is halved again and again; so a bad page costs its own rows. What is read may come twice.
"""

import sqlite3
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from broker.storage.rows import LARGEST, Text

Key = tuple[Any, ...]
Row = tuple[Any, ...]

MOST_PROBES = 1_000  # places tried in one table: keeps a hopeless file from costing hours
LONGEST_STEP = 62  # steps double: 2**62 is the end of our numbers


@dataclass(frozen=True, slots=True)
class Source:
    """A table, what orders its rows, and the columns wanted of it."""

    name: str
    key: tuple[str, ...]  # ("rowid",), or the primary key of a table without one
    lowest: Key  # sorts before every key
    columns: tuple[str, ...]


def connect(path: str) -> sqlite3.Connection:
    """A connection that gives text as `Text`, and does not give up for one bad schema entry."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = Text
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


class DamagedTable:
    """Reads what can be read of one table; `errors` counts what stood in the way."""

    def __init__(self, connection: sqlite3.Connection, source: Source) -> None:
        self.source = source
        self.errors = 0
        self._connection = connection
        self._gaps: deque[tuple[Key, Key]] = deque()
        self._probes = 0
        self._last: Key = source.lowest  # the last key of the latest run
        self._complete = False  # whether the latest run came to its end without an error
        self._width = len(source.key)
        self._selected = ", ".join((*source.key, *source.columns))

    def rows(self) -> Iterator[Row]:
        """Every row that can be reached: the columns wanted, in no certain order."""
        start: Key | None = self.source.lowest
        while start is not None and self._probes < MOST_PROBES:
            yield from self._run(start, None)
            if self._complete:
                break
            end = self._last
            start = self._beyond(end)
            yield from self._run(end, start and behind(start), backwards=True)
            if start or self._last != self._top():
                self._note_gap(end, self._last)
        yield from self._inside_gaps()

    def _inside_gaps(self) -> Iterator[Row]:
        while self._gaps and self._probes < MOST_PROBES:
            low, high = self._gaps.popleft()
            middle = halfway(low, high, self.source.lowest)
            if middle is None:
                continue
            yield from self._run(low, behind(middle), backwards=True)
            self._note_gap(low, min(self._last, middle))
            yield from self._run(middle, high)
            self._note_gap(self._last, high)

    def _note_gap(self, low: Key, high: Key) -> None:
        if not self._complete and self._probes < MOST_PROBES:
            self._gaps.append((low, high))

    def _beyond(self, end: Key) -> Key | None:
        """Where reading works again behind the error at `end`; None if nothing is found there."""
        for probe in steps(end, self.source.lowest):
            row = self._one(probe, None)
            if row is not None and _follows(probe, row[: self._width], backwards=False):
                return probe
            if self._complete or self._probes >= MOST_PROBES:
                return None
        return None

    def _run(self, low: Key, high: Key | None, *, backwards: bool = False) -> Iterator[Row]:
        """Rows with low < key < high in their order until the end or an error."""
        self._last = (high or self._top()) if backwards else low
        for row in self._robust(low, high, backwards):
            key = row[: self._width]
            if not _follows(self._last, key, backwards=backwards):
                self._fail()  # the tree is out of order: no run can be trusted to end
                return
            self._last = key
            yield row[self._width :]

    def _robust(self, low: Key, high: Key | None, backwards: bool) -> Iterator[Row]:
        """All rows at once; behind an error one by one, for sqlite3 withholds the last good one."""
        try:
            for row in self._select(low, high, backwards):
                low, high = (low, row[: self._width]) if backwards else (row[: self._width], high)
                yield row
        except (sqlite3.Error, OverflowError):
            pass
        else:
            self._complete = True
            return
        while (row := self._one(low, high, backwards)) is not None:
            low, high = (low, row[: self._width]) if backwards else (row[: self._width], high)
            yield row

    def _one(self, low: Key, high: Key | None, backwards: bool = False) -> Row | None:
        self._probes += 1
        try:
            row: Row | None = self._select(low, high, backwards, " LIMIT 1").fetchone()
        except (sqlite3.Error, OverflowError):
            self._fail()
            return None
        self._complete = row is None
        return row

    def _fail(self) -> None:
        self._complete = False
        self.errors += 1

    def _select(
        self, low: Key, high: Key | None, backwards: bool, limit: str = ""
    ) -> sqlite3.Cursor:
        key = ", ".join(self.source.key)
        values = ", ".join("CAST(? AS TEXT)" if _is_text(part) else "?" for part in low)
        where = f"({key}) > ({values})" + (f" AND ({key}) < ({values})" if high else "")
        order = ", ".join(f"{part} DESC" if backwards else part for part in self.source.key)
        return self._connection.execute(
            f"SELECT {self._selected} FROM {self.source.name} "  # noqa: S608 - our own names
            f"WHERE {where} ORDER BY {order}{limit}",
            (*low, *(high or ())),
        )

    def _top(self) -> Key:
        return tuple(
            Text(b"\xff" * 4) if _is_text(low) else 2**63 - 1 for low in self.source.lowest
        )


def steps(key: Key, lowest: Key) -> Iterator[Key]:
    """Keys behind `key`, near ones first, farther and farther."""
    for place in reversed(range(len(key))):
        for value in _steps_of(key[place]):
            yield (*key[:place], value, *lowest[place + 1 :])


def behind(key: Key) -> Key:
    """The very next key."""
    last = key[-1]
    return (*key[:-1], Text(last + b"\0") if _is_text(last) else last + 1)


def halfway(low: Key, high: Key, lowest: Key) -> Key | None:
    """A key between the two; None if there is none to be thought of."""
    for place, (first, second) in enumerate(zip(low, high, strict=True)):
        if first == second:
            continue
        value = _middle(first, second)
        middle = (*low[:place], value, *lowest[place + 1 :])
        return middle if low < middle < high else None
    return None


def _middle(low: Any, high: Any) -> Any:
    if not _is_text(low):
        return (low + high + 1) // 2
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    floor = low[same] if same < len(low) else 0
    return Text(high[:same] + bytes([(floor + high[same] + 1) // 2]))


def _steps_of(value: Any) -> Iterator[Any]:
    if not _is_text(value):
        yield from (value + 2**i for i in range(LONGEST_STEP) if value + 2**i <= LARGEST)
        return
    for length in reversed(range(len(value))):
        if value[length] < 0xFF:
            yield Text(value[:length] + bytes([value[length] + 1]))


def _follows(last: Key, key: Key, *, backwards: bool) -> bool:
    """Whether `key` may come after `last`; keys of other types than ours never may."""
    if any(_is_text(a) != _is_text(b) or b is None for a, b in zip(last, key, strict=True)):
        return False
    try:
        return key < last if backwards else key > last
    except TypeError:
        return False


def _is_text(part: Any) -> bool:
    return isinstance(part, bytes)
