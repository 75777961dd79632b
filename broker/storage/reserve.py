"""Room on the disk that is kept for the day it is full: with it what has been taken in can still be
committed, and clients can fetch what waits and so make room. New work is refused meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 24 << 20  # bytes: more than the broker lets gather before it hears of a full disk
SHARE = 16  # ... and not more than this part of what is free


class Reserve:
    """A file beside the database that takes room and holds nothing."""

    __slots__ = ("_path", "_size")

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.reserve")
        self._size = 0

    def fill(self) -> bool:
        """Take the room, if it is not taken; False when the disk has none."""
        if self._size and self._path.exists():
            return True
        try:
            self._size = self._size or min(LARGEST, free(self._path.parent) // SHARE)
            self._allocate()
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> bool:
        """Give the room back; whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def _allocate(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if self._size:
                os.posix_fallocate(descriptor, 0, self._size)
        finally:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def free(folder: Path) -> int:
    """Bytes that we may still write there."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
