"""Files to a device and from it, over the files channel of a framed wire.

To it: one at a time, resumed where it stopped after a cut, offered again after a reset on either
side, given up when it makes no progress for long. From it: into one folder of bounded size. Rule
kept here: what the device hears to be done is on the disk; what is half there is kept beside it and
goes on later.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from bridges.serial.files import FileSender, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STALLED: Final = 120.0  # seconds without progress, then a file is given up
SHORTEST_STEP: Final = 1.0  # seconds between two reports
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
    """One file on its way to the device. `report` hears of its progress, and of its end once."""

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
        self._sender = FileSender(number, name, self._size, sha256(data).digest(), Content(data))
        self._moved_at = self._said_at = now
        self._place = 0

    def payload(self, limit: int, now: float) -> bytes | None:
        """The next message for the device, of at most `limit` bytes, if there is one."""
        if self.is_over:
            return None
        payload = self._sender.payload(limit)
        if self._sender.offset != self._place:
            self._place, self._moved_at = self._sender.offset, now
            self._say(now)
        return payload

    def receive(self, payload: bytes, now: float) -> None:
        """The device says something about it."""
        self._sender.receive(payload)
        self._moved_at = now
        outcome = self._sender.outcome
        if outcome is not Outcome.UNDERWAY:
            self.end(ENDS[outcome], is_done=outcome is Outcome.DONE)

    def restart(self) -> None:
        """The device has forgotten it: offer it again."""
        self._sender.restart()

    def check(self, now: float) -> None:
        """Give it up if nothing has moved for long."""
        if now - self._moved_at > STALLED:
            self.end(f"the device has not answered for {STALLED:.0f} s: is it there?")

    def end(self, text: str, is_done: bool = False) -> None:
        """It goes no further."""
        if not self.is_over:
            self.is_over = True
            place = self._size if is_done else self._sender.offset
            self._report(Progress(self._name, place, self._size, True, is_done, text))

    def _say(self, now: float) -> None:
        if now - self._said_at >= SHORTEST_STEP:
            self._said_at = now
            self._report(Progress(self._name, self._place, self._size))


class Folder:
    """A Shelf: one folder of at most `most` bytes, unfinished files included. A file of the same
    name is replaced when the new one is whole.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most
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
            if self._taken(self._part) + size > self._most:
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
        file = self._open_file
        file.flush()
        os.fsync(file.fileno())
        self.close()
        self._part.replace(self._target)

    def discard(self) -> None:
        """See Shelf."""
        self.close()
        self._part.unlink(missing_ok=True)

    def close(self) -> None:
        """What is there of an unfinished file stays."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    @property
    def _open_file(self) -> BinaryIO:
        assert self._file is not None
        return self._file

    def _taken(self, but: Path) -> int:
        """Bytes in the folder, without one file."""
        files = [each for each in self._path.iterdir() if each.is_file() and each != but]
        return sum(each.stat().st_size for each in files)
