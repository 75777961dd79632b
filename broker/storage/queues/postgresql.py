"""Queues in PostgreSQL: functions in the schema `heliograph`, shared by brokers and people.

The rules are in the .sql files beside this one; here is what calls them, one call for each
operation of a batch, with an array for each column. Instants are the server's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from broker.storage.queues.at_once import AtOnce
from broker.storage.queues.cleaning import (
    ACK_CLEANING,
    FAIL_CLEANING,
    PUT_CLEANING,
    RENEW_CLEANING,
    Cleaning,
    cleaned,
    cleaned_lease,
    text,
)
from broker.storage.queues.installing import SCHEMA, fetch, install
from broker.storage.queues.ports import CONTENT, IN_USE, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from broker.storage.database import Operations, Row
    from broker.storage.queues.ports import Count, Result

CHANNEL = "heliograph_queue"


@dataclass(frozen=True, slots=True)
class Call:
    """A function that takes an array for each column of an operation, after the first `skipped`,
    and perhaps `more`.
    """

    text: str
    kinds: tuple[str, ...]
    skipped: int = 0

    def __call__(self, connection: Connection, rows: list[Row], *more: Any) -> Any:
        columns = list(zip(*rows, strict=True))[self.skipped :]
        values = [array(each, kind) for each, kind in zip(columns, self.kinds, strict=True)]
        return fetch(connection, self.text, (*values, *more))[0][0]


def call(function: str, *types: str, skipped: int = 0, more: tuple[str, ...] = ()) -> Call:
    taken = [*(f"%s::{each}[]" for each in types), *more]
    return Call(f"SELECT {SCHEMA}.{function}({', '.join(taken)})", types, skipped)


def array(column: Row, kind: str) -> str | None:
    """As PostgreSQL writes arrays; None for one of NULLs. The driver's own way costs four times as
    much.
    """
    if column.count(None) == len(column):
        return None
    element = ELEMENTS.get(kind, str)
    return "{" + ",".join(["NULL" if each is None else element(each) for each in column]) + "}"


def text_element(value: str) -> str:
    if value.isalnum():
        return f'"{value}"'
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def bytes_element(value: bytes) -> str:
    return f'"\\\\x{value.hex()}"'


ELEMENTS: dict[str, Callable[[Any], str]] = {"text": text_element, "bytea": bytes_element}


CONTENTS = call("_content", "bytea", "bigint", skipped=1)
PUT = call(
    "_put",
    *("bigint", "text", "integer", "text", "float8", "float8", "text", "text", "bytea", "bytea"),
    *("integer", "text", "bigint", "bigint", "bigint", "text", "float8"),
    more=("%s::float8",),
)
ACK = call("_ack", "bigint", "bigint", skipped=1)
FAIL = call("_fail", "bigint", "bigint", "text", "float8", "text", skipped=1)
RENEW = call("_renew", "bigint", "bigint", "float8", skipped=1)
LEAVE = call("_leave", "text")
DEFINE = f"SELECT {SCHEMA}._define(%s, %s::jsonb, %s, %s)"
TAKE = f"SELECT * FROM {SCHEMA}._take(%s, %s, %s, %s, %s, %s)"  # noqa: S608 - our own names
LENGTH_OF_ROW = 17  # then next_in, clock, note

# verb -> the statement and how its arguments are made of the queue and the operation's arguments.
VERBS: dict[str, tuple[str, Callable[[str, Row], Row]]] = {
    "pause": ("_set_mode(%s, 'paused')", lambda queue, _: (queue,)),
    "resume": ("_set_mode(%s, 'running')", lambda queue, _: (queue,)),
    "drain": ("_set_mode(%s, 'draining')", lambda queue, _: (queue,)),
    "delete": ("_delete_one(%s, %s)", lambda queue, given: (queue, given[0])),
    "reap": ("_reap(%s)", lambda queue, _: (queue,)),
    "reclaim": ("_reclaim(%s, %s, %s)", lambda queue, given: (queue, *given)),
    "disown": ("_disown(%s)", lambda _, given: (text(given[0]),)),
}
NOT_DROPPED = -1
# These are done in slices: the last column is how many, the first NULL after the last slice.
SLICE = 200  # messages; putting keys in order costs more here
PURGE = f"SELECT * FROM {SCHEMA}._purge(%s, {SLICE}, %s, %s)"  # noqa: S608 - our own names
DROP = f"SELECT * FROM {SCHEMA}._drop(%s, {SLICE}, %s, %s)"  # noqa: S608 - our own names
REDRIVE = f"SELECT * FROM {SCHEMA}._redrive(%s, %s::bigint[], %s, %s, {SLICE}, %s, %s, %s)"  # noqa: S608
FIRST_PURGE, FIRST_REDRIVE = (None, None), (None, None, None)
STATS = f"""
    SELECT s.*, q.bindings FROM {SCHEMA}._stats(%s) s JOIN {SCHEMA}.queue q USING (name)
    ORDER BY s.name
"""  # noqa: S608 - our own names
PEEK = f"SELECT * FROM {SCHEMA}._peek(%s, %s, %s, %s)"  # noqa: S608 - as above
FINISH = f"""
    SELECT queue, messages, bytes, current_setting('heliograph.events', true)
    FROM (SELECT) AS once LEFT JOIN {SCHEMA}._touched() ON true
"""  # noqa: S608 - as above
NO_EVENTS = "SELECT set_config('heliograph.events', '', true)"
NEXT_NUMBER = f"SELECT last_value + is_called::integer FROM {SCHEMA}.queued_number"  # noqa: S608
QUEUES = f"""
    SELECT q.name, q.policy::text, q.origin, q.bindings, q.mode, t.messages, t.bytes
    FROM {SCHEMA}.queue q, LATERAL {SCHEMA}._totals(q.name) t ORDER BY q.name
"""  # noqa: S608 - as above


class PostgreSQLQueues:
    """See `ports.Queues`."""

    __slots__ = ("_at_once", "_contents", "_full", "_is_idle", "_operations")

    def __init__(self) -> None:
        self._is_idle = True  # this batch has nothing for queues
        self._full: set[str] = set()  # queues with more than was wanted, when last asked
        self._at_once = AtOnce([], self._full)
        self._contents: dict[int, int] = {}  # of this batch: id there -> id in the database
        self._operations: dict[str, Callable[[Connection, list[Row]], list[Result]]] = {
            "queue_clock": self._on_clock,
            "queue_define": self._on_define,
            "queue_content": self._on_content,
            "queue_put": self._on_put,
            "queue_ack": settling(ACK, ACK_CLEANING),
            "queue_fail": settling(FAIL, FAIL_CLEANING),
            "queue_renew": settling(RENEW, RENEW_CLEANING),
            "queue_leave": self._on_leave,
            "queue_admin": self._on_admin,
            "queue_lease": self._on_lease,
        }

    def open(self, connection: Connection, definitions: list[Row]) -> dict[str, Any]:
        install(connection)
        for name, policy, bindings in sorted(definitions):
            fetch(connection, DEFINE, (name, policy, "config", bindings))
        fetch(connection, f"SELECT {SCHEMA}._gather_counters()")
        return {
            "queues": fetch(connection, QUEUES),
            "queued_next": fetch(connection, NEXT_NUMBER)[0][0],
            "shared_queues": True,
        }

    def begin(self, operations: Operations | None = None) -> None:
        self._is_idle = True
        self._at_once = AtOnce(operations or [], self._full)

    def apply(self, connection: Connection, name: str, rows: list[Row]) -> list[Result]:
        self._is_idle = False
        return self._operations[name](connection, rows)

    def finish(self, connection: Connection) -> tuple[list[Result], list[Count]]:
        if self._is_idle:
            return [], []
        *_, text = (rows := fetch(connection, FINISH))[0]
        if text:  # where the rows of a batch come one by one, it is not over
            fetch(connection, NO_EVENTS)
        return events(text or ""), [row[:3] for row in rows if row[0] is not None]

    def committed(self) -> None:
        """Nothing is kept here from one batch to the next."""

    def answer(self, connection: Connection, name: str, arguments: Row) -> Any:
        if name == "queue_stats":
            return stats(connection, arguments[0])
        return fetch(connection, PEEK, arguments[:4])

    def _on_clock(self, connection: Connection, rows: list[Row]) -> list[Result]:  # noqa: ARG002
        """The server has its own."""
        self._contents = {}
        return []

    def _on_define(self, connection: Connection, rows: list[Row]) -> list[Result]:
        for row in sorted({row[0]: row for row in rows}.values()):
            fetch(connection, DEFINE, row)
        return []

    def _on_content(self, connection: Connection, rows: list[Row]) -> list[Result]:
        ids = CONTENTS(connection, [(row[0], row[1], row[2]) for row in rows])
        self._contents.update(zip((row[0] for row in rows), ids, strict=True))
        return []

    def _on_put(self, connection: Connection, rows: list[Row]) -> list[Result]:
        if self._contents:
            rows = [self._with_content(row) for row in rows]
        rows = [cleaned(row, PUT_CLEANING) for row in rows]
        marked = self._at_once.mark(connection, rows)
        self._at_once.number(PUT(connection, marked, self._at_once.now))
        return []

    def _with_content(self, row: Row) -> Row:
        content = row[CONTENT]
        if content is None:
            return row
        return (*row[:CONTENT], self._contents.get(content), *row[CONTENT + 1 :])

    def _on_leave(self, connection: Connection, rows: list[Row]) -> list[Result]:
        LEAVE(connection, rows)
        return []

    def _on_admin(self, connection: Connection, rows: list[Row]) -> list[Result]:
        results = [(row[0], administer(connection, *row[1:])) for row in rows]
        return [each for each in results if each[0]]

    def _on_lease(self, connection: Connection, rows: list[Row]) -> list[Result]:
        return [(row[0], self._leased(connection, cleaned_lease(row))) for row in rows]

    def _leased(self, connection: Connection, asked: Row) -> Any:
        answer = self._at_once.answer(asked[0]) or lease(connection, asked)
        has_more = answer != UNKNOWN and answer[1] == 0
        (self._full.add if has_more else self._full.discard)(asked[0])
        return answer


def settling(
    settle: Call, cleaning: Cleaning = ()
) -> Callable[[Connection, list[Row]], list[Result]]:
    """An operation that answers one word for each row."""

    def run(connection: Connection, rows: list[Row]) -> list[Result]:
        answers = settle(connection, [cleaned(row, cleaning) for row in rows])
        return [(row[0], answer) for row, answer in zip(rows, answers, strict=True) if row[0]]

    return run


def lease(connection: Connection, asked: Row) -> Any:
    *rows, last = fetch(connection, TAKE, asked)
    next_in, clock, note = last[LENGTH_OF_ROW:]
    if note == UNKNOWN:
        return UNKNOWN
    return [row[:LENGTH_OF_ROW] for row in rows], next_in, clock


def administer(connection: Connection, verb: str, queue: str, arguments: Row) -> Any:
    if verb in SLICED:
        return SLICED[verb](connection, queue, *arguments)
    text, values = VERBS[verb]
    value = fetch(connection, f"SELECT {SCHEMA}.{text}", values(queue, arguments))[0][0]
    return UNKNOWN if value is None else value


def purge(connection: Connection, queue: str, place: Row | None = None) -> Any:
    """A slice: how many, and what to ask for the next with (None: it was the last)."""
    return counted(fetch(connection, PURGE, (queue, *(place or FIRST_PURGE)))[0])


def drop(connection: Connection, queue: str, place: Row | None = None) -> Any:
    """As `purge`."""
    return counted(fetch(connection, DROP, (queue, *(place or FIRST_PURGE)))[0])


def redrive(
    connection: Connection,
    queue: str,
    numbers: Any = None,
    to: str | None = None,
    payload: bytes | None = None,
    place: Row | None = None,
) -> Any:
    """As `purge`."""
    wanted = None if numbers is None else list(numbers)
    values = (queue, wanted, to, payload, *(place or FIRST_REDRIVE))
    return counted(fetch(connection, REDRIVE, values)[0])


def counted(row: Row) -> Any:
    *place, count = row
    if count is None:
        return UNKNOWN
    if count == NOT_DROPPED:
        return IN_USE
    return count, None if place[0] is None else tuple(place)


SLICED: dict[str, Callable[..., Any]] = {"purge": purge, "drop": drop, "redrive": redrive}


def stats(connection: Connection, name: str | None) -> list[dict[str, Any]]:
    result = connection.exec_driver_sql(STATS, (name,))
    names = list(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def events(text: str) -> list[Result]:
    """What has happened by itself: (0, (queue, what, count)) each."""
    told = (line.split() for line in text.splitlines())
    return [(0, (queue, what, int(count))) for queue, what, count in told]
