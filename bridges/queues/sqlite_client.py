"""The data folder of a broker that does not run, as a Backend: the store's own code, in a thread.

Rule kept here: it holds the broker's lock from the first call to `close`, so never both work on one
file. It repairs nothing and moves nothing aside: that is for the broker, which says so loudly.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from bridges.queues.backend import Message, QueueError, QueueStats
from bridges.queues.local import LocalBackend
from bridges.queues.store_queues import StoreQueues
from broker.engine.timeline import Timeline
from broker.storage.database import CannotOpen, Damaged, Trouble
from broker.storage.sqlite import SQLiteDatabase
from broker.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

STORE_FILE = "heliograph.db"  # in a data folder
FAREWELL = 5.0  # seconds for the last batch when the disk does not take it
PAUSE = 0.5  # seconds until a disk that was full or a file that was locked is tried again

T = TypeVar("T")


class SQLiteBackend:
    """`path`: the data folder, or the file in it. `now` is a monotonic clock in seconds."""

    def __init__(self, path: str | Path, now: Callable[[], float] = time.monotonic) -> None:
        path = Path(path)
        self.path = path / STORE_FILE if path.is_dir() else path
        self._now = now
        self._thread = ThreadPoolExecutor(1, "heliograph-store")
        self._opening = asyncio.Lock()
        self._store: Store | None = None
        self._queues: StoreQueues | None = None
        self._local: LocalBackend | None = None

    # -- the verbs --------------------------------------------------------------------------------

    async def receive(
        self,
        queue: str,
        consumer: str,
        *,
        most: int = 1,
        wait: float = 0.0,
        lease: float | None = None,
    ) -> list[Message]:
        local = await self._open()
        return await local.receive(queue, consumer, most=most, wait=wait, lease=lease)

    async def ack(self, receipts: Sequence[str]) -> list[str]:
        return await (await self._open()).ack(receipts)

    async def nack(
        self,
        receipts: Sequence[str],
        *,
        delay: float | None = None,
        dead: bool = False,
        reason: str = "",
    ) -> list[str]:
        local = await self._open()
        return await local.nack(receipts, delay=delay, dead=dead, reason=reason)

    async def renew(self, receipts: Sequence[str], lease: float) -> list[str]:
        return await (await self._open()).renew(receipts, lease)

    async def release(self, receipts: Sequence[str]) -> list[str]:
        return await (await self._open()).release(receipts)

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
    ) -> int | None:
        local = await self._open()
        return await local.publish(
            queue,
            payload,
            topic=topic,
            key=key,
            priority=priority,
            delay=delay,
            ttl=ttl,
            dedup_id=dedup_id,
            content_type=content_type,
            properties=properties,
        )

    async def peek(self, queue: str, *, after: int = 0, most: int = 10) -> list[Message]:
        return await (await self._open()).peek(queue, after=after, most=most)

    async def stats(self, queue: str | None = None) -> list[QueueStats]:
        return await (await self._open()).stats(queue)

    async def purge(self, queue: str) -> int:
        return await (await self._open()).purge(queue)

    async def delete(self, queue: str, message_id: int) -> int:
        return await (await self._open()).delete(queue, message_id)

    async def redrive(
        self,
        queue: str,
        *,
        ids: Sequence[int] | None = None,
        to: str | None = None,
        payload: bytes | None = None,
    ) -> int:
        return await (await self._open()).redrive(queue, ids=ids, to=to, payload=payload)

    async def drop(self, queue: str) -> int:
        return await (await self._open()).drop(queue)

    async def unbind(self, queue: str, topic_filter: str) -> None:
        await (await self._open()).unbind(queue, topic_filter)

    async def set_mode(self, queue: str, mode: str) -> None:
        await (await self._open()).set_mode(queue, mode)

    async def close(self) -> None:
        async with self._opening:
            if self._local is not None and self._queues is not None:
                await self._local.close()
                await self._queues.close(FAREWELL)
            if self._store is not None:
                await self._in_thread(self._store.close)
            self._store = self._queues = self._local = None
            self._thread.shutdown(wait=False)

    # -- the store --------------------------------------------------------------------------------

    async def _open(self) -> LocalBackend:
        """Once. Raises QueueError."""
        async with self._opening:
            if self._local is None:
                opened = await self._opened()
                timeline = Timeline(time.time)
                store_time, wall_time = opened["meta"][4:6]
                timeline.begin(store_time, wall_time, self._now())
                self._queues = StoreQueues(opened, self._submit, self._ask, timeline, self._now)
                self._local = LocalBackend(self._queues, asyncio.get_running_loop())
            return self._local

    async def _opened(self) -> dict[str, Any]:
        if not self.path.is_file() or not self.path.stat().st_size:
            raise QueueError("unavailable", f"there is no store at {self.path}: name a data folder")
        store = Store(Quiet(self.path), 0, refuse_to_repair)
        try:
            opened = await self._in_thread(lambda: open_or_leave(store))
        except CannotOpen as error:
            raise QueueError("in_use", f"{error}; to a running broker go by http://") from error
        except (Trouble, Damaged) as error:
            raise QueueError("unavailable", str(error)) from error
        self._store = store
        return opened

    async def _submit(self, position: int, operations: Any) -> tuple[Any, Any]:
        """As the store process: what cannot be done now is tried again, for ever."""
        assert self._store is not None
        store = self._store
        while True:
            try:
                done = await self._in_thread(lambda: store.apply(position, True, operations))
            except Trouble:
                await asyncio.sleep(PAUSE)
            else:
                return done.results, done.counts

    async def _ask(self, name: str, arguments: tuple[Any, ...]) -> Any:
        assert self._store is not None
        store = self._store
        return await self._in_thread(lambda: store.answer(name, arguments))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def open_or_leave(store: Store) -> dict[str, Any]:
    """Raises what `Store.open` does, and has given the lock back then."""
    try:
        return store.open(first=False)
    except BaseException:
        store.close()
        raise


class Quiet(SQLiteDatabase):
    """A file that is only used as it is found."""

    __slots__ = ()

    def set_aside(self, stamp: str) -> NoReturn:  # noqa: ARG002 - nothing is moved
        raise CannotOpen("the store was written by a newer release of Heliograph: use that one")


def refuse_to_repair(path: Path, stamp: str) -> NoReturn:  # noqa: ARG001 - see database.Salvage
    raise CannotOpen(f"{path} is damaged: start the broker, which saves what can be read")
