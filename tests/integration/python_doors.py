"""The doors that the Python client goes through in tests: one broker each, as far as the client can
see, with a queue named `work` and a clock that the test can move on.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from bridges.queues.client import FAREWELL, Queue
from bridges.queues.http_client import HTTPBackend
from bridges.queues.http_server import HttpServer
from bridges.queues.http_tokens import Tokens
from bridges.queues.local import LocalBackend
from bridges.queues.postgresql_client import PostgreSQLBackend
from bridges.queues.sqlite_client import STORE_FILE, SQLiteBackend
from bridges.queues.timing import Timing
from broker.queues.policy import QueuePolicy
from broker.settings.queue_tables import HttpSettings
from broker.storage.postgresql import make_engine
from broker.storage.queues.postgresql import PostgreSQLQueues
from broker.storage.salvage import salvage
from broker.storage.sqlite import SQLiteDatabase
from broker.storage.store import Store
from tests.support.fake_queues import FakeQueues

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridges.queues.backend import Backend
    from tests.support.postgresql import PostgreSQL

TOKEN = "of the tests"
MAX_BODY = 4 << 20


POLICIES = {
    "work": QueuePolicy(max_failures=3, retry_first=0.0),
    "small": QueuePolicy(max_messages=2),
}


class Door(Protocol):
    """One broker with the queue `work`, which lets messages fail three times, and `small`, which
    takes two messages.
    """

    def backend(self) -> Backend:
        """A new way in."""
        ...

    async def pass_time(self, seconds: float) -> None:
        """For the broker: leases and delays end."""
        ...


async def brief(seconds: float) -> None:
    """The client's pauses, cut short; not the time in which its last words must arrive."""
    await asyncio.sleep(seconds if seconds == FAREWELL else 0.005)


def definitions() -> list[tuple[str, str, str]]:
    """The queues as a configuration defines them."""
    return [(name, policy.to_json(), "[]") for name, policy in POLICIES.items()]


def open_queue(door: Door, name: str = "work", **options: Any) -> Queue:
    """A client that is in a hurry. Its backend is closed with it."""
    queue = Queue(
        name, backend=door.backend(), timing=Timing(sleep=brief, rng=Random(1)), **options
    )
    queue._is_ours = True
    return queue


class LocalDoor:
    """The engine's port in this process."""

    def __init__(self) -> None:
        self.queues = FakeQueues()
        for name, policy in POLICIES.items():
            self.queues.define(name, policy, [])

    def backend(self) -> Backend:
        return LocalBackend(self.queues, asyncio.get_running_loop())

    async def pass_time(self, seconds: float) -> None:
        self.queues.advance(seconds)


class HTTPDoor(LocalDoor):
    """The same behind an HTTP server."""

    port = 0
    server: HttpServer

    def backend(self) -> Backend:
        return HTTPBackend(self.url, TOKEN)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = HttpServer(LocalBackend(self.queues, loop), Tokens(TOKEN, ()), MAX_BODY)
        await self.server.listen(loop, HttpSettings(listen=f"127.0.0.1:{self.port}"))
        self.port = int(self.server.url.rpartition(":")[2])

    async def stop(self) -> None:
        await self.server.close()


@asynccontextmanager
async def http_door() -> AsyncIterator[HTTPDoor]:
    door = HTTPDoor()
    await door.start()
    try:
        yield door
    finally:
        await door.stop()


class PostgreSQLDoor:
    """A database in which a broker has been, with nobody but the client."""

    def __init__(self, server: PostgreSQL, url: str) -> None:
        self._server = server
        self.url = url

    @classmethod
    def create(cls, server: PostgreSQL) -> PostgreSQLDoor:
        door = cls(server, server.new_database())
        door.clear()
        return door

    def clear(self) -> None:
        """The queues as they are at first."""
        engine = make_engine(self.url)
        queues = PostgreSQLQueues()
        with engine.begin() as connection:
            queues.open(connection, [])
            for table in ("queued", "queue_payload", "queue_counter", "queue_seen", "queue"):
                connection.exec_driver_sql(f"DELETE FROM heliograph.{table}")
            queues.open(connection, definitions())
        engine.dispose()

    def backend(self) -> Backend:
        return PostgreSQLBackend(self.url)

    async def pass_time(self, seconds: float) -> None:
        """The instants in the table go back, for the server's clock cannot be set."""
        self._server.execute(f"UPDATE heliograph.queued SET due = due - {seconds}", self.url)
        self._server.execute("SELECT pg_notify('heliograph_queue', 'work')", self.url)


class SQLiteDoor:
    """A data folder in which a broker has been. All clients share the one backend there can be."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STORE_FILE
        self.passed = 0.0
        store = Store(SQLiteDatabase(self.path), 0, salvage)
        store.open(queues=definitions())
        store.close()
        self._backend = SQLiteBackend(folder, lambda: time.monotonic() + self.passed)

    def backend(self) -> Backend:
        return Shared(self._backend)

    async def pass_time(self, seconds: float) -> None:
        self.passed += seconds

    async def close(self) -> None:
        await self._backend.close()


class Shared:
    """A backend that outlives its clients."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    async def close(self) -> None:
        """Somebody else does."""
