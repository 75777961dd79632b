"""What to do with a SQLite file that cannot be trusted: move it aside, keep what can be read.

Rule kept here: damage is never an error. The new file is made ready beside the old one and put in
its place at the very end, so an interrupted salvage can be begun again. Three ways of reading
follow each other, each only if the one before met an error: SQLite around the bad pages; the same
with the first page of a fresh file, for the layout is always the same; every page by itself,
whatever leads to it. SQLite's own `.recover` is not used: Debian builds its shell without it.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Integer, Table, create_engine

from broker.queues.policy import QueuePolicy
from broker.storage.damaged import DamagedTable, Row, Source, connect
from broker.storage.files import free_name, switch, sync
from broker.storage.opening import create_schema
from broker.storage.pages import PAGE_SIZE, Cell, Pages
from broker.storage.rows import Text, checks_of, good_row
from broker.storage.tables import metadata, queue_metadata

CHUNK = 500  # rows inserted at a time
HEADER_MAGIC = b"SQLite format 3\0"
# parts of the file header that say how to read the file: the same in every file of ours
HEADER_PARTS = (slice(0, 18), slice(20, 24), slice(44, 48), slice(52, 60))
FILE_VERSIONS = slice(18, 20)  # 2: there may be a write-ahead log
PAGE_COUNT = slice(28, 32)
FREELIST = slice(32, 40)  # its first page, and how many
FILE_HEADER = 100

TABLES: dict[str, Table] = {**metadata.tables, **queue_metadata.tables}
DERIVED = frozenset({"queue_counter"})  # made again from the others
WHAT = {  # table -> what people call its rows
    "meta": "the counters of the store",
    "session": "sessions",
    "subscription": "subscriptions",
    "member": "receivers of waiting messages",
    "message": "waiting messages",
    "inflight": "deliveries under way",
    "received": "QoS 2 packet ids taken over",
    "retained": "retained messages",
    "will": "wills",
    "queued": "messages in queues",
    "queue_payload": "payloads of messages in queues",
    "queue": "settings of queues",
    "queue_seen": "ids of messages that queues have had",
}
# not found page by page: two numbers in a row are also what several indexes hold
INDISTINCT = frozenset({"received"})

# Rows that refer to something that is not there any more, in the order of their going.
STRAYS = (
    *(
        f"DELETE FROM {table} WHERE session NOT IN (SELECT id FROM session)"  # noqa: S608 - our own names
        for table in ("subscription", "member", "inflight", "received")
    ),
    "DELETE FROM message WHERE audience NOT IN (SELECT audience FROM member)",
    "DELETE FROM inflight WHERE state = 0 AND number NOT IN (SELECT number FROM message)",
    "DELETE FROM message WHERE audience IS NULL AND number NOT IN (SELECT number FROM inflight)",
    "DELETE FROM queued WHERE content NOT IN (SELECT id FROM queue_payload)",
    "DELETE FROM inflight WHERE state = 2 AND -number NOT IN (SELECT number FROM queued)",
    (
        "DELETE FROM queue_payload WHERE id NOT IN"
        " (SELECT content FROM queued WHERE content IS NOT NULL)"
    ),
)
# What is said of queues more than once, and who waits for whom.
QUEUES_PUT_RIGHT = (
    *(
        "INSERT OR IGNORE INTO queue (name, policy, origin, bindings, mode)"  # noqa: S608 - our own words
        f" SELECT DISTINCT queue, '{policy}', 'client', '[]', 'running' FROM queued WHERE {which}"
        for policy, which in (
            (QueuePolicy.for_dead_letters(QueuePolicy()).to_json(), "queue LIKE '%.dlq'"),
            (QueuePolicy().to_json(), "true"),
        )
    ),
    "UPDATE queue_payload SET uses = (SELECT count(*) FROM queued WHERE content = id)",
    "DELETE FROM queue_counter",
    "INSERT INTO queue_counter SELECT queue, 0, count(*), sum(size) FROM queued GROUP BY queue",
    # nobody holds it without an end who does not have it in flight
    (
        "UPDATE queued SET state = 0, token = NULL, consumer = NULL WHERE state = 1 AND due IS NULL"
        " AND number NOT IN (SELECT -number FROM inflight WHERE state = 2)"
    ),
    (
        "UPDATE queued SET state = 0, due = NULL WHERE state = 2 AND (key IS NULL OR (NOT EXISTS"
        " (SELECT 1 FROM queued AS head WHERE head.queue = queued.queue AND head.key = queued.key"
        " AND head.state <> 2) AND number = (SELECT min(number) FROM queued AS head"
        " WHERE head.queue = queued.queue AND head.key = queued.key)))"
    ),
)
# Above everything seen, so that no number is given twice.
COUNTERS = """
    UPDATE meta SET clean = 1, next_number = max(next_number,
        (SELECT 1 + coalesce(max(number), 0) FROM message),
        (SELECT 1 + coalesce(max(number), 0) FROM queued),
        (SELECT 1 + coalesce(max(number), 0) FROM inflight),
        (SELECT 1 + coalesce(max(cursor), 0) FROM session)),
    next_session = max(next_session,
        (SELECT 1 + coalesce(max(id), 0) FROM session),
        (SELECT 1 + coalesce(max(session), 0) FROM subscription),
        (SELECT 1 + coalesce(max(session), 0) FROM member)),
    next_audience = max(next_audience,
        (SELECT 1 + coalesce(max(audience), 0) FROM member),
        (SELECT 1 + coalesce(max(audience), 0) FROM message))
"""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """Where the damaged file is, what was kept by table, and sentences about what was not."""

    moved_to: Path
    rows: dict[str, int]
    lost: list[str]


def salvage(path: Path, stamp: str) -> Salvaged:
    """Move the damaged file to `<name>.damaged-<stamp>`; leave a good one with what was readable.

    No connection to the file may be open. OSError if the folder cannot be written, or is full.
    """
    folder = path.with_name(f"{path.name}.salvage")
    ready = folder / "ready.db"
    lost = ["an earlier salvage was interrupted: its result was taken"]
    if not ready.exists():
        lost = _prepare(path, folder, ready)
    moved_to = free_name(path, f"damaged-{stamp}")
    with closing(sqlite3.connect(ready)) as connection:
        rows = count_rows(connection)
    switch(path, ready, moved_to)
    shutil.rmtree(folder, ignore_errors=True)
    return Salvaged(moved_to, rows, lost)


def count_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows each table has."""
    return {
        name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608 - our own names
        for name in TABLES
    }


def make_fresh(path: Path) -> None:
    """A file with our tables and nothing in them."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA synchronous = OFF")  # synced when it is ready
        create_schema(connection)
    engine.dispose()


def _prepare(path: Path, folder: Path, ready: Path) -> list[str]:
    """Make the file that will take the damaged one's place; what may be missing, as sentences."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    draft = folder / "draft.db"
    make_fresh(draft)
    shutil.copyfile(draft, folder / "template.db")
    try:
        lost = _fill(draft, DamagedFile(path, folder))
    except sqlite3.OperationalError as error:  # of the new file: the damaged one's are caught
        raise OSError(f"{draft}: {error}") from error
    sync(draft)
    draft.replace(ready)
    sync(folder)
    return lost


def _fill(draft: Path, damaged: "DamagedFile") -> list[str]:
    with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")  # it is thrown away if this is interrupted
        connection.execute("PRAGMA synchronous = OFF")
        target = Target(connection)
        doubtful = damaged.copy(target)
        target.put_right()
        return sentences(doubtful, target)


def sentences(doubtful: Iterable[str], target: "Target") -> list[str]:
    """What may be missing, for people."""
    counts = count_rows(target.connection)
    lost = [
        f"{WHAT[name]} could not all be read: {counts[name]} kept, others may be lost"
        for name in WHAT
        if name in doubtful
    ]
    if target.wrong:
        lost.append(f"{target.wrong} damaged rows made no sense and were left out")
    if target.strays:
        lost.append(f"{target.strays} rows belonged to something lost and were left out")
    return lost


class Target:
    """The new file: takes rows that are good, the first that comes for a key."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.wrong = 0
        self.strays = 0
        self.checks = {name: checks_of(table) for name, table in TABLES.items()}

    def add(self, name: str, rows: Iterable[Row]) -> None:
        """Add what is good of rows read by column."""
        self._insert(name, self._good(name, rows))

    def add_found(self, name: str, rows: Iterable[Row]) -> None:
        """Add rows that are known to be good."""
        self._insert(name, iter(rows))

    def put_right(self) -> None:
        """Leave nothing that refers to what is not there; counters above everything."""
        self.connection.execute(
            "INSERT OR IGNORE INTO meta VALUES (1, 0, 1, 1, 1, 0.0, ?, 1)", (time.time(),)
        )
        self.connection.execute("DELETE FROM meta WHERE id != 1")
        self.connection.execute(COUNTERS)
        for statement in STRAYS:
            self.strays += self.connection.execute(statement).rowcount
        for statement in QUEUES_PUT_RIGHT:
            self.connection.execute(statement)

    def _insert(self, name: str, rows: Iterator[Row]) -> None:
        places = ", ".join("?" * len(self.checks[name]))
        insert = f"INSERT OR IGNORE INTO {name} VALUES ({places})"  # noqa: S608 - our own names
        while chunk := list(islice(rows, CHUNK)):
            self.connection.execute("BEGIN")
            self.connection.executemany(insert, chunk)
            self.connection.execute("COMMIT")

    def _good(self, name: str, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            good = good_row(self.checks[name], row)
            if good is None:
                self.wrong += 1
            else:
                yield good


class DamagedFile:
    """A copy of the damaged file, to be read in every way there is."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._copy = folder / "copy.db"
        self._template = folder / "template.db"
        shutil.copyfile(path, self._copy) if path.exists() else self._copy.touch()
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{path}-wal", f"{self._copy}-wal")

    def copy(self, target: Target) -> set[str]:
        """Copy what can be read; the tables that may have had more."""
        if not self._is_header_good():
            self._graft()
        self._take_in_log()
        if not self._is_header_good():
            self._graft()
        doubtful = self._read_tables(target)
        if doubtful and not self._is_schema_as_made():
            self._graft()
            doubtful = self._read_tables(target)
        if doubtful or not self._is_sound():
            self._read_pages(target)
        return doubtful

    def _take_in_log(self) -> None:
        """Move the write-ahead log into the copy; what of it is good, SQLite knows."""
        with suppress(sqlite3.Error), closing(connect(str(self._copy))) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for end in ("-wal", "-shm"):
            Path(f"{self._copy}{end}").unlink(missing_ok=True)

    def _is_header_good(self) -> bool:
        header, ours = _beginning(self._copy), _beginning(self._template)
        versions = set(header[FILE_VERSIONS])
        return versions <= {1, 2} and all(header[part] == ours[part] for part in HEADER_PARTS)

    def _is_schema_as_made(self) -> bool:
        pages = self._schema_pages()
        return all(
            _page(self._copy, number)[FILE_HEADER * (number == 1) :]
            == page[FILE_HEADER * (number == 1) :]
            for number, page in pages.items()
        )

    def _graft(self) -> None:
        """Put the pages of a fresh file that say what is where over those of the copy."""
        with self._copy.open("r+b") as file:
            count = max(-(-file.seek(0, os.SEEK_END) // PAGE_SIZE), *self._schema_pages(), 1)
            file.truncate(count * PAGE_SIZE)
            for number, page in self._schema_pages().items():
                file.seek((number - 1) * PAGE_SIZE)
                file.write(_with_page_count(page, count) if number == 1 else page)

    def _schema_pages(self) -> dict[int, bytes]:
        """The pages of a fresh file that are no table's: number -> content."""
        with closing(sqlite3.connect(self._template)) as connection:
            roots = {row[0] for row in connection.execute("SELECT rootpage FROM sqlite_schema")}
        count = self._template.stat().st_size // PAGE_SIZE
        return {n: _page(self._template, n) for n in range(1, count + 1) if n not in roots}

    def _read_tables(self, target: Target) -> set[str]:
        """Read every table by SQLite; those that met an error."""
        try:
            connection = connect(str(self._copy))
        except sqlite3.Error:
            return set(TABLES) - DERIVED
        doubtful: set[str] = set()
        with closing(connection):
            for name, table in readable():
                reader = DamagedTable(connection, source_of(table))
                target.add(name, reader.rows())
                if reader.errors:
                    doubtful.add(name)
        return doubtful

    def _is_sound(self) -> bool:
        """Whether the trees hang together; a wrong index is no harm, it is made anew."""
        try:
            with closing(connect(str(self._copy))) as connection:
                found = [bytes(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        except sqlite3.Error:
            return False
        return not any(line.startswith((b"*** in", b"Tree ", b"Page ")) for line in found)

    def _read_pages(self, target: Target) -> None:
        pages = Pages(self._copy)
        try:
            shapes = [Shape(t, target) for n, t in readable() if n not in INDISTINCT]
            cells = pages.cells()
            while chunk := list(islice(cells, CHUNK)):
                for shape in shapes:
                    target.add_found(shape.name, filter(None, map(shape.row, chunk)))
        finally:
            pages.close()


def readable() -> list[tuple[str, Table]]:
    """What is to be read, by name."""
    return [(name, table) for name, table in TABLES.items() if name not in DERIVED]


class Shape:
    """How rows of one table look in the file."""

    def __init__(self, table: Table, target: Target) -> None:
        self.name = table.name
        self._checks = target.checks[table.name]
        self._order = stored_order(table)
        self._is_indexed = not has_rowid(table)
        self._rowid_column = _rowid_column(table)

    def row(self, cell: Cell) -> Row | None:
        """The row that the cell holds; None if it is not of this table."""
        if len(cell.values) != len(self._order) or self._is_indexed != (cell.rowid is None):
            return None
        values: list[Any] = [cell.values[place] for place in self._order]
        if self._rowid_column is not None:
            if values[self._rowid_column] is not None:  # its place in the record is left empty
                return None
            values[self._rowid_column] = cell.rowid
        return good_row(self._checks, values)


def source_of(table: Table) -> Source:
    """How to read a table in the order of its keys."""
    columns = tuple(column.name for column in table.columns)
    if has_rowid(table):
        return Source(table.name, ("rowid",), (-1,), columns)
    keys = list(table.primary_key.columns)
    lowest = tuple(-1 if isinstance(key.type, Integer) else Text() for key in keys)
    return Source(table.name, tuple(key.name for key in keys), lowest, columns)


def has_rowid(table: Table) -> bool:
    """Whether SQLite keeps the table by row ids, not by its primary key."""
    return table.dialect_options["sqlite"]["with_rowid"] is not False


def stored_order(table: Table) -> list[int]:
    """For each column its place in a stored record: a table without row ids begins by its key."""
    columns = list(table.columns)
    if has_rowid(table):
        return list(range(len(columns)))
    stored = [*table.primary_key.columns, *(c for c in columns if not c.primary_key)]
    return [stored.index(column) for column in columns]


def _rowid_column(table: Table) -> int | None:
    """The place of the column that is the row id itself."""
    keys = list(table.primary_key.columns)
    if has_rowid(table) and len(keys) == 1 and isinstance(keys[0].type, Integer):
        return list(table.columns).index(keys[0])
    return None


def _with_page_count(page: bytes, count: int) -> bytes:
    changed = bytearray(page)
    changed[PAGE_COUNT] = count.to_bytes(4, "big")
    changed[FREELIST] = bytes(8)
    return bytes(changed)


def _beginning(path: Path) -> bytes:
    return _page(path, 1)[:FILE_HEADER].ljust(FILE_HEADER, b"\0")


def _page(path: Path, number: int) -> bytes:
    with path.open("rb") as file:
        file.seek((number - 1) * PAGE_SIZE)
        return file.read(PAGE_SIZE)
