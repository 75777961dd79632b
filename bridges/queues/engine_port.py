"""What the doors ask of the running broker, as they see it: `engine.queues`.

All of it is called on the loop's thread. An `answer` is called exactly once, at once or later;
receipts are pairs of a message's number and its lease's token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from broker.engine.queue_doors import QueueDoors
    from broker.queues.delivery import Delivery
    from broker.queues.entry import Entry
    from broker.queues.policy import QueuePolicy

Receipt = tuple[int, int]


class EngineQueues(Protocol):
    """The queues of a broker in this process."""

    @property
    def names(self) -> Collection[str]:
        """Every queue there is."""
        ...

    def policy_of(self, name: str) -> QueuePolicy | None:
        """How a queue behaves; None: there is no such queue."""
        ...

    def consumers(self, name: str) -> int:
        """How many are subscribed to the queue by MQTT or watch it."""
        ...

    def watch(self, queue: str, wake: Callable[[], None]) -> Callable[[], None]:
        """`wake` is called whenever something may have become ready; returns what ends that."""
        ...

    def lease(
        self,
        queue: str,
        consumer: str,
        most: int,
        seconds: float | None,
        answer: Callable[[str, list[Delivery], float | None], None],
    ) -> None:
        """Answers "ok" or "unknown", what was leased, and when to ask again by itself."""
        ...

    def ack(self, receipts: list[Receipt], answer: Callable[[list[str]], None]) -> None:
        """The messages are done; answers when that is committed."""
        ...

    def fail(
        self,
        receipts: list[Receipt],
        kind: str,
        delay: float | None,
        reason: str,
        answer: Callable[[list[str]], None],
    ) -> None:
        """`kind`: "nack", "dead" or "return"."""
        ...

    def renew(
        self, receipts: list[Receipt], seconds: float, answer: Callable[[list[str]], None]
    ) -> None:
        """The leases end `seconds` from now."""
        ...

    def leave(self, consumer: str) -> None:
        """All leases of the consumer go back."""
        ...

    def put(
        self,
        entry: Entry,
        topic: str,
        payload: bytes,
        properties: bytes,
        publisher: str,
        answer: Callable[[str, int | None], None],
    ) -> None:
        """Answers "ok" and the number where it is known, or "unknown", "full", "draining",
        "unavailable".
        """
        ...

    def admin(
        self, verb: str, queue: str, arguments: tuple[Any, ...], answer: Callable[[Any], None]
    ) -> None:
        """pause, resume, drain, delete(number), unbind(filter); and a slice at a time purge(place),
        drop(place) and redrive(numbers, to, payload, place), see slices.py. Answers None when
        nobody knows what came of it.
        """
        ...

    def stats(self, name: str | None, answer: Callable[[list[dict[str, Any]]], None]) -> None:
        """Of one queue, or all."""
        ...

    def peek(
        self, queue: str, after: int, most: int, answer: Callable[[list[Delivery]], None]
    ) -> None:
        """Look at messages by their numbers."""
        ...


if TYPE_CHECKING:

    def _as_doors_see_it(doors: QueueDoors) -> EngineQueues:
        """The type checker holds the engine to it."""
        return doors
