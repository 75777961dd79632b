"""A server of queues on a free port over a fake engine, and a client for it."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp

from bridges.queues import http_server
from bridges.queues.http_routes import BASE
from bridges.queues.http_tokens import TOKEN_FILE, read_token
from broker.clock import Clock
from broker.settings import BrokerSettings, Settings
from broker.settings.queue_tables import HttpSettings, TokenSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridges.queues.http_server import HttpServer
    from tests.support.fake_queues import FakeQueues

MAX_BODY = 2048


@dataclass
class FakeEngine:
    queues: FakeQueues | None
    clock: Clock


def token(name: str, **values: Any) -> TokenSettings:
    """A token of the settings whose text is its name."""
    return TokenSettings(name, hashlib.sha256(name.encode()).hexdigest(), **values)


def settings_for(folder: Path, *tokens: TokenSettings, **values: Any) -> Settings:
    http = HttpSettings(
        **{"listen": "127.0.0.1:0", "max_body": MAX_BODY, "tokens": tokens} | values
    )
    return Settings(broker=BrokerSettings(data_dir=folder), http=http)


class Door:
    """The server as a client sees it; `token` is the administrator's."""

    def __init__(self, server: HttpServer, session: aiohttp.ClientSession, token: str) -> None:
        self.server = server
        self.session = session
        self.token = token

    async def ask(
        self, method: str, path: str, token: str | None = None, **values: Any
    ) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        async with self.request(method, path, token, **values) as answer:
            return answer.status, await answer.json()

    def request(self, method: str, path: str, token: str | None = None, **values: Any) -> Any:
        headers = {"Authorization": f"Bearer {token or self.token}"} | values.pop("headers", {})
        return self.session.request(
            method, self.server.url + BASE + path, headers=headers, **values
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A bare socket."""
        return await asyncio.open_connection("127.0.0.1", urlsplit(self.server.url).port)

    def head(self, line: str, *more: str) -> bytes:
        """A request's head for a bare socket."""
        lines = (line, "Host: x", f"Authorization: Bearer {self.token}", *more, "", "")
        return "\r\n".join(lines).encode()


@asynccontextmanager
async def opened(
    queues: FakeQueues, folder: Path, *tokens: TokenSettings, **values: Any
) -> AsyncIterator[Door]:
    """A running server."""
    server = await http_server.start(
        FakeEngine(queues, Clock()),
        settings_for(folder, *tokens, **values),
        asyncio.get_running_loop(),
    )
    try:
        async with aiohttp.ClientSession() as session:
            yield Door(server, session, read_token(folder / TOKEN_FILE))
    finally:
        await server.close()
