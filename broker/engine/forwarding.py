"""Rules that move messages on: out of a queue into others, or to topics.

A message is taken out of one queue and put into the next in the same batch: after a crash it is in
one of them. One that no rule wants is a dead letter, where somebody can look at it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from broker.engine.queueing import RULES
from broker.packets.publication import Publication
from broker.queues.policy import QueuePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.clock import Clock
    from broker.engine.deadlines import Deadlines
    from broker.engine.ports import ForwardRules
    from broker.engine.queueing import Queueing
    from broker.queues.delivery import Delivery
    from broker.queues.entry import Forward
    from broker.queues.queue import Queue

AT_ONCE = 64  # messages
PAUSE = 1.0  # seconds until a queue that had no room is tried again
NO_RULE = "no rule"  # why it is a dead letter


class Forwarder:
    """The consumer of a queue that does what its rules say."""

    __slots__ = (
        *("_clock", "_deadlines", "_publish", "_queue", "_queueing", "_rules", "_waiting"),
        *("asked", "name"),
    )

    def __init__(
        self,
        queue: Queue,
        rules: ForwardRules,
        queueing: Queueing,
        publish: Callable[[Publication], object],
        clock: Clock,
        deadlines: Deadlines,
    ) -> None:
        self.name = queueing.consumer_name(RULES, queue.name)
        self.asked = 0
        self._queue = queue
        self._rules = rules
        self._queueing = queueing
        self._publish = publish
        self._clock = clock
        self._deadlines = deadlines
        self._waiting: deque[Delivery] = deque()  # there is no room for the first of them

    @property
    def room(self) -> int:
        """See Consumer."""
        return 0 if self._waiting else AT_ONCE - self.asked

    @property
    def lease_seconds(self) -> float | None:
        """See Consumer."""
        return self._queue.policy.lease

    def take(self, deliveries: list[Delivery]) -> None:
        """See Consumer."""
        has_waited = bool(self._waiting)
        self._waiting += deliveries
        if not has_waited:
            self._move_on()

    def _move_on(self) -> None:
        while self._waiting:
            delivery = self._waiting[0]
            forward = self._rules.forward(delivery)
            if not self._has_room(delivery, forward):
                self._deadlines.after(PAUSE, self._clock.now, self._try_again)
                return
            self._waiting.popleft()
            self._forward(delivery, forward)

    def _try_again(self) -> None:
        """To wait for room is no failure: the leases go on."""
        for delivery in self._waiting:
            self._queueing.renewed(self._queue, delivery, self._queue.policy.lease)
        self._move_on()
        self._queueing.look(self._queue)

    def _has_room(self, delivery: Delivery, forward: Forward) -> bool:
        size = len(delivery.payload) + len(delivery.topic) + len(delivery.properties)
        for entry in forward.entries:
            if self._queueing.get(entry.queue) is None:
                self._queueing.define(entry.queue, QueuePolicy())
        return all(self._queueing.intake.has_room(entry.queue, size) for entry in forward.entries)

    def _forward(self, delivery: Delivery, forward: Forward) -> None:
        if not forward.entries and not forward.topics:
            self._queueing.failed(self._queue, delivery, "dead", None, NO_RULE)
            return
        for entry in forward.entries:
            result = self._queueing.intake.enqueue(
                entry, self._publication(delivery, delivery.topic)
            )
            assert result == "ok", result
        for topic in forward.topics:
            self._publish(self._publication(delivery, topic))
        self._queueing.acknowledged(self._queue, [delivery])

    def _publication(self, delivery: Delivery, topic: str) -> Publication:
        expires_at = delivery.expires_at
        if expires_at is not None:
            expires_at += self._clock.now - self._queueing.wall()
        return Publication(
            topic, delivery.payload, 1, False, delivery.properties, expires_at, delivery.publisher
        )
