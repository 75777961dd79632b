"""The way into queues: which take a message, whether they have room, and how it stands there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.engine.durability import Level
from broker.packets.codes import ReasonCode
from broker.packets.publication import QOS_BITS
from broker.queues.entry import bounded
from broker.queues.policy import HIGHEST_PRIORITY, QueuePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.clock import Clock
    from broker.connection.ports import Traffic
    from broker.engine.journal import Journal
    from broker.engine.ports import Row, TopicRules
    from broker.engine.queueing import Queueing
    from broker.packets.publication import Publication
    from broker.queues.entry import Entry
    from broker.queues.queue import Queue

LARGE = 4096  # bytes of a payload that is kept beside its message, which changes with every lease
OVERHEAD = 100  # bytes that a message counts beside topic, payload and properties
QOS_2 = 0x04  # in a PUBLISH packet's first byte


class Intake:
    """Puts messages into queues, those of topics by rules and those that name a queue."""

    __slots__ = ("_clock", "_journal", "_queueing", "_traffic")

    def __init__(
        self, clock: Clock, journal: Journal, queueing: Queueing, traffic: Traffic
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._queueing = queueing
        self._traffic = traffic

    # -- by rules ---------------------------------------------------------------------------------

    def take_in(self, messages: list[Publication], rules: TopicRules, level: int) -> int:
        """Put messages of one topic into the queues that its rules name, before any is handed out;
        how many take the last one.
        """
        count = 0
        for message in messages:
            count = self._take_in(message, rules, level)
        self._queueing.serve_offered()
        return count

    def _take_in(self, publication: Publication, rules: TopicRules, level: int) -> int:
        size = publication.size + OVERHEAD
        if self._journal.is_behind and not publication.first & QOS_BITS:
            self._traffic.lose("queue_behind")  # nobody waits for an answer, so nobody is slowed
            return 0
        takers = []
        for entry in rules.entries(publication):
            queue = self._queueing.get(entry.queue)
            if queue is None:
                queue = self._queueing.define(entry.queue, QueuePolicy())
            if self._queueing.refusing and refusal(queue, size) is not None:
                self._traffic.lose("queue_full")
            else:
                takers.append((queue, entry))
        if takers:
            self._put_all(takers, publication, size)
            self._journal.gather(publication.size, max(level, Level.RELAXED))
        return len(takers)

    def refusal(self, publication: Publication, rules: TopicRules) -> ReasonCode | None:
        """Why a message cannot be taken in by all queues that it is for."""
        if not self._queueing.refusing:
            return None
        for entry in rules.entries(publication):
            if not self.has_room(entry.queue, publication.size):
                return ReasonCode.QUOTA_EXCEEDED
        return None

    # -- by name ----------------------------------------------------------------------------------

    def enqueue(self, entry: Entry, publication: Publication) -> str:
        """Put a message into one queue: "ok", "unknown", "full" or "draining"."""
        queue = self._queueing.get(entry.queue)
        if queue is None:
            return "unknown"
        size = publication.size + OVERHEAD
        reason = refusal(queue, size)
        if reason is not None:
            return reason
        self._put_all([(queue, entry)], publication, size)
        self._queueing.serve_offered()
        level = max(self._journal.levels.of(publication.topic), Level.RELAXED)
        self._journal.gather(publication.size, level)
        return "ok"

    def put(
        self,
        entry: Entry,
        publication: Publication,
        level: int,
        answer: Callable[[str, int | None], None],
    ) -> None:
        """For a door: as `enqueue`; "ok" (with the number, where it is known) comes when it is
        committed. "unavailable": the store takes nothing.
        """
        if self._journal.refuses:
            answer("unavailable", None)
            return
        result = self.enqueue(entry, publication)
        if result != "ok":
            answer(result, None)
            return
        number = None if self._queueing.is_shared else self._journal.next_number - 1
        self._journal.await_commit(lambda: answer("ok", number), level)

    def has_room(self, name: str, size: int) -> bool:
        """Whether a queue takes one more message of so many bytes, and the store takes any."""
        queue = self._queueing.get(name)
        is_taken = queue is None or refusal(queue, size + OVERHEAD) is None
        return is_taken and not self._journal.refuses

    # -- helpers ----------------------------------------------------------------------------------

    def _put_all(
        self, takers: list[tuple[Queue, Entry]], publication: Publication, size: int
    ) -> None:
        payload: bytes | None = publication.payload
        content = None
        if payload is not None and (len(takers) > 1 or len(payload) > LARGE):
            content, payload = self._queueing.add_payload(payload, len(takers)), None
        expires_at = publication.expires_at
        left = None if expires_at is None else expires_at - self._clock.now
        for queue, entry in takers:
            row = self._row(queue, entry, publication, payload, content, left, size)
            if not self._is_handed_over(queue, entry, row, size):
                self._queueing.add(queue, row, size)
            self._queueing.note_refusal(queue)

    def _is_handed_over(self, queue: Queue, entry: Entry, row: Row, size: int) -> bool:
        """Give it to a consumer at once, if nothing is before it and nothing is special about it.
        What was published with QoS 2 goes nowhere before its packet id is stored.
        """
        if queue.hint or not queue.is_plain or row[CONTENT] is not None:
            return False
        if entry.delay or entry.dedup_id is not None or row[FIRST] & QOS_2:
            return False
        return not self._queueing.is_shared and self._queueing.hand_over(queue, row, size)

    def _row(
        self,
        queue: Queue,
        entry: Entry,
        publication: Publication,
        payload: bytes | None,
        content: int | None,
        left: float | None,
        size: int,
    ) -> Row:
        """A row of `queue_put`."""
        ttl = entry.ttl
        if left is not None or queue.policy.ttl:
            limits = (left, ttl, queue.policy.ttl or None)
            ttl = min(each for each in limits if each is not None)
        return (
            None if self._queueing.is_shared else self._queueing.next_number(),
            queue.name,
            HIGHEST_PRIORITY - entry.priority,
            None if entry.key is None else bounded(entry.key),
            entry.delay,
            ttl,
            None if entry.dedup_id is None else bounded(entry.dedup_id),
            publication.topic,
            payload,
            publication.properties,
            publication.first,
            publication.publisher,
            size,
            content,
            None,
            None,
            None,
        )


FIRST, CONTENT = 10, 13  # places in it


def refusal(queue: Queue, size: int) -> str | None:
    """Why a queue takes no message of so many bytes."""
    if queue.mode == "draining":
        return "draining"
    if not queue.has_room(size):
        return "full"
    return None
