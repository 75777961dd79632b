"""Where a broker elsewhere is, and how it is reached again."""

import asyncio
import contextlib
from random import Random

import pytest

from bridges.gateway import remote_broker
from bridges.gateway.remote_broker import MOST_EARLY, Place, RemoteBroker, parse_broker
from bridges.mqttsn.ports import Identity, Opening


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("mqtt://host", Place("host", 1883, False)),
        ("mqtts://host", Place("host", 8883, True)),
        ("mqtt://me:p%40ss@[::1]:1234/", Place("::1", 1234, False, "me", b"p@ss")),
    ],
)
def test_a_url_says_where_the_broker_is(url: str, place: Place) -> None:
    assert parse_broker(url) == place


@pytest.mark.parametrize(
    "url", ["host", "tcp://host", "mqtt://", "mqtt://host/x", "mqtt://a:b@c:d"]
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="write") as caught:
        parse_broker(url)
    assert "a:b" not in str(caught.value)


class Heard:
    """A Receiver of few words."""

    def __init__(self) -> None:
        self.refused = asyncio.Event()

    def on_refused(self, reason: int) -> None:
        self.refused.set()


async def test_a_broker_that_is_not_there_refuses_the_first_session() -> None:
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    side = RemoteBroker(Place("127.0.0.1", port, False), None, 60, loop, Random(1))
    heard = Heard()
    side.sessions("").open(Opening(Identity("dev")), heard)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await heard.refused.wait()
    side.close()


async def test_a_broker_that_has_just_answered_may_still_read_what_has_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered, left = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    side = RemoteBroker(Place("127.0.0.1", port, False), None, 60, loop, Random(1))
    pipe = side.stream("", lambda _: answered.set())
    async with asyncio.timeout(10):
        await answered.wait()
    monkeypatch.setattr(remote_broker, "READING", 60.0)
    assert pipe.has_more()
    monkeypatch.setattr(remote_broker, "READING", 0.0)
    assert not pipe.has_more()
    side.close()
    await left.wait()
    server.close()
    await server.wait_closed()


def test_pauses_grow_up_to_a_limit_and_begin_anew_after_a_connection_that_lasts() -> None:
    loop = asyncio.new_event_loop()
    side = RemoteBroker(Place("host", 1, False), None, 60, loop, Random(1))
    pauses = [side.failed(None, "gone") for _ in range(30)]  # type: ignore[arg-type]
    assert pauses[0] < 1
    assert 15 <= pauses[-1] <= 45
    side.worked()
    assert side.failed(None, "gone") < 1  # type: ignore[arg-type]
    side.close()
    loop.close()


async def test_a_broker_that_comes_back_is_told_everything_again() -> None:
    loop = asyncio.get_running_loop()
    side = RemoteBroker(Place("127.0.0.1", 9, False), None, 60, loop, Random(1))
    calls: list[str] = []
    side.on_forgotten = lambda: calls.append("forgotten")
    side._speaker.on_opened(False)
    assert calls == ["forgotten"]
    side.close()


async def test_a_stream_that_says_too_much_before_the_broker_is_there_is_broken() -> None:
    loop = asyncio.get_running_loop()
    side = RemoteBroker(Place("127.0.0.1", 9, False), None, 60, loop, Random(1))
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    stream = side.stream("barn", heard.put_nowait)
    while heard.empty():
        stream.send(bytes(4096))
        assert len(stream._out) * 4096 <= MOST_EARLY
        await asyncio.sleep(0)
    assert heard.get_nowait() == b""
    side.close()


async def test_a_host_that_cannot_be_a_name_is_tried_again_as_any_other() -> None:
    loop = asyncio.get_running_loop()
    side = RemoteBroker(Place("a..b", 1883, False), None, 60, loop, Random(1))
    heard = Heard()
    side.sessions("").open(Opening(Identity("dev")), heard)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await heard.refused.wait()
    side.close()


async def test_a_broker_that_says_nothing_is_asked_in_both_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            tried.append((await reader.readexactly(9))[8])  # the protocol level
            await reader.read()
        writer.close()

    monkeypatch.setattr(remote_broker, "FIRST_PATIENCE", 0.05)
    monkeypatch.setattr(remote_broker, "FIRST_PAUSE", 0.0)
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    side = RemoteBroker(Place("127.0.0.1", port, False), None, 60, loop, Random(1))
    heard = Heard()
    side.sessions("").open(Opening(Identity("dev")), heard)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await heard.refused.wait()
    assert tried == [5, 5, 4, 4]
    assert side.patience > 0.05
    side.close()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("closes", [True, False])
async def test_a_pipe_knows_whether_the_broker_has_closed_it(closes: bool) -> None:
    connected, lost = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        if not closes:
            await reader.read()
        writer.close()

    def heard(data: bytes) -> None:
        (connected if data else lost).set()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    side = RemoteBroker(Place("127.0.0.1", port, False), None, 60, loop, Random(1))
    pipe = side.stream("", heard)
    async with asyncio.timeout(10):
        await connected.wait()
        if not closes:
            pipe._abort()  # as when it is silent for too long
        await lost.wait()
    assert pipe.was_closed() is closes
    side.close()
    server.close()
    await server.wait_closed()
