"""The file of the gateway: what was confirmed is there, whatever happens; nothing else is."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from bridges.gateway import keeping_notebook, keeping_tables, keeping_writer
from bridges.gateway.keeping import Decision, Keeping, Waiting
from bridges.gateway.keeping_file import KeepingError
from bridges.mqttsn.ports import Address, Note, Stage, Will

if TYPE_CHECKING:
    from pathlib import Path

    from bridges.gateway.keeping_notebook import KeptNotebook

PATIENCE = 20.0  # seconds; only what hangs takes so long


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


def opened(path: Path) -> Keeping:
    return Keeping(path, asyncio.get_running_loop())


def note(client_id: str, stage: Stage = Stage.ACTIVE, will: Will | None = None) -> Note:
    return Note(client_id, Address("wire", b"\x07"), stage, False, 60, 300, will)


async def troubled(keeping: Keeping) -> None:
    async with asyncio.timeout(PATIENCE):
        while not keeping.trouble:  # noqa: ASYNC110  the thread tells nobody
            await asyncio.sleep(0.001)


async def registered(notebook: KeptNotebook, client_id: str, topic_id: int, name: str) -> None:
    kept = asyncio.Event()
    notebook.add_topic(client_id, topic_id, name, kept.set)
    async with asyncio.timeout(PATIENCE):
        await kept.wait()


async def test_notes_and_topics_survive_a_restart(path: Path) -> None:
    keeping = opened(path)
    will = Will("dev/lost", b"\x00gone", 2, retain=True)
    keeping.notebook("usb").write(note("dev", Stage.ASLEEP, will))
    await registered(keeping.notebook("usb"), "dev", 1, "temp/1")
    await registered(keeping.notebook("usb"), "dev", 65_534, "t\u00e4st/2")
    await registered(keeping.notebook("udp"), "dev", 1, "elsewhere")
    await keeping.close()
    again = opened(path)
    assert again.notebook("usb").read("dev") == note("dev", Stage.ASLEEP, will)
    assert list(again.notebook("usb").notes()) == [note("dev", Stage.ASLEEP, will)]
    assert again.notebook("usb").topics("dev") == {1: "temp/1", 65_534: "t\u00e4st/2"}
    assert again.notebook("udp").topics("dev") == {1: "elsewhere"}
    assert again.notebook("udp").read("dev") is None
    await again.close()


async def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    keeping = opened(path)
    await registered(keeping.notebook("usb"), "dev", 1, "temp/1")
    for each in path.parent.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
    await keeping.close()


async def test_a_registration_is_confirmed_after_its_commit_and_not_while_it_is_asked_for(
    path: Path,
) -> None:
    keeping = opened(path)
    notebook = keeping.notebook("usb")
    called: list[str] = []
    notebook.add_topic("dev", 1, "temp/1", lambda: called.append("first"))
    notebook.add_topic("dev", 1, "temp/1", lambda: called.append("again"))
    assert called == []
    assert notebook.topics("dev") == {1: "temp/1"}
    await registered(notebook, "dev", 2, "temp/2")
    assert called == ["first", "again"]
    with sqlite3.connect(path) as reader:
        assert reader.execute("SELECT count(*) FROM topic").fetchone() == (2,)
    reader.close()
    await keeping.close()


async def test_what_is_kept_already_is_confirmed_at_once_and_not_written_again(path: Path) -> None:
    keeping = opened(path)
    notebook = keeping.notebook("usb")
    notebook.write(note("dev"))
    await registered(notebook, "dev", 1, "temp/1")
    commits = keeping.commits
    called: list[int] = []
    notebook.add_topic("dev", 1, "temp/1", lambda: called.append(1))
    notebook.write(note("dev"))
    assert called == [1]
    await keeping.close()
    assert keeping.commits == commits


async def test_all_that_was_written_is_safe_when_it_is_said_to_be(path: Path) -> None:
    keeping = opened(path)
    notebook = keeping.notebook("usb")
    for number in range(100):
        notebook.write(note(f"dev{number}"))
    safe = asyncio.Event()
    notebook.when_kept(safe.set)
    async with asyncio.timeout(PATIENCE):
        await safe.wait()
    with sqlite3.connect(path) as reader:
        assert reader.execute("SELECT count(*) FROM note").fetchone() == (100,)
    reader.close()
    commits = keeping.commits
    safe.clear()
    notebook.when_kept(safe.set)
    async with asyncio.timeout(PATIENCE):
        await safe.wait()
    assert keeping.commits == commits
    await keeping.close()


async def test_a_forgotten_device_is_gone_and_who_waited_hears_nothing(path: Path) -> None:
    keeping = opened(path)
    notebook = keeping.notebook("usb")
    called: list[str] = []
    notebook.write(note("dev"))
    notebook.add_topic("dev", 1, "old", lambda: called.append("old"))
    notebook.forget("dev")
    notebook.add_topic("dev", 1, "new", lambda: called.append("new"))
    await registered(notebook, "other", 1, "x")
    await keeping.close()
    assert called == ["new"]
    again = opened(path)
    assert again.notebook("usb").read("dev") is None
    assert again.notebook("usb").topics("dev") == {1: "new"}
    await again.close()


async def test_what_was_kept_of_a_forgotten_device_is_gone_for_good(path: Path) -> None:
    keeping = opened(path)
    for gateway in ("usb", "udp"):
        keeping.notebook(gateway).write(note("dev"))
        await registered(keeping.notebook(gateway), "dev", 1, "temp/1")
    keeping.notebook("usb").forget("dev")
    await registered(keeping.notebook("usb"), "other", 1, "x")
    await keeping.close()
    again = opened(path)
    assert again.notebook("usb").read("dev") is None
    assert again.notebook("usb").topics("dev") == {}
    assert again.notebook("udp").topics("dev") == {1: "temp/1"}
    assert again.notebook("udp").read("dev") == note("dev")
    await again.close()


async def test_a_commit_of_what_an_id_meant_before_confirms_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = [threading.Event(), threading.Event()]
    started = [threading.Event(), threading.Event()]
    turns = iter(zip(started, gate, strict=True))
    write = keeping_writer.File.write

    def gated(self: keeping_writer.File, batch: keeping_writer.Pending) -> None:
        begun, may_go = next(turns)
        begun.set()
        assert may_go.wait(PATIENCE)
        write(self, batch)

    monkeypatch.setattr(keeping_writer.File, "write", gated)
    keeping = opened(path)
    notebook = keeping.notebook("usb")
    called: list[str] = []
    notebook.add_topic("dev", 1, "old", lambda: called.append("old"))
    await asyncio.to_thread(started[0].wait, PATIENCE)
    notebook.forget("dev")
    notebook.add_topic("dev", 1, "new", lambda: called.append("new"))
    gate[0].set()
    await asyncio.to_thread(started[1].wait, PATIENCE)  # the first commit has been reported
    assert called == []
    gate[1].set()
    await keeping.close()
    assert called == ["new"]


async def test_devices_that_are_away_are_bounded_and_the_longest_away_is_forgotten(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping_notebook, "MOST_AWAY", 3)
    keeping = opened(path)
    notebook = keeping.notebook("usb")
    notebook.write(note("here"))
    for number in range(6):
        notebook.write(note(f"dev{number}", Stage.AWAY))
    notebook.write(note("dev3", Stage.ACTIVE))
    notebook.write(note("dev3", Stage.AWAY))
    notebook.write(note("dev6", Stage.AWAY))
    await keeping.close()
    again = opened(path)
    known = [each.client_id for each in again.notebook("usb").notes()]
    assert known == ["here", "dev5", "dev3", "dev6"]
    again.notebook("usb").write(note("dev7", Stage.AWAY))
    assert again.notebook("usb").read("dev5") is None  # the order has survived
    await again.close()


async def test_what_is_known_of_devices_that_are_away_is_bounded_in_bytes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping_notebook, "MOST_BYTES", 10_000)
    keeping = opened(path)
    notebook = keeping.notebook("usb")
    for number in range(50):
        notebook.write(note(f"dev{number}"))
        await registered(notebook, f"dev{number}", 1, "t" * 1000)
        notebook.write(note(f"dev{number}", Stage.AWAY))
    known = [each.client_id for each in notebook.notes()]
    assert known == [f"dev{number}" for number in range(43, 50)]
    await keeping.close()


async def test_decisions_bauds_and_the_quarantine_survive_a_restart(path: Path) -> None:
    keeping = opened(path)
    keeping.wait(Waiting("known", "usb", "wire/07", 1, 5.0))
    keeping.wait(Waiting("stranger", "usb", "wire/07", 3, 17.5))
    keeping.accept("known", "wire/*")
    keeping.accept("everywhere")
    keeping.reject("bad")
    keeping.accept("undone")
    assert keeping.undecide("undone")
    assert not keeping.undecide("never")
    keeping.bauds.remember("uid", 57_600)
    keeping.bauds.remember("uid", 115_200)
    await keeping.close()
    again = opened(path)
    assert again.decisions == {
        "known": Decision("known", "accepted", "wire/*"),
        "everywhere": Decision("everywhere", "accepted"),
        "bad": Decision("bad", "rejected"),
    }
    assert again.quarantine == {"stranger": Waiting("stranger", "usb", "wire/07", 3, 17.5)}
    assert again.bauds.recall("uid") == 115_200
    assert again.bauds.recall("other") is None
    await again.close()


async def test_bauds_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridges.gateway.keeping.MOST_BAUDS", 2)
    keeping = opened(path)
    for number in range(5):
        keeping.bauds.remember(f"uid{number}", 9600 + number)
    await keeping.close()
    again = opened(path)
    assert [again.bauds.recall(f"uid{each}") for each in range(5)] == [None, None, None, 9603, 9604]
    await again.close()


async def test_what_gathers_during_a_commit_goes_with_the_next_one(path: Path) -> None:
    keeping = opened(path)
    notebook = keeping.notebook("usb")
    kept: list[int] = []
    for number in range(1, 1001):
        notebook.add_topic("dev", number, f"t/{number}", lambda each=number: kept.append(each))
    await registered(notebook, "dev", 1001, "last")
    assert kept == list(range(1, 1001))
    assert keeping.commits < 100
    await keeping.close()


# ---- trouble ----


async def test_a_second_gateway_is_refused_and_told_what_to_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.storage.sqlite.LONGEST_LOCK", 0.1)
    keeping = opened(path)
    with pytest.raises(KeepingError, match=r"another gateway uses .* folder of its own"):
        opened(path)
    await registered(keeping.notebook("usb"), "dev", 1, "temp/1")
    await keeping.close()


@pytest.mark.parametrize("damage", ["garbage", "empty", "foreign", "page"])
async def test_a_damaged_file_is_moved_aside_loudly(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    keeping = opened(path)
    for number in range(1, 200):
        keeping.notebook("usb").add_topic("dev", number, f"some/long/topic/{number}", lambda: None)
    await registered(keeping.notebook("usb"), "dev", 200, "last")
    keeping.accept("dev")
    await keeping.close()
    DAMAGES[damage](path)
    again = opened(path)
    assert again.notebook("usb").topics("dev") == {}
    await registered(again.notebook("usb"), "dev", 1, "temp/1")
    await again.close()
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "is damaged" in record.getMessage()
    assert "register their topics again" in record.getMessage()
    assert list(path.parent.glob("gateway.db.damaged-*"))
    third = opened(path)
    assert third.notebook("usb").topics("dev") == {1: "temp/1"}
    assert (third.decisions == {"dev": Decision("dev", "accepted")}) is (damage == "page")
    await third.close()


def make_foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (name)")
    other.close()


def damage_topics(path: Path) -> None:
    """Overwrite the pages with topics."""
    data = bytearray(path.read_bytes())
    for page in range(0, len(data), 4096):
        if data[page : page + 4096].count(b"some/long/topic") > 5:
            data[page : page + 4096] = b"\xa5" * 4096
    path.write_bytes(data)


DAMAGES = {
    "garbage": lambda path: path.write_bytes(b"\x5a" * 50_000),
    "empty": lambda path: path.write_bytes(b""),
    "foreign": make_foreign,
    "page": damage_topics,
}


async def test_a_row_that_makes_no_sense_is_damage(path: Path) -> None:
    keeping = opened(path)
    keeping.notebook("usb").write(note("dev"))
    keeping.accept("dev")
    await keeping.close()
    with sqlite3.connect(path) as editor:
        editor.execute("UPDATE note SET stage = 'dreaming'")
    editor.close()
    again = opened(path)
    assert again.notebook("usb").read("dev") is None
    assert again.decisions == {"dev": Decision("dev", "accepted")}
    await again.close()


def contents(path: Path) -> bytes:
    return path.read_bytes()


def write_flipped(path: Path, sound: bytes, rng: random.Random) -> None:
    data = bytearray(sound)
    for _ in range(rng.choice([1, 10, 1000])):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data)


async def test_whatever_is_flipped_in_the_file_the_gateway_starts(path: Path) -> None:
    keeping = opened(path)
    for number in range(100):
        keeping.notebook("usb").write(note(f"dev{number}", Stage.AWAY))
        keeping.notebook("usb").add_topic(f"dev{number}", 1, "topic" * 10, lambda: None)
    keeping.accept("dev1")
    await keeping.close()
    sound = contents(path)
    rng = random.Random(7)
    for _ in range(10):
        write_flipped(path, sound, rng)
        again = opened(path)
        await registered(again.notebook("new"), "dev", 1, "temp/1")
        await again.close()
        for each in path.parent.iterdir():
            each.unlink()


async def test_a_file_of_an_older_version_is_taken_along(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = opened(path)
    await registered(keeping.notebook("usb"), "dev", 1, "temp/1")
    await keeping.close()
    added = "ALTER TABLE told ADD COLUMN since FLOAT"
    monkeypatch.setattr(keeping_tables, "VERSION", 2)
    monkeypatch.setattr(
        keeping_tables, "MIGRATIONS", {1: lambda connection: connection.exec_driver_sql(added)}
    )
    again = opened(path)
    assert again.notebook("usb").topics("dev") == {1: "temp/1"}
    await again.close()
    with sqlite3.connect(path) as reader:
        assert reader.execute("PRAGMA user_version").fetchone() == (2,)
        reader.execute("SELECT since FROM told")
    reader.close()


async def test_a_file_of_a_newer_version_is_moved_aside_whole(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeping = opened(path)
    await registered(keeping.notebook("usb"), "dev", 1, "temp/1")
    await keeping.close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    again = opened(path)
    assert again.notebook("usb").topics("dev") == {}
    await again.close()
    assert "newer Heliograph" in caplog.text
    (aside,) = path.parent.glob("gateway.db.newer-*")
    with sqlite3.connect(aside) as kept:
        assert kept.execute("SELECT name FROM topic").fetchall() == [("temp/1",)]
    kept.close()


async def test_a_folder_that_cannot_be_written_to_is_refused_with_a_sentence(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KeepingError, match="writable"):
        opened(tmp_path / "file" / "gateway.db")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A disk that is full while the list says so."""
    is_full = [False]
    write = keeping_writer.File.write

    def refused(self: keeping_writer.File, batch: keeping_writer.Pending) -> None:
        if is_full[0]:
            raise keeping_writer.Trouble("full", "database or disk is full")
        write(self, batch)

    monkeypatch.setattr(keeping_writer.File, "write", refused)
    monkeypatch.setattr(keeping_writer, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(keeping_writer, "LONGEST_PAUSE", 0.02)
    return is_full


async def test_on_a_full_disk_nothing_is_confirmed_and_nothing_is_lost(
    path: Path, full_disk: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    keeping = opened(path)
    notebook = keeping.notebook("usb")
    full_disk[0] = True
    called: list[int] = []
    for number in range(1, 50):
        notebook.add_topic("dev", number, f"t/{number}", lambda each=number: called.append(each))
        await asyncio.sleep(0)
    await troubled(keeping)
    for _ in range(100):
        notebook.add_topic("dev", 1, "t/1", lambda: called.append(1))  # a device that repeats
    notebook.forget("dev2")
    assert called == []
    full_disk[0] = False
    await registered(notebook, "dev", 50, "t/50")
    assert set(called) == set(range(1, 50))
    assert called.count(1) <= keeping_notebook.MOST_WAITING
    assert keeping.trouble == ""
    await keeping.close()
    again = opened(path)
    assert len(again.notebook("usb").topics("dev")) == 50
    await again.close()
    assert caplog.text.count("cannot be written") == 1
    assert caplog.text.count("can be written again") == 1


async def test_devices_that_come_and_go_during_trouble_take_bounded_memory(
    path: Path, full_disk: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridges.gateway.keeping_pending.MOST_PENDING", 10)
    keeping = opened(path)
    notebook = keeping.notebook("usb")
    full_disk[0] = True
    for number in range(1000):
        notebook.write(note(f"dev{number}"))
        notebook.forget(f"dev{number}")
    assert len(keeping._writer._pending.devices) <= 10
    full_disk[0] = False
    await keeping.close()


async def test_what_there_was_no_room_for_is_kept_when_it_is_asked_for_again(
    path: Path, full_disk: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridges.gateway.keeping_pending.MOST_PENDING", 10)
    monkeypatch.setattr(keeping_writer, "FIRST_PAUSE", 0.2)  # it is not tried in between
    keeping = opened(path)
    notebook = keeping.notebook("usb")
    full_disk[0] = True
    for number in range(100):
        notebook.write(note(f"dev{number}"))
    await troubled(keeping)
    notebook.write(note("late"))
    notebook.add_topic("late", 1, "t/1", lambda: None)
    assert notebook.read("late") is None
    assert "late" not in notebook._waiting
    full_disk[0] = False
    await registered(notebook, "dev0", 1, "t/1")
    notebook.write(note("late"))
    await registered(notebook, "late", 1, "t/1")
    await keeping.close()
    again = opened(path)
    assert again.notebook("usb").read("late") == note("late")
    assert again.notebook("usb").topics("late") == {1: "t/1"}
    await again.close()


async def test_an_error_of_ours_is_loud_and_confirms_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: keeping_writer.File, batch: keeping_writer.Pending) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(keeping_writer.File, "write", broken)
    keeping = opened(path)
    called: list[int] = []
    keeping.notebook("usb").add_topic("dev", 1, "t", lambda: called.append(1))
    await troubled(keeping)
    async with asyncio.timeout(PATIENCE):
        await keeping.close()
    assert called == []
    assert "restart the gateway" in caplog.text


async def test_closing_on_a_full_disk_ends(path: Path, full_disk: list[bool]) -> None:
    keeping = opened(path)
    full_disk[0] = True
    called: list[int] = []
    keeping.notebook("usb").add_topic("dev", 1, "t", lambda: called.append(1))
    async with asyncio.timeout(PATIENCE):
        await keeping.close()
    assert called == []


# ---- kill -9 ----

CHILD = """
import asyncio, sys
from pathlib import Path
from bridges.gateway.keeping import Keeping

async def main():
    notebook = Keeping(Path(sys.argv[1]), asyncio.get_running_loop()).notebook("usb")
    for number in range(1, 60_000):
        client, topic_id = f"dev{number % 7}", number
        line = f"{client} {topic_id} topic/{number}\\n"
        told = lambda line=line: print(line, end="", flush=True)
        notebook.add_topic(client, topic_id, f"topic/{number}", told)
        if number % 50 == 0:
            await asyncio.sleep(0.001)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def confirmed_before_a_kill(path: Path) -> list[list[str]]:
    command = [sys.executable, "-c", CHILD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        confirmed = [child.stdout.readline().split() for _ in range(2000)]
        child.kill()
        return confirmed + [line.split() for line in child.stdout if line.endswith("\n")]


async def test_what_was_confirmed_before_a_kill_is_there(path: Path) -> None:
    confirmed = confirmed_before_a_kill(path)
    again = opened(path)
    notebook = again.notebook("usb")
    for client_id, topic_id, name in confirmed:
        assert notebook.topics(client_id)[int(topic_id)] == name
    await again.close()
