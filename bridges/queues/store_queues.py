"""The port that doors ask, over a store in this process: for a data folder without a broker.

Rule kept here: the same operations, in the same batches, as the running broker would send. What
gathers while one is being committed goes with the next.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from broker.clock import Clock
from broker.queues.delivery import of_a_lease, of_a_look
from broker.queues.names import DEAD_LETTERS
from broker.queues.policy import HIGHEST_PRIORITY, MODES_BY_VERB, QueuePolicy
from broker.queues.pool import Pool
from broker.queues.queue import Queue
from broker.storage.queues.ports import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from bridges.queues.engine_port import Receipt
    from broker.engine.timeline import Timeline
    from broker.queues.delivery import Delivery
    from broker.queues.entry import Entry

    Row = tuple[Any, ...]
    Answer = Callable[[Any], None]
    # (position, operations) -> results and counts; (question, arguments) -> its answer
    Submit = Callable[[int, list[tuple[str, list[Row]]]], Awaitable[tuple[Any, Any]]]
    Ask = Callable[[str, Row], Awaitable[Any]]

LARGE = 4096  # bytes of a payload that is kept beside its message
OVERHEAD = 100  # bytes that a message counts beside topic, payload and properties
MOST_BYTES = 1 << 20  # of messages in one answer
FIRST = 0x32  # the first byte of a PUBLISH with QoS 1
TOKEN_BITS = 61
# After these nothing is ready that was not before.
QUIET = {"queue_clock", "queue_lease", "queue_renew", "queue_ack"}


class StoreQueues:
    """See engine_port.EngineQueues. `opened` is what the store said; `now` the clock of
    `timeline`, which the store's instants are on.
    """

    __slots__ = (
        *("_answers", "_ask", "_meta", "_next_call", "_now", "_on_commit", "_queues"),
        *("_rows", "_submit", "_tasks", "_timeline", "_worker"),
    )

    def __init__(
        self,
        opened: Mapping[str, Any],
        submit: Submit,
        ask: Ask,
        timeline: Timeline,
        now: Callable[[], float],
    ) -> None:
        self._submit = submit
        self._ask = ask
        self._timeline = timeline
        self._now = now
        position, number, *others = opened["meta"][:4]
        self._meta = [position, max(number, opened["queued_next"]), *others]
        self._queues: dict[str, Queue] = {}
        for name, policy, origin, bindings, mode, messages, size in opened["queues"]:
            queue = self._add(name, QueuePolicy.from_json(policy), origin, json.loads(bindings))
            queue.mode = mode
            queue.counted(messages, size)
        self._rows: dict[str, list[Row]] = {}
        self._answers: dict[int, Answer] = {}
        self._on_commit: list[Callable[[], None]] = []
        self._next_call = 1
        self._worker: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self, seconds: float) -> None:
        """Finish what was asked for, if that takes no longer; else give it up."""
        tasks = [each for each in (self._worker, *self._tasks) if each and not each.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()

    # -- the port ---------------------------------------------------------------------------------

    @property
    def names(self) -> Collection[str]:
        return self._queues

    def policy_of(self, name: str) -> QueuePolicy | None:
        queue = self._queues.get(name)
        return None if queue is None else queue.policy

    def consumers(self, name: str) -> int:
        queue = self._queues.get(name)
        return 0 if queue is None else len(queue.watchers)

    def watch(self, queue: str, wake: Callable[[], None]) -> Callable[[], None]:
        found = self._queues.get(queue)
        if found is None:
            return lambda: None
        return found.watch(wake)

    def lease(
        self,
        queue: str,
        consumer: str,
        most: int,
        seconds: float | None,
        answer: Callable[[str, list[Delivery], float | None], None],
    ) -> None:
        policy = self.policy_of(queue)
        if policy is None:
            answer("unknown", [], None)
            return

        def leased(value: Any) -> None:
            rows, next_in, now = value
            offset = self._timeline.wall() - now
            answer("ok", [of_a_lease(queue, row, offset) for row in rows], next_in)

        lasting = policy.lease if seconds is None else seconds
        token = secrets.randbits(TOKEN_BITS) + 1
        self._call("queue_lease", leased, queue, consumer, most, MOST_BYTES, lasting, token)

    def ack(self, receipts: list[Receipt], answer: Callable[[list[str]], None]) -> None:
        self._settle("queue_ack", receipts, (), answer)

    def fail(
        self,
        receipts: list[Receipt],
        kind: str,
        delay: float | None,
        reason: str,
        answer: Callable[[list[str]], None],
    ) -> None:
        self._settle("queue_fail", receipts, (kind, delay, reason), answer)

    def renew(
        self, receipts: list[Receipt], seconds: float, answer: Callable[[list[str]], None]
    ) -> None:
        self._settle("queue_renew", receipts, (seconds,), answer)

    def leave(self, consumer: str) -> None:
        self._gather("queue_leave", (consumer,))

    def put(
        self,
        entry: Entry,
        topic: str,
        payload: bytes,
        properties: bytes,
        publisher: str,
        answer: Callable[[str, int | None], None],
    ) -> None:
        queue = self._queues.get(entry.queue)
        size = len(topic) + len(payload) + len(properties) + OVERHEAD
        refusal = "unknown" if queue is None else refused(queue, size)
        if queue is None or refusal:
            answer(refusal, None)
            return
        content = None
        if len(payload) > LARGE:
            content = self._number()
            self._gather("queue_content", (content, payload, 1))
        number = self._number()
        message = (topic, None if content else payload, properties, FIRST, publisher, size, content)
        self._gather("queue_put", (number, *place_of(entry, queue), *message, None, None, None))
        queue.count_in(size)
        self._on_commit.append(lambda: answer("ok", number))

    def admin(
        self, verb: str, queue: str, arguments: tuple[Any, ...], answer: Callable[[Any], None]
    ) -> None:
        found = self._queues.get(queue)
        if found is None:
            answer("unknown")
            return

        if verb == "unbind":
            self._unbind(found, arguments[0], answer)
            return

        if verb == "drop" and (found.origin == "config" or found.watchers):
            answer("in use")
            return

        def done(value: Any) -> None:
            if verb in MODES_BY_VERB:
                found.mode = MODES_BY_VERB[verb]
            elif verb == "drop" and value != "in use" and value[1] is None:
                self._queues.pop(queue, None)
            answer(value)

        self._call("queue_admin", done, verb, queue, arguments)

    def _unbind(self, queue: Queue, topic_filter: str, answer: Answer) -> None:
        if topic_filter not in queue.bindings:
            answer("not bound")
            return
        del queue.bindings[topic_filter]
        left = json.dumps(list(queue.bindings))
        self._gather("queue_define", (queue.name, queue.policy.to_json(), queue.origin, left))
        self._on_commit.append(lambda: answer("ok"))

    def stats(self, name: str | None, answer: Callable[[list[dict[str, Any]]], None]) -> None:
        self._question("queue_stats", (name, self._stored()), answer)

    def peek(
        self, queue: str, after: int, most: int, answer: Callable[[list[Delivery]], None]
    ) -> None:
        now = self._stored()

        def seen(rows: list[Row]) -> None:
            answer([of_a_look(queue, row, self._timeline.wall() - now) for row in rows])

        self._question("queue_peek", (queue, after, most, MOST_BYTES, now), seen)

    # -- batches ----------------------------------------------------------------------------------

    def _settle(
        self, name: str, receipts: list[Receipt], more: Row, answer: Callable[[list[str]], None]
    ) -> None:
        results: list[str] = []

        def settled(value: str) -> None:
            results.append(value)
            if len(results) == len(receipts):
                answer(results)

        for receipt in receipts:
            self._call(name, settled, *receipt, *more)

    def _call(self, name: str, answer: Answer, *row: Any) -> None:
        number, self._next_call = self._next_call, self._next_call + 1
        self._answers[number] = answer
        # a call is the first column of every operation that answers
        self._gather(name, (number, *row))

    def _gather(self, name: str, row: Row) -> None:
        self._rows.setdefault(name, []).append(row)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while self._rows:
            rows, self._rows = self._rows, {}
            answers, self._on_commit = self._on_commit, []
            for queue in self._queues.values():
                queue.begin_count()
            wakes = not QUIET.issuperset(rows) or any(
                queue.policy.is_keyed for queue in self._queues.values()
            )
            results, counts = await self._submit(*self._batch(rows))
            self._on_results(results, counts)
            for answer in answers:
                answer()
            if wakes:
                self._wake()

    def _batch(self, rows: dict[str, list[Row]]) -> tuple[int, list[tuple[str, list[Row]]]]:
        stored, wall = self._timeline.pair(self._now())
        rows["queue_clock"] = [(stored,)]
        self._meta[0] += 1
        operations = [(name, rows[name]) for name in OPERATIONS if name in rows]
        return self._meta[0], [*operations, ("meta", [(*self._meta, stored, wall)])]

    def _on_results(self, results: Any, counts: Any) -> None:
        for name, messages, size in counts:
            queue = self._queues.get(name) or self._appeared(name)
            queue.counted(messages, size)
        for call, value in results:
            if call:
                self._answers.pop(call)(value)

    def _wake(self) -> None:
        for queue in self._queues.values():
            queue.wake()

    def _question(self, name: str, arguments: Row, answer: Answer) -> None:
        async def ask() -> None:
            answer(await self._ask(name, arguments))

        task = asyncio.create_task(ask())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- helpers ----------------------------------------------------------------------------------

    def _add(self, name: str, policy: QueuePolicy, origin: str, bindings: list[str]) -> Queue:
        nobody = Pool(name, policy, Clock(), time.time)  # who consumes does so by this door
        queue = self._queues[name] = Queue(name, policy, origin, nobody, bindings)
        return queue

    def _appeared(self, name: str) -> Queue:
        """The store has made a queue by itself: for dead letters."""
        parent = self._queues.get(name.removesuffix(DEAD_LETTERS))
        policy = QueuePolicy() if parent is None else QueuePolicy.for_dead_letters(parent.policy)
        return self._add(name, policy, "client", [])

    def _number(self) -> int:
        number = int(self._meta[1])
        self._meta[1] = number + 1
        return number

    def _stored(self) -> float:
        return self._timeline.stored(self._now())


def refused(queue: Queue, size: int) -> str:
    """Why a queue does not take a message; empty: it does."""
    if queue.mode == "draining":
        return "draining"
    is_full = queue.policy.on_full == "reject" and not queue.has_room(size)
    return "full" if is_full else ""


def place_of(entry: Entry, queue: Queue) -> Row:
    """How a message stands in a queue: the columns from `queue` to `dedup_id`."""
    lives = [each for each in (entry.ttl, queue.policy.ttl) if each]
    rank = HIGHEST_PRIORITY - entry.priority
    ttl = min(lives, default=None)
    return queue.name, rank, entry.key, entry.delay, ttl, entry.dedup_id
