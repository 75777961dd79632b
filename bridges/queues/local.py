"""The door into the broker of this process: the engine's port as a Backend.

Callbacks become futures. Waiting is done by the engine's `watch` and by one timer, never by asking
again and again; of several who wait for one queue only the first in line asks. Rule kept here: what
was leased for somebody who is gone (cancelled, timed out) goes back at once.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from bridges.queues.backend import (
    LONGEST_WAIT,
    MOST_AT_ONCE,
    MOST_BYTES,
    Message,
    QueueError,
    QueueStats,
)
from bridges.queues.slices import all_slices
from broker.clock import Clock
from broker.packets.codes import PacketType
from broker.packets.errors import ProtocolViolation
from broker.packets.primitives import encode_varint
from broker.packets.properties import Properties, Property, decode_properties
from broker.packets.publication import travelling_properties
from broker.queues.delivery import STATES, Delivery
from broker.queues.entry import Entry
from broker.queues.names import PREFIX, takes_dead_letters
from broker.queues.policy import HIGHEST_PRIORITY, LOWEST_PRIORITY
from broker.topics.filters import check_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bridges.queues.engine_port import EngineQueues, Receipt

PATIENCE = 30.0  # seconds until an answer of the store is given up
SHORTEST_PAUSE = 0.005  # seconds between two leases that somebody asks for while waiting
LONGEST_TIME = 366 * 86_400.0  # seconds of a delay, a ttl or a lease
LONGEST_TEXT = 65_535  # bytes of an MQTT string
MOST_LEVELS = 65_535
MODE_VERBS = {"running": "resume", "paused": "pause", "draining": "drain"}

_RECEIPT = re.compile(r"([1-9][0-9]{0,18})-([1-9a-f][0-9a-f]{0,15})", re.ASCII)

REFUSALS = {  # of a publish: code -> what to do
    "full": "the queue {!r} is full: wait until consumers have made room, or raise its limits",
    "draining": "the queue {!r} is draining and takes nothing in: resume it",
    "unavailable": "the store cannot take anything for the queue {!r} now: try again later",
}


@dataclass(frozen=True, slots=True)
class Want:
    """One who wants messages."""

    queue: str
    consumer: str
    most: int
    lease: float | None


class LocalBackend:
    """`queues` is the engine's port, `loop` the one it lives on; `clock` is the engine's, which is
    set before each call.
    """

    def __init__(
        self,
        queues: EngineQueues,
        loop: asyncio.AbstractEventLoop,
        clock: Clock | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._queues = queues
        self._loop = loop
        self._clock = clock or Clock()
        self._patience = patience
        self._is_closed = False
        self._waiting: set[asyncio.Event] = set()
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # -- consumers ---------------------------------------------------------------------------

    async def receive(
        self,
        queue: str,
        consumer: str,
        *,
        most: int = 1,
        wait: float = 0.0,
        lease: float | None = None,
    ) -> list[Message]:
        """As Backend says. Cancelled, it leaves nothing leased."""
        check_range("most", most, 1, MOST_AT_ONCE)
        check_range("wait", wait, 0, LONGEST_WAIT)
        if lease is not None:
            check_range("lease", lease, 0.001, LONGEST_TIME)
        want = Want(queue, consumer, most, lease)
        found, _ = await self._lease(want)
        return await self._wait_in_line(want, wait) if not found and wait else found

    def give_back(self, messages: Sequence[Message]) -> None:
        """Return at once what could not be handed over to the one who received it."""
        if messages:
            receipts = [parse_receipt(each.receipt) for each in messages]
            self._return(receipts)

    def leave(self, consumer: str) -> None:
        """Give all leases of a consumer back, and its turn in a queue with a single one."""
        self._clock.now = self._loop.time()
        self._queues.leave(consumer)

    async def ack(self, receipts: Sequence[str]) -> list[str]:
        pairs = parse_receipts(receipts)
        return await self._results(pairs, lambda answer: self._queues.ack(pairs, answer))

    async def nack(
        self,
        receipts: Sequence[str],
        *,
        delay: float | None = None,
        dead: bool = False,
        reason: str = "",
    ) -> list[str]:
        if delay is not None:
            check_range("delay", delay, 0, LONGEST_TIME)
        check_text("reason", reason)
        return await self._fail(receipts, "dead" if dead else "nack", delay, reason)

    async def renew(self, receipts: Sequence[str], lease: float) -> list[str]:
        check_range("lease", lease, 0.001, LONGEST_TIME)
        pairs = parse_receipts(receipts)
        return await self._results(pairs, lambda answer: self._queues.renew(pairs, lease, answer))

    async def release(self, receipts: Sequence[str]) -> list[str]:
        return await self._fail(receipts, "return", None, "")

    # -- producers ---------------------------------------------------------------------------

    async def publish(
        self,
        queue: str,
        payload: bytes,
        *,
        topic: str = "",
        key: str | None = None,
        priority: int = 4,
        delay: float = 0.0,
        ttl: float | None = None,
        dedup_id: str | None = None,
        content_type: str | None = None,
        properties: Mapping[str, str] | None = None,
        publisher: str = "",
    ) -> int | None:
        """As Backend says; `publisher` is told to consumers."""
        if len(payload) > MOST_BYTES:
            wrong = f"{len(payload)} bytes are more than the {MOST_BYTES} of one message"
            raise QueueError("too_large", f"{wrong}: store them elsewhere and send a reference")
        check_entry(key, priority, delay, ttl, dedup_id)
        entry = Entry(queue, key, priority, delay, ttl, dedup_id, "published")
        topic = checked_topic(topic or PREFIX + queue)
        block = encode_block(content_type, properties or {})
        status, number = await self._ask(
            lambda answer: self._queues.put(entry, topic, payload, block, publisher, answer)
        )
        if status == "ok":
            return number if number is None else int(number)
        raise self._unknown(queue) if status == "unknown" else refusal(status, queue)

    # -- people ------------------------------------------------------------------------------

    async def peek(self, queue: str, *, after: int = 0, most: int = 10) -> list[Message]:
        check_range("after", after, 0, 2**63 - 1)
        check_range("most", most, 1, MOST_AT_ONCE)
        self.check_known(queue)
        (found,) = await self._ask(lambda answer: self._queues.peek(queue, after, most, answer))
        return [message_of(each, with_receipt=False) for each in found]

    async def stats(self, queue: str | None = None) -> list[QueueStats]:
        (found,) = await self._ask(lambda answer: self._queues.stats(queue, answer))
        if queue is not None and not found:
            raise self._unknown(queue)
        return [self._stats_of(each) for each in found]

    async def purge(self, queue: str) -> int:
        return await all_slices(lambda place: self._admin("purge", queue, (place,)))

    async def delete(self, queue: str, message_id: int) -> int:
        check_range("id", message_id, 1, 2**63 - 1)
        return int(await self._admin("delete", queue, (message_id,)))

    async def redrive(
        self,
        queue: str,
        *,
        ids: Sequence[int] | None = None,
        to: str | None = None,
        payload: bytes | None = None,
    ) -> int:
        numbers = None if ids is None else list(ids)
        for each in numbers or ():
            check_range("ids", each, 1, 2**63 - 1)
        if payload is not None and (numbers is None or len(numbers) != 1):
            raise bad_request("a changed payload is for one message: give exactly one id")
        if to is not None:
            self.check_known(to)
        return await all_slices(
            lambda place: self._admin("redrive", queue, (numbers, to, payload, place))
        )

    async def drop(self, queue: str) -> int:
        return await all_slices(lambda place: self._admin("drop", queue, (place,)))

    async def unbind(self, queue: str, topic_filter: str) -> None:
        if await self._admin("unbind", queue, (topic_filter,)) == "not bound":
            raise not_bound(queue, topic_filter)

    async def set_mode(self, queue: str, mode: str) -> None:
        if mode not in MODE_VERBS:
            raise bad_request(f"{mode!r} is no mode: write {', '.join(MODE_VERBS)}")
        await self._admin(MODE_VERBS[mode], queue, ())

    async def close(self) -> None:
        """Whoever waits is told; leases end by themselves (or by `leave`)."""
        self._is_closed = True
        for each in self._waiting:
            each.set()

    # -- waiting -----------------------------------------------------------------------------

    async def _lease(self, want: Want) -> tuple[list[Message], float | None]:
        """What is ready now, and when to ask again by itself (None: need not)."""
        status, found, next_in = await self._ask(
            lambda answer: self._queues.lease(
                want.queue, want.consumer, want.most, want.lease, answer
            ),
            self._undo_lease,
        )
        if status != "ok":
            raise self._unknown(want.queue)
        return [message_of(each) for each in found], next_in

    def _undo_lease(self, _status: str, found: list[Delivery], _next_in: float | None) -> None:
        if found:
            self._return([(each.number, each.token) for each in found])

    def _return(self, pairs: list[Receipt]) -> None:
        self._clock.now = self._loop.time()
        self._queues.fail(pairs, "return", None, "", _ignore)

    async def _wait_in_line(self, want: Want, wait: float) -> list[Message]:
        end = self._loop.time() + wait
        with self._watching(want.queue) as woken:
            try:
                async with asyncio.timeout_at(end):
                    line = self._line(want)
                    await line.acquire()
            except TimeoutError:
                return []
            try:
                return await self._wait_first(want, end, woken)
            finally:
                line.release()

    async def _wait_first(self, want: Want, end: float, woken: asyncio.Event) -> list[Message]:
        """Wait as the first in line."""
        while True:
            self._check_open()
            woken.clear()
            found, next_in = await self._lease(want)
            left = end - self._loop.time()
            if found or left <= 0:
                return found
            self._check_open()
            pause = left if next_in is None else min(left, max(next_in, SHORTEST_PAUSE))
            await _wait_for(woken, pause)

    def _line(self, want: Want) -> asyncio.Lock:
        """Where those who wait for a queue stand, one behind the other. A queue with a single
        active consumer has no line: the first in it might not be the one who gets something.
        """
        policy = self._queues.policy_of(want.queue)
        if policy is not None and policy.order == "single_active":
            return asyncio.Lock()
        return self._lines.setdefault(want.queue, asyncio.Lock())

    @contextmanager
    def _watching(self, queue: str) -> Iterator[asyncio.Event]:
        woken = asyncio.Event()
        stop = self._queues.watch(queue, woken.set)
        self._waiting.add(woken)
        try:
            yield woken
        finally:
            self._waiting.discard(woken)
            stop()

    # -- asking ------------------------------------------------------------------------------

    async def _ask(
        self,
        start: Callable[[Callable[..., None]], None],
        undo: Callable[..., None] | None = None,
    ) -> tuple[Any, ...]:
        """What the port answers; `undo` gets an answer that nobody waits for any more."""
        self._check_open()
        future: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()

        def answer(*values: Any) -> None:
            if not future.done():
                future.set_result(values)
            elif undo is not None:
                undo(*values)

        self._clock.now = self._loop.time()
        start(answer)
        try:
            async with asyncio.timeout(self._patience):
                return await future
        except (asyncio.CancelledError, TimeoutError) as error:
            if undo is not None and future.done() and not future.cancelled():
                undo(*future.result())  # answered in the moment in which it was given up
            if isinstance(error, TimeoutError):
                raise silence() from None
            raise

    async def _results(
        self,
        pairs: list[Receipt],
        start: Callable[[Callable[[list[str]], None]], None],
    ) -> list[str]:
        if not pairs:
            return []
        (found,) = await self._ask(start)
        return list(found)

    async def _fail(
        self, receipts: Sequence[str], kind: str, delay: float | None, reason: str
    ) -> list[str]:
        pairs = parse_receipts(receipts)
        return await self._results(
            pairs, lambda answer: self._queues.fail(pairs, kind, delay, reason, answer)
        )

    async def _admin(self, verb: str, queue: str, arguments: tuple[Any, ...]) -> Any:
        (value,) = await self._ask(
            lambda answer: self._queues.admin(verb, queue, arguments, answer)
        )
        if value is None:
            raise silence()
        if value == "unknown":
            raise self._unknown(queue)
        if value == "in use":
            raise in_use(queue)
        return value

    # -- refusing ----------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._is_closed:
            raise QueueError("unavailable", "the broker is stopping: try again when it is back")

    def check_known(self, queue: str) -> None:
        """Raise QueueError unless there is such a queue."""
        if queue not in self._queues.names:
            raise self._unknown(queue)

    def _unknown(self, queue: str) -> QueueError:
        hint = "`heliograph queue ls` lists the queues; a [[queue]] in the settings makes one"
        if takes_dead_letters(queue):
            hint = "it comes into being with its first dead letter"
        return QueueError("unknown_queue", f"there is no queue {queue[:200]!r}: {hint}")

    def _stats_of(self, row: Mapping[str, Any]) -> QueueStats:
        policy = row["policy"]
        return QueueStats(
            **{name: row[name] for name in COUNTED},
            policy=json.loads(policy) if isinstance(policy, str) else policy,
            bindings=json.loads(row["bindings"]),
            consumers=self._queues.consumers(row["name"]),
            rates=row.get("rates") or {},
        )


COUNTED = (
    "name",
    "mode",
    "origin",
    "messages",
    "bytes",
    "ready",
    "leased",
    "waiting",
    "delayed",
    "oldest_age",
    "dead",
)


def parse_receipt(text: str) -> Receipt:
    """The number and token of "<number>-<token in hexadecimal>"; raises QueueError."""
    parts = _RECEIPT.fullmatch(text)
    if parts is None or int(parts[1]) >= 2**63 or int(parts[2], 16) >= 2**63:
        raise bad_request(
            f"{text[:60]!r} is no receipt: send the `receipt` of a message as it was received"
        )
    return int(parts[1]), int(parts[2], 16)


def parse_receipts(texts: Sequence[str]) -> list[Receipt]:
    """All of them, or QueueError: nothing is done then."""
    if len(texts) > MOST_AT_ONCE:
        raise bad_request(f"{len(texts)} receipts are too many: send at most {MOST_AT_ONCE}")
    return [parse_receipt(each) for each in texts]


def message_of(delivery: Delivery, with_receipt: bool = True) -> Message:
    """A delivery as consumers see it."""
    properties = decode_block(delivery.properties)
    receipt = f"{delivery.number}-{delivery.token:x}" if with_receipt else ""
    return Message(
        id=delivery.number,
        queue=delivery.queue,
        payload=delivery.payload,
        topic=delivery.topic,
        key=delivery.key,
        priority=HIGHEST_PRIORITY - delivery.rank,
        publisher=delivery.publisher,
        content_type=properties.get(Property.CONTENT_TYPE),
        properties=dict(properties.get(Property.USER_PROPERTY, ())),
        enqueued_at=delivery.enqueued_at,
        expires_at=delivery.expires_at,
        lease_until=delivery.lease_until,
        delivery_count=delivery.acquisitions,
        failures=delivery.failures,
        dead_from=delivery.dead_from,
        dead_reason=delivery.dead_reason,
        dead_at=delivery.dead_at,
        state=STATES[delivery.state],
        receipt=receipt,
    )


def encode_block(content_type: str | None, properties: Mapping[str, str]) -> bytes:
    """An MQTT 5 property block without its length; raises QueueError for what MQTT cannot carry."""
    values: Properties = {}
    if content_type:
        values[Property.CONTENT_TYPE] = content_type
    if properties:
        values[Property.USER_PROPERTY] = list(properties.items())
    try:
        return travelling_properties(values)
    except ValueError as error:
        raise bad_request(f"the properties or the content type: {error}") from error


def decode_block(block: bytes) -> Properties:
    """The properties of a message; none if they cannot be read."""
    if not block:
        return {}
    whole = encode_varint(len(block)) + block
    try:
        return decode_properties(whole, 0, len(whole), PacketType.PUBLISH)[0]
    except ProtocolViolation:
        return {}


def check_entry(
    key: str | None, priority: int, delay: float, ttl: float | None, dedup_id: str | None
) -> None:
    """Raise QueueError for what no queue takes."""
    check_range("priority", priority, LOWEST_PRIORITY, HIGHEST_PRIORITY)
    check_range("delay", delay, 0, LONGEST_TIME)
    if ttl is not None:
        check_range("ttl", ttl, 0.001, LONGEST_TIME)
    check_text("key", key or "")
    check_text("dedup_id", dedup_id or "")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise QueueError unless it is in the range; not-a-number is not."""
    if not low <= value <= high:
        raise bad_request(f"{name} = {value} is out of range: give {low} to {high}")


def check_text(name: str, text: str) -> None:
    """Raise QueueError for what the databases or MQTT could not keep."""
    try:
        if "\0" not in text and len(text.encode()) <= LONGEST_TEXT:
            return
    except UnicodeEncodeError:
        pass
    raise bad_request(
        f"{name} cannot be kept: give at most {LONGEST_TEXT} bytes of UTF-8 without U+0000"
    )


def checked_topic(topic: str) -> str:
    """The topic, if it is one; raises QueueError."""
    check_text("topic", topic)
    try:
        check_topic(topic, MOST_LEVELS)
    except ProtocolViolation:
        shown = repr(topic[:80])
        raise bad_request(f"{shown} is no topic: leave it out, or write one without + and #") from (
            None
        )
    return topic


def bad_request(text: str) -> QueueError:
    """The caller's mistake."""
    return QueueError("bad_request", text)


def refusal(status: str, queue: str) -> QueueError:
    """Why a message was not taken."""
    text = REFUSALS.get(status, REFUSALS["unavailable"]).format(queue)
    return QueueError(status if status in REFUSALS else "unavailable", text)


def in_use(queue: str) -> QueueError:
    """It cannot be dropped."""
    return QueueError(
        "in_use",
        f"the queue {queue!r} is in use: a [[queue]] of the settings is taken out there, with a "
        "restart; else somebody consumes it, holds a message of it, or has just put one in: let "
        "that end first (`heliograph queue drain` keeps new ones out)",
    )


def not_bound(queue: str, topic_filter: str) -> QueueError:
    """There is no such binding of a client."""
    return QueueError(
        "not_bound",
        f"no client has bound the queue {queue!r} to {topic_filter[:200]!r}: `heliograph queue "
        f"stats {queue}` lists what clients have bound; what a [[route]] sends there ends by a "
        "change of the settings",
    )


def silence() -> QueueError:
    """The store does not answer."""
    return QueueError(
        "unavailable",
        "the store has not answered in time; what was asked for may still happen: look at the "
        "broker's log, and try again later",
    )


async def _wait_for(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        pass


def _ignore(_results: list[str]) -> None:
    """Nobody asks."""
