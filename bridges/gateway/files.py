"""Files to a device and from it, over the files channel of a framed wire.

To it: one at a time, resumed where it stopped after a cut, offered again after a reset on either
side, given up when it makes no progress for long. From it: into one folder of bounded size. Rule
kept here: what the device hears to be done is on the disk; what is half there is kept beside it and
goes on later, unless its room is needed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from bridges.serial.files import FileSender, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIECE: Final = 64 << 10  # bytes that are digested at once
STALLED: Final = 120.0  # seconds without progress, then a file is given up
SHORTEST_STEP: Final = 1.0  # seconds between two reports
MOST_FILES: Final = 1000  # in one folder: small ones cost a disk more than their bytes
_PART: Final = ".part"

ENDS: Final = {
    Outcome.DONE: "done",
    Outcome.DAMAGED: "it arrived damaged: send it again",
    Outcome.TOO_LARGE: "the device has no room for it",
    Outcome.REFUSED: "the device refuses it",
    Outcome.ABANDONED: "the device has given up",
}


class Progress(NamedTuple):
    """How far a file has come. `is_over`: it goes no further, and `text` says why."""

    name: str
    sent: int
    size: int
    is_over: bool = False
    is_done: bool = False
    text: str = "underway"


class Content:
    """A Source: a file in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, offset: int, size: int) -> bytes:
        """See Source."""
        return self._data[offset : offset + size]


class Sending:
    """One file on its way to the device. `report` hears of its progress, and of its end once.

    It is offered when it is digested, a piece in each `prepare`: a large file must not hold up
    others.
    """

    def __init__(
        self,
        number: int,
        name: str,
        data: bytes,
        report: Callable[[Progress], None],
        now: float,
    ) -> None:
        self.is_over = False
        self._name = name
        self._size = len(data)
        self._report = report
        self._number = number
        self._data = data
        self._hash = sha256()
        self._digested = 0  # bytes
        self._sender: FileSender | None = None
        self._moved_at = self._said_at = now
        self._place = 0

    def prepare(self) -> bool:
        """Digest the next piece; whether that was the last one."""
        piece = memoryview(self._data)[self._digested : self._digested + PIECE]
        self._hash.update(piece)
        self._digested += len(piece)
        if self._digested < self._size:
            return False
        digest, content = self._hash.digest(), Content(self._data)
        self._sender = FileSender(self._number, self._name, self._size, digest, content)
        return True

    def payload(self, limit: int, now: float) -> bytes | None:
        """The next message for the device, of at most `limit` bytes, if there is one."""
        if self.is_over or self._sender is None:
            return None
        payload = self._sender.payload(limit)
        if self._sender.offset != self._place:
            self._place, self._moved_at = self._sender.offset, now
            self._say(now)
        return payload

    def receive(self, payload: bytes, now: float) -> None:
        """The device says something about it."""
        if self._sender is None:
            return
        self._sender.receive(payload)
        self._moved_at = now
        outcome = self._sender.outcome
        if outcome is not Outcome.UNDERWAY:
            self.end(ENDS[outcome], is_done=outcome is Outcome.DONE)

    def restart(self) -> None:
        """The device has forgotten it: offer it again."""
        if self._sender is not None:
            self._sender.restart()

    def check(self, now: float) -> None:
        """Give it up if nothing has moved for long."""
        if now - self._moved_at > STALLED:
            self.end(f"the device has not answered for {STALLED:.0f} s: is it there?")

    def end(self, text: str, is_done: bool = False) -> None:
        """It goes no further."""
        if not self.is_over:
            self.is_over = True
            offset = self._sender.offset if self._sender is not None else 0
            place = self._size if is_done else offset
            self._report(Progress(self._name, place, self._size, True, is_done, text))

    def _say(self, now: float) -> None:
        if now - self._said_at >= SHORTEST_STEP:
            self._said_at = now
            self._report(Progress(self._name, self._place, self._size))


def at_once(work: Callable[[], None]) -> None:
    """Wait for the disk."""
    work()


class Folder:
    """A Shelf: one folder of at most `most` bytes, unfinished files included. A file of the same
    name is replaced when the new one is whole. `run` does what has to wait for the disk.
    """

    def __init__(
        self, path: Path, most: int, run: Callable[[Callable[[], None]], None] = at_once
    ) -> None:
        self._path = path
        self._most = most
        self._run = run
        self._file: BinaryIO | None = None
        self._part = path
        self._target = path

    def begin(self, name: str, size: int, digest: bytes) -> int:
        """See Shelf."""
        self.close()
        try:
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._target = self._path / name
            self._part = self._path / f".{digest.hex()}{_PART}"
            if not self._has_room(size):
                return -1
            self._file = self._part.open("a+b")
            return self._file.seek(0, os.SEEK_END)
        except OSError:
            return -1

    def read(self, offset: int, size: int) -> bytes:
        """See Shelf."""
        file = self._open_file
        file.seek(offset)
        return file.read(size)

    def append(self, data: bytes) -> None:
        """See Shelf."""
        self._open_file.write(data)

    def finish(self) -> None:
        """See Shelf. It is synced: the device may delete its own."""
        file, self._file = self._open_file, None
        self._run(partial(_settle, file, self._part, self._target))

    def discard(self) -> None:
        """See Shelf."""
        self.close()
        self._part.unlink(missing_ok=True)

    def close(self) -> None:
        """What is there of an unfinished file stays, as far as the disk had room for it."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    @property
    def _open_file(self) -> BinaryIO:
        assert self._file is not None
        return self._file

    def _has_room(self, size: int) -> bool:
        """Whether the file may have so many bytes; the oldest unfinished ones make room for it."""
        found = [each for each in self._path.iterdir() if each != self._part and each.is_file()]
        sizes = {each: each.stat() for each in found}
        taken = sum(each.st_size for each in sizes.values())
        parts = [each for each in found if each.name.startswith(".") and each.suffix == _PART]
        parts.sort(key=lambda part: sizes[part].st_mtime, reverse=True)
        while taken + size > self._most or len(sizes) >= MOST_FILES:
            if not parts:
                return False
            oldest = parts.pop()
            oldest.unlink()
            taken -= sizes.pop(oldest).st_size
        return True


def _settle(file: BinaryIO, part: Path, target: Path) -> None:
    """Sync a file and give it its name, for good."""
    with file:
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
