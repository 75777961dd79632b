"""A real store with a few hundred rows in every table, on several pages, that hangs together."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from broker.storage.salvage import make_fresh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SESSIONS = 300
AUDIENCES = 100
MESSAGES = 900
QUEUED = 600
QUEUES = 30
PAGE = 4096
NEXT_NUMBER = 5_000
TABLES = (
    "meta",
    "session",
    "subscription",
    "member",
    "message",
    "inflight",
    "received",
    "retained",
    "will",
    "queued",
    "queue_payload",
    "queue",
    "queue_counter",
    "queue_seen",
)
Row = tuple[object, ...]


def build(path: Path) -> None:
    """A store as a running broker leaves it: some of it in the log, some in the main file."""
    make_fresh(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        fill(connection)
        # what is acknowledged by all leaves free pages behind
        connection.execute("DELETE FROM message WHERE number > 700 AND number % 80 > 35")


def fill(connection: sqlite3.Connection) -> None:
    """Put the rows of every table in."""
    connection.execute("BEGIN")
    connection.execute(
        "INSERT INTO meta VALUES (1, 77, ?, ?, ?, 1000.5, 1e9, 0)",
        (NEXT_NUMBER, SESSIONS + 50, AUDIENCES + 50),
    )
    for table, rows in contents().items():
        for row in rows:
            places = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} VALUES ({places})", row)
    connection.execute("COMMIT")


def contents() -> dict[str, Iterator[Row]]:
    """table -> its rows, all but the counters'."""
    return {
        "session": sessions(),
        "subscription": subscriptions(),
        "member": members(),
        "message": messages(),
        "inflight": deliveries(),
        "received": received(),
        "retained": retained(),
        "will": wills(),
        "queued": queued(),
        "queue_payload": ((i, 2, b"shared" * 200) for i in range(1, QUEUED + 1, 10)),
        "queue": queues(),
        "queue_counter": (
            (f"work-{i}", 0, QUEUED // QUEUES, 150 * (QUEUED // QUEUES)) for i in range(QUEUES)
        ),
        "queue_seen": ((f"work-{i % QUEUES}", f"id-{i:05}", 1e6 + i) for i in range(QUEUED)),
    }


def sessions() -> Iterator[Row]:
    for i in range(1, SESSIONS + 1):
        user = None if i % 3 else f"user-{i}"
        yield i, f"sensor-{i:05}-é", user, 86_400, None if i % 2 else 5000.25 + i, i * 2


def subscriptions() -> Iterator[Row]:
    for i in range(1, SESSIONS + 1):
        yield i, f"plant/line-{i % 7}/+", 1, 0, 0, "", 0
        yield i, f"plant/{i}/#", 2, i % 2, 1, "1,268435455", 0


def members() -> Iterator[Row]:
    for i in range(1, SESSIONS + 1):
        yield i % AUDIENCES + 1, i, 1, 0, "", f"plant/line-{i % 7}/+", ""
        yield (i * 3) % AUDIENCES + 1, SESSIONS + 1 - i, 2, 1, "7", f"plant/{i}/#", "workers"


def messages() -> Iterator[Row]:
    for i in range(1, MESSAGES + 1):
        audience = i % AUDIENCES + 1 if i > SESSIONS else None  # the first are of one session each
        yield i, audience, f"plant/line-{i % 7}/t", payload(i), b"\x01", 0x32, f"p-{i}", None, 100


def payload(number: int) -> bytes:
    """Mostly small; some larger than a page."""
    return number.to_bytes(4, "big") * (3000 if number % 50 == 0 else 20)


def deliveries() -> Iterator[Row]:
    for i in range(1, SESSIONS + 1):
        yield i, 1, i, 0x32, 0, 0
        yield i, 65_535, SESSIONS + i, 0x34, 0, 1
        yield i, 7, 0, 0x34, 1, 2


def received() -> Iterator[Row]:
    for i in range(1, SESSIONS + 1):
        yield i, i * 3
        yield i, 65_535 - i


def retained() -> Iterator[Row]:
    for i in range(SESSIONS):
        yield f"state/{i:05}", b"%d" % i * 40, b"", 0x31, "", None if i % 5 else 9e9, 180


def wills() -> Iterator[Row]:
    for i in range(1, SESSIONS + 1):
        due = None if i % 2 else 2000.0 + i
        yield f"sensor-{i:05}-é", None, "wills/x", b"gone" * 30, 1, i % 2, b"", 30, due


def queued() -> Iterator[Row]:
    """Every tenth pair shares a payload; some are leased, delayed, dead."""
    for i in range(1, QUEUED + 1):
        content = i // 10 * 10 + 1 if i % 10 in (1, 2) else None
        lease = (1, 5000.5 + i, None, 2**61 + i, "worker", 1) if i % 7 == 0 else None
        stands = lease or ((3, 6000.25, None, None, None, 2) if i % 7 == 1 else READY)
        state, due, key, token, consumer, acquisitions = stands
        dead = ("work-1", "failures", 99.5) if i % 50 == 0 else (None, None, None)
        lives = (acquisitions, i % 3, 1000.5, None if i % 4 else 1e9, *dead)
        said = (f"plant/line-{i % 7}/t", 0x32, f"p-{i}", 150, content, b"\x01")
        own = None if content else payload(i)
        place = (i, f"work-{i % QUEUES}", state, 5, due, key, token, consumer)
        yield (*place, *lives, *said, own)


READY = (0, None, "line-1", None, None, 0)


def queues() -> Iterator[Row]:
    for i in range(QUEUES):
        active = ("worker", 99.5) if i % 2 else (None, None)
        policy = '{"max_failures": 7}'
        yield f"work-{i}", policy, "client", "[]", "paused", *active, None, None


def rows_of(path: Path) -> dict[str, set[Row]]:
    """Everything a good store holds, by table."""
    with closing(sqlite3.connect(path)) as connection:
        return {table: set(connection.execute(f"SELECT * FROM {table}")) for table in TABLES}


def owner_of_pages(path: Path) -> dict[int, str]:
    """The table or index that each page belongs to; needs a file without a log."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT pageno, name FROM dbstat").fetchall())
