"""What doors to the queues ask of the broker: HTTP, and Python in this process. See
bridges/queues/engine_port.py for how they see it.

An answer comes when what it says is committed; receipts prove leases, as pairs of a message's
number and its lease's token.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from broker.engine.queueing import IN_USE, LOST_PAUSE, MOST_LEASED_BYTES, UNKNOWN
from broker.packets.publication import Publication
from broker.queues.delivery import LEASED, READY, of_a_look
from broker.queues.policy import MODES_BY_VERB

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from broker.connection.ports import Traffic
    from broker.engine.journal import Journal
    from broker.engine.ports import Row
    from broker.engine.queue_batch import Answer
    from broker.engine.queueing import Queueing
    from broker.queues.delivery import Delivery
    from broker.queues.entry import Entry
    from broker.queues.policy import QueuePolicy
    from broker.queues.queue import Queue

Receipt: TypeAlias = "tuple[int, int]"
Outcomes: TypeAlias = "Callable[[list[str]], None]"

REMOVING = ("purge", "delete", "drop")
NOT_BOUND = "not bound"
# Answered with how many, and what to ask for the next slice with.
IN_SLICES = ("purge", "redrive", "drop")


class QueueDoors:
    """The verbs of all doors but MQTT's."""

    __slots__ = ("_configured", "_journal", "_level", "_queueing", "_traffic")

    def __init__(
        self,
        queueing: Queueing,
        journal: Journal,
        level: int,
        traffic: Traffic,
        configured: Collection[str] = (),
    ) -> None:
        self._queueing = queueing
        self._configured = configured  # queues that are in the settings
        self._journal = journal
        self._level = level  # what an answer promises
        self._traffic = traffic

    # -- which queues there are -------------------------------------------------------------------

    @property
    def names(self) -> Collection[str]:
        """Of all queues."""
        return self._queueing.names

    def policy_of(self, name: str) -> QueuePolicy | None:
        """How a queue behaves; None: there is no such queue."""
        queue = self._queueing.get(name)
        return None if queue is None else queue.policy

    def consumers(self, name: str) -> int:
        """How many take messages out of it, or wait for some."""
        queue = self._queueing.get(name)
        if queue is None:
            return 0
        members = set(queue.consumers.values()) - {queue.pool} | set(queue.pool.members.values())
        return len(members) + len(queue.watchers)

    def figures(self, name: str) -> Iterator[tuple[str, object]]:
        """What is known of a queue without asking the store; nothing of one that is not there."""
        queue = self._queueing.get(name)
        if queue is not None:
            yield "mode", queue.mode
            yield "messages", queue.messages
            yield "bytes", queue.size
            yield "consumers", self.consumers(name)

    # -- messages ---------------------------------------------------------------------------------

    def put(
        self,
        entry: Entry,
        topic: str,
        payload: bytes,
        properties: bytes,
        publisher: str,
        answer: Callable[[str, int | None], None],
    ) -> None:
        """Put a message into a queue; see Intake."""
        publication = Publication(topic, payload, 1, False, properties, None, publisher)
        self._queueing.intake.put(entry, publication, self._level, answer)

    def lease(
        self,
        name: str,
        consumer: str,
        most: int,
        seconds: float | None,
        answer: Callable[[str, list[Delivery], float | None], None],
    ) -> None:
        """Hand out messages once: "ok" or "unknown", the messages, and in how many seconds it is
        worth asking again by itself (None: never).
        """
        queueing = self._queueing
        queue = queueing.get(name)
        if queue is None:
            answer(UNKNOWN, [], None)
            return

        def leased(value: Any) -> None:
            if value is None:
                queueing.reclaim(queue, token, most)
            if value is None or value == UNKNOWN:
                answer("ok" if value is None else UNKNOWN, [], LOST_PAUSE)
                return
            rows, next_in, _ = value
            answer("ok", queueing.deliveries(queue.name, rows), next_in)

        queueing.give_up(queue, queue.pool.make_way())
        lasting = queue.policy.lease if seconds is None else seconds
        token = queueing.add_lease(queue, consumer, most, lasting, leased)
        queueing.hurry()

    def ack(self, receipts: list[Receipt], answer: Outcomes) -> None:
        """Messages are done: "ok", "gone" or "lost" for each."""
        self._settle("queue_ack", receipts, (), answer)

    def fail(
        self,
        receipts: list[Receipt],
        kind: str,
        delay: float | None,
        reason: str,
        answer: Outcomes,
    ) -> None:
        """Messages have failed ("nack"), are bad ("dead") or come back unworked ("return")."""
        self._settle("queue_fail", receipts, (kind, delay, reason), answer)

    def renew(self, receipts: list[Receipt], seconds: float, answer: Outcomes) -> None:
        """The leases end so many seconds from now."""
        self._settle("queue_renew", receipts, (seconds,), answer)

    def leave(self, consumer: str) -> None:
        """All leases of a consumer go back."""
        self._queueing.leave(consumer)

    def _settle(self, name: str, receipts: list[Receipt], more: Row, answer: Outcomes) -> None:
        if not receipts:
            answer([])
            return
        batch = self._queueing.batch
        results: list[str] = [""] * len(receipts)
        left = len(receipts)

        def settled(at: int, value: Any) -> None:
            nonlocal left
            # None: done or not, nobody knows
            results[at] = ("gone" if name == "queue_ack" else "lost") if value is None else value
            left -= 1
            if not left:
                answer(results)

        for at, receipt in enumerate(receipts):
            batch.rows[name].append((batch.call(partial(settled, at)), *receipt, *more))
        self._journal.promise(self._level)
        self._queueing.something_settled()

    # -- administration ---------------------------------------------------------------------------

    def admin(self, verb: str, name: str, arguments: Row, answer: Answer) -> None:
        """Purge, pause, redrive and the like; purge and redrive are done a slice at a time."""
        queue = self._queueing.get(name)
        if queue is None:
            answer(UNKNOWN)
            return
        if verb == "unbind":
            self._unbind(queue, arguments[0], answer)
            return
        if verb == "drop" and not self._begin_drop(queue):
            answer(IN_USE)
            return

        def done(value: Any) -> None:
            if value is not None and value not in (UNKNOWN, IN_USE):
                self._administrated(verb, queue, value)
            answer(value)

        queue.pool.is_paused = queue.pool.is_paused or verb == "pause"
        self._queueing.give_up(queue, queue.pool.flush())
        self._journal.promise(self._level)
        self._queueing.administer(verb, name, arguments, done)

    def _unbind(self, queue: Queue, topic_filter: str, answer: Answer) -> None:
        """It takes the messages of a filter no more that a client has bound it to."""
        if topic_filter not in queue.bindings:
            answer(NOT_BOUND)
            return
        self._queueing.unbind(queue, topic_filter)
        self._journal.await_commit(lambda: answer("ok"), self._level)

    def _begin_drop(self, queue: Queue) -> bool:
        """Nothing is to come in by what clients have bound; False: it must stay."""
        # another broker's settings may have it
        is_elsewhere = self._queueing.is_shared and queue.origin == "config"
        if queue.name in self._configured or is_elsewhere or self.consumers(queue.name):
            return False
        for each in list(queue.bindings):
            self._queueing.unbind(queue, each)
        return True

    def _administrated(self, verb: str, queue: Queue, value: Any) -> None:
        if verb in REMOVING:
            self._traffic.lose(f"queue_{verb}", value[0] if verb in IN_SLICES else value)
        if verb in MODES_BY_VERB:
            self._queueing.set_mode(queue, MODES_BY_VERB[verb])
        elif verb == "drop":
            if value[1] is None:
                self._queueing.forget(queue)
        else:  # what was moved may be in any queue now
            self._queueing.wake(list(self.names))

    # -- looking ----------------------------------------------------------------------------------

    def stats(self, name: str | None, answer: Callable[[list[dict[str, Any]]], None]) -> None:
        """What is in a queue, or in all; times as durations."""

        def told(value: list[dict[str, Any]]) -> None:
            for each in value:
                queue = self._queueing.get(each["name"])
                if queue is not None:
                    _correct(each, queue)
            answer(value)

        now = self._queueing.stored_now()
        self._journal.questions.queues("queue_stats", (name, now), told)

    def peek(
        self, name: str, after: int, most: int, answer: Callable[[list[Delivery]], None]
    ) -> None:
        """Messages by their numbers, without any effect."""

        def seen(rows: list[Row]) -> None:
            offset = self._queueing.offset()
            deliveries = [of_a_look(name, row, offset) for row in rows]
            queue = self._queueing.get(name)
            if queue is not None:
                _name_holders(queue, deliveries)
            answer(deliveries)

        now = self._queueing.stored_now()
        arguments = (name, after, most, MOST_LEASED_BYTES, now)
        self._journal.questions.queues("queue_peek", arguments, seen)

    def watch(self, name: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Have `wake` called whenever something may have become ready; returns how to end that."""
        queue = self._queueing.get(name)
        return _nothing if queue is None else queue.watch(wake)


def _nothing() -> None:
    """There is nothing to end."""


def _correct(stats: dict[str, Any], queue: Queue) -> None:
    """What waits in this broker's window is ready, whatever the store has been told."""
    stats["rates"] = queue.rates
    waiting = min(len(queue.pool.window), stats["leased"])
    stats["leased"] -= waiting
    stats["ready"] += waiting


def _name_holders(queue: Queue, deliveries: list[Delivery]) -> None:
    """To the store, all consumers here are one."""
    for each in deliveries:
        if each.state != LEASED or each.consumer != queue.pool.name:
            continue
        lease = queue.pool.leases.get(each.number)
        if lease is None:
            each.state, each.consumer, each.lease_until = READY, None, None
        else:
            each.consumer = lease.member.name
            each.lease_until = lease.delivery.lease_until
