"""Connections to a broker's PostgreSQL database: a few that ask, and one that hears (LISTEN)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from bridges.queues.backend import QueueError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MOST_CONNECTIONS = 4  # besides the one that listens
CONNECTING: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
    "application_name": "heliograph queue client",
}
CHANNEL = "heliograph_queue"
ASK_AGAIN = 1.0  # seconds: a delay or another's lease may have ended
FIRST_PAUSE = 1.0  # seconds until a lost connection that listens is made again

CODES = (  # SQLSTATE, or the beginning of one, the longer first
    ("42704", "unknown_queue"),
    ("55000", "draining"),
    ("53400", "full"),
    ("54000", "too_large"),
    ("42501", "not_allowed"),
    ("22", "bad_request"),
    ("40", "unavailable"),  # deadlock, serialization
    ("53", "unavailable"),  # no memory, disk or connection left
    ("57", "unavailable"),  # shutting down, crashed
    ("58", "unavailable"),  # the server's own disk fails
    ("08", "unavailable"),  # the connection
    ("25006", "unavailable"),  # read-only: a server that takes over, for a moment
    ("3F000", "no_queues"),
    ("42883", "no_queues"),
    ("42P01", "no_queues"),
)
NO_QUEUES = (
    "this database has no queues: start a broker once with its [store] url pointing here ({})"
)
HOPELESS = ("authentication failed", "does not exist", "pg_hba.conf", "permission denied")

Row = dict[str, Any]


class Connections:
    """A few connections, made when they are needed and kept; lost ones are made again."""

    __slots__ = ("_free", "_idle", "_url")

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[psycopg.AsyncConnection[Row]] = []
        self._free = asyncio.Semaphore(MOST_CONNECTIONS)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[psycopg.AsyncConnection[Row]]:
        async with self._free:
            connection = self._idle.pop() if self._idle else await connect(self._url)
            try:
                yield connection
            except psycopg.Error:
                if connection.broken:
                    await connection.close()
                else:
                    self._idle.append(connection)
                raise
            except BaseException:
                await connection.close()
                raise
            self._idle.append(connection)

    async def close(self) -> None:
        while self._idle:
            await self._idle.pop().close()


class Listener:
    """One connection that hears which queues have something, while anybody waits."""

    __slots__ = ("_listening", "_task", "_url", "_waiting")

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def of(self, queue: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the queue may have something."""
        woken = asyncio.Event()
        self._waiting.setdefault(queue, set()).add(woken)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            await wait_for(self._listening, ASK_AGAIN)
            yield woken
        finally:
            self._waiting[queue].discard(woken)
            if not self._waiting[queue]:
                del self._waiting[queue]

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            with suppress(psycopg.Error, QueueError):
                await self._listen()
            self._listening.clear()
            await asyncio.sleep(FIRST_PAUSE)  # meanwhile, who waits asks again by itself

    async def _listen(self) -> None:
        async with await connect(self._url) as connection:
            await connection.execute(f"LISTEN {CHANNEL}".encode())
            self._listening.set()
            for woken in [each for group in self._waiting.values() for each in group]:
                woken.set()  # whatever came while nobody listened
            async for notification in connection.notifies():
                for woken in self._waiting.get(notification.payload, ()):
                    woken.set()


async def connect(url: str) -> psycopg.AsyncConnection[Row]:
    """Raises QueueError."""
    try:
        return await psycopg.AsyncConnection[Row].connect(
            url, autocommit=True, row_factory=dict_row, **CONNECTING
        )
    except psycopg.Error as error:
        text = str(error).strip()
        code = "not_allowed" if any(each in text for each in HOPELESS) else "unavailable"
        raise QueueError(code, f"the database cannot be reached: {text}") from error


def explained(error: psycopg.Error) -> QueueError:
    """What the database says, for programs and for people."""
    state = error.sqlstate or ""
    said = error.diag.message_primary or str(error).strip() or type(error).__name__
    text = ". ".join(filter(None, (said, error.diag.message_hint)))
    for beginning, code in CODES:
        if state.startswith(beginning):
            return QueueError(code, NO_QUEUES.format(said) if code == "no_queues" else text)
    if state or isinstance(error, psycopg.ProgrammingError | psycopg.DataError):
        return QueueError("bad_request", text)
    return QueueError("unavailable", text)


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until it is set, at most so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
