"""Looking at a store while it is in use: is it whole, and what is in it?

Rule kept here: nothing is written, and everything is seen at one moment. Works on both databases.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, func, inspect, select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from broker.storage import opening
from broker.storage.database import NO_TEXT, UNREADABLE_SCHEMA
from broker.storage.tables import (
    QUEUE_SCHEMA,
    all_tables,
    member,
    message,
    meta,
    metadata,
    retained,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Table

MOST_FINDINGS = 20  # of the database's own check
MOST_WAITING = 10
BUSY_TIMEOUT = 5.0  # seconds

# What must never be, and how often it is.
INVARIANTS = (
    *(
        (
            f"rows of {table} belong to a session that is not there",
            (
                f"SELECT count(*) FROM {table} "  # noqa: S608 - our own names
                "WHERE session NOT IN (SELECT id FROM session)"
            ),
        )
        for table in ("subscription", "member", "inflight", "received")
    ),
    (
        "messages are for an audience without members",
        (
            "SELECT count(*) FROM message WHERE audience IS NOT NULL "
            "AND audience NOT IN (SELECT audience FROM member)"
        ),
    ),
    (
        "deliveries under way have lost their message",
        (
            "SELECT count(*) FROM inflight WHERE state = 0 "
            "AND number NOT IN (SELECT number FROM message)"
        ),
    ),
    (
        "messages of one session are not under way to it",
        (
            "SELECT count(*) FROM message WHERE audience IS NULL "
            "AND number NOT IN (SELECT number FROM inflight)"
        ),
    ),
    (
        "packet ids are out of range",
        (
            "SELECT (SELECT count(*) FROM inflight WHERE packet_id NOT BETWEEN 1 AND 65535) "
            "+ (SELECT count(*) FROM received WHERE packet_id NOT BETWEEN 1 AND 65535)"
        ),
    ),
    ("rows of counters are missing or too many", "SELECT abs(1 - count(*)) FROM meta"),
    *(
        (
            f"counters ({counter}) are not above what is stored",
            (
                f"SELECT count(*) FROM meta WHERE {counter} <= "  # noqa: S608 - our own names
                f"(SELECT coalesce(max({column}), 0) FROM {table})"
            ),
        )
        for counter, table, column in (
            ("next_number", "message", "number"),
            ("next_number", "inflight", "number"),
            ("next_number", "session", "cursor"),
            ("next_session", "session", "id"),
            ("next_audience", "member", "audience"),
            ("next_audience", "message", "audience"),
        )
    ),
)

# The same of queues, whose tables may lie in a schema of their own.
QUEUE_INVARIANTS = (
    (
        "messages in queues have lost their payload",
        "SELECT count(*) FROM {0}queued WHERE content NOT IN (SELECT id FROM {0}queue_payload)",
    ),
    (
        "messages in queues belong to a queue that is not there",
        "SELECT count(*) FROM {0}queued WHERE queue NOT IN (SELECT name FROM {0}queue)",
    ),
    (
        "messages in queues wait behind nothing",
        (
            "SELECT count(*) FROM {0}queued AS one WHERE state = 2 AND NOT EXISTS"
            " (SELECT 1 FROM {0}queued AS head WHERE head.queue = one.queue AND head.key = one.key"
            " AND head.state <> 2)"
        ),
    ),
    (
        "leases of messages in queues have no token",
        "SELECT count(*) FROM {0}queued WHERE state = 1 AND token IS NULL",
    ),
    (
        "sums of queues are wrong",
        (
            "SELECT count(*) FROM (SELECT queue, sum(messages) AS messages, sum(bytes) AS bytes"
            " FROM {0}queue_counter GROUP BY queue) AS said LEFT JOIN (SELECT queue, count(*) AS"
            " messages, sum(size) AS bytes FROM {0}queued GROUP BY queue) AS counted"
            " ON said.queue = counted.queue WHERE said.messages <> coalesce(counted.messages, 0)"
            " OR said.bytes <> coalesce(counted.bytes, 0)"
        ),
    ),
)


@contextmanager
def looking_at(url: str, path: Path) -> Iterator[Connection]:
    """A connection that sees one moment: to PostgreSQL at `url`, or to the file if that is ""."""
    engine = _postgresql(url) if url else _sqlite(path)
    try:
        with engine.connect() as connection:
            if not url:  # the driver itself begins nothing before a SELECT
                connection.exec_driver_sql("BEGIN")
            yield connection
    finally:
        engine.dispose()


def check(connection: Connection) -> list[str]:
    """Everything that is wrong, as sentences; none if the store is good."""
    try:
        found = _check_pages(connection)
        return found or [*_check_rows(connection)]
    except DatabaseError as error:
        return [f"it cannot be read: {error.orig}"]
    except UNREADABLE_SCHEMA:
        return [f"it cannot be read: {NO_TEXT}"]


def stats(connection: Connection, path: Path) -> dict[str, Any]:
    """Figures of the store, ready for JSON."""
    return {
        "database": _name(connection),
        "position": connection.execute(select(meta.c.position)).scalar(),
        "bytes": _sizes(connection, path),
        "rows": {table.name: _count(connection, table) for table in tables_in(connection)},
        "queues": queues(connection) if has_queues(connection) else [],
        "message_bytes": _sum(connection, message.c.size),
        "retained_bytes": _sum(connection, retained.c.size),
        "most_waiting": most_waiting(connection),
        "oldest_message": oldest_message(connection),
    }


def most_waiting(connection: Connection) -> list[dict[str, Any]]:
    """The sessions for which most is waiting, the first the one with the most messages."""
    members = opening.rows(connection, select(member))
    sessions = opening.load_sessions(connection, members, opening.extents(connection))
    sessions.sort(key=lambda row: (-row[-2], row[1]))
    return [
        {"client_id": row[1], "messages": row[-2], "bytes": row[-1]}
        for row in sessions[:MOST_WAITING]
        if row[-2]
    ]


def tables_in(connection: Connection) -> list[Table]:
    """Those beside each other."""
    old = list(metadata.tables.values())
    return all_tables(connection.dialect) if has_queues(connection) else old


def queues(connection: Connection) -> list[dict[str, Any]]:
    """Every queue, by its name."""
    schema = _schema(connection)
    found = connection.exec_driver_sql(
        "SELECT name, mode, coalesce(sum(messages), 0), coalesce(sum(bytes), 0)"  # noqa: S608 - our own names
        f" FROM {schema}queue LEFT JOIN {schema}queue_counter ON queue = name"
        " GROUP BY name, mode ORDER BY name"
    )
    return [
        {"name": name, "mode": mode, "messages": int(messages), "bytes": int(size)}
        for name, mode, messages, size in found
    ]


def oldest_message(connection: Connection) -> dict[str, Any] | None:
    """The message that has been stored for the longest time."""
    oldest = select(message.c.number, message.c.topic, message.c.publisher, message.c.size)
    row = connection.execute(oldest.order_by(message.c.number).limit(1)).first()
    return dict(row._mapping) if row else None


def _check_pages(connection: Connection) -> list[str]:
    if connection.dialect.name != "sqlite":
        return []  # PostgreSQL keeps checksums of its own
    found = connection.exec_driver_sql(f"PRAGMA integrity_check({MOST_FINDINGS})").scalars().all()
    return [] if found == ["ok"] else [f"the file is damaged: {line}" for line in found]


def _check_rows(connection: Connection) -> Iterator[str]:
    for sentence, statement in INVARIANTS:
        count = connection.execute(text(statement)).scalar()
        if count:
            yield f"{count} {sentence}"
    for sentence, statement in QUEUE_INVARIANTS if has_queues(connection) else ():
        count = connection.execute(text(statement.format(_schema(connection)))).scalar()
        if count:
            yield f"{count} {sentence}"


def has_queues(connection: Connection) -> bool:
    """Not in a store that was written before there were any."""
    schema = None if connection.dialect.name == "sqlite" else QUEUE_SCHEMA
    return bool(inspect(connection).has_table("queued", schema=schema))


def _schema(connection: Connection) -> str:
    return "" if connection.dialect.name == "sqlite" else f"{QUEUE_SCHEMA}."


def _name(connection: Connection) -> str:
    if connection.dialect.name == "sqlite":
        return f"SQLite {sqlite3.sqlite_version}"
    version = connection.exec_driver_sql("SHOW server_version").scalar_one()
    return f"PostgreSQL {version.split()[0]}"


def _sizes(connection: Connection, path: Path) -> dict[str, int]:
    if connection.dialect.name == "sqlite":
        log = path.with_name(f"{path.name}-wal")
        return {"file": path.stat().st_size, "log": log.stat().st_size if log.exists() else 0}
    query = "SELECT pg_database_size(current_database())"
    return {"database": connection.exec_driver_sql(query).scalar_one()}


def _count(connection: Connection, table: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar() or 0)


def _sum(connection: Connection, column: Any) -> int:
    return int(connection.execute(select(func.sum(column))).scalar() or 0)


def _sqlite(path: Path) -> Any:
    uri = f"{path.resolve().as_uri()}?mode=ro"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _postgresql(url: str) -> Any:
    from broker.storage.postgresql import make_engine  # noqa: PLC0415 - asks for a driver

    return make_engine(url).execution_options(isolation_level="REPEATABLE READ")
