"""The folder for files of devices: bounded, and what is half there goes on."""

import asyncio
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from bridges.gateway import files
from bridges.gateway.file_channel import FileChannel
from bridges.gateway.files import Content, Folder
from bridges.serial.files import FileReceiver, FileSender, Outcome
from broker.settings import SerialSettings
from tests.unit.gateway.gateway_world import FakeLoop

DATA = bytes(range(256)) * 10


def send(folder: Folder, name: str, data: bytes, stop_after: int = 1000) -> Outcome:
    """Send a file, or a part of it."""
    sender = FileSender(1, name, len(data), sha256(data).digest(), Content(data))
    receiver = FileReceiver(folder, 10_000)
    for _ in range(stop_after):
        payload = sender.payload(100)
        if payload is None:
            break
        told = receiver.receive(payload)
        if told is not None:
            sender.receive(told)
    folder.close()
    return sender.outcome


def test_a_file_that_is_whole_has_its_name(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "files", 10_000)
    assert send(folder, "log.csv", DATA) is Outcome.DONE
    assert [each.name for each in (tmp_path / "files").iterdir()] == ["log.csv"]
    assert (tmp_path / "files" / "log.csv").read_bytes() == DATA


def test_a_file_that_was_cut_goes_on_where_it_stopped(tmp_path: Path) -> None:
    assert send(Folder(tmp_path, 10_000), "a", DATA, stop_after=10) is Outcome.UNDERWAY
    (part,) = tmp_path.iterdir()
    before = part.stat().st_size
    assert 0 < before < len(DATA)
    receiver = FileReceiver(again := Folder(tmp_path, 10_000), 10_000)
    sender = FileSender(2, "a", len(DATA), sha256(DATA).digest(), Content(DATA))
    sender.receive(receiver.receive(sender.payload(100) or b"") or b"")
    assert sender.offset == before
    again.close()
    assert send(Folder(tmp_path, 10_000), "a", DATA) is Outcome.DONE


def test_a_folder_that_would_be_too_full_refuses(tmp_path: Path) -> None:
    folder = Folder(tmp_path, 3000)
    assert send(folder, "a", DATA) is Outcome.DONE
    assert send(folder, "b", DATA) is Outcome.REFUSED


def test_a_folder_that_cannot_be_made_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert send(Folder(tmp_path / "file" / "folder", 10_000), "a", DATA) is Outcome.REFUSED


def test_files_without_a_byte_are_not_without_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 10)
    for number in range(20):
        send(Folder(tmp_path, 10_000), f"{number}", b"")
    assert len(list(tmp_path.iterdir())) == 10


def test_what_was_never_finished_makes_room_the_oldest_first(tmp_path: Path) -> None:
    parts = []
    for number in range(3):
        data = bytes((number,)) * 900
        assert send(Folder(tmp_path, 3000), f"{number}", data, stop_after=8) is Outcome.UNDERWAY
        parts.append(tmp_path / f".{sha256(data).hexdigest()}.part")
        os.utime(parts[-1], (number, number))
    assert [part.stat().st_size for part in parts] == [658, 658, 658]
    assert send(Folder(tmp_path, 3000), "new", bytes(2000)) is Outcome.DONE
    assert [part.exists() for part in parts] == [False, False, True]


class Digest:
    """A SHA-256 that counts what it is given."""

    digested = 0

    def __init__(self, data: bytes = b"") -> None:
        self._real = sha256(data)

    def update(self, data: bytes) -> None:
        Digest.digested += len(data)
        self._real.update(data)

    def digest(self) -> bytes:
        return self._real.digest()


def test_a_large_file_is_digested_a_piece_in_each_turn_of_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "sha256", Digest)
    monkeypatch.setattr(Digest, "digested", 0)
    data = bytes(range(256)) * (3 * files.PIECE // 256) + b"end"
    loop: Any = FakeLoop()
    channel = FileChannel(SerialSettings("/dev/x"), tmp_path, loop, lambda *_: None, lambda: None)
    assert channel.send("app.bin", data, lambda _: None) == ""
    turns = [Digest.digested]
    while loop.soon:
        assert channel.payload(100, 0.0) is None
        channel.receive(b"\x02\x01\0\0\0\0", 0.0)  # it has another file in mind
        channel.restart()
        before, calls, loop.soon = Digest.digested, loop.soon, []
        for call in calls:
            call()
        turns.append(Digest.digested - before)
    assert turns == [files.PIECE] * 3 + [3]
    assert files.PIECE <= 64 << 10
    assert channel.payload(100, 0.0) == FileSender(
        *(1, "app.bin", len(data), sha256(data).digest(), Content(data))
    ).payload(100)
    channel.close()


def test_a_file_that_is_being_digested_when_the_gateway_stops_is_over(tmp_path: Path) -> None:
    loop: Any = FakeLoop()
    ends: list[str] = []
    channel = FileChannel(SerialSettings("/dev/x"), tmp_path, loop, lambda *_: None, lambda: None)
    channel.send("app.bin", bytes(3 * files.PIECE), lambda each: ends.append(each.text))
    channel.close()
    loop.run()
    assert len(ends) == 1
    assert "stopped" in ends[0]
    assert channel.payload(100, 0.0) is None


class Slowly:
    """An executor that works when the test says so."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.work: list[tuple[Callable[[], None], asyncio.Future[None]]] = []
        self.time = loop.time
        self._loop = loop

    def run_in_executor(self, _: None, work: Callable[[], None]) -> asyncio.Future[None]:
        self.work.append((work, self._loop.create_future()))
        return self.work[-1][1]

    async def finish(self) -> None:
        work, future = self.work.pop()
        try:
            work()
        except OSError as error:
            future.set_exception(error)
        else:
            future.set_result(None)
        await asyncio.sleep(0)


def offered(name: str, data: bytes) -> bytes:
    sender = FileSender(1, name, len(data), sha256(data).digest(), Content(data))
    return sender.payload(100) or b""


async def test_a_device_hears_that_a_file_is_there_when_the_disk_has_it(tmp_path: Path) -> None:
    slowly: Any = Slowly(asyncio.get_running_loop())
    port = SerialSettings("/dev/x", take_files=True)
    woken: list[None] = []
    channel = FileChannel(port, tmp_path, slowly, lambda *_: None, lambda: woken.append(None))
    channel.receive(offered("a", b""), 0.0)
    channel.receive(offered("b", b"x"), 0.0)  # while the first one is being synced
    assert channel.payload(100, 0.0) is None
    await slowly.finish()
    assert channel.payload(100, 0.0) == bytes((4, 1, Outcome.DONE))
    assert channel.payload(100, 0.0) == bytes((2, 1, 0, 0, 0, 0))
    assert woken
    channel.close()


async def test_a_device_hears_that_a_file_could_not_get_its_name(tmp_path: Path) -> None:
    slowly: Any = Slowly(asyncio.get_running_loop())
    port = SerialSettings("/dev/x", take_files=True)
    channel = FileChannel(port, tmp_path, slowly, lambda *_: None, lambda: None)
    (tmp_path / "a").mkdir()
    channel.receive(offered("a", b""), 0.0)
    await slowly.finish()
    assert channel.payload(100, 0.0) == bytes((4, 1, Outcome.REFUSED))
    channel.close()
