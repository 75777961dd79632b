"""Queues on their way to the store and back: what is put, handed out, acknowledged, administrated.

The store decides; this gathers what it shall do into the journal's batches and gives its results to
whoever waits for them. So a message and the packet id that brought it are committed together, and a
lease and what it hands out come with one commit. The verbs are those of docs/internals.md.
"""

from __future__ import annotations

import json
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

from broker.engine.durability import Level
from broker.engine.queue_intake import Intake
from broker.packets.publication import Publication
from broker.queues.delivery import Delivery
from broker.queues.names import dead_letter_queue, takes_dead_letters
from broker.queues.policy import QueuePolicy
from broker.queues.pool import GRACE, Pool
from broker.queues.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from random import Random

    from broker.clock import Clock
    from broker.connection.ports import Traffic
    from broker.engine.bindings import Bindings
    from broker.engine.deadlines import Deadlines
    from broker.engine.journal import Journal
    from broker.engine.ports import Operations, Row
    from broker.queues.entry import Entry
    from broker.queues.queue import Consumer

Receipt: TypeAlias = "tuple[int, int]"  # number and token
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


class Queueing:
    """Owns the queues' side in the broker; the port of all doors."""

    __slots__ = (
        *("_broker_name", "_calls", "_clock", "_deadlines", "_handed", "_journal", "_level"),
        *("_next_call", "_next_token", "_queues", "_reap_at", "_rng", "_rows", "_touched"),
        *("_traffic", "armed_for", "bindings", "intake", "is_shared", "is_urgent", "max_queues"),
        "refusing",
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
        self.refusing: set[str] = set()  # queues where a new message needs a closer look
        self.intake = Intake(clock, journal, self, traffic)
        self.is_urgent = False  # the next batch shall not wait for anything else
        self.armed_for: int | None = None
        self._queues: dict[str, Queue] = {}
        # Messages that were handed over past the store, by number: a row of `queue_put`, the token.
        self._handed: dict[int, tuple[Row, int, Queue]] = {}
        self._rows: dict[str, list[Row]] = {name: [] for name in ORDER}
        self._touched: dict[Queue, None] = {}  # queues that this batch puts into or asks for
        self._calls: dict[int, Answer] = {}
        self._next_call = 1
        # of what is handed over past the store; only doors that show their tokens need ever new
        # chance for each
        self._next_token = rng.getrandbits(TOKEN_BITS) + 1
        self._level = max(Level.COMMIT, journal.highest)  # what an answer of a door promises
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
            for each in queue.bindings:
                self.bindings.bind(name, each)
        if self._queues:  # what the last broker's consumers had
            for kind in OUR_CONSUMERS:
                self._gather("queue_admin", (0, "disown", "", (self.consumer_name(kind, ""),)))
        self._reap_at = self._clock.now + REAP_PAUSE
        self._deadlines.arm(self)

    # -- which queues there are -------------------------------------------------------------------

    @property
    def names(self) -> Collection[str]:
        """Of all queues."""
        return self._queues.keys()

    def get(self, name: str) -> Queue | None:
        """A queue by its name."""
        return self._queues.get(name)

    def policy_of(self, name: str) -> QueuePolicy | None:
        """How a queue behaves; None: there is no such queue."""
        queue = self._queues.get(name)
        return None if queue is None else queue.policy

    def consumers(self, name: str) -> int:
        """How many take messages out of it, or wait for some."""
        queue = self._queues.get(name)
        if queue is None:
            return 0
        members = set(queue.consumers.values()) - {queue.pool} | set(queue.pool.members.values())
        return len(members) + len(queue.watchers)

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
        row = (name, queue.policy.to_json(), queue.origin, json.dumps(list(queue.bindings)))
        self._gather("queue_define", row)
        return queue

    def _add(self, name: str, policy: QueuePolicy, origin: str, bindings: Any) -> Queue:
        pool = Pool(self.consumer_name(MQTT, name), policy, self._clock, self.wall)
        pool.looks_ahead = not self.is_shared
        queue = self._queues[name] = Queue(name, policy, origin, pool, bindings)
        queue.on_due = self._on_due
        pool.on_expired = partial(self._on_expired, queue)
        pool.on_fault = self._deadlines.on_fault
        pool.on_stale = lambda delivery: self._give_up(queue, [delivery])
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
        self._rows["queue_put"].append(row)
        queue.count_in(size)
        queue.wake()
        self._touched[queue] = None
        if not self.is_urgent and queue.wants:
            self._hurry()

    def put(
        self,
        entry: Entry,
        topic: str,
        payload: bytes,
        properties: bytes,
        publisher: str,
        answer: Callable[[str, int | None], None],
    ) -> None:
        """For a door: see Intake."""
        publication = Publication(topic, payload, 1, False, properties, None, publisher)
        self.intake.put(entry, publication, self._level, answer)

    def note_refusal(self, queue: Queue) -> None:
        """How full the queue is, or its mode, has changed."""
        if queue.refuses:
            self.refusing.add(queue.name)
        elif self.refusing:
            self.refusing.discard(queue.name)

    def add_payload(self, payload: bytes, uses: int) -> int:
        """Keep a payload by itself, for so many messages; its number."""
        number = self.next_number()
        self._rows["queue_content"].append((number, payload, uses))
        return number

    def hand_over(self, queue: Queue, row: Row, size: int) -> bool:
        """Give a message to a consumer that waits for one, past the store; False: nobody does. If
        it is acknowledged before the next batch is made, it is never written.
        """
        pool = queue.pool
        if not pool.has_space:
            return False
        token = self._next_token
        self._next_token = token + 1
        self._handed[row[0]] = (row, token, queue)
        queue.count_in(size)
        self._touched[queue] = None
        pool.take([self._handed_delivery(row, token, pool.lease_seconds)])
        self._arm(pool)
        return True

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
        pool.retire(consumer)
        if not pool.members and queue.consumers.get(pool.name) is pool:
            self._give_up(queue, pool.flush())
            queue.part(pool)
            if queue.policy.order == "single_active" and not pool.asked and not pool.leases:
                self.leave(pool.name)  # or others wait until its time is over

    def part(self, queue: Queue, consumer: Consumer) -> None:
        """It gets no more; what it has goes back, but for leases without an end."""
        for delivery in queue.pool.part(consumer):
            self._give_back(delivery)
        self.retire(queue, consumer)
        queue.wake(inf)
        self.look(queue)

    def returned(self, queue: Queue, delivery: Delivery) -> None:
        """A consumer has a message and will not answer."""
        if delivery.lease_until is None or queue.pool.settle(delivery):
            self._give_back(delivery)
            queue.wake()
            self._touched[queue] = None

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
        self._rows["queue_put"].append((*row[:TOKEN], *leased))

    def _give_up(self, queue: Queue, deliveries: list[Delivery]) -> None:
        """Nobody has had them: it is as if they had never been asked for."""
        for delivery in deliveries:
            handed = self._handed.pop(delivery.number, None)
            if handed is not None:
                self._rows["queue_put"].append(handed[0])
            else:
                row = (0, delivery.number, delivery.token, "untouched", None, "")
                self._rows["queue_fail"].append(row)
        if deliveries:
            queue.wake(len(deliveries))
            self._touched[queue] = None
            self._hurry()

    def _on_expired(self, queue: Queue, delivery: Delivery) -> None:
        """A consumer has not answered in time: a failure."""
        self._fail(delivery, "nack", 0.0, LEASE_ENDED)
        queue.wake()
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
            self._hurry()

    def lease(
        self,
        name: str,
        consumer: str,
        most: int,
        seconds: float | None,
        answer: Callable[[str, list[Delivery], float | None], None],
    ) -> None:
        """Hand out messages once, to a consumer of a door."""
        queue = self._queues.get(name)
        if queue is None:
            answer(UNKNOWN, [], None)
            return

        def leased(value: Any) -> None:
            if value is None:
                self._reclaim(queue, token, most)
            if value is None or value == UNKNOWN:
                answer("ok" if value is None else UNKNOWN, [], LOST_PAUSE)
                return
            rows, next_in, _ = value
            answer("ok", self.deliveries(queue.name, rows), next_in)

        self._give_up(queue, queue.pool.make_way())
        lasting = queue.policy.lease if seconds is None else seconds
        token = self._rng.getrandbits(TOKEN_BITS) + 1
        self._add_lease(queue, consumer, most, lasting, token, leased)
        self._hurry()

    def _add_lease(
        self,
        queue: Queue,
        consumer: str,
        most: int,
        seconds: float | None,
        token: int,
        answer: Answer,
    ) -> None:
        call = self._call(answer)
        row = (call, queue.name, consumer, most, MOST_LEASED_BYTES, seconds, token)
        self._rows["queue_lease"].append(row)

    def _ask_for(self, queue: Queue) -> None:
        """A batch is being made: let its consumers ask for what they have room for."""
        for consumer, most in queue.asks():
            consumer.asked += most
            queue.hint -= most
            token = self._rng.getrandbits(TOKEN_BITS) + 1
            answer = partial(self._on_leased, queue, consumer, most, queue.woken, token)
            self._add_lease(queue, consumer.name, most, consumer.lease_seconds, token, answer)

    def _on_leased(
        self, queue: Queue, consumer: Consumer, most: int, woken: float, token: int, value: Any
    ) -> None:
        consumer.asked -= most
        if value is None:
            self._reclaim(queue, token, most)
        if value is None or value == UNKNOWN:
            self._look_again(queue, LOST_PAUSE)
            return
        rows, next_in, _ = value
        if len(rows) < most:
            queue.none_left(woken)
        if next_in is not None:
            self._look_again(queue, next_in)
        if not rows:
            return
        deliveries = self.deliveries(queue.name, rows)
        if queue.consumers.get(consumer.name) is consumer:
            consumer.take(deliveries)
            self._arm(queue.pool)
        else:  # it has left meanwhile
            self._give_up(queue, deliveries)
        self.look(queue)

    def _reclaim(self, queue: Queue, token: int, most: int) -> None:
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
        offset = self._offset()
        return [_delivery(queue, row, offset) for row in rows]

    def _offset(self) -> float:
        """From the store's clock to that on the wall, which a shared store's clock is on itself."""
        return 0.0 if self.is_shared else self.wall() - self._stored_now()

    # -- settling ---------------------------------------------------------------------------------

    def acknowledged(self, queue: Queue, deliveries: list[Delivery]) -> None:
        """Consumers are done with messages; nobody waits to hear of it."""
        pool = queue.pool
        for delivery in deliveries:
            if delivery.lease_until is not None and not pool.settle(delivery):
                continue  # too late: another may have it
            handed = self._handed.pop(delivery.number, None)
            if handed is None:
                self._rows["queue_ack"].append((0, delivery.number, delivery.token))
            else:
                queue.count_out(handed[0][SIZE])
        self._touched[queue] = None
        pool.serve()
        self._arm(pool)
        if queue.policy.order != "fifo":  # or nothing becomes ready by it
            queue.wake()
        self._hurry()

    def failed(
        self, queue: Queue, delivery: Delivery, kind: str, delay: float | None, reason: str
    ) -> bool:
        """A consumer gives a message back, "nack" or "dead"; False: too late, it is another's."""
        if delivery.lease_until is not None and not queue.pool.settle(delivery):
            return False
        self._fail(delivery, kind, delay, reason)
        queue.wake()
        self._touched[queue] = None
        return True

    def renewed(self, queue: Queue, delivery: Delivery, seconds: float) -> bool:
        """A consumer needs longer; False: too late."""
        if delivery.lease_until is None:
            return True
        if not queue.pool.renew(delivery, seconds):
            return False
        self._gather("queue_renew", (0, delivery.number, delivery.token, seconds + GRACE))
        return True

    def ack(self, receipts: list[Receipt], answer: Callable[[list[str]], None]) -> None:
        """For a door: the outcome of each comes when it is committed."""
        self._settle("queue_ack", [each for each in receipts], (), answer)  # noqa: C416

    def fail(
        self,
        receipts: list[Receipt],
        kind: str,
        delay: float | None,
        reason: str,
        answer: Callable[[list[str]], None],
    ) -> None:
        """For a door: see `failed`."""
        self._settle("queue_fail", receipts, (kind, delay, reason), answer)

    def renew(
        self, receipts: list[Receipt], seconds: float, answer: Callable[[list[str]], None]
    ) -> None:
        """For a door: the leases end so many seconds from now."""
        self._settle("queue_renew", receipts, (seconds,), answer)

    def _settle(
        self, name: str, receipts: list[Receipt], more: Row, answer: Callable[[list[str]], None]
    ) -> None:
        if not receipts:
            answer([])
            return
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
            self._rows[name].append((self._call(partial(settled, at)), *receipt, *more))
        for queue in self._queues.values():  # whose the messages are, only the store knows
            if queue.consumers or queue.watchers:
                queue.wake()
                self._touched[queue] = None
        self._journal.promise(self._level)
        self._hurry()

    # -- administration ---------------------------------------------------------------------------

    def admin(self, verb: str, name: str, arguments: Row, answer: Answer) -> None:
        """Purge, pause, redrive and the like; the answer comes when it is committed."""
        queue = self._queues.get(name)
        if queue is None and name:
            answer(UNKNOWN)
            return
        if queue is not None and verb == "drop" and (queue.consumers or queue.origin == "config"):
            answer(IN_USE)
            return

        def done(value: Any) -> None:
            self._administrated(verb, queue, value)
            answer(value)

        if queue is not None:
            queue.pool.is_paused = queue.pool.is_paused or verb == "pause"
            self._give_up(queue, queue.pool.flush())
        self._journal.promise(self._level)
        self._gather("queue_admin", (self._call(done), verb, name, arguments))

    def _administrated(self, verb: str, queue: Queue | None, value: Any) -> None:
        if queue is None or value is None or value == UNKNOWN:
            return
        if verb in REMOVING and value != IN_USE:
            self._traffic.lose(f"queue_{verb}", value)
        if verb in MODES_BY_VERB:
            queue.mode = MODES_BY_VERB[verb]
            queue.pool.is_paused = queue.mode == "paused"
            self.note_refusal(queue)
        elif verb == "drop" and value != IN_USE:
            self._queues.pop(queue.name, None)
            self.refusing.discard(queue.name)
            for each in queue.bindings:
                self.bindings.unbind(queue.name, each)
            return
        self.wake([queue.name] if verb in MODES_BY_VERB else list(self._queues))

    def stats(self, name: str | None, answer: Callable[[list[dict[str, Any]]], None]) -> None:
        """What is in a queue, or in all; times as durations."""
        now = self._stored_now()

        def told(value: list[dict[str, Any]]) -> None:
            for each in value:
                queue = self._queues.get(each["name"])
                if queue is not None:
                    _correct(each, queue)
            answer(value)

        self._journal.questions.queues("queue_stats", (name, now), told)

    def peek(
        self, name: str, after: int, most: int, answer: Callable[[list[Delivery]], None]
    ) -> None:
        """Messages by their numbers, without any effect."""
        now = self._stored_now()

        def seen(rows: list[Row]) -> None:
            offset = self._offset()
            deliveries = [_seen(name, row, offset) for row in rows]
            self._name_holders(name, deliveries)
            answer(deliveries)

        arguments = (name, after, most, MOST_LEASED_BYTES, now)
        self._journal.questions.queues("queue_peek", arguments, seen)

    def _name_holders(self, name: str, deliveries: list[Delivery]) -> None:
        """To the store, all consumers here are one."""
        queue = self._queues.get(name)
        if queue is None:
            return
        for each in deliveries:
            if each.consumer == queue.pool.name:
                lease = queue.pool.leases.get(each.number)
                if lease is None:
                    each.state, each.consumer, each.lease_until = READY, None, None
                else:
                    each.consumer = lease.member.name
                    each.lease_until = lease.delivery.lease_until

    def watch(self, name: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Have `wake` called whenever something may have become ready; returns how to end that."""
        queue = self._queues.get(name)
        if queue is None:
            return lambda: None
        token = object()
        watchers = queue.watchers
        watchers[token] = wake
        return lambda: (watchers.pop(token, None), None)[1]

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
        return bool(self._touched or self._handed) or any(self._rows.values())

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
        if not any(self._rows.values()):
            return []
        self._touched = {}
        rows, self._rows = self._rows, {name: [] for name in ORDER}
        rows["queue_clock"] = [(self._stored_now(),)]
        return [(name, rows[name]) for name in ORDER if rows[name]]

    def _write_handed(self) -> None:
        """What was handed over and is not acknowledged yet is stored as leased."""
        handed, self._handed = self._handed, {}
        for each in handed.values():
            self._write_down(each)

    @property
    def next_call(self) -> int:
        """The first call that no batch has yet."""
        return self._next_call

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
            queue.counted(messages, size, position)
            self.note_refusal(queue)
            self.look(queue)
        for call, value in results:
            if not call:
                self._note_event(*value)
                continue
            self._tell(call, value)

    def _tell(self, call: int, value: Any) -> None:
        """A fault in what one call sets off must not cost the others their results."""
        answer = self._calls.pop(call, None)
        if answer is None:
            return
        try:
            answer(value)
        except Exception as fault:
            if self._deadlines.on_fault is None:
                raise
            self._deadlines.on_fault(fault)

    def _note_event(self, _queue: str, what: str, count: int) -> None:
        """Messages have gone by themselves: too old, too many, replaced."""
        if what not in KEPT:
            self._traffic.lose(f"queue_{what}", count)

    def on_lost(self, first: int, end: int) -> None:
        """What came of these calls nobody knows: the store has died with the results."""
        for call in range(first, end):
            self._tell(call, None)

    def count_anew(self) -> None:
        """The store has died with its figures: ask for them."""
        position = self._journal.position  # of the batch that goes before the question

        def told(stats: list[dict[str, Any]]) -> None:
            for each in stats:
                queue = self._queues.get(each["name"])
                if queue is not None:
                    queue.counted(each["messages"], each["bytes"], position)
                    self.note_refusal(queue)

        if self._queues:
            self._journal.questions.queues("queue_stats", (None, self._stored_now()), told)

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
            self._give_up(queue, queue.pool.expired())
            for each in queue.pool.ageing():
                if each.number not in self._handed:
                    row = (0, each.number, each.token, queue.pool.lease_seconds)
                    self._gather("queue_renew", row)
        self._reap_at = now + REAP_PAUSE
        if any(queue.messages for queue in self._queues.values()) and not self._journal.refuses:
            self._gather("queue_admin", (self._call(self._reaped), "reap", "", ()))

    def _reaped(self, value: Any) -> None:
        if value:
            self.wake(list(self._queues))
        if value is not None and value >= REAPED_AT_ONCE:  # there may be more
            self._gather("queue_admin", (self._call(self._reaped), "reap", "", ()))

    # -- helpers ----------------------------------------------------------------------------------

    def _stored_now(self) -> float:
        return self._journal.timeline.stored(self._clock.now)

    def _call(self, answer: Answer) -> int:
        call = self._next_call
        self._next_call += 1
        self._calls[call] = answer
        return call

    def _gather(self, name: str, row: Row) -> None:
        self._rows[name].append(row)
        self._hurry()

    def _hurry(self) -> None:
        self.is_urgent = True
        self._journal.schedule()


REMOVING = ("purge", "delete", "drop")
MODES_BY_VERB = {"pause": "paused", "resume": "running", "drain": "draining"}


def _delivery(queue: str, row: Row, offset: float) -> Delivery:
    number, token, key, rank, topic, payload, properties, first, publisher, *times = row
    enqueued_at, lease_until, acquisitions, failures, expires_at, *dead = times
    return Delivery(
        number,
        token,
        queue,
        key,
        rank,
        topic,
        payload,
        properties,
        first,
        publisher,
        enqueued_at + offset,
        None if lease_until is None else lease_until + offset,
        acquisitions,
        failures,
        None if expires_at is None else expires_at + offset,
        dead[0],
        dead[1],
        None if dead[2] is None else dead[2] + offset,
    )


def _correct(stats: dict[str, Any], queue: Queue) -> None:
    """What waits in this broker's window is ready, whatever the store has been told."""
    stats["rates"] = queue.rates
    waiting = min(len(queue.pool.window), stats["leased"])
    stats["leased"] -= waiting
    stats["ready"] += waiting


def _seen(queue: str, row: Row, offset: float) -> Delivery:
    """A row of a look: as that of a lease, then state, instant when it is due, consumer."""
    *leased, state, due, consumer = row
    delivery = _delivery(queue, tuple(leased), offset)
    delivery.token = 0
    delivery.state = state
    delivery.consumer = consumer
    delivery.lease_until = None if due is None or state != LEASED else due + offset
    return delivery


READY, LEASED = 0, 1
