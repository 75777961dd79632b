"""What the next batch shall do for queues, and who waits to hear what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.engine.ports import Operations, Row

Answer: TypeAlias = "Callable[[Any], None]"

# The operations of a batch, in the order in which they are done.
ORDER = (
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


class QueueBatch:
    """Rows by operation. A *call* is the number by which the store answers one of them."""

    __slots__ = ("_calls", "next_call", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {name: [] for name in ORDER}
        self.next_call = 1  # that no row has yet
        self._calls: dict[int, Answer] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not any(self.rows.values())

    def call(self, answer: Answer) -> int:
        """A number for a row whose result is wanted. None as the result: it was lost."""
        call = self.next_call
        self.next_call += 1
        self._calls[call] = answer
        return call

    def take(self, now: float) -> Operations:
        """All of it, done at that instant of the store's clock; the next batch begins."""
        rows, self.rows = self.rows, {name: [] for name in ORDER}
        rows["queue_clock"] = [(now,)]
        return [(name, rows[name]) for name in ORDER if rows[name]]

    def tell(self, call: int, value: Any, on_fault: Callable[[Exception], None] | None) -> None:
        """A result has come. A fault in what it sets off must not cost the others theirs."""
        answer = self._calls.pop(call, None)
        if answer is None:
            return
        try:
            answer(value)
        except Exception as fault:
            if on_fault is None:
                raise
            on_fault(fault)
