"""The doors that the Python client goes through in tests: one broker each, as far as the client can
see, with a queue named `work` and a clock that the test can move on.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from bridges.queues.client import Queue
from bridges.queues.http_client import HTTPBackend
from bridges.queues.http_server import HttpServer
from bridges.queues.http_tokens import Tokens
from bridges.queues.local import LocalBackend
from bridges.queues.timing import Timing
from broker.settings.queue_tables import HttpSettings
from tests.support.fake_queues import FakeQueues

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridges.queues.backend import Backend

TOKEN = "of the tests"
MAX_BODY = 4 << 20


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


async def brief(_: float) -> None:
    """The client's pauses, cut short."""
    await asyncio.sleep(0.005)


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
        self.queues = FakeQueues("work", max_failures=3, retry_first=0.0)
        self.queues.define("small", FakeQueues("small", max_messages=2).policies["small"], [])

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
