"""The Python door for programs without asyncio: the same client, on an event loop of its own in one
background thread.

    with SyncQueue("telemetry", "http://localhost:8180") as queue:
        for message in queue.consume():
            with message:
                print(message.topic, message.json())

Rule kept here: the thread that waits can be interrupted (Ctrl-C) at any time; what it waited for is
cancelled, and leaving the `with` block gives the leases back.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from bridges.queues.backend import QueueError
from bridges.queues.client import ACK_IN, LEASE, LONGEST_LEASE, PREFETCH, Options, Queue
from bridges.queues.received import Received, Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from bridges.queues.backend import Backend, Message, QueueStats
    from bridges.queues.feed import Messages
    from bridges.queues.timing import Timing

T = TypeVar("T")


class Loop:
    """An event loop in a thread of its own, for one who waits in other threads."""

    __slots__ = ("__weakref__", "_loop", "_thread")

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="heliograph-queue", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it there and wait for it here. Interrupted, it is cancelled there, and its end is
        waited for. Raises what it raises.
        """
        ended = threading.Event()
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            tasks.append(self._loop.create_task(work))
            tasks[0].add_done_callback(lambda _: ended.set())

        def stop() -> None:
            tasks[0].cancel()

        self._begin(begin, work)
        try:
            ended.wait()
        except BaseException:
            self._loop.call_soon_threadsafe(stop)
            ended.wait()
            raise
        return tasks[0].result()

    def _begin(self, begin: Callable[[], None], work: Coroutine[Any, Any, T]) -> None:
        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:
            work.close()
            raise QueueError("closed", "this queue is closed: make another SyncQueue") from None

    def soon(self, call: Callable[[], object]) -> None:
        """Do it there without waiting."""
        self._loop.call_soon_threadsafe(call)

    def close(self) -> None:
        """End the thread. Harmless when that is done."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        finally:
            self._loop.close()


class SyncMessage:
    """A leased message, as `received.Received`, whose verbs wait."""

    __slots__ = ("_loop", "received")

    id: int
    queue: str
    payload: bytes
    topic: str
    key: str | None
    priority: int
    publisher: str
    content_type: str | None
    properties: Mapping[str, str]
    enqueued_at: float
    expires_at: float | None
    lease_until: float | None
    delivery_count: int
    failures: int
    dead_from: str | None
    dead_reason: str | None
    dead_at: float | None
    receipt: str
    token: int
    lost: bool
    is_settled: bool
    text: Callable[[], str]
    json: Callable[[], Any]

    def __init__(self, received: Received, loop: Loop) -> None:
        self.received = received
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "received"), name)

    def __repr__(self) -> str:
        return repr(self.received)

    def ack(self) -> None:
        """See Received.ack."""
        self._loop.run(self.received.ack())

    def nack(self, reason: str = "", *, delay: float | None = None, dead: bool = False) -> str:
        """See Received.nack."""
        return self._loop.run(self.received.nack(reason, delay=delay, dead=dead))

    def release(self) -> str:
        """See Received.release."""
        return self._loop.run(self.received.release())

    def renew(self, lease: float | None = None) -> None:
        """See Received.renew."""
        self._loop.run(self.received.renew(lease))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._loop.run(self.received.__aexit__(kind, error, traceback))
        return isinstance(error, Reject | Retry)


class SyncMessages:
    """`for message in queue.consume()`; see `feed.Messages`."""

    __slots__ = ("_loop", "_messages", "_queue")

    def __init__(self, messages: Messages, loop: Loop, queue: SyncQueue) -> None:
        self._messages = messages
        self._loop = loop
        self._queue = queue  # which closes when nobody has it any more

    def __iter__(self) -> Iterator[SyncMessage]:
        return self

    def __next__(self) -> SyncMessage:
        received = self._loop.run(_next(self._messages))
        if received is None:
            raise StopIteration
        return SyncMessage(received, self._loop)

    def close(self) -> None:
        """Lease no more, and give back what was leased ahead."""
        self._loop.run(self._messages.aclose())


class SyncQueue:
    """`client.Queue` with verbs that wait. May be used by several threads."""

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
        self._loop = Loop()
        try:
            self._queue = self._loop.run(_make(name, url, token, backend, consumer, timing))
        except BaseException:
            self._loop.close()
            raise
        self.consumer = self._queue.consumer
        self._close = weakref.finalize(self, _close, self._queue, self._loop)

    # -- consuming --------------------------------------------------------------------------------

    def consume(
        self,
        *,
        prefetch: int = PREFETCH,
        lease: float = LEASE,
        max_lease_time: float = LONGEST_LEASE,
        auto_ack: bool = False,
        idle: float | None = None,
    ) -> SyncMessages:
        """See Queue.consume."""

        async def make() -> Messages:
            return self._queue.consume(
                prefetch=prefetch,
                lease=lease,
                max_lease_time=max_lease_time,
                auto_ack=auto_ack,
                idle=idle,
            )

        return SyncMessages(self._loop.run(make()), self._loop, self)

    def receive(
        self,
        most: int = 1,
        *,
        wait: float = 0.0,
        lease: float = LEASE,
        max_lease_time: float = LONGEST_LEASE,
    ) -> list[SyncMessage]:
        """See Queue.receive."""
        found = self._loop.run(
            self._queue.receive(most, wait=wait, lease=lease, max_lease_time=max_lease_time)
        )
        return [SyncMessage(each, self._loop) for each in found]

    def work(
        self,
        handler: Callable[[SyncMessage], Any],
        *,
        concurrency: int = 8,
        prefetch: int | None = None,
        lease: float = LEASE,
        max_lease_time: float = LONGEST_LEASE,
        idle: float | None = None,
    ) -> None:
        """See Queue.work. `handler` is a plain function; it runs in `concurrency` threads.
        Interrupted, this waits for those that have begun.
        """

        def call(received: Received) -> Any:
            return handler(SyncMessage(received, self._loop))

        self._loop.run(
            self._queue.work(
                call,
                concurrency=concurrency,
                prefetch=prefetch,
                lease=lease,
                max_lease_time=max_lease_time,
                idle=idle,
            )
        )

    def stop(self) -> None:
        """See Queue.stop. From any thread, and from a signal's handler."""
        self._loop.soon(self._queue.stop)

    def ack_in(self, connection: Any, message: SyncMessage) -> None:
        """See Queue.ack_in, with a blocking psycopg connection."""
        received = message.received
        self._loop.run(_call(self._queue.begin_ack_in, received))
        row = connection.execute(ACK_IN, (received.id, received.token)).fetchone()
        self._loop.run(_call(self._queue.conclude_ack_in, received, row[0]))

    # -- publishing -------------------------------------------------------------------------------

    def publish(self, payload: Any, **options: Unpack[Options]) -> int | None:
        """See Queue.publish."""
        return self._loop.run(self._queue.publish(payload, **options))

    def publish_many(
        self, payloads: Iterable[Any], *, at_once: int = 16, **options: Unpack[Options]
    ) -> list[int | None]:
        """See Queue.publish_many."""
        return self._loop.run(self._queue.publish_many(payloads, at_once=at_once, **options))

    # -- looking and managing ---------------------------------------------------------------------

    def stats(self) -> QueueStats:
        """See Queue.stats."""
        return self._loop.run(self._queue.stats())

    def peek(self, most: int = 10, *, after: int = 0) -> list[Message]:
        """See Queue.peek."""
        return self._loop.run(self._queue.peek(most, after=after))

    def purge(self) -> int:
        """See Queue.purge."""
        return self._loop.run(self._queue.purge())

    def delete(self, message_id: int) -> int:
        """See Queue.delete."""
        return self._loop.run(self._queue.delete(message_id))

    def redrive(
        self,
        ids: Sequence[int] | None = None,
        *,
        to: str | None = None,
        payload: bytes | None = None,
    ) -> int:
        """See Queue.redrive."""
        return self._loop.run(self._queue.redrive(ids, to=to, payload=payload))

    def drop(self) -> int:
        """See Queue.drop."""
        return self._loop.run(self._queue.drop())

    def unbind(self, topic_filter: str) -> None:
        """See Queue.unbind."""
        self._loop.run(self._queue.unbind(topic_filter))

    def pause(self) -> None:
        """See Queue.pause."""
        self._loop.run(self._queue.pause())

    def drain(self) -> None:
        """See Queue.drain."""
        self._loop.run(self._queue.drain())

    def resume(self) -> None:
        """See Queue.resume."""
        self._loop.run(self._queue.resume())

    # -- the end ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See Queue.close. Also done when the program ends without it."""
        self._close()


def _close(queue: Queue, loop: Loop) -> None:
    try:
        loop.run(queue.close())
    finally:
        loop.close()


async def _make(
    name: str,
    url: str | None,
    token: str | None,
    backend: Backend | None,
    consumer: str | None,
    timing: Timing | None,
) -> Queue:
    return Queue(name, url, token=token, backend=backend, consumer=consumer, timing=timing)


async def _next(messages: Messages) -> Received | None:
    """A coroutine cannot end with StopAsyncIteration across threads."""
    return await anext(messages, None)


async def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)
