"""The power cut: puts a folder back to what its disk had promised to keep (see power_cut.c).

`Disk` builds the shim, gives the environment under which a process writes to the folder, and
`cut`s: every write since the last sync of its file is undone, newest first. A disk may also have
kept some of them: `Left.BEGINNING` keeps the oldest ones, `Left.SOME` any of them, torn at sectors.
All who write to the folder must be dead by then.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from enum import Enum
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_name("power_cut.c")
BUILT = Path(__file__).parents[2] / "build" / "power_cut.so"
FLAGS = ("-O2", "-Wall", "-Werror", "-shared", "-fPIC")

WRITE, TRUNCATE = 1, 2
LENGTH = struct.Struct("=Q")
HEAD = struct.Struct("=QQQQQ")  # kind, offset, length, old size, old length
SECTOR = 512


class Left(Enum):
    """What the disk has of the writes that were not synced."""

    NOTHING = "nothing"
    BEGINNING = "beginning"
    SOME = "some"


class Record(NamedTuple):
    """One change of a file, and what it destroyed."""

    kind: int
    offset: int
    length: int
    old_size: int
    old: bytes


class Disk:
    """One folder on a disk whose power can be cut. `undone` counts the writes taken back."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.folder = folder.resolve()
        self.logs = logs.resolve()
        self.undone = 0
        for place in (self.folder, self.logs):
            place.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(build_shim()),
            "POWER_CUT_DIR": str(self.folder),
            "POWER_CUT_LOG": str(self.logs),
        }

    def cut(self, chance: random.Random | None = None) -> None:
        """The folder as found when the power is back; `chance` decides what survived unsynced."""
        left = chance.choice(list(Left)) if chance else Left.NOTHING
        for path in [entry for entry in self.folder.rglob("*") if entry.is_file()]:
            if path.name.endswith("-shm"):
                path.unlink()
            else:
                self._restore(path, left, chance or random.Random(0))
        for log in self.logs.iterdir():
            log.unlink()

    def _restore(self, path: Path, left: Left, chance: random.Random) -> None:
        log = self.logs / str(path.stat().st_ino)
        records = read_log(log.read_bytes()) if log.exists() else []
        if not records:
            return
        with path.open("r+b", buffering=0) as file:
            changes = [undo(file.fileno(), record) for record in reversed(records)]
            kept = choose(changes[::-1], left, chance)
            for kind, offset, data in kept:
                redo(file.fileno(), kind, offset, data)
        self.undone += len(records) - len(kept)


Change = tuple[int, int, bytes]  # kind, offset, the new bytes


def build_shim() -> Path:
    """The shared library, built anew when its source is newer."""
    if not BUILT.exists() or BUILT.stat().st_mtime < SOURCE.stat().st_mtime:
        BUILT.parent.mkdir(exist_ok=True)
        made = BUILT.with_suffix(f".{os.getpid()}")  # two builds at a time do not meet
        command = [missing_compiler_or("cc"), *FLAGS, "-o", str(made), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, timeout=60)
        made.replace(BUILT)
    return BUILT


def missing_compiler_or(name: str) -> str:
    found = shutil.which(name)
    assert found, "no C compiler: apt-get install gcc"
    return found


def read_log(log: bytes) -> list[Record]:
    """The records in the order of their changes. A tail whose writer was killed is left out."""
    if len(log) < LENGTH.size:
        return []
    (whole,) = LENGTH.unpack_from(log)
    records, at = [], LENGTH.size
    while at < whole:
        kind, offset, length, old_size, old_length = HEAD.unpack_from(log, at)
        at += HEAD.size
        records.append(Record(kind, offset, length, old_size, log[at : at + old_length]))
        at += old_length
    return records


def undo(file: int, record: Record) -> Change:
    """Takes one change back; returns it so that it can be made again."""
    done = os.pread(file, record.length, record.offset) if record.kind == WRITE else b""
    os.pwrite(file, record.old, record.offset)
    os.ftruncate(file, record.old_size)
    return record.kind, record.offset, done


def redo(file: int, kind: int, offset: int, data: bytes) -> None:
    if kind == WRITE:
        os.pwrite(file, data, offset)
    else:
        os.ftruncate(file, offset)


def choose(changes: list[Change], left: Left, chance: random.Random) -> list[Change]:
    """The changes that reached the disk although nobody had waited for it."""
    if left is Left.NOTHING:
        return []
    if left is Left.BEGINNING:
        return changes[: chance.randint(0, len(changes))]
    return [torn(change, chance) for change in changes if chance.random() < 0.5]


def torn(change: Change, chance: random.Random) -> Change:
    """Now and then only the first sectors of a write are there."""
    kind, offset, data = change
    if kind == TRUNCATE or len(data) <= SECTOR or chance.random() < 0.8:
        return change
    return kind, offset, data[: SECTOR * chance.randint(1, len(data) // SECTOR)]
