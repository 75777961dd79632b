"""From a database as it is found to one that can be worked with, and all that a start must know.

A start reads no message: what waits is counted in an index, once, however many sessions share it.
A new file is made under another name and then renamed, so an empty file is always a broken one.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, inspect, select, text, update

from broker.storage.database import Damaged, Row, Statement
from broker.storage.tables import (
    REVISION,
    all_tables,
    inflight,
    member,
    message,
    meta,
    metadata,
    queue_metadata,
    retained,
    session,
    subscription,
    will,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

Extent = tuple[int, int]  # the lowest and the highest number stored for an audience

NEW, CURRENT, OLDER, NEWER = "new", "current", "older", "newer"

# As Alembic makes it, which is not imported for a database that needs no migration.
VERSION_TABLE = (
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
FIRST_META = dict.fromkeys((column.name for column in meta.c), 0) | {
    "id": 1,
    "next_number": 1,
    "next_session": 1,
    "next_audience": 1,
    "clean": 1,
}


def create_schema(connection: Connection) -> None:
    """All tables, as the newest migration leaves them."""
    metadata.create_all(connection)
    if connection.dialect.name == "sqlite":  # elsewhere they have a place of their own
        queue_metadata.create_all(connection)
    connection.exec_driver_sql(VERSION_TABLE)
    connection.execute(
        text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": REVISION}
    )


def state_of_schema(connection: Connection) -> str:
    """NEW, CURRENT, OLDER or NEWER. Raises Damaged when it says one thing and is another."""
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" not in tables:
        if tables & set(metadata.tables):
            raise Damaged("the table alembic_version is missing")
        return NEW
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if revision == REVISION:
        wanted = {table.name for table in all_tables(connection.dialect)}
        if missing := wanted - tables:
            raise Damaged(f"tables are missing: {', '.join(sorted(missing))}")
        return CURRENT
    return compare(str(revision))


def compare(revision: str) -> str:
    from broker.storage import migrations  # noqa: PLC0415 - a quarter of a second, rarely needed

    return OLDER if migrations.knows(revision) else NEWER


def migrate(connection: Connection) -> None:
    from broker.storage import migrations  # noqa: PLC0415 - as above

    migrations.upgrade(connection)


def was_clean(connection: Connection) -> bool:
    """Whether it was closed properly. A database without that row was never opened."""
    return connection.execute(select(meta.c.clean)).scalar() != 0


def mark(connection: Connection, *, clean: bool) -> None:
    if not connection.execute(update(meta).values(clean=int(clean))).rowcount:
        connection.execute(meta.insert().values({**FIRST_META, "clean": int(clean)}))


def position_of(connection: Connection) -> int:
    """The position of the last batch that was committed."""
    return int(connection.execute(select(meta.c.position)).scalar() or 0)


# -- everything that the broker must know ----------------------------------------------------------


def load(connection: Connection, retained_window: int) -> dict[str, Any]:
    """The answer to `open`, without `alarms` and `database`."""
    members = rows(connection, select(member))
    audiences = extents(connection)
    count, size = row(connection, select(func.count(), func.sum(retained.c.size)), retained)
    return {
        "meta": load_meta(connection),
        "sessions": load_sessions(connection, members, audiences),
        "subscriptions": rows(connection, select(subscription)),
        "members": members,
        "audiences": [(each, *numbers) for each, numbers in audiences.items()],
        "retained": rows(connection, select(retained)) if count <= retained_window else None,
        "retained_count": count,
        "retained_bytes": int(size or 0),
        "wills": rows(connection, select(will)),
    }


def load_meta(connection: Connection) -> Row:
    """Counters never fall behind what is stored, whatever a salvage has lost."""
    names = ("position", "next_number", "next_session", "next_audience", "store_time", "wall_time")
    found = rows(connection, select(*(meta.c[name] for name in names)))
    known = found[0] if found else tuple(FIRST_META[name] for name in names)
    used = (
        highest(connection, message.c.number, inflight.c.number),
        highest(connection, session.c.id, member.c.session),
        highest(connection, member.c.audience, message.c.audience),
    )
    counters = tuple(
        max(next_one, last + 1) for next_one, last in zip(known[1:4], used, strict=True)
    )
    return (known[0], *counters, *(float(instant) for instant in known[4:]))


def highest(connection: Connection, *columns: Any) -> int:
    return max(connection.execute(select(func.max(column))).scalar() or 0 for column in columns)


def load_sessions(
    connection: Connection, members: list[Row], audiences: dict[int, Extent]
) -> list[Row]:
    sessions = rows(connection, select(session))
    cursors = {each[0]: each[5] for each in sessions}
    waiting = count_waiting(connection, cursors, members, audiences)
    in_flight = select(inflight.c.session, func.min(inflight.c.number))
    in_flight = in_flight.join(message, message.c.number == inflight.c.number)
    in_flight = in_flight.where(message.c.audience.is_not(None)).group_by(inflight.c.session)
    oldest = {each: number for each, number in rows(connection, in_flight)}  # noqa: C416 - typed
    return [(*each, oldest.get(each[0]), *waiting[each[0]]) for each in sessions]


def extents(connection: Connection) -> dict[int, Extent]:
    """Of every audience that has messages. Leaps from one to the next, whatever lies between."""
    one = message.alias()
    first = select(func.min(message.c.audience).label("audience")).cte("leap", recursive=True)
    following = select(func.min(one.c.audience)).where(one.c.audience > first.c.audience)
    leap = first.union_all(
        select(following.correlate(first).scalar_subquery()).where(first.c.audience.is_not(None))
    )
    ends = (
        select(end(message.c.number)).where(message.c.audience == leap.c.audience)
        for end in (func.min, func.max)
    )
    found = select(leap.c.audience, *(each.correlate(leap).scalar_subquery() for each in ends))
    found = found.where(leap.c.audience.is_not(None))
    return {audience: (lowest, highest) for audience, lowest, highest in rows(connection, found)}


def count_waiting(
    connection: Connection,
    cursors: dict[int, int],
    members: list[Row],
    audiences: dict[int, Extent],
) -> dict[int, tuple[int, int]]:
    """(messages, bytes) above each session's cursor, in one pass over what waits for anybody."""
    totals: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    starts: dict[int, dict[int, int]] = defaultdict(dict)  # audience -> session -> above what
    for audience, each, *_ in members:
        if audience in audiences and each in cursors:
            starts[audience][each] = max(cursors[each], audiences[audience][0] - 1)
    statement = Statement.compile(between(), connection.dialect)
    for audience, start_of in starts.items():
        where = {"audience": audience, "highest": audiences[audience][1]}
        above = count_above(connection, statement, sorted(set(start_of.values())), **where)
        for each, start in start_of.items():
            count, size = above[start]
            totals[each] = totals[each][0] + count, totals[each][1] + size
    return totals


def count_above(
    connection: Connection, statement: Statement, starts: list[int], audience: int, highest: int
) -> dict[int, tuple[int, int]]:
    """What lies above each of the (rising) numbers: from the last one down, added up."""
    above: dict[int, tuple[int, int]] = {}
    last, total, total_size = highest, 0, 0
    for start in reversed(starts):
        if start < last:
            values = {"audience": audience, "after": start, "last": last}
            ((count, size),) = statement.fetch(connection, **values)
            last, total, total_size = start, total + int(count), total_size + int(size or 0)
        above[start] = total, total_size
    return above


def between() -> Any:
    return (
        select(func.count(), func.sum(message.c.size))
        .select_from(message)
        .where(message.c.audience == bindparam("audience"))
        .where(message.c.number > bindparam("after"), message.c.number <= bindparam("last"))
    )


def orphans(members: Iterable[Row], audiences: Iterable[Row]) -> set[int]:
    """Audiences with messages and without a member: a crash has come before they were swept."""
    return {audience for audience, *_ in audiences} - {audience for audience, *_ in members}


def rows(connection: Connection, statement: Any) -> list[Row]:
    return Statement.compile(statement, connection.dialect).fetch(connection)


def row(connection: Connection, statement: Any, table: Any) -> Row:
    return rows(connection, statement.select_from(table))[0]
