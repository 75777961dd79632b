"""A batch of changes becomes statements: which statement each operation is, as one table.

A row of an operation holds its values in the order of the table's columns, so that a batch goes to
the driver as it came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, delete, literal_column, select, update
from sqlalchemy.exc import DBAPIError

from broker.storage import tables
from broker.storage.database import Statement, driver_errors
from broker.storage.queues import queues_for
from broker.storage.queues.ports import OPERATIONS as OF_QUEUES
from broker.storage.statements import maker_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection, Dialect

    from broker.storage.database import Operations, Row
    from broker.storage.queues.ports import Queues, Result
    from broker.storage.statements import Maker, Run

# One session's rows in these end with it.
OF_A_SESSION = (tables.subscription, tables.member, tables.inflight, tables.received)
# So many rows of a sweep are deleted at once: a few milliseconds, and nobody waits for longer.
SWEPT_AT_ONCE = 2_000


class Applied(NamedTuple):
    """What a batch has done: rows, what queues answer, and (queue, messages, bytes) of those that
    it touched.
    """

    rows: int = 0
    results: tuple[Result, ...] | list[Result] = ()
    counts: tuple[Row, ...] | list[Row] = ()


class Writer:
    """Applies operations to a connection. What is large to delete is deleted piece by piece."""

    __slots__ = ("_finished", "_left_over", "_operations", "_sweep", "_to_sweep", "queues")

    def __init__(self, dialect: Dialect) -> None:
        self.queues: Queues = queues_for(dialect)
        self._operations = operations(maker_for(dialect))
        self._sweep = Statement.compile(sweep(), dialect)
        self._to_sweep: dict[int, int] = {}  # audience -> the highest number that may go
        # What changes in it when the transaction is committed, and not before.
        self._left_over: dict[int, int] = {}
        self._finished: tuple[int, ...] = ()

    def apply(self, connection: Connection, changes: Operations) -> Applied:
        """All of them, in order."""
        count = 0
        results: list[Result] = []
        self.queues.begin(changes)
        for name, rows in changes:
            count += len(rows)
            if rows:
                results += self._apply(connection, name, rows)
        self._sweep_at_once(connection, changes)
        events, counts = self.queues.finish(connection)
        return Applied(count, results + events, counts)

    def _apply(self, connection: Connection, name: str, rows: list[Row]) -> list[Result]:
        if name in OF_QUEUES:
            return self.queues.apply(connection, name, rows)
        for run in self._operations[name]:
            run(connection, rows)
        return []

    def _sweep_at_once(self, connection: Connection, changes: Operations) -> None:
        sweeps: dict[int, int] = {}
        for name, rows in changes:
            if name in SWEEPS:
                sweeps.update(map(SWEEPS[name], rows))
        self._left_over = self._sweep_some(connection, sweeps)
        self._finished = ()

    def apply_row_by_row(
        self, connection: Connection, changes: Operations
    ) -> tuple[Applied, list[str]]:
        """As `apply`, without what the database refuses, and the names of the operations of the
        rows that are missing. Raises what is no refusal of a row.
        """
        applied: list[Applied] = []
        refused: list[str] = []
        for name, rows in changes:
            for row in rows:
                done = self._apply_row(connection, name, row)
                applied += [done] if done else []
                refused += [] if done else [name]
        self._sweep_at_once(connection, changes)
        results = [result for each in applied for result in each.results]
        counts = {row[0]: row for each in applied for row in each.counts}
        return Applied(len(applied), results, list(counts.values())), refused

    def _apply_row(self, connection: Connection, name: str, row: Row) -> Applied | None:
        """None: it is refused."""
        self.queues.begin()
        try:
            with connection.begin_nested():
                results = self._apply(connection, name, [row])
                events, counts = self.queues.finish(connection)
        except (DBAPIError, driver_errors(connection.dialect)) as error:
            if name == "meta" or not is_refusal(error):
                raise
            return None
        self.queues.committed()
        return Applied(1, results + events, counts)

    def committed(self) -> None:
        """The last `apply` or `sweep` is committed."""
        self.queues.committed()
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


TOO_LARGE_FOR_AN_INDEX = "54000"  # PostgreSQL's program_limit_exceeded


def is_refusal(error: Exception) -> bool:
    """Whether it is the row that the database does not want; all else is a trouble of its own."""
    cause = getattr(error, "orig", None) or error
    name = {each.__name__ for each in type(cause).__mro__}  # each driver has its own classes
    too_large = getattr(cause, "sqlstate", None) == TOO_LARGE_FOR_AN_INDEX
    return too_large or not name.isdisjoint({"IntegrityError", "DataError"})


LAST_NUMBER = (1 << 63) - 1

SWEEPS: dict[str, Callable[[Row], tuple[int, int]]] = {
    "audience_drop": lambda row: (row[0], LAST_NUMBER),
    "message_sweep": lambda row: (row[0], row[1]),
}


def operations(make: Maker) -> dict[str, list[Run]]:
    """Every operation: what is done with its rows."""
    return {
        "meta": [make.each(put_meta())],
        "session_put": [make.put(tables.session)],
        "session_cursor": [make.each(put_cursor())],
        "session_drop": [
            make.each(drop_singles()),
            make.drop(tables.session, "id"),
            *(make.drop(table, "session") for table in OF_A_SESSION),
        ],
        "subscription_put": [make.put(tables.subscription)],
        "subscription_drop": [make.drop(tables.subscription, "session", "filter")],
        "member_put": [make.put(tables.member)],
        "audience_drop": [make.drop(tables.member, "audience")],
        "message_put": [make.add(tables.message)],
        "message_drop": [make.drop(tables.message, "number")],
        "message_sweep": [],
        "inflight_put": [make.put(tables.inflight)],
        "inflight_drop": [make.drop(tables.inflight, "session", "packet_id")],
        "received_put": [make.put(tables.received)],
        "received_drop": [make.drop(tables.received, "session", "packet_id")],
        "retained_put": [make.put(tables.retained)],
        "retained_drop": [make.drop(tables.retained, "topic")],
        "will_put": [make.put(tables.will)],
        "will_drop": [make.drop(tables.will, "client_id")],
    }


def put_meta() -> Any:
    """`clean` is not the broker's: it stays as it is. The row is there since the store is open."""
    columns = [each.name for each in tables.meta.c if each.name not in {"id", "clean"}]
    return update(tables.meta).values({name: bindparam(f"new_{name}") for name in columns})


def drop_singles() -> Any:
    """Messages that were for one session alone, of a session that ends."""
    its_own = select(tables.inflight.c.number).where(tables.inflight.c.session == bindparam("id"))
    message = tables.message
    return delete(message).where(message.c.audience.is_(None), message.c.number.in_(its_own))


def put_cursor() -> Any:
    moved = update(tables.session).values(cursor=bindparam("new_cursor"))
    return moved.where(tables.session.c.id == bindparam("session"))


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
