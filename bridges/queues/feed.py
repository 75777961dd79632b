"""What a consumer has leased ahead, and the iterator over it.

Rule kept here: `prefetch` counts messages that are leased and not settled, whether the program has
seen them or not. So a program that settles nothing gets no more than that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from bridges.queues.backend import GONE, LONGEST_WAIT, LOST, MOST_AT_ONCE, QueueError
from bridges.queues.received import LeaseLost
from bridges.queues.settling import ACK, RELEASE
from bridges.queues.timing import Patience

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bridges.queues.received import Received
    from bridges.queues.timing import Timing

    # (most, wait) -> leased messages that are being kept
    Lease = Callable[[int, float, Callable[[Received], None]], Awaitable[Sequence[Received]]]

log = logging.getLogger("heliograph.queues")


class Feed:
    """Leases messages ahead of whoever takes them with `next`.

    `idle` None: for ever; else it ends when so many seconds have passed without a message.
    """

    __slots__ = (
        *("_buffer", "_changed", "_error", "_idle", "_is_over", "_lease", "_out", "_patience"),
        *("_prefetch", "_quiet", "_task"),
    )

    def __init__(self, lease: Lease, prefetch: int, idle: float | None, timing: Timing) -> None:
        self._lease = lease
        self._prefetch = prefetch
        self._idle = idle
        self._quiet = 0.0  # seconds without a message
        self._patience = Patience(timing)
        self._buffer: deque[Received] = deque()
        self._out: set[Received] = set()  # leased and not settled, the buffer included
        self._changed = asyncio.Event()
        self._is_over = False
        self._error: QueueError | None = None
        self._task: asyncio.Task[None] | None = None

    async def next(self) -> Received | None:
        """The next message; None: there will be no more. Raises what the backend said."""
        if self._task is None and not self._is_over:
            self._task = asyncio.create_task(self._run())
        while True:
            if self._buffer:
                return self._take()
            if self._error is not None:
                raise self._error
            if self._is_over:
                return None
            self._changed.clear()
            await self._changed.wait()

    def settled(self, received: Received) -> None:
        """There is room for another one. Also for a message whose lease was lost."""
        self._out.discard(received)
        with suppress(ValueError):
            self._buffer.remove(received)
        self._changed.set()

    def stop(self) -> list[Received]:
        """Lease no more. What was leased and not handed out is returned: give it back."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()
        left = list(self._buffer)
        self._buffer.clear()
        self._changed.set()
        return left

    async def close(self) -> list[Received]:
        """Stop, and wait until the last call has ended. What is to be given back."""
        left = self.stop()
        if self._task is not None:
            await asyncio.wait({self._task})
        return left + self.stop()

    def _take(self) -> Received:
        received = self._buffer.popleft()
        self._changed.set()
        return received

    async def _run(self) -> None:
        try:
            while not self._is_over:
                if room := self._room():
                    await self._fetch(room)
                else:
                    self._changed.clear()
                    await self._changed.wait()
        except QueueError as error:
            self._error = error
        finally:
            self._is_over = True
            self._changed.set()

    def _room(self) -> int:
        """How many to ask for: none as long as there is something to do and little room."""
        room = min(self._prefetch - len(self._out), MOST_AT_ONCE)
        if self._buffer and room < max(1, self._prefetch // 2):
            return 0
        return max(room, 0)

    async def _fetch(self, room: int) -> None:
        wait = LONGEST_WAIT if self._idle is None else min(LONGEST_WAIT, self._left())
        try:
            messages = await self._lease(room, wait, self.settled)
        except QueueError as error:
            if error.code != "unavailable":
                raise
            if not self._patience.is_tried:
                log.warning("the queue is out of reach, trying again: %s", error)
            await self._patience.pause()
            return
        self._patience.succeeded()
        self._out.update(messages)
        self._buffer.extend(messages)
        self._note_quiet(0.0 if messages else wait, bool(messages))
        self._changed.set()

    def _left(self) -> float:
        assert self._idle is not None
        return max(0.0, self._idle - self._quiet)

    def _note_quiet(self, seconds: float, was_something: bool) -> None:
        self._quiet = 0.0 if was_something else self._quiet + seconds
        if self._idle is not None and not was_something and self._quiet >= self._idle:
            self._is_over = True


class Messages:
    """`async for message in queue.consume()`. For one task; several take one each.

    Left before its end, it gives back what it has leased ahead; not the message in hand.
    """

    __slots__ = ("_auto_ack", "_feed", "_give_back", "_last", "_loop")

    def __init__(
        self, feed: Feed, give_back: Callable[[Sequence[Received]], None], auto_ack: bool
    ) -> None:
        self._feed = feed
        self._give_back = give_back
        self._auto_ack = auto_ack
        self._last: Received | None = None  # with auto_ack: what the next step acknowledges
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Received:
        if self._last is not None:
            acknowledge_later(self._last)
            self._last = None
        received = await self._feed.next()
        if received is None:
            raise StopAsyncIteration
        if self._auto_ack:
            self._last = received
        return received

    async def aclose(self) -> None:
        """Lease no more, and give back what was leased ahead."""
        self._give_back(await self._feed.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        """`break` tells an iterator nothing: it only vanishes."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_stop, self._feed, self._give_back)


def _stop(feed: Feed, give_back: Callable[[Sequence[Received]], None]) -> None:
    give_back(feed.stop())


def acknowledge_later(received: Received) -> None:
    """Without waiting; the log is told when it came too late."""
    if not received.is_settled:
        received.settle(ACK).add_done_callback(lambda future: _tell(received, future))


def give_back(messages: Sequence[Received]) -> None:
    """Release what nobody has worked on."""
    for received in messages:
        received.settle(RELEASE)


def _tell(received: Received, future: asyncio.Future[str]) -> None:
    if future.cancelled():
        return
    error = future.exception()
    if error is not None:
        log.warning("message %d could not be acknowledged: %s", received.id, error)
    elif future.result() in {GONE, LOST}:
        received.lost = True
        log.warning("%s", LeaseLost(received.id, received.queue))
