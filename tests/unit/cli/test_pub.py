"""heliograph pub: what it sends for its options, and what its exit code says."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from broker.cli import conversation, pub
from broker.cli.client import ConnectionLostError
from broker.cli.options import PUB_OPTIONS, parse
from broker.packets.codes import MQTT_5, ReasonCode
from broker.packets.properties import Property
from broker.packets.types import Connack, Connect, Disconnect, Packet, Puback, Publish
from tests.unit.cli.scripted_broker import PATIENCE, ScriptedBroker


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> ScriptedBroker:
    """The broker that `pub` finds, which has already accepted the connection."""
    scripted = ScriptedBroker(MQTT_5)

    async def open_pipe(_: object) -> ScriptedBroker:
        return scripted

    monkeypatch.setattr(conversation, "open_pipe", open_pipe)
    scripted.say(Connack())
    return scripted


async def publish(line: str) -> int:
    options = parse(PUB_OPTIONS, ["-V", "5", *line.split()])
    pub.check(options)
    async with asyncio.timeout(PATIENCE):
        return await pub.work(options)


async def sent(broker: ScriptedBroker) -> list[Packet]:
    """What was published, between CONNECT and DISCONNECT."""
    packets = [broker.from_client.get_nowait() for _ in range(broker.from_client.qsize())]
    assert isinstance(packets[0], Connect)
    assert isinstance(packets[-1], Disconnect)
    return packets[1:-1]


@pytest.fixture
def stdin_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """A file that is standard input; `seek(0)` after writing."""
    with (tmp_path / "stdin").open("w+b") as file:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=file))
        yield file


@pytest.fixture
def stdin_pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """Our end of a pipe whose other end is standard input."""
    theirs, ours = os.pipe()
    with os.fdopen(theirs, "rb") as reader, os.fdopen(ours, "wb", buffering=0) as writer:
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=reader))
        yield writer


async def test_a_message_is_published_with_its_flags_and_properties(broker: ScriptedBroker) -> None:
    assert await publish("-t a/b -m x -r -D publish content-type t") == 0
    properties = {Property.CONTENT_TYPE: "t"}
    assert await sent(broker) == [Publish("a/b", b"x", retain=True, properties=properties)]


async def test_a_null_message_is_empty(broker: ScriptedBroker) -> None:
    await publish("-t a -n -r")
    assert await sent(broker) == [Publish("a", b"", retain=True)]


async def test_a_file_is_sent_as_it_is(broker: ScriptedBroker, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"\0\xff\n")
    await publish(f"-t a -f {path}")
    assert await sent(broker) == [Publish("a", b"\0\xff\n")]


async def test_a_file_that_is_not_there_is_told_before_connecting(
    broker: ScriptedBroker, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        await publish(f"-t a -f {tmp_path / 'none'}")
    assert broker.from_client.empty()


async def test_standard_input_is_one_message(broker: ScriptedBroker, stdin_file: BinaryIO) -> None:
    stdin_file.write(b"one\ntwo\n")
    stdin_file.seek(0)
    await publish("-t a -s")
    assert await sent(broker) == [Publish("a", b"one\ntwo\n")]


async def test_each_line_of_a_file_is_a_message(
    broker: ScriptedBroker, stdin_file: BinaryIO
) -> None:
    stdin_file.write(b"one\r\n\ntwo")
    stdin_file.seek(0)
    await publish("-t a -l")
    assert await sent(broker) == [Publish("a", b"one"), Publish("a", b""), Publish("a", b"two")]


async def test_each_line_of_a_pipe_is_a_message_as_soon_as_it_comes(
    broker: ScriptedBroker, stdin_pipe: BinaryIO
) -> None:
    work = asyncio.create_task(publish("-t a -l"))
    stdin_pipe.write(b"one\ntw")
    assert isinstance(await broker.hear(), Connect)
    assert await broker.hear() == Publish("a", b"one")
    stdin_pipe.write(b"o\n")
    assert await broker.hear() == Publish("a", b"two")
    stdin_pipe.close()
    assert await work == 0


async def test_a_lost_connection_ends_the_wait_for_the_next_line(
    broker: ScriptedBroker, stdin_pipe: BinaryIO
) -> None:
    work = asyncio.create_task(publish("-t a -l"))
    stdin_pipe.write(b"one\n")
    await broker.hear()
    await broker.hear()
    broker.hang_up()
    with pytest.raises(ConnectionLostError):
        await work


async def test_a_message_can_be_repeated(broker: ScriptedBroker) -> None:
    await publish("-t a -m x --repeat 3 --repeat-delay 0")
    assert await sent(broker) == [Publish("a", b"x")] * 3


async def test_it_waits_for_the_acknowledgement_before_it_leaves(broker: ScriptedBroker) -> None:
    work = asyncio.create_task(publish("-t a -m x -q 1"))
    assert isinstance(await broker.hear(), Connect)
    assert await broker.hear() == Publish("a", b"x", qos=1, packet_id=1)
    assert not work.done()
    broker.say(Puback(1))
    assert await work == 0
    assert isinstance(await broker.hear(), Disconnect)


async def test_a_message_that_is_not_accepted_is_the_exit_code(
    broker: ScriptedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answers[Publish] = [Puback(1, ReasonCode.QUOTA_EXCEEDED)]
    assert await publish("-t a -m x -q 1") == ReasonCode.QUOTA_EXCEEDED
    assert "not accepted: quota exceeded" in capsys.readouterr().err
