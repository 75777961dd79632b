"""Queues in SQLite: Python decides, few statements do it, and this process is the only writer."""

from __future__ import annotations

import sqlite3
from random import Random
from typing import TYPE_CHECKING, Any

from broker.storage.queues import administration, asking, leasing, putting, settling
from broker.storage.queues.ports import CONSUMER, QUEUE, TOKEN
from broker.storage.queues.state import described
from broker.storage.queues.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from broker.storage.database import Operations, Row
    from broker.storage.queues.ports import Count, Result

HIGHEST = (
    "SELECT max((SELECT coalesce(max(number), 0) FROM queued),"
    " (SELECT coalesce(max(id), 0) FROM queue_payload))"
)
SERVED = "SELECT DISTINCT consumer FROM queued WHERE queue = ? AND state <> 0 AND state = 1"
ANSWERS: dict[str, Callable[..., Any]] = {
    "queue_stats": asking.stats,
    "queue_peek": asking.peek,
}


class SQLiteQueues:
    """See Queues. `rng` spreads retries."""

    __slots__ = ("_is_known", "_is_open", "_operations", "_served", "_work")

    def __init__(self, rng: Random | None = None) -> None:
        self._work = Work(rng or Random())  # noqa: S311 - spreads, and hides nothing
        self._is_known = False  # what is in memory is what is in the tables
        self._is_open = False  # a batch has begun and is not committed
        self._served: dict[str | None, set[str]] = {}  # consumer -> queues it may hold leases of
        self._operations: dict[str, Callable[[Work, list[Row]], None]] = {
            "queue_clock": _set_clock,
            "queue_define": administration.define,
            "queue_content": putting.put_contents,
            "queue_put": self._put,
            "queue_ack": settling.ack,
            "queue_fail": settling.fail,
            "queue_renew": settling.renew,
            "queue_leave": self._leave,
            "queue_admin": administration.administer,
            "queue_lease": self._lease,
        }

    def open(self, connection: Connection, definitions: list[Row]) -> dict[str, Any]:
        """See Queues."""
        self._is_known = False
        work = self._working_on(connection)
        configured = [(name, policy, "config", bindings) for name, policy, bindings in definitions]
        administration.define(work, configured)
        work.flush()
        return {
            "queues": [described(state) for state in work.queues.values()],
            "queued_next": work.fetch(HIGHEST)[0][0] + 1,
        }

    def begin(self, operations: Operations | None = None) -> None:  # noqa: ARG002 - each when it comes
        """See Queues."""
        self._is_known = self._is_known and not self._is_open
        self._is_open = True

    def apply(self, connection: Connection, name: str, rows: list[Row]) -> list[Result]:
        """See Queues."""
        work = self._working_on(connection)
        self._operations[name](work, rows)
        results, work.results = work.results, []
        return results

    def finish(self, connection: Connection) -> tuple[list[Result], list[Count]]:
        """See Queues."""
        work = self._working_on(connection)
        return work.take_events(), work.flush()

    def committed(self) -> None:
        """See Queues."""
        self._is_open = False

    def answer(self, connection: Connection, name: str, arguments: Row) -> Any:
        """See Queues."""
        work = self._working_on(connection)
        return ANSWERS[name](work, *arguments)

    def _working_on(self, connection: Connection) -> Work:
        raw = connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        self._work.use(raw)
        if not self._is_known:
            self._learn()
        return self._work

    def _learn(self) -> None:
        work = self._work
        work.results = []
        work.take_events()
        work.load()
        self._served = {}
        for name in work.queues:
            for (consumer,) in work.fetch(SERVED, name):
                self._served.setdefault(consumer, set()).add(name)
        self._is_known = True

    # -- who may hold what ------------------------------------------------------------------------

    def _put(self, work: Work, rows: list[Row]) -> None:
        putting.put(work, rows)
        for row in rows:
            if row[TOKEN] is not None:
                self._served.setdefault(row[CONSUMER], set()).add(row[QUEUE])

    def _lease(self, work: Work, rows: list[Row]) -> None:
        for row in rows:
            self._served.setdefault(row[2], set()).add(row[1])
            leasing.lease(work, row)

    def _leave(self, work: Work, rows: list[Row]) -> None:
        for (consumer,) in rows:
            settling.leave(work, consumer, self._served.pop(consumer, set()))


def _set_clock(work: Work, rows: list[Row]) -> None:
    work.now = rows[-1][0]
