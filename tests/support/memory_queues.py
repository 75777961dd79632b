"""The queues of a store in memory: the real rules, on an SQLite database that is in no file."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from broker.storage.queues.sqlite import SQLiteQueues
from broker.storage.tables import inflight, queue_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker.engine.ports import Operations, Row

COLUMNS = (
    "q.queue, q.number, q.token, q.key, q.rank, q.topic, coalesce(q.payload, p.payload),"
    " q.properties, q.first, q.publisher, q.enqueued_at, q.due, q.acquisitions, q.failures,"
    " q.expires_at, q.dead_from, q.dead_reason, q.dead_at"
)
LENT = (
    f"SELECT {COLUMNS} FROM queued q LEFT JOIN queue_payload p ON p.id = q.content"
    " WHERE q.state = 1 AND q.number = ?"
)


class MemoryQueues:
    """What the store process does with the queues' operations and questions."""

    def __init__(self, definitions: Iterable[Row] = ()) -> None:
        self.definitions = list(definitions)
        engine = create_engine("sqlite://", poolclass=StaticPool)
        self.connection = engine.connect()
        queue_metadata.create_all(self.connection)
        inflight.create(self.connection)
        self._raw.commit()
        self.queues = SQLiteQueues(Random(1))

    def crash(self) -> MemoryQueues:
        """The queues as another process finds them."""
        found = MemoryQueues(self.definitions)
        self._raw.commit()
        self._raw.backup(found._raw)
        return found

    def opened(self) -> dict[str, Any]:
        """What `opened` says of them."""
        opened = self.queues.open(self.connection, self.definitions)
        self._raw.commit()
        return opened

    def apply(
        self, operations: Operations, in_flight: Iterable[Row] = ()
    ) -> tuple[list[Any], list[Any]]:
        """One batch's results and counts. `in_flight` are the sessions' messages."""
        results: list[Any] = []
        self._raw.execute("DELETE FROM inflight")
        self._raw.executemany("INSERT INTO inflight VALUES (?, ?, ?, ?, ?, ?)", in_flight)
        self.queues.begin(operations)
        for name, rows in operations:
            results += self.queues.apply(self.connection, name, rows)
        events, counts = self.queues.finish(self.connection)
        self._raw.commit()
        self.queues.committed()
        return results + events, counts

    def answer(self, name: str, arguments: Row) -> Any:
        """A question about queues."""
        answer = self.queues.answer(self.connection, name, arguments)
        self._raw.commit()
        return answer

    def lent(self, number: int) -> list[Row]:
        """A message that is leased, as `resume` tells it."""
        return self._fetch(LENT, (number,))

    def rows(self) -> list[Row]:
        """(number, queue, state, payload, token) of all messages, for tests to look at."""
        columns = "q.number, q.queue, q.state, coalesce(q.payload, p.payload), q.token"
        return self._fetch(
            f"SELECT {columns} FROM queued q LEFT JOIN queue_payload p ON p.id = q.content"
            " ORDER BY q.number"
        )

    def count(self, table: str) -> int:
        """How many rows a table has."""
        return int(self._fetch(f"SELECT count(*) FROM {table}")[0][0])

    def _fetch(self, statement: str, values: Row = ()) -> list[Row]:
        found = [tuple(row) for row in self.connection.exec_driver_sql(statement, values)]
        self._raw.commit()  # or a copy of the database waits for its end
        return found

    @property
    def _raw(self) -> Any:
        return self.connection.connection.driver_connection
