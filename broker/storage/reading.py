"""The questions: pages of what is stored. No answer and no step on the way to it is unbounded.

What waits for a session lies in several audiences and is wanted in the order of its numbers.
Numbers are unique, so a window of n numbers holds at most n messages, whatever the number of
audiences: a page is read window by window, and empty stretches are leapt over.
"""

# ruff: noqa: A002 - "filter" is the standard's word for it, and the builtin is not used here

from __future__ import annotations

from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Any

from sqlalchemy import MetaData, and_, bindparam, delete, func, or_, select

from broker.storage.database import Row, Statement
from broker.storage.tables import (
    LEASED,
    QUEUE_SCHEMA,
    inflight,
    member,
    message,
    queue_payload,
    queued,
    received,
    retained,
    session,
)
from broker.topics.filters import is_wildcard, matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Dialect

SCANNED_AT_ONCE = 5_000  # retained topics looked at for one answer
WALKED_AT_ONCE = 5_000  # messages looked at in one step of a trim
TOPICS_AT_ONCE = 50  # retained messages fetched together: so many payloads are in memory
LARGEST_WINDOW = 1 << 16

STORED = (
    message.c.number,
    message.c.audience,
    message.c.topic,
    message.c.payload,
    message.c.properties,
    message.c.first,
    message.c.publisher,
    message.c.expires_at,
)
RETAINED = (
    retained.c.topic,
    retained.c.payload,
    retained.c.properties,
    retained.c.first,
    retained.c.publisher,
    retained.c.expires_at,
)


LENT = 2  # `inflight.state`: a queue has the message, under the number with a minus in front


class Reader:
    """Answers questions on a connection, inside the caller's transaction."""

    __slots__ = ("_answers", "_connection", "_statements")

    def __init__(self, dialect: Dialect) -> None:
        self._statements = {
            name: Statement.compile(statement, dialect) for name, statement in statements().items()
        }
        self._statements["lent"] = Statement.compile(lent(dialect), dialect)
        self._answers: dict[str, Callable[..., Any]] = {
            "backlog": self._backlog,
            "resume": self._resume,
            "retained": self._retained,
            "retained_totals": self._retained_totals,
            "trim": self._trim,
        }

    def answer(self, connection: Connection, name: str, arguments: Row) -> Any:
        self._connection = connection
        return self._answers[name](*arguments)

    def _ask(self, name: str, **values: Any) -> list[Row]:
        return self._statements[name].fetch(self._connection, **values)

    # -- what waits for a session -----------------------------------------------------------------

    def _backlog(self, session: int, after: int, most_messages: int, most_bytes: int) -> list[Row]:
        page = self._numbers(session, after, max(1, most_messages))
        count = max(1, within(page, most_bytes))
        if not page:
            return []
        first, last = page[0][0], page[:count][-1][0]
        return self._ask("rows", session=session, first=first, last=last)

    def _numbers(self, session: int, after: int, most: int) -> list[Row]:
        """(number, size) of the next ones that wait, in order: `most` of them, or all."""
        audiences = [audience for (audience,) in self._ask("audiences", session=session)]
        if len(audiences) == 1:
            return self._ask("numbers_of_one", audience=audiences[0], after=after, most=most)
        found: list[Row] = []
        window = most
        while len(found) < most and (head := self._head(session, after)) is not None:
            last = head + window - 1
            found += self._ask("numbers", session=session, first=head, last=last)
            after, window = last, min(window * 2, LARGEST_WINDOW)
        return found[:most]

    def _head(self, session: int, after: int) -> int | None:
        """The lowest number that waits after that one."""
        heads = self._ask("heads", session=session, after=after)
        return min((head for (head,) in heads if head is not None), default=None)

    # -- what a session had in flight -------------------------------------------------------------

    def _resume(self, session: int) -> dict[str, list[Any]]:
        in_flight = self._ask("inflight", session=session)
        has_lent = any(state == LENT for _, _, state, *_ in in_flight)
        return {
            "inflight": in_flight,
            "lent": self._ask("lent", session=session) if has_lent else [],
            "received": [packet_id for (packet_id,) in self._ask("received", session=session)],
        }

    # -- retained messages ------------------------------------------------------------------------

    def _retained(
        self, filter: str, after: str, most_messages: int, most_bytes: int, now: float
    ) -> tuple[list[Row], str | None]:
        if not is_wildcard(filter):
            topics = [filter] if filter > after else []
            return [row[:-1] for row in self._retained_rows(topics, now)], None
        wanted, next_after = self._matching(filter, after, most_messages)
        rows: list[Row] = []
        room = most_bytes
        for *row, size in self._retained_rows(wanted, now):
            if rows and room < size:
                return rows, rows[-1][0]
            rows.append(tuple(row))
            room -= size
        return rows, next_after

    def _matching(self, filter: str, after: str, most: int) -> tuple[list[str], str | None]:
        """Topics that match, in order, and where to go on: None at the end of all."""
        first, last = bounds(filter)
        wanted: list[str] = []
        for step in steps(most):
            topics = self._topics(after, first, last, step)
            for topic in topics:
                after = topic
                if matches(filter, topic):
                    wanted.append(topic)
                    if len(wanted) == most:
                        return wanted, after
            if len(topics) < step:
                return wanted, None
        return wanted, after

    def _topics(self, after: str, first: str, last: str, most: int) -> list[str]:
        which = "topics" if last else "all_topics"
        found = self._ask(which, after=after, first=first, last=last, most=most)
        return [topic for (topic,) in found]

    def _retained_rows(self, topics: list[str], now: float) -> Iterator[Row]:
        for start in range(0, len(topics), TOPICS_AT_ONCE):
            chunk = topics[start : start + TOPICS_AT_ONCE]
            chunk += chunk[-1:] * (TOPICS_AT_ONCE - len(chunk))
            names = {f"topic_{index}": topic for index, topic in enumerate(chunk)}
            yield from self._ask("retained", now=now, **names)

    def _retained_totals(self, now: float) -> tuple[int, int]:
        """How many there are, and their bytes, without those that have expired: they go."""
        self._delete("expired_retained", now=now)
        ((count, size),) = self._ask("retained_totals")
        return int(count), int(size)

    # -- too much waits ---------------------------------------------------------------------------

    def _trim(
        self, session: int, mode: str, most_messages: int, most_bytes: int, now: float
    ) -> tuple[int, int, int, int, int, int]:
        """Where the cursor has to go for the rest to be within both bounds."""
        cursor = self._cursor(session)
        who = {"session": session, "cursor": cursor}
        expired = self._delete("expired", now=now, **who)
        before, bytes_before = left, left_bytes = self._waiting(**who)
        if mode == "last_value" and self._delete("superseded", **who):
            left, left_bytes = self._waiting(**who)
        too_many, too_large = left - most_messages, left_bytes - most_bytes
        cursor, count, size = self._advance(session, cursor, too_many, too_large)
        left, left_bytes = left - count, left_bytes - size
        return cursor, before - left, bytes_before - left_bytes, expired, left, left_bytes

    def _cursor(self, session: int) -> int:
        rows = self._ask("cursor", session=session)
        return int(rows[0][0]) if rows else 0

    def _waiting(self, session: int, cursor: int) -> tuple[int, int]:
        ((count, size),) = self._ask("waiting", session=session, cursor=cursor)
        return int(count), int(size)

    def _delete(self, name: str, **values: Any) -> int:
        return self._statements[name].run(self._connection, **values).rowcount

    def _advance(self, session: int, cursor: int, messages: int, size: int) -> tuple[int, int, int]:
        """Past the oldest, until so many messages and so many bytes are gone."""
        dropped = dropped_bytes = 0
        while dropped < messages or dropped_bytes < size:
            page = self._numbers(session, cursor, WALKED_AT_ONCE)
            if not page:
                break
            for number, each in page:
                if dropped >= messages and dropped_bytes >= size:
                    break
                cursor, dropped, dropped_bytes = number, dropped + 1, dropped_bytes + each
        return cursor, dropped, dropped_bytes


def within(page: list[Row], most_bytes: int) -> int:
    """How many of these (number, size) fit together."""
    return sum(1 for _ in takewhile(most_bytes.__ge__, accumulate(size for _, size in page)))


def bounds(filter: str) -> tuple[str, str]:
    """Topics that match are at least the first and less than the last; "" is no bound."""
    plain = list(takewhile(lambda level: level not in ("+", "#"), filter.split("/")))
    if not plain:
        return "", ""
    first = "/".join(plain)
    return first, first + AFTER_SLASH


AFTER_SLASH = chr(ord("/") + 1)


def steps(most: int) -> Iterator[int]:
    """How many topics to look at, step by step: few if all match, SCANNED_AT_ONCE in all."""
    step, left = max(1, min(most, SCANNED_AT_ONCE)), SCANNED_AT_ONCE
    while left > 0:
        step = min(step, left)
        yield step
        left -= step
        step *= 2


def statements() -> dict[str, Any]:
    """Every select and delete. Each reads one index from one end, and stops."""
    of_session = member.c.session == bindparam("session")
    of_audience = message.c.audience == member.c.audience
    its_messages = member.join(message, of_audience)
    its_audiences = select(member.c.audience).where(of_session)
    between = message.c.number.between(bindparam("first"), bindparam("last"))
    waits = and_(message.c.audience.in_(its_audiences), message.c.number > bindparam("cursor"))
    not_in_flight = message.c.number.not_in(select(inflight.c.number))
    lowest = (
        select(func.min(message.c.number))
        .where(of_audience, message.c.number > bindparam("after"))
        .correlate(member)
        .scalar_subquery()
    )
    newest = select(func.max(message.c.number)).where(waits)
    sent = and_(message.c.number == inflight.c.number, inflight.c.state == 0)
    topics = (
        select(retained.c.topic)
        .where(retained.c.topic > bindparam("after"))
        .order_by(retained.c.topic)
        .limit(bindparam("most"))
    )
    return {
        "audiences": its_audiences,
        "heads": select(lowest).where(of_session),
        "numbers_of_one": select(message.c.number, message.c.size)
        .where(message.c.audience == bindparam("audience"))
        .where(message.c.number > bindparam("after"))
        .order_by(message.c.number)
        .limit(bindparam("most")),
        "numbers": select(message.c.number, message.c.size)
        .select_from(its_messages)
        .where(of_session, between)
        .order_by(message.c.number),
        "rows": select(*STORED)
        .select_from(its_messages)
        .where(of_session, between)
        .order_by(message.c.number),
        "inflight": select(
            inflight.c.packet_id, inflight.c.first, inflight.c.state, inflight.c.number, *STORED[1:]
        )
        .select_from(inflight.outerjoin(message, sent))
        .where(inflight.c.session == bindparam("session"))
        .order_by(inflight.c.place),
        "received": select(received.c.packet_id)
        .where(received.c.session == bindparam("session"))
        .order_by(received.c.packet_id),
        "topics": topics.where(
            retained.c.topic >= bindparam("first"), retained.c.topic < bindparam("last")
        ),
        "all_topics": topics,
        "retained": select(*RETAINED, retained.c.size)
        .where(retained.c.topic.in_([bindparam(f"topic_{n}") for n in range(TOPICS_AT_ONCE)]))
        .where(or_(retained.c.expires_at.is_(None), retained.c.expires_at > bindparam("now")))
        .order_by(retained.c.topic),
        "expired_retained": delete(retained).where(retained.c.expires_at <= bindparam("now")),
        "retained_totals": select(func.count(), func.coalesce(func.sum(retained.c.size), 0)),
        "cursor": select(session.c.cursor).where(session.c.id == bindparam("session")),
        "waiting": select(func.count(), func.coalesce(func.sum(message.c.size), 0))
        .select_from(message)
        .where(waits),
        "expired": delete(message).where(
            waits, message.c.expires_at <= bindparam("now"), not_in_flight
        ),
        "superseded": delete(message).where(
            waits,
            not_in_flight,
            message.c.number.not_in(newest.group_by(message.c.audience, message.c.topic)),
        ),
    }


def lent(dialect: Dialect) -> Any:
    """What a session has out of queues: the queue, then as a lease tells it."""
    schema: Any = None if dialect.name == "sqlite" else QUEUE_SCHEMA
    one, payload = (each.to_metadata(MetaData(), schema=schema) for each in (queued, queue_payload))
    columns = one.c
    told = (
        *(columns.queue, columns.number, columns.token, columns.key, columns.rank, columns.topic),
        func.coalesce(columns.payload, payload.c.payload),
        *(columns.properties, columns.first, columns.publisher, columns.enqueued_at, columns.due),
        *(columns.acquisitions, columns.failures, columns.expires_at),
        *(columns.dead_from, columns.dead_reason, columns.dead_at),
    )
    joined = inflight.join(one, columns.number == -inflight.c.number)
    joined = joined.outerjoin(payload, payload.c.id == columns.content)
    wanted = (inflight.c.session == bindparam("session"), inflight.c.state == LENT)
    return select(*told).select_from(joined).where(*wanted, columns.state == LEASED)
