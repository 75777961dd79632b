"""Queues on their way to the store and back: what is put, handed out and answered.

The store decides; this gathers what it shall do into the journal's batches and gives its results to
whoever waits for them. So a message and the packet id that brought it are committed together, and a
lease and what it hands out come with one commit. The verbs are those of docs/internals.md.
"""

from __future__ import annotations

import json
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from broker.engine.queue_batch import Answer, QueueBatch
from broker.engine.queue_intake import Intake
from broker.queues.delivery import Delivery, of_a_lease
from broker.queues.names import dead_letter_queue, takes_dead_letters
from broker.queues.policy import QueuePolicy
from broker.queues.pool import GRACE, Pool
from broker.queues.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from random import Random

    from broker.clock import Clock
    from broker.connection.ports import Traffic
    from broker.engine.bindings import Bindings
    from broker.engine.deadlines import Deadlines
    from broker.engine.journal import Journal
    from broker.engine.ports import Operations, Row
    from broker.queues.queue import Consumer

MOST_LEASED_BYTES = 1_048_576  # in one answer of the store
TOKEN_BITS = 62
REAPED_AT_ONCE = 1000
REAP_PAUSE = 5.0  # seconds between two looks for what has expired
LOST_PAUSE = 0.5  # seconds until it is asked again after the store has died with an answer
UNKNOWN, IN_USE = "unknown", "in use"
LEASE_ENDED = "lease ended"
SIZE, TOKEN = 12, 14  # places in a row of `queue_put`
MQTT, RULES = OUR_CONSUMERS = ("mqtt", "rules")  # whose leases end with this process
KEPT = ("dead",)  # events by which no message is lost


class Ask:
    """What a consumer wants of the store, and what was known then."""

    __slots__ = ("consumer", "generation", "most", "queue", "token", "woken")

    def __init__(self, queue: Queue, consumer: Consumer, most: int, woken: float) -> None:
        self.queue = queue
        self.consumer = consumer
        self.most = most
        self.woken = woken  # the messages that had become ready until then
        self.generation = queue.pool.generation
        self.token = 0

    @property
    def is_stale(self) -> bool:
        """Whether what comes now must go back: whoever asked has left, or the one active consumer
        has, and what it had comes before.
        """
        queue = self.queue
        is_gone = queue.consumers.get(self.consumer.name) is not self.consumer
        has_changed = self.generation != queue.pool.generation
        return is_gone or (has_changed and queue.policy.order == "single_active")


class Queueing:
    """Owns the queues as this broker knows them, and what goes to the store for them."""

    __slots__ = (
        *("_broker_name", "_clock", "_deadlines", "_handed", "_journal", "_next_token"),
        *("_offered", "_queues", "_reap_at", "_rng", "_touched", "_traffic", "armed_for"),
        *("batch", "bindings", "intake", "is_shared", "is_urgent", "max_queues", "on_new"),
        *("cut", "refusing"),
    )

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        deadlines: Deadlines,
        rng: Random,
        traffic: Traffic,
        bindings: Bindings,
        max_queues: int = 1000,
        broker_name: str = "",
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._deadlines = deadlines
        self._rng = rng
        self._traffic = traffic
        self.bindings = bindings
        self.max_queues = max_queues
        self._broker_name = broker_name
        self.is_shared = False  # other brokers use the same queues: their numbers are the store's
        self.on_new: Callable[[Queue], None] | None = None  # told of each queue that comes
        # what was bound and is not restored: queue, filter, and the circle that it would close
        self.cut: list[tuple[str, str, Sequence[str]]] = []
        self.refusing: set[str] = set()  # queues where a new message needs a closer look
        self.intake = Intake(clock, journal, self, traffic)
        self.is_urgent = False  # the next batch shall not wait for anything else
        self.armed_for: int | None = None
        self._queues: dict[str, Queue] = {}
        # what was handed over past the store, by number: a row of `queue_put`, the token, the queue
        self._handed: dict[int, tuple[Row, int, Queue]] = {}
        self._offered: dict[Queue, None] = {}  # whose pools have new messages to hand out
        self.batch = QueueBatch()
        self._touched: dict[Queue, None] = {}  # queues that this batch puts into or asks for
        # of what is handed over past the store; only doors that show their tokens need ever new
        # chance for each
        self._next_token = rng.getrandbits(TOKEN_BITS) + 1
        self._reap_at = clock.now + REAP_PAUSE

    def restore(self, opened: Mapping[str, Any]) -> None:
        """Take over the queues that the store has."""
        self.is_shared = bool(opened.get("shared_queues", False))
        for name, policy, origin, bindings, mode, messages, size in opened.get("queues", ()):
            queue = self._add(name, QueuePolicy.from_json(policy), origin, json.loads(bindings))
            queue.mode = mode
            queue.pool.is_paused = mode == "paused"
            queue.counted(messages, size, 0)
            self.note_refusal(queue)
        for queue in self._queues.values():
            self._restore_bindings(queue)
        if self._queues:  # what the last broker's consumers had
            for kind in OUR_CONSUMERS:
                self._gather("queue_admin", (0, "disown", "", (self.consumer_name(kind, ""),)))
        self._reap_at = self._clock.now + REAP_PAUSE
        self._deadlines.arm(self)

    def _restore_bindings(self, queue: Queue) -> None:
        """What closes a circle with the rules of today is bound no more."""
        for each in list(queue.bindings):
            if circle := self.bindings.circle(queue.name, each):
                self.cut.append((queue.name, each, circle))
                self.unbind(queue, each)
            else:
                self.bindings.bind(queue.name, each)

    # -- which queues there are -------------------------------------------------------------------

    @property
    def names(self) -> Collection[str]:
        """Of all queues."""
        return self._queues.keys()

    def get(self, name: str) -> Queue | None:
        """A queue by its name."""
        return self._queues.get(name)

    @property
    def is_full(self) -> bool:
        """Whether no further queue may be made."""
        return len(self._queues) >= self.max_queues

    def define(self, name: str, policy: QueuePolicy, bindings: Collection[str] = ()) -> Queue:
        """Make a queue, or change one, for a client; its configuration's word stands."""
        queue = self._queues.get(name)
        if queue is None:
            queue = self._add(name, policy, "client", ())
        for each in bindings:
            if each not in queue.bindings:
                queue.bindings[each] = None
                self.bindings.bind(name, each)
        self._write_definition(queue)
        return queue

    def unbind(self, queue: Queue, topic_filter: str) -> None:
        """It takes the messages of a filter that it is bound to no more."""
        del queue.bindings[topic_filter]
        self.bindings.unbind(queue.name, topic_filter)
        self._write_definition(queue)

    def _write_definition(self, queue: Queue) -> None:
        name = queue.name
        row = (name, queue.policy.to_json(), queue.origin, json.dumps(list(queue.bindings)))
        self._gather("queue_define", row)

    def _add(self, name: str, policy: QueuePolicy, origin: str, bindings: Any) -> Queue:
        pool = Pool(self.consumer_name(MQTT, name), policy, self._clock, self.wall)
        pool.looks_ahead = not self.is_shared
        queue = self._queues[name] = Queue(name, policy, origin, pool, bindings)
        queue.on_due = self._on_due
        pool.on_expired = partial(self._on_expired, queue)
        pool.on_fault = self._deadlines.on_fault
        pool.on_stale = lambda delivery: self.give_up(queue, [delivery])
        if self.on_new is not None:
            self.on_new(queue)
        return queue

    def consumer_name(self, kind: str, name: str) -> str:
        """The name of a consumer, which no consumer of another broker on the same queues has."""
        return f"{kind}@{self._broker_name}:{name}" if self.is_shared else f"{kind}:{name}"

    def wall(self) -> float:
        """The clock on the wall, by which deliveries tell their instants."""
        return self._journal.timeline.wall()

    # -- putting ----------------------------------------------------------------------------------

    def add(self, queue: Queue, row: Row, size: int) -> None:
        """A message goes into a queue with the next batch: a row of `queue_put`."""
        self.batch.rows["queue_put"].append(row)
        queue.count_in(size)
        self._stir(queue)
        if not self.is_urgent and queue.wants:
            self.hurry()

    def note_refusal(self, queue: Queue) -> None:
        """How full the queue is, or its mode, has changed."""
        if queue.refuses:
            self.refusing.add(queue.name)
        elif self.refusing:
            self.refusing.discard(queue.name)

    def add_payload(self, payload: bytes, uses: int) -> int:
        """Keep a payload by itself, for so many messages; its number."""
        number = self.next_number()
        self.batch.rows["queue_content"].append((number, payload, uses))
        return number

    def hand_over(self, queue: Queue, row: Row, size: int) -> bool:
        """Take a message for a consumer that waits for one, past the store; False: nobody does.
        `serve_offered` hands it out; if it is acknowledged before the next batch is made, it is
        never written.
        """
        pool = queue.pool
        if not pool.has_space:
            return False
        token = self._next_token
        self._next_token = token + 1
        self._handed[row[0]] = (row, token, queue)
        queue.count_in(size)
        self._touched[queue] = None
        self._offered[queue] = None
        pool.offer(self._handed_delivery(row, token, pool.lease_seconds))
        return True

    def serve_offered(self) -> None:
        """Hand out what has been taken past the store."""
        while self._offered:
            queue, _ = self._offered.popitem()
            queue.pool.serve()
            self._arm(queue.pool)

    def _handed_delivery(self, row: Row, token: int, seconds: float) -> Delivery:
        number, name, rank, key, _, ttl, _, topic, payload, properties, first, publisher, *_ = row
        now = self.wall()
        expires_at = None if ttl is None else now + ttl
        until = now + seconds
        return Delivery(
            number,
            token,
            name,
            key,
            rank,
            topic,
            payload,
            properties,
            first,
            publisher,
            now,
            until,
            1,
            0,
            expires_at,
        )

    def next_number(self) -> int:
        """The number of a message that comes now."""
        number = self._journal.next_number
        self._journal.next_number = number + 1
        return number

    # -- handing out ------------------------------------------------------------------------------

    def join(self, queue: Queue, consumer: Consumer) -> None:
        """From now on the consumer gets messages."""
        if consumer.lease_seconds is None:
            self.retire(queue, consumer)
            queue.join(consumer)
            queue.pool.has_rivals = True
            self.give_up(queue, queue.pool.flush())
        else:
            if queue.consumers.get(consumer.name) is consumer:
                queue.part(consumer)
            queue.pool.join(consumer)
            queue.join(queue.pool)
            queue.pool.serve()
            self._arm(queue.pool)
        queue.wake(inf)
        self.look(queue)

    def retire(self, queue: Queue, consumer: Consumer) -> None:
        """It gets no more, and may still answer what it has."""
        if queue.consumers.get(consumer.name) is consumer:
            queue.part(consumer)
            self.leave(consumer.name)
        pool = queue.pool
        pool.has_rivals = any(each is not pool for each in queue.consumers.values())
        pool.retire(consumer)
        if not pool.members and queue.consumers.get(pool.name) is pool:
            self.give_up(queue, pool.flush())
            queue.part(pool)
            if queue.policy.order == "single_active" and not pool.asked and not pool.leases:
                self.leave(pool.name)  # or others wait until its time is over

    def part(self, queue: Queue, consumer: Consumer) -> None:
        """It gets no more; what it has goes back, but for leases without an end."""
        for delivery in queue.pool.part(consumer):
            self._give_back(delivery)
        if queue.policy.order == "single_active":
            self.give_up(queue, queue.pool.flush())
        self.retire(queue, consumer)
        queue.wake(inf)
        self.look(queue)

    def returned(self, queue: Queue, delivery: Delivery) -> None:
        """A consumer has a message and will not answer."""
        if delivery.lease_until is None or queue.pool.settle(delivery):
            self._give_back(delivery)
            self._stir(queue)

    def has_room_again(self, queue: Queue) -> None:
        """A consumer may have room that had none."""
        queue.pool.has_room_again()
        self._arm(queue.pool)
        self.look(queue)

    def _give_back(self, delivery: Delivery) -> None:
        self._fail(delivery, "return", None, "")

    def _fail(self, delivery: Delivery, kind: str, delay: float | None, reason: str) -> None:
        """What has not been written yet is, before it fails."""
        handed = self._handed.pop(delivery.number, None)
        if handed is not None:
            self._write_down(handed)
        row = (0, delivery.number, delivery.token, kind, delay, reason)
        self._gather("queue_fail", row)

    def _write_down(self, handed: tuple[Row, int, Queue]) -> None:
        row, token, queue = handed
        leased = (token, queue.pool.name, queue.pool.lease_seconds)
        self.batch.rows["queue_put"].append((*row[:TOKEN], *leased))

    def give_up(self, queue: Queue, deliveries: list[Delivery]) -> None:
        """Nobody has had them: it is as if they had never been asked for."""
        for delivery in deliveries:
            handed = self._handed.pop(delivery.number, None)
            if handed is not None:
                self.batch.rows["queue_put"].append(handed[0])
            else:
                row = (0, delivery.number, delivery.token, "untouched", None, "")
                self.batch.rows["queue_fail"].append(row)
        if deliveries:
            self._stir(queue, len(deliveries))
            self.hurry()

    def _on_expired(self, queue: Queue, delivery: Delivery) -> None:
        """A consumer has not answered in time: a failure."""
        self._fail(delivery, "nack", 0.0, LEASE_ENDED)
        self._stir(queue)

    def _stir(self, queue: Queue, messages: float = 1) -> None:
        """So many messages more may be ready: the next batch looks whether somebody wants them."""
        queue.wake(messages)
        self._touched[queue] = None

    def _arm(self, pool: Pool) -> None:
        if pool.armed_for is None:
            self._deadlines.arm(pool)

    def leave(self, consumer: str) -> None:
        """All leases of a consumer go back, but for those without an end."""
        self._gather("queue_leave", (consumer,))

    def look(self, queue: Queue) -> None:
        """Something about the queue or its consumers has changed: it may be worth asking."""
        if queue.wants:
            self._touched[queue] = None
            self.hurry()

    def add_lease(
        self, queue: Queue, consumer: str, most: int, seconds: float | None, answer: Answer
    ) -> int:
        """Ask for messages with the next batch; the token of the first, which those of the others
        follow.
        """
        token = self._rng.getrandbits(TOKEN_BITS) + 1
        call = self.batch.call(answer)
        row = (call, queue.name, consumer, most, MOST_LEASED_BYTES, seconds, token)
        self.batch.rows["queue_lease"].append(row)
        return token

    def _ask_for(self, queue: Queue) -> None:
        """A batch is being made: let its consumers ask for what they have room for."""
        for consumer, most in queue.asks():
            consumer.asked += most
            queue.hint -= most
            ask = Ask(queue, consumer, most, queue.woken)
            answer = partial(self._on_leased, ask)
            ask.token = self.add_lease(queue, consumer.name, most, consumer.lease_seconds, answer)

    def _on_leased(self, ask: Ask, value: Any) -> None:
        queue, consumer, most = ask.queue, ask.consumer, ask.most
        consumer.asked -= most
        if value is None:
            self.reclaim(queue, ask.token, most)
        if value is None or value == UNKNOWN:
            self.give_up(queue, queue.pool.answered(is_all=False))
            self._look_again(queue, LOST_PAUSE)
            return
        rows, next_in, _ = value
        if len(rows) < most:
            queue.none_left(ask.woken)
        if next_in is not None:
            self._look_again(queue, next_in)
        if consumer is queue.pool and not ask.is_stale:
            self._take_leased(queue, rows, next_in != 0)
            return
        if not rows:
            return
        deliveries = self.deliveries(queue.name, rows)
        if ask.is_stale:
            self.give_up(queue, deliveries)
        else:
            consumer.take(deliveries)
            self._arm(queue.pool)
        self.look(queue)

    def _take_leased(self, queue: Queue, rows: list[Row], is_all: bool) -> None:
        """For the pool: what the store has leased, then what has come since."""
        pool = queue.pool
        if rows:
            pool.take(self.deliveries(queue.name, rows))
        self.give_up(queue, pool.answered(is_all))
        self._arm(pool)
        self.look(queue)

    def reclaim(self, queue: Queue, token: int, most: int) -> None:
        """The store has died with the answer: nobody has what it may have leased."""
        self._gather("queue_admin", (0, "reclaim", queue.name, (token, most)))

    def _look_again(self, queue: Queue, seconds: float) -> None:
        """Something may become ready by itself in so many seconds."""
        if seconds <= 0:
            queue.hint = inf
            self.look(queue)
            return
        look_at = self._clock.now + seconds
        if queue.look_at is None or look_at < queue.look_at:
            queue.look_at = look_at
            self._deadlines.arm(queue)

    def _on_due(self, queue: Queue) -> None:
        self.look(queue)

    def deliveries(self, queue: str, rows: Iterable[Row]) -> list[Delivery]:
        """Rows of a lease, with instants as the clock on the wall has them."""
        offset = self.offset()
        return [of_a_lease(queue, row, offset) for row in rows]

    def offset(self) -> float:
        """From the store's clock to that on the wall, which a shared store's clock is on itself."""
        return 0.0 if self.is_shared else self.wall() - self.stored_now()

    # -- settling ---------------------------------------------------------------------------------

    def acknowledged(self, queue: Queue, deliveries: list[Delivery]) -> None:
        """Consumers are done with messages; nobody waits to hear of it."""
        pool = queue.pool
        for delivery in deliveries:
            if delivery.lease_until is not None and not pool.settle(delivery):
                continue  # too late: another may have it
            handed = self._handed.pop(delivery.number, None)
            if handed is None:
                self.batch.rows["queue_ack"].append((0, delivery.number, delivery.token))
            else:
                queue.count_out(handed[0][SIZE])
        self._touched[queue] = None
        pool.serve()
        self._arm(pool)
        if queue.policy.order != "fifo":  # or nothing becomes ready by it
            queue.wake()
        self.hurry()

    def failed(
        self, queue: Queue, delivery: Delivery, kind: str, delay: float | None, reason: str
    ) -> bool:
        """A consumer gives a message back, "nack" or "dead"; False: too late, it is another's."""
        if delivery.lease_until is not None and not queue.pool.settle(delivery):
            return False
        self._fail(delivery, kind, delay, reason)
        self._stir(queue)
        return True

    def renewed(self, queue: Queue, delivery: Delivery, seconds: float) -> bool:
        """A consumer needs longer; False: too late."""
        if delivery.lease_until is None:
            return True
        if not queue.pool.renew(delivery, seconds):
            return False
        self._deadlines.arm(queue.pool)  # it may end sooner
        self._gather("queue_renew", (0, delivery.number, delivery.token, seconds + GRACE))
        return True

    def something_settled(self) -> None:
        """By a door; of which queue it was, only the store knows."""
        for queue in self._queues.values():
            if queue.consumers or queue.watchers:
                self._stir(queue)
        self.hurry()

    def administer(self, verb: str, name: str, arguments: Row, answer: Answer) -> None:
        """One thing that a person does to a queue."""
        self._gather("queue_admin", (self.batch.call(answer), verb, name, arguments))

    def set_mode(self, queue: Queue, mode: str) -> None:
        """The queue runs, is paused, or takes nothing in."""
        queue.mode = mode
        queue.pool.is_paused = mode == "paused"
        self.note_refusal(queue)
        self.wake([queue.name])

    def forget(self, queue: Queue) -> None:
        """It is no more."""
        self._queues.pop(queue.name, None)
        self.refusing.discard(queue.name)
        for each in queue.bindings:
            self.bindings.unbind(queue.name, each)

    def wake(self, names: Iterable[str]) -> None:
        """Others have put something into these queues, or changed them."""
        for name in names:
            queue = self._queues.get(name)
            if queue is not None:
                queue.wake(inf)
                self.look(queue)

    # -- batches ----------------------------------------------------------------------------------

    @property
    def any(self) -> bool:
        """Whether there is something for the next batch."""
        return bool(self._touched or self._handed) or not self.batch.is_empty

    def take(self, position: int) -> Operations:
        """What the batch at this position shall do for queues."""
        touched, self._touched = self._touched, {}
        for queue in touched:
            if queue.wants:
                self._ask_for(queue)
            queue.begin_count(position)
        self.is_urgent = False
        if self._handed:
            self._write_handed()
        if self.batch.is_empty:
            return []
        self._touched = {}
        return self.batch.take(self.stored_now())

    def _write_handed(self) -> None:
        """What was handed over and is not acknowledged yet is stored as leased."""
        handed, self._handed = self._handed, {}
        for each in handed.values():
            self._write_down(each)

    def on_results(
        self,
        position: int,
        results: Iterable[tuple[int, Any]],
        counts: Iterable[tuple[str, int, int]],
    ) -> None:
        """A batch is committed: this is what came of it."""
        for name, messages, size in counts:
            queue = self._queues.get(name)
            if queue is None:
                queue = self._appeared(name)
            self._note_count(queue, messages, size, position)
        for call, value in results:
            if not call:
                self._note_event(*value)
                continue
            self.batch.tell(call, value, self._deadlines.on_fault)

    def _note_count(self, queue: Queue, messages: int, size: int, position: int) -> None:
        queue.counted(messages, size, position)
        self.note_refusal(queue)
        self.look(queue)

    def _note_event(self, _queue: str, what: str, count: int) -> None:
        """Messages have gone by themselves: too old, too many, replaced."""
        if what not in KEPT:
            self._traffic.lose(f"queue_{what}", count)

    def on_lost(self, first: int, end: int) -> None:
        """What came of these calls nobody knows: the store has died with the results."""
        for call in range(first, end):
            self.batch.tell(call, None, self._deadlines.on_fault)

    def count_anew(self) -> None:
        """The store has died with its figures: ask for them."""
        position = self._journal.position  # of the batch that goes before the question

        def told(stats: list[dict[str, Any]]) -> None:
            for each in stats:
                queue = self._queues.get(each["name"])
                if queue is not None:
                    self._note_count(queue, each["messages"], each["bytes"], position)

        if self._queues:
            self._journal.questions.queues("queue_stats", (None, self.stored_now()), told)

    def _appeared(self, name: str) -> Queue:
        """The store has made a queue by itself: for dead letters."""
        parent = self._queues.get(name.removesuffix(dead_letter_queue("")))
        if parent is None or not takes_dead_letters(name):
            return self._add(name, QueuePolicy(), "client", ())
        return self._add(name, QueuePolicy.for_dead_letters(parent.policy), "client", ())

    # -- for Deadlines ----------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When expired leases and messages are looked for."""
        return self._reap_at

    def tick(self, now: float) -> None:
        """Have the store look for what has expired, if there is anything that may."""
        if now < self._reap_at:
            return
        for queue in self._queues.values():
            queue.measure(now - self._reap_at + REAP_PAUSE)
            self.give_up(queue, queue.pool.expired())
            for each in queue.pool.ageing():
                if each.number not in self._handed:
                    row = (0, each.number, each.token, queue.pool.lease_seconds)
                    self._gather("queue_renew", row)
        self._reap_at = now + REAP_PAUSE
        if self._has_messages and not self._journal.refuses:
            self._gather("queue_admin", (self.batch.call(self._reaped), "reap", "", ()))

    @property
    def _has_messages(self) -> bool:
        """Whether anything may have expired: of what other brokers have leased nobody tells."""
        if self.is_shared:
            return bool(self._queues)
        return any(queue.messages for queue in self._queues.values())

    def _reaped(self, value: Any) -> None:
        if value:
            self.wake(list(self._queues))
        if value is not None and value >= REAPED_AT_ONCE:  # there may be more
            self._gather("queue_admin", (self.batch.call(self._reaped), "reap", "", ()))

    # -- helpers ----------------------------------------------------------------------------------

    def stored_now(self) -> float:
        """The time on the store's clock, as far as is known here."""
        return self._journal.timeline.stored(self._clock.now)

    def _gather(self, name: str, row: Row) -> None:
        self.batch.rows[name].append(row)
        self.hurry()

    def hurry(self) -> None:
        """The next batch shall not wait for anything else."""
        self.is_urgent = True
        self._journal.schedule()
