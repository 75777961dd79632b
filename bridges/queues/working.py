"""A handler for each message, several at a time; what becomes of a message is how it ended."""

from __future__ import annotations

import asyncio
import inspect
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from bridges.queues.feed import acknowledge_later
from bridges.queues.received import Reject, Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridges.queues.feed import Feed
    from bridges.queues.received import Received

log = logging.getLogger("heliograph.queues")

M = TypeVar("M")
Handler: TypeAlias = "Callable[[M], Awaitable[Any]] | Callable[[M], Any]"


async def work(feed: Feed, handler: Handler[Received], concurrency: int) -> None:
    """Until the feed has no more. Cancelled, it cancels async handlers and waits for plain ones.
    Raises what the feed raises, when all handlers have ended.
    """
    with ThreadPoolExecutor(concurrency, "heliograph-worker") as pool:
        call = handler if inspect.iscoroutinefunction(handler) else in_thread(handler, pool)
        workers = [asyncio.create_task(_work(feed, call)) for _ in range(concurrency)]
        try:
            await asyncio.wait(workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
    for worker in workers:
        worker.result()


def in_thread(
    handler: Callable[[Received], Any], pool: ThreadPoolExecutor
) -> Callable[[Received], Awaitable[Any]]:
    """A plain function as an async one. It cannot be cancelled: its end is waited for."""

    async def call(received: Received) -> None:
        running = asyncio.get_running_loop().run_in_executor(pool, handler, received)
        try:
            result = await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running})
            settle(received, running.exception())
            raise
        if inspect.isawaitable(result):  # a callable object or a lambda around an async function
            await result

    return call


async def _work(feed: Feed, handler: Callable[[Received], Awaitable[Any]]) -> None:
    while (received := await feed.next()) is not None:
        try:
            await handler(received)
        except asyncio.CancelledError as cancelled:
            received.settle_by(cancelled)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is about its message
            settle(received, error)
        else:
            settle(received, None)


def settle(received: Received, error: BaseException | None) -> None:
    """Without waiting, so that the next message can begin; the log is told of failures."""
    if error is None:
        acknowledge_later(received)
        return
    if not isinstance(error, Reject | Retry):
        log.warning("message %d of %s failed", received.id, received.queue, exc_info=error)
    received.settle_by(error)
