"""Queues of a store in this process, on either database, with a clock in the test's hand.

SQLite is told the time with each batch. PostgreSQL has its own, so there the instants in the tables
are moved back: for them it is the same.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

from broker.queues.policy import QueuePolicy
from broker.storage.salvage import salvage
from broker.storage.store import Store
from broker.storage.worker import make_database
from tests.support.store_worker import EMPTY_META

START = 1_000_000.0
LEASE = 30.0
INSTANTS = {
    "queued": ("due", "enqueued_at", "expires_at", "dead_at"),
    "queue": ("active_until", "tokens_at"),
    "queue_seen": ("until",),
}


class Got(NamedTuple):
    """A message as `queue_lease` or `queue_peek` gives it."""

    number: int
    token: int
    key: str | None
    rank: int
    topic: str
    payload: bytes
    properties: bytes
    first: int
    publisher: str
    enqueued_at: float
    lease_until: float | None
    acquisitions: int
    failures: int
    expires_at: float | None
    dead_from: str | None
    dead_reason: str | None
    dead_at: float | None
    state: int | None = None  # these three: only where one looks
    due: float | None = None
    consumer: str | None = None


class QueueStore:
    """Operations on a store, one batch for each; `events` and `counts` are of the last one."""

    def __init__(self, place: dict[str, str]) -> None:
        self.is_sqlite = not place["url"]
        self.path = Path(place["path"])
        self.now = START
        self.numbers = itertools.count(1)
        self.position = 0
        self.events: list[tuple[str, str, int]] = []
        self.counts: dict[str, tuple[int, int]] = {}
        self.next_in: float | None = None  # of the last lease
        self._place = place
        self._calls = itertools.count(1)
        self._tokens = itertools.count(1_000, 1_000)
        self.start()

    def start(self, *definitions: tuple[str, QueuePolicy]) -> dict[str, Any]:
        """Open the store, as the process does."""
        self.database = make_database({**self._place, "max_size": 0, "retained_window": 10})
        self.store = Store(self.database, 10, salvage)
        configured = [(name, policy.to_json(), "[]") for name, policy in definitions]
        try:
            opened = self.store.open(queues=configured)
        except BaseException:
            self.store.close()
            raise
        self.position = opened["meta"][0]
        return opened

    def close(self) -> None:
        self.store.close()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        if not self.is_sqlite:
            for table, columns in INSTANTS.items():
                moved = ", ".join(f"{each} = {each} - {seconds}" for each in columns)
                self.sql(f"UPDATE heliograph.{table} SET {moved}")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        connection = self.database.connection
        with connection.begin():
            result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else []

    # -- batches ----------------------------------------------------------------------------------

    def do(self, *operations: tuple[str, list[Any]]) -> list[Any]:
        """One batch; the answers in the order of the calls."""
        self.position += 1
        batch = [("queue_clock", [(self.now,)]), *operations]
        batch.append(("meta", [(self.position, *EMPTY_META)]))
        done = self.store.apply(self.position, False, batch)
        assert self.store.take_alarms() == []
        self.events = [value for call, value in done.results if call == 0]
        self.counts = {name: (messages, size) for name, messages, size in done.counts}
        return [value for call, value in sorted(each for each in done.results if each[0])]

    def define(self, name: str, origin: str = "client", **policy: Any) -> None:
        self.do(("queue_define", [(name, QueuePolicy(**policy).to_json(), origin, "[]")]))

    def row(self, queue: str, payload: bytes | None = b"", **given: Any) -> tuple[Any, ...]:
        """A row of `queue_put`."""
        row = {
            "rank": 5,
            "key": None,
            "delay": 0.0,
            "ttl": None,
            "dedup_id": None,
            "topic": "a/b",
            "payload": payload,
            "properties": b"",
            "first": 50,
            "publisher": "publisher",
            "size": len(payload or b"") + 103,
            "content": None,
            "token": None,
            "consumer": None,
            "lease_seconds": None,
        }
        assert not set(given) - set(row), given
        number = next(self.numbers) if self.is_sqlite else None
        return (number, queue, *(row | given).values())

    def put(self, queue: str, *payloads: bytes, **given: Any) -> None:
        self.do(("queue_put", [self.row(queue, payload, **given) for payload in payloads]))

    def lease(
        self,
        queue: str,
        most: int = 1,
        consumer: str = "worker",
        seconds: float | None = LEASE,
        most_bytes: int = 1 << 30,
    ) -> list[Got]:
        (value,) = self.do(self.lease_operation(queue, most, consumer, seconds, most_bytes))
        rows, self.next_in, _ = value
        return [Got(*row) for row in rows]

    def lease_operation(
        self, queue: str, most: int, consumer: str, seconds: float | None, most_bytes: int
    ) -> tuple[str, list[Any]]:
        call, token = next(self._calls), next(self._tokens)
        return "queue_lease", [(call, queue, consumer, most, most_bytes, seconds, token)]

    def take(self, queue: str, **options: Any) -> Got:
        (got,) = self.lease(queue, **options)
        return got

    def payloads(self, queue: str, most: int = 100, **options: Any) -> list[bytes]:
        """What a lease gives."""
        return [each.payload for each in self.lease(queue, most, **options)]

    def ack(self, *messages: Got) -> list[str]:
        rows = [(next(self._calls), each.number, each.token) for each in messages]
        return self.do(("queue_ack", rows))

    def fail(
        self, message: Got, kind: str = "nack", delay: float | None = None, reason: str = ""
    ) -> str:
        row = (next(self._calls), message.number, message.token, kind, delay, reason)
        (said,) = self.do(("queue_fail", [row]))
        return said

    def renew(self, message: Got, seconds: float) -> str:
        row = (next(self._calls), message.number, message.token, seconds)
        (said,) = self.do(("queue_renew", [row]))
        return said

    def leave(self, consumer: str) -> None:
        self.do(("queue_leave", [(consumer,)]))

    def admin(self, verb: str, queue: str, *arguments: Any) -> Any:
        (said,) = self.do(("queue_admin", [(next(self._calls), verb, queue, arguments)]))
        return said

    def redrive(
        self,
        queue: str,
        numbers: list[int] | None = None,
        to: str | None = None,
        payload: bytes | None = None,
    ) -> Any:
        return self.in_slices("redrive", queue, numbers, to, payload)

    def purge(self, queue: str) -> Any:
        return self.in_slices("purge", queue)

    def in_slices(self, verb: str, queue: str, *arguments: Any) -> Any:
        """All slices, one after the other; how many messages, or the word that is said instead."""
        count, place = 0, None
        while True:
            said = self.admin(verb, queue, *arguments, place)
            if isinstance(said, str):
                return said
            count, place = count + said[0], said[1]
            if place is None:
                return count

    # -- questions --------------------------------------------------------------------------------

    def stats(self, queue: str) -> dict[str, Any]:
        found = self.store.answer("queue_stats", (queue, self.now))
        return found[0] if found else {}

    def peek(
        self, queue: str, after: int = 0, most: int = 100, most_bytes: int = 1 << 30
    ) -> list[Got]:
        rows = self.store.answer("queue_peek", (queue, after, most, most_bytes, self.now))
        return [Got(*row) for row in rows]

    def states(self, queue: str) -> dict[bytes, str]:
        names = ("ready", "leased", "waiting", "delayed")
        return {each.payload: names[each.state or 0] for each in self.peek(queue)}

    def check(self) -> None:
        """What must hold at any time: the sums are exact, and every line has a head."""
        where = "" if self.is_sqlite else "heliograph."
        counted = self.sql(f"SELECT queue, count(*), sum(size) FROM {where}queued GROUP BY queue")
        sums = self.sql(
            f"SELECT queue, sum(messages), sum(bytes) FROM {where}queue_counter"
            " GROUP BY queue HAVING sum(messages) <> 0 OR sum(bytes) <> 0"
        )
        assert sorted(counted) == sorted(sums)
        headless = self.sql(
            f"SELECT number FROM {where}queued AS one WHERE state = 2 AND NOT EXISTS"
            f" (SELECT 1 FROM {where}queued AS head WHERE head.queue = one.queue"
            " AND head.key = one.key AND head.state <> 2)"
        )
        assert headless == []
        uses = self.sql(
            f"SELECT content, count(*) FROM {where}queued"
            " WHERE content IS NOT NULL GROUP BY content"
        )
        assert sorted(uses) == sorted(self.sql(f"SELECT id, uses FROM {where}queue_payload"))
