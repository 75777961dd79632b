"""What the store asks of the queues of its database.

The rule they keep: every operation runs in the caller's transaction, and nothing that one row says
may spoil the others: what makes no sense is answered, not raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from broker.storage.database import Operations, Row

# (call, value): what an operation answers. Call 0 is nobody's: its value is (queue, what, count)
# and tells what has happened by itself, `what` being one of EVENTS.
Result: TypeAlias = tuple[int, Any]
Count: TypeAlias = tuple[str, int, int]  # queue, messages, bytes

# Messages that have gone without being acknowledged, by the reason; `dead` are in the dead letters.
EVENTS = ("dropped", "expired", "replaced", "duplicate", "lost", "dead")

OK, GONE, LOST, DEAD, UNKNOWN, IN_USE = "ok", "gone", "lost", "dead", "unknown", "in use"

# The operations, in their order within a batch.
OPERATIONS = (
    "queue_clock",
    "queue_define",
    "queue_content",
    "queue_put",
    "queue_ack",
    "queue_fail",
    "queue_renew",
    "queue_leave",
    "queue_admin",
    "queue_lease",
)
QUESTIONS = ("queue_stats", "queue_peek")

# Places in a row of `queue_put`.
NUMBER, QUEUE, RANK, KEY, DELAY, TTL, DEDUP_ID, TOPIC = range(8)
PAYLOAD, PROPERTIES, FIRST, PUBLISHER, SIZE, CONTENT, TOKEN, CONSUMER, LEASE = range(8, 17)


class Queues(Protocol):
    """The queues of one database. Every method but `begin` and `committed` works on the connection
    that it is given, within the caller's transaction.
    """

    def open(self, connection: Connection, definitions: list[Row]) -> dict[str, Any]:
        """At the start, and after every salvage: define the queues of the configuration (name,
        policy JSON, bindings JSON) and return `queues` and `queued_next` for `opened`.
        """

    def begin(self, operations: Operations | None = None) -> None:
        """A batch begins, with these operations, as far as is known. If the last one was not
        `committed`, it has not happened.
        """

    def apply(self, connection: Connection, name: str, rows: list[Row]) -> list[Result]:
        """One operation, with at least one row; what it answers."""

    def finish(self, connection: Connection) -> tuple[list[Result], list[Count]]:
        """The batch's last step: write what is left to write; what has happened by itself, and the
        counts of every queue that the batch has touched.
        """

    def committed(self) -> None:
        """The batch has been committed."""

    def answer(self, connection: Connection, name: str, arguments: Row) -> Any:
        """One of QUESTIONS."""
