"""A batch of changes becomes statements: which statement each operation is, as one table.

The statements are made once for a dialect, as text. A row of an operation holds its parameters in
the order in which the statement names them, so that a batch goes to `executemany` as it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite

from broker.storage import tables
from broker.storage.database import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy import ClauseElement, Connection, Dialect, Table

    from broker.storage.database import Row

Operations = list[tuple[str, list[tuple[Any, ...]]]]

INSERTS: dict[str, Callable[..., Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
# One session's rows in these end with it.
OF_A_SESSION = (tables.subscription, tables.member, tables.inflight, tables.received)
# So many rows of a sweep are deleted at once: a few milliseconds, and nobody waits for longer.
SWEPT_AT_ONCE = 2_000


class Writer:
    """Applies operations to a connection. What is large to delete is deleted piece by piece."""

    __slots__ = ("_finished", "_left_over", "_statements", "_sweep", "_to_sweep")

    def __init__(self, dialect: Dialect) -> None:
        insert = INSERTS[dialect.name]
        self._statements = {
            name: [Statement.compile(each, dialect).text for each in statements]
            for name, statements in operations(insert).items()
        }
        self._sweep = Statement.compile(sweep(), dialect)
        self._to_sweep: dict[int, int] = {}  # audience -> the highest number that may go
        # What changes in it when the transaction is committed, and not before.
        self._left_over: dict[int, int] = {}
        self._finished: tuple[int, ...] = ()

    def apply(self, connection: Connection, changes: Operations) -> int:
        """All of them, in order. How many rows there were."""
        count = 0
        sweeps: dict[int, int] = {}
        for name, rows in changes:
            for text in self._statements[name] if rows else ():
                connection.exec_driver_sql(text, rows)
            if name in SWEEPS:
                sweeps.update(map(SWEEPS[name], rows))
            count += len(rows)
        self._left_over = self._sweep_some(connection, sweeps)
        self._finished = ()
        return count

    def committed(self) -> None:
        """The last `apply` or `sweep` is committed."""
        for audience in self._finished:
            self._to_sweep.pop(audience, None)
        self._to_sweep.update(self._left_over)
        self._left_over, self._finished = {}, ()

    def sweep_later(self, audiences: Iterable[int]) -> None:
        """Messages of these audiences are no more wanted by anybody."""
        self._to_sweep.update((audience, LAST_NUMBER) for audience in audiences)

    @property
    def is_swept(self) -> bool:
        return not self._to_sweep

    def sweep(self, connection: Connection) -> None:
        """Deletes some of what may go."""
        audience, up_to = next(iter(self._to_sweep.items()))
        self._left_over = self._sweep_some(connection, {audience: up_to})
        self._finished = (audience,)

    def _sweep_some(self, connection: Connection, sweeps: dict[int, int]) -> dict[int, int]:
        """Deletes about SWEPT_AT_ONCE messages; returns the sweeps that are not finished."""
        count = 0
        unfinished = {}
        for audience, up_to in sweeps.items():
            swept = 0
            if count < SWEPT_AT_ONCE:
                swept = self._sweep.run(connection, audience=audience, up_to=up_to).rowcount
                count += swept
            if swept in (SWEPT_AT_ONCE, 0) and count >= SWEPT_AT_ONCE:
                unfinished[audience] = up_to
        return unfinished


LAST_NUMBER = (1 << 63) - 1

SWEEPS: dict[str, Callable[[Row], tuple[int, int]]] = {
    "audience_drop": lambda row: (row[0], LAST_NUMBER),
    "message_sweep": lambda row: (row[0], row[1]),
}


def operations(insert: Callable[..., Any]) -> dict[str, Sequence[ClauseElement]]:
    """Every operation's statements. Each takes the operation's row as it is."""
    return {
        "meta": [put_meta(insert)],
        "session_put": [put(insert, tables.session)],
        "session_cursor": [
            update(tables.session)
            .values(cursor=bindparam("new_cursor"))
            .where(tables.session.c.id == bindparam("id"))
        ],
        "session_drop": [
            drop(tables.session, "id"),
            *(drop(table, "session") for table in OF_A_SESSION),
        ],
        "subscription_put": [put(insert, tables.subscription)],
        "subscription_drop": [drop(tables.subscription, "session", "filter")],
        "member_put": [put(insert, tables.member)],
        "audience_drop": [drop(tables.member, "audience")],
        # After a salvage a batch may come again that the lost position would have told of.
        "message_put": [add(insert, tables.message).on_conflict_do_nothing()],
        "message_drop": [drop(tables.message, "number")],
        "message_sweep": [],
        "inflight_put": [put(insert, tables.inflight)],
        "inflight_drop": [drop(tables.inflight, "session", "packet_id")],
        "received_put": [put(insert, tables.received)],
        "received_drop": [drop(tables.received, "session", "packet_id")],
        "retained_put": [put(insert, tables.retained)],
        "retained_drop": [drop(tables.retained, "topic")],
        "will_put": [put(insert, tables.will)],
        "will_drop": [drop(tables.will, "client_id")],
    }


def add(insert: Callable[..., Any], table: Table) -> Any:
    return insert(table).values({column.name: bindparam(column.name) for column in table.c})


def put(insert: Callable[..., Any], table: Table) -> Any:
    """Add the row, or replace the one with the same key."""
    key = list(table.primary_key)
    added = add(insert, table)
    rest = {each.name: added.excluded[each.name] for each in table.c if each not in key}
    if not rest:
        return added.on_conflict_do_nothing(index_elements=key)
    return added.on_conflict_do_update(index_elements=key, set_=rest)


def put_meta(insert: Callable[..., Any]) -> Any:
    """`clean` is not the broker's: it stays as it is."""
    columns = [each.name for each in tables.meta.c if each.name not in {"id", "clean"}]
    added = insert(tables.meta).values(
        id=literal_column("1"),
        clean=literal_column("0"),
        **{name: bindparam(name) for name in columns},
    )
    return added.on_conflict_do_update(
        index_elements=["id"], set_={name: added.excluded[name] for name in columns}
    )


def drop(table: Table, *keys: str) -> Any:
    return delete(table).where(*(table.c[key] == bindparam(key) for key in keys))


def sweep() -> Any:
    message = tables.message
    lowest = (
        select(message.c.number)
        .where(message.c.audience == bindparam("audience"))
        .where(message.c.number <= bindparam("up_to"))
        .order_by(message.c.number)
        .limit(literal_column(str(SWEPT_AT_ONCE)))
    )
    return delete(message).where(message.c.number.in_(lowest))
