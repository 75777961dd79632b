"""A broker's PostgreSQL database as a Backend: the functions of the schema `heliograph`.

Rule kept here: whoever waits is woken by the database (LISTEN); it is asked again only for what
time alone makes ready. What was leased for one who has gone meanwhile goes back at once.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.types.json import Jsonb

from bridges.queues.backend import LONGEST_WAIT, MOST_AT_ONCE, Message, QueueError, QueueStats
from bridges.queues.local import (
    LONGEST_TIME,
    check_entry,
    check_range,
    check_text,
    checked_topic,
    encode_block,
    parse_receipts,
)
from bridges.queues.postgresql_connections import (
    ASK_AGAIN,
    Connections,
    Listener,
    Row,
    explained,
    wait_for,
)
from bridges.queues.slices import all_slices
from broker.queues.policy import MODES_BY_VERB

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from bridges.queues.slices import Place

LEASE = """
    SELECT id, token, payload, topic, key, priority, properties, content_type, publisher,
        extract(epoch FROM enqueued_at)::float8 AS enqueued_at,
        extract(epoch FROM expires_at)::float8 AS expires_at,
        extract(epoch FROM lease_until)::float8 AS lease_until,
        delivery_count, failures, dead_from, dead_reason,
        extract(epoch FROM dead_at)::float8 AS dead_at
    FROM heliograph.lease(%s, %s, %s, %s)
"""
PEEK = """
    SELECT id, 0 AS token, payload, topic, key, priority, properties, content_type, publisher,
        extract(epoch FROM enqueued_at)::float8 AS enqueued_at,
        extract(epoch FROM expires_at)::float8 AS expires_at,
        extract(epoch FROM lease_until)::float8 AS lease_until,
        delivery_count, failures, dead_from, dead_reason,
        extract(epoch FROM dead_at)::float8 AS dead_at, state
    FROM heliograph.messages WHERE queue = %s AND id > %s ORDER BY id LIMIT %s
"""
STATS = """
    SELECT name, mode, origin, messages, bytes, ready, leased, waiting, delayed,
        extract(epoch FROM oldest_age)::float8 AS oldest_age, coalesce(dead, 0) AS dead, policy,
        bindings
    FROM heliograph.queues
"""
OF_ONE = " WHERE name = %s"
EACH = " AS result FROM unnest(%s::bigint[], %s::bigint[]) AS t (id, token)"
ACK = "SELECT heliograph.ack(t.id, t.token)" + EACH
NACK = "SELECT heliograph.nack(t.id, t.token, %s::float8, %s, %s)" + EACH
RENEW = "SELECT heliograph.renew(t.id, t.token, %s)" + EACH
RELEASE = "SELECT heliograph.release(t.id, t.token)" + EACH
ENQUEUE = """
    SELECT heliograph.enqueue(
        %s, %s::bytea, %s, %s, %s, %s::float8, %s::float8, %s, %s, %s) AS result
"""
# Managing is for whom the tables belong to, as a rule the broker's own user.
SLICE = 200  # messages of one transaction
PURGE = f"""
    SELECT up_to, since, deleted AS count FROM heliograph._purge(%s, {SLICE}, %s, %s)
"""  # noqa: S608 - our own number
FIRST_PURGE, FIRST_REDRIVE = (None, None), (None, None, None)
DELETE = "SELECT heliograph._delete_one(%s, %s) AS result"
REDRIVE = f"""
    SELECT after_number, up_to, since, moved AS count
    FROM heliograph._redrive(%s, %s::bigint[], %s, %s::bytea, {SLICE}, %s, %s, %s)
"""  # noqa: S608 - our own number
SET_MODE = "SELECT heliograph._set_mode(%s, %s) AS result"
MODES = tuple(MODES_BY_VERB.values())


class PostgreSQLBackend:
    """`url`: as psycopg takes it, `postgresql://user@host/database`."""

    def __init__(self, url: str) -> None:
        self._connections = Connections(url)
        self._listener = Listener(url)
        self._undoing: set[asyncio.Task[None]] = set()

    # -- consumers --------------------------------------------------------------------------------

    async def receive(
        self,
        queue: str,
        consumer: str,
        *,
        most: int = 1,
        wait: float = 0.0,
        lease: float | None = None,
    ) -> list[Message]:
        check_range("most", most, 1, MOST_AT_ONCE)
        check_range("wait", wait, 0, LONGEST_WAIT)
        want = (queue, most, consumer, lease)
        found = await self._lease(want)
        return await self._wait(want, wait) if not found and wait else found

    async def ack(self, receipts: Sequence[str]) -> list[str]:
        return await self._settle(ACK, receipts)

    async def nack(
        self,
        receipts: Sequence[str],
        *,
        delay: float | None = None,
        dead: bool = False,
        reason: str = "",
    ) -> list[str]:
        if delay is not None:
            check_range("delay", delay, 0, LONGEST_TIME)
        check_text("reason", reason)
        return await self._settle(NACK, receipts, delay, dead, reason)

    async def renew(self, receipts: Sequence[str], lease: float) -> list[str]:
        return await self._settle(RENEW, receipts, lease)

    async def release(self, receipts: Sequence[str]) -> list[str]:
        return await self._settle(RELEASE, receipts)

    # -- producers --------------------------------------------------------------------------------

    async def publish(
        self,
        queue: str,
        payload: bytes,
        *,
        topic: str = "",
        key: str | None = None,
        priority: int = 4,
        delay: float = 0.0,
        ttl: float | None = None,
        dedup_id: str | None = None,
        content_type: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> int | None:
        check_entry(key, priority, delay, ttl, dedup_id)
        encode_block(content_type, properties or {})  # that MQTT can carry them
        its_topic = checked_topic(topic) if topic else None
        told = Jsonb(dict(properties or {}))
        number = await self._value(
            ENQUEUE,
            *(queue, payload, its_topic, key, priority, delay, ttl, dedup_id, told, content_type),
        )
        return None if number is None else int(number)

    # -- people -----------------------------------------------------------------------------------

    async def peek(self, queue: str, *, after: int = 0, most: int = 10) -> list[Message]:
        check_range("most", most, 1, MOST_AT_ONCE)
        rows = await self._rows(PEEK, queue, after, most)
        if not rows:
            await self.stats(queue)  # or there is no such queue
        return [message_of(queue, row) for row in rows]

    async def stats(self, queue: str | None = None) -> list[QueueStats]:
        rows = await (self._rows(STATS + OF_ONE, queue) if queue else self._rows(STATS))
        if queue and not rows:
            raise unknown(queue)
        return [QueueStats(**row) for row in rows]

    async def purge(self, queue: str) -> int:
        return await all_slices(
            lambda place: self._slice(queue, PURGE, queue, *(place or FIRST_PURGE))
        )

    async def delete(self, queue: str, message_id: int) -> int:
        return int(await self._managed(queue, DELETE, queue, message_id))

    async def redrive(
        self,
        queue: str,
        *,
        ids: Sequence[int] | None = None,
        to: str | None = None,
        payload: bytes | None = None,
    ) -> int:
        numbers = None if ids is None else list(ids)
        if payload is not None and (numbers is None or len(numbers) != 1):
            text = "a changed payload is for one message: give exactly one id"
            raise QueueError("bad_request", text)
        given = (queue, numbers, to, payload)
        return await all_slices(
            lambda place: self._slice(to or queue, REDRIVE, *given, *(place or FIRST_REDRIVE))
        )

    async def drop(self, queue: str) -> int:
        raise unheard("drop", queue)

    async def unbind(self, queue: str, topic_filter: str) -> None:  # noqa: ARG002 - see Backend
        raise unheard("unbind", queue)

    async def set_mode(self, queue: str, mode: str) -> None:
        if mode not in MODES:
            raise QueueError("bad_request", f"{mode!r} is no mode: write {', '.join(MODES)}")
        await self._managed(queue, SET_MODE, queue, mode)

    async def close(self) -> None:
        while self._undoing:
            await asyncio.wait(self._undoing)
        await self._listener.close()
        await self._connections.close()

    # -- leasing ----------------------------------------------------------------------------------

    async def _wait(self, want: tuple[Any, ...], seconds: float) -> list[Message]:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        with suppress(TimeoutError):
            async with asyncio.timeout_at(end), self._listener.of(want[0]) as woken:
                while True:
                    woken.clear()
                    if found := await self._lease(want):
                        return found
                    await wait_for(woken, ASK_AGAIN)
        return []

    async def _lease(self, want: tuple[Any, ...]) -> list[Message]:
        asked = asyncio.ensure_future(self._rows(LEASE, *want))
        try:
            rows = await asyncio.shield(asked)
        except asyncio.CancelledError:
            self._later(self._undo(asked))
            raise
        return [message_of(want[0], row) for row in rows]

    async def _undo(self, asked: asyncio.Future[list[Row]]) -> None:
        with suppress(QueueError):
            if rows := await asked:
                await self.release([f"{row['id']}-{row['token']:x}" for row in rows])

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._undoing.add(task)
        task.add_done_callback(self._undoing.discard)

    async def _settle(self, sql: str, receipts: Sequence[str], *told: Any) -> list[str]:
        """In the order of the messages, so that two who settle the same do not lock each other."""
        if not receipts:
            return []
        pairs = parse_receipts(receipts)
        ordered = sorted(set(pairs))
        numbers, tokens = (list(column) for column in zip(*ordered, strict=True))
        rows = await self._rows(sql, *told, numbers, tokens)
        results = dict(zip(ordered, (row["result"] for row in rows), strict=True))
        return [results[pair] for pair in pairs]

    # -- statements -------------------------------------------------------------------------------

    async def _slice(self, queue: str, sql: str, *values: Any) -> tuple[int, Place]:
        *place, count = (await self._rows(sql, *values))[0].values()
        if count is None:
            raise unknown(queue)
        return count, None if place[0] is None else tuple(place)

    async def _managed(self, queue: str, sql: str, *values: Any) -> Any:
        value = await self._value(sql, *values)
        if value is None:
            raise unknown(queue)
        return value

    async def _value(self, sql: str, *values: Any) -> Any:
        return (await self._rows(sql, *values))[0]["result"]

    async def _rows(self, sql: str, *values: Any) -> list[Row]:
        """One statement, which is one transaction."""
        try:
            async with self._connections.one() as connection:
                cursor = await connection.execute(sql.encode(), values)
                return await cursor.fetchall()
        except psycopg.Error as error:
            raise explained(error) from error


def message_of(queue: str, row: Row) -> Message:
    """A row of LEASE or PEEK."""
    token = row.pop("token")
    receipt = f"{row['id']}-{token:x}" if token else ""
    row["payload"] = bytes(row["payload"])
    return Message(queue=queue, receipt=receipt, **row)


def unheard(verb: str, queue: str) -> QueueError:
    """This is for a broker to do."""
    text = f"brokers that run on this database would not hear of it: use `heliograph queue {verb}`"
    return QueueError(
        "not_allowed", f"{queue[:200]!r} is bound and known there: {text}, or http://"
    )


def unknown(queue: str) -> QueueError:
    """There is no such queue."""
    hint = "SELECT name FROM heliograph.queues lists those that are there"
    return QueueError("unknown_queue", f"there is no queue {queue[:200]!r}: {hint}")
