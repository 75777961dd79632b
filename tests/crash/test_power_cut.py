"""The shim and the cut: what was synced is there afterwards, what was not is gone."""

import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.power_cut import Disk

ROWS = 50

COMMIT_ROWS = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA wal_autocheckpoint = 20")
database.execute("CREATE TABLE IF NOT EXISTS kept (number INTEGER PRIMARY KEY, filler BLOB)")
database.execute(f"PRAGMA synchronous = {sys.argv[2]}")
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    database.execute("INSERT INTO kept VALUES (?, ?)", (number, os.urandom(3000)))
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "data", tmp_path / "logs")


def run(disk: Disk, code: str, *arguments: object) -> None:
    """The code in a process that sees the shim, and its end."""
    subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **disk.environment},
        cwd=disk.folder,
        check=False,
        timeout=60,
    )


def rows_in(path: Path) -> list[int]:
    database = sqlite3.connect(path)
    try:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [number for (number,) in database.execute("SELECT number FROM kept ORDER BY 1")]
    finally:
        database.close()


def test_committed_rows_survive_when_each_commit_is_synced(disk: Disk) -> None:
    path = disk.folder / "rows.db"
    run(disk, COMMIT_ROWS, path, "FULL", 0, ROWS)
    disk.cut()
    assert rows_in(path) == list(range(ROWS))


def test_committed_rows_are_lost_when_nothing_is_synced(disk: Disk) -> None:
    path = disk.folder / "rows.db"
    run(disk, COMMIT_ROWS, path, "FULL", 0, 5)
    run(disk, COMMIT_ROWS, path, "OFF", 5, 15)
    disk.cut()
    assert rows_in(path) == list(range(5))


@pytest.mark.parametrize("seed", range(8))
def test_committed_rows_survive_whatever_else_reached_the_disk(disk: Disk, seed: int) -> None:
    chance = random.Random(seed)
    path = disk.folder / "rows.db"
    for begin in range(0, 60, 20):
        run(disk, COMMIT_ROWS, path, "FULL", begin, begin + 20)
        disk.cut(chance)
        assert rows_in(path) == list(range(begin + 20))


WRITE_AND_SYNC = "import os; f = os.open('f', os.O_RDWR | os.O_CREAT); "


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("os.write(f, b'one'); os.fsync(f); os.write(f, b'two')", b"one"),
        ("os.write(f, b'one'); os.fdatasync(f); os.pwrite(f, b'two', 1)", b"one"),
        ("os.writev(f, [b'o', b'ne']); os.fsync(f); os.pwritev(f, [b't', b'w'], 0)", b"one"),
        ("os.write(f, b'one'); os.fsync(f); os.ftruncate(f, 1); os.ftruncate(f, 9)", b"one"),
        ("os.write(f, b'one'); os.fsync(f); open('f', 'wb').write(b'other')", b"one"),
        ("os.write(f, b'one'); os.fsync(f); open('f', 'ab').write(b'more')", b"one"),
        ("os.write(f, b'one'); os.fsync(f); os.posix_fallocate(f, 0, 8192)", b"one"),
        ("os.write(f, b'one'); os.fsync(os.dup(f)); os.write(os.dup(f), b'two')", b"one"),
        ("os.write(f, b'one'); os.write(f, b'two'); os.fsync(f)", b"onetwo"),
        ("os.write(f, b'never synced')", b""),
    ],
)
def test_a_file_has_what_its_last_sync_found(disk: Disk, code: str, left: bytes) -> None:
    run(disk, WRITE_AND_SYNC + code)
    disk.cut()
    assert (disk.folder / "f").read_bytes() == left


def test_a_child_process_is_watched_too(disk: Disk) -> None:
    run(disk, WRITE_AND_SYNC + "os.write(f, b'a'); os.fsync(f); os.fork() or os.write(f, b'b')")
    disk.cut()
    assert (disk.folder / "f").read_bytes() == b"a"


def test_a_rename_counts_and_brings_only_what_was_synced(disk: Disk) -> None:
    run(disk, WRITE_AND_SYNC + "os.write(f, b'new'); os.rename('f', 'g')")
    disk.cut()
    assert (disk.folder / "g").read_bytes() == b""


def test_a_new_file_does_not_inherit_the_log_of_a_deleted_one(disk: Disk) -> None:
    code = "os.write(f, b'x' * 9); os.close(f); os.unlink('f'); "
    run(disk, WRITE_AND_SYNC + code + "os.open('f', os.O_RDWR | os.O_CREAT)")
    disk.cut()
    assert disk.undone == 0


def test_files_elsewhere_are_left_alone(disk: Disk, tmp_path: Path) -> None:
    run(disk, "open('../elsewhere', 'wb').write(b'here')")
    disk.cut()
    assert (tmp_path / "elsewhere").read_bytes() == b"here"


def test_shared_memory_is_gone(disk: Disk) -> None:
    (disk.folder / "rows.db-shm").write_bytes(b"index")
    disk.cut()
    assert not (disk.folder / "rows.db-shm").exists()
