"""The Python door: work on a queue, wherever it is.

    async with Queue("telemetry", "http://localhost:8180") as queue:
        async for message in queue.consume():
            async with message:
                print(message.topic, message.json())

Rule kept here: a message is done only when the program has said so and the broker has it on its
disk. Everything else (an exception, a crash, a lost connection) brings it back.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from bridges.queues import working
from bridges.queues.backend import LONGEST_WAIT, OK, QueueError
from bridges.queues.connecting import connect
from bridges.queues.feed import Feed, Messages, give_back
from bridges.queues.keeping import Keeper
from bridges.queues.received import LeaseLost, Received
from bridges.queues.settling import RELEASE, Settler
from bridges.queues.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from bridges.queues.backend import Backend, Message, QueueStats
    from bridges.queues.settling import Settlement
    from bridges.queues.working import Handler

LEASE = 30.0  # seconds
LONGEST_LEASE = 3600.0  # seconds that a message is kept by renewing its lease
PREFETCH = 16
FAREWELL = 10.0  # seconds for the last acknowledgements to arrive
AT_ONCE = 16  # messages that publish_many has under way

ACK_IN = "SELECT heliograph.ack(%s, %s)"


class Options(TypedDict, total=False):
    """What a message may be published with; see `backend.Backend.publish`."""

    topic: str
    key: str | None
    priority: int
    delay: float
    ttl: float | None
    dedup_id: str | None
    content_type: str | None
    properties: Mapping[str, str] | None


class Queue:
    """One queue, and this program as a consumer of it.

    `url`: `http://`, `https://`, `postgresql://` or `sqlite:///` (see docs/queues-python.md); by
    default $HELIOGRAPH_QUEUES_URL, or a broker on this computer. `token`: for HTTP, by default
    $HELIOGRAPH_TOKEN. `backend`: a door that is open already; it is not closed with the queue.
    `consumer`: a name for people to find it by.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        token: str | None = None,
        backend: Backend | None = None,
        consumer: str | None = None,
        timing: Timing | None = None,
    ) -> None:
        self.name = name
        self.consumer = consumer or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.backend = backend or connect(url, token)
        self._is_ours = backend is None
        self._timing = timing or Timing()
        self._feeds: set[Feed] = set()
        self._settler = Settler(self.backend, self._timing)
        self._keeper = Keeper(self.backend, self._timing)
        self._is_stopped = False

    # -- consuming --------------------------------------------------------------------------------

    def consume(
        self,
        *,
        prefetch: int = PREFETCH,
        lease: float = LEASE,
        max_lease_time: float = LONGEST_LEASE,
        auto_ack: bool = False,
        idle: float | None = None,
    ) -> Messages:
        """Messages for ever, or until `idle` seconds have passed without one, or until `stop`.

        Up to `prefetch` are leased and not settled at a time. Their leases are of `lease` seconds,
        renewed for up to `max_lease_time`. `auto_ack`: a message is acknowledged when the next one
        is asked for, so an exception in the loop's body leaves it unacknowledged. While the broker
        is out of reach it goes on trying. Raises QueueError when trying does not help.
        """
        feed = self._feed(prefetch, lease, max_lease_time, idle)
        return Messages(feed, self._give_back_ahead(feed), auto_ack)

    async def receive(
        self,
        most: int = 1,
        *,
        wait: float = 0.0,
        lease: float = LEASE,
        max_lease_time: float = LONGEST_LEASE,
    ) -> list[Received]:
        """Up to `most` messages now, or the first that come within `wait` seconds (20 at most)."""
        wait = min(wait, LONGEST_WAIT)
        return await self._lease(most, wait, lease, max_lease_time, lambda _: None)

    async def work(
        self,
        handler: Handler[Received],
        *,
        concurrency: int = 8,
        prefetch: int | None = None,
        lease: float = LEASE,
        max_lease_time: float = LONGEST_LEASE,
        idle: float | None = None,
    ) -> None:
        """Give each message to `handler` (an async function, or a plain one, which runs in a
        thread), `concurrency` at a time. It returns: acknowledged. It raises: again later, see
        Retry and Reject. Ends by `stop` (what has begun is finished) or when cancelled (async
        handlers are, too, and their messages are given back).
        """
        feed = self._feed(prefetch or 2 * concurrency, lease, max_lease_time, idle)
        try:
            await working.work(feed, handler, concurrency)
        finally:
            give_back(feed.stop())
            self._feeds.discard(feed)

    def stop(self) -> None:
        """No more messages: `consume` and `work` come to their end. For a signal's handler."""
        self._is_stopped = True
        for feed in self._feeds:
            give_back(feed.stop())

    async def ack_in(self, connection: Any, message: Received) -> None:
        """Acknowledge within a transaction of the program's own, on a psycopg connection to the
        broker's database: the message is done if and only if that is committed. Raises LeaseLost.
        """
        self.begin_ack_in(message)
        cursor = connection.execute(ACK_IN, (message.id, message.token))
        if hasattr(cursor, "__await__"):
            cursor = await cursor
        row = cursor.fetchone()
        self.conclude_ack_in(message, (await row if hasattr(row, "__await__") else row)[0])

    # -- publishing -------------------------------------------------------------------------------

    async def publish(self, payload: Any, **options: Unpack[Options]) -> int | None:
        """Put a message into the queue: bytes, text, or anything JSON can say. Returns when it is
        on the broker's disk; its id, where that is known. Raises QueueError: "full", "draining",
        "unavailable" (it may be there or not: with a `dedup_id` it can be sent again safely), ...
        """
        body, content_type = encode(payload)
        options.setdefault("content_type", content_type)
        return await self.backend.publish(self.name, body, **options)

    async def publish_many(
        self, payloads: Iterable[Any], *, at_once: int = AT_ONCE, **options: Unpack[Options]
    ) -> list[int | None]:
        """Several, `at_once` under way at a time (1: their order is certain). The ids. Raises the
        first error when the others have ended.
        """
        free = asyncio.Semaphore(at_once)

        async def one(payload: Any) -> int | None:
            async with free:
                return await self.publish(payload, **options)

        results = await asyncio.gather(*map(one, payloads), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result for result in results if not isinstance(result, BaseException)]

    # -- looking and managing ---------------------------------------------------------------------

    async def stats(self) -> QueueStats:
        """How the queue stands."""
        found = await self.backend.stats(self.name)
        if not found:
            raise QueueError("unknown_queue", f"there is no queue {self.name}")
        return found[0]

    async def peek(self, most: int = 10, *, after: int = 0) -> list[Message]:
        """Look at messages by their ids, without any effect."""
        return await self.backend.peek(self.name, after=after, most=most)

    async def purge(self) -> int:
        """Delete all that is not leased; how many."""
        return await self.backend.purge(self.name)

    async def delete(self, message_id: int) -> int:
        """Delete one message that is not leased; 0 or 1."""
        return await self.backend.delete(self.name, message_id)

    async def redrive(
        self,
        ids: Sequence[int] | None = None,
        *,
        to: str | None = None,
        payload: bytes | None = None,
    ) -> int:
        """Of a queue of dead letters: send all, or those with these ids, back to where they came
        from, or `to`; one of them with another `payload`. How many.
        """
        return await self.backend.redrive(self.name, ids=ids, to=to, payload=payload)

    async def drop(self) -> int:
        """Delete the queue with all that is in it; how many messages."""
        return await self.backend.drop(self.name)

    async def unbind(self, topic_filter: str) -> None:
        """The queue takes the messages of a filter no more that a client has bound it to."""
        await self.backend.unbind(self.name, topic_filter)

    async def pause(self) -> None:
        """Nothing is handed out until `resume`."""
        await self.backend.set_mode(self.name, "paused")

    async def drain(self) -> None:
        """Nothing is taken in until `resume`."""
        await self.backend.set_mode(self.name, "draining")

    async def resume(self) -> None:
        """Back to normal."""
        await self.backend.set_mode(self.name, "running")

    # -- the end ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """What has been said is said to the end (for ten seconds at most, if the broker is out of
        reach); what is still leased is given back.
        """
        self._is_stopped = True
        for feed in list(self._feeds):
            give_back(await feed.close())
        for received in self._keeper.held:
            received.settle(RELEASE)
        await self._keeper.close()
        await self._flush()
        if self._is_ours:
            await self.backend.close()

    async def _flush(self) -> None:
        tasks = [
            asyncio.ensure_future(self._settler.flush()),
            asyncio.ensure_future(self._timing.sleep(FAREWELL)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await self._settler.close()

    # -- leases -----------------------------------------------------------------------------------

    def _feed(self, prefetch: int, lease: float, max_lease_time: float, idle: float | None) -> Feed:
        if self._is_stopped:
            raise QueueError("closed", "this queue is stopped or closed: make another Queue")

        async def more(
            most: int, wait: float, settled: Callable[[Received], None]
        ) -> list[Received]:
            return await self._lease(most, wait, lease, max_lease_time, settled)

        feed = Feed(more, prefetch, idle, self._timing)
        self._feeds.add(feed)
        return feed

    def _give_back_ahead(self, feed: Feed) -> Callable[[Sequence[Received]], None]:
        def when_left(messages: Sequence[Received]) -> None:
            self._feeds.discard(feed)
            give_back(messages)

        return when_left

    async def _lease(
        self,
        most: int,
        wait: float,
        lease: float,
        longest: float,
        settled: Callable[[Received], None],
    ) -> list[Received]:
        """Leased messages, kept until they are settled or lost, when `settled` is called."""

        def settle(received: Received, settlement: Settlement) -> asyncio.Future[str]:
            self._keeper.drop(received)
            settled(received)
            return self._settler.settle(received.receipt, settlement)

        messages = await self.backend.receive(
            self.name, self.consumer, most=most, wait=wait, lease=lease
        )
        made = [Received(each, settle, self._keeper.renew) for each in messages]
        for received in made:
            self._keeper.add(received, lease, longest, settled)
        return made

    def begin_ack_in(self, message: Received) -> None:
        """The first half of `ack_in`: who holds the row's lock needs no lease."""
        self._keeper.drop(message)

    def conclude_ack_in(self, message: Received, result: str) -> None:
        """The second half. Raises LeaseLost."""
        if result != OK:
            message.lost = True
            raise LeaseLost(message.id, message.queue)
        outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        outcome.set_result(result)
        message.acknowledged(outcome)


def encode(payload: Any) -> tuple[bytes, str | None]:
    """The bytes of a payload and what they are."""
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload), None
    if isinstance(payload, str):
        return payload.encode(), "text/plain"
    return json.dumps(payload, separators=(",", ":")).encode(), "application/json"
