"""The Python client and the HTTP door: what goes wrong on the way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridges.queues.backend import QueueError
from bridges.queues.client import Queue
from bridges.queues.http_client import HTTPBackend
from tests.integration.python_doors import TOKEN, HTTPDoor, http_door, open_queue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def door() -> AsyncIterator[HTTPDoor]:
    async with asyncio.timeout(30), http_door() as made:
        yield made


async def test_consumers_outlive_a_restart_of_the_broker(door: HTTPDoor) -> None:
    async with open_queue(door) as queue:
        messages = queue.consume(lease=600)
        await queue.publish("before")
        first = await anext(messages)
        waiting = asyncio.create_task(anext(messages))
        await door.stop()
        ack = asyncio.create_task(first.ack())
        await door.start()
        await ack
        async with open_queue(door) as other:
            await other.publish("after")
        assert (await waiting).text() == "after"


async def test_a_publish_that_reaches_nobody_says_so(door: HTTPDoor) -> None:
    await door.stop()
    async with open_queue(door) as queue:
        with pytest.raises(QueueError, match=r"no broker answers at http://127.0.0.1:\d+") as told:
            await queue.publish("x")
        assert told.value.code == "unavailable"
    await door.start()


async def test_a_wrong_token_ends_the_waiting_at_once(door: HTTPDoor) -> None:
    async with Queue("work", door.url, token="of somebody else") as queue:
        with pytest.raises(QueueError) as told:
            await anext(queue.consume())
        assert told.value.code == "no_token"


async def test_url_and_token_come_from_the_environment(
    door: HTTPDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELIOGRAPH_QUEUES_URL", door.url + "/")
    monkeypatch.setenv("HELIOGRAPH_TOKEN", TOKEN)
    async with Queue("work") as queue:
        await queue.publish("x")
        assert (await queue.stats()).ready == 1


async def serve(answer: bytes) -> tuple[asyncio.Server, str]:
    """One who answers everything with these bytes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (http("502 Bad Gateway", b"<html>"), "unavailable"),
        (http("503 Busy", b'{"error": "unavailable", "message": "later"}'), "unavailable"),
        (http("404 Not Found", b"<html>"), "bad_answer"),
        (http("302 Found", b"{}"), "bad_answer"),
        (http("200 OK", b"[]"), "bad_answer"),
        (http("200 OK", b"[" * 100_000), "bad_answer"),
        (http("200 OK", b'{"messages": 7}'), "bad_answer"),
        (http("200 OK", b'{"messages": [{"id": 1}]}'), "bad_answer"),
        (http("200 OK", b'{"messages": [{"payload_base64": "?"}]}'), "bad_answer"),
        (b"SSH-2.0-OpenSSH\r\n", "unavailable"),
        (b"", "unavailable"),
    ],
)
async def test_what_is_no_broker_is_told(answer: bytes, code: str) -> None:
    server, url = await serve(answer)
    backend = HTTPBackend(url)
    try:
        with pytest.raises(QueueError) as told:
            await backend.receive("work", "me")
        assert told.value.code == code
    finally:
        await backend.close()
        server.close()


async def test_the_token_follows_no_redirection(door: HTTPDoor) -> None:
    server, url = await serve(
        b"HTTP/1.1 307 Elsewhere\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % door.url.encode()
    )
    async with Queue("work", url, token=TOKEN) as queue:
        with pytest.raises(QueueError, match="status 307"):
            await queue.publish("x")
    server.close()
    assert door.queues.of("work") == []


@pytest.mark.parametrize("url", ["ftp://host", "http://", "http://user:word@host", "work"])
def test_urls_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(QueueError):
        Queue("work", url)
