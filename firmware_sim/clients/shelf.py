"""Where a simulated device keeps the files that it receives: flash, which outlives a reset."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """Which file it is that is there in part."""

    name: str
    size: int
    digest: bytes


class MemoryShelf:
    """A Shelf of `bridges.serial.files`: one file on its way, and those that are complete."""

    def __init__(self, capacity: int = 1 << 20) -> None:
        self.capacity = capacity  # bytes of one file
        self.files: dict[str, bytes] = {}
        self.discarded = 0
        self.resumed: list[int] = []  # bytes that were there already, each time that any were
        self._part: Part | None = None
        self._data = bytearray()

    def begin(self, name: str, size: int, digest: bytes) -> int:
        """See Shelf."""
        if size > self.capacity:
            return -1
        part = Part(name, size, digest)
        if part != self._part:
            self._part = part
            self._data.clear()
        elif self._data:
            self.resumed.append(len(self._data))
        return len(self._data)

    def read(self, offset: int, size: int) -> bytes:
        """See Shelf."""
        return bytes(self._data[offset : offset + size])

    def append(self, data: bytes) -> None:
        """See Shelf."""
        self._data += data

    def finish(self) -> None:
        """See Shelf."""
        assert self._part is not None
        self.files[self._part.name] = bytes(self._data)
        self._clear()

    def discard(self) -> None:
        """See Shelf."""
        self.discarded += 1
        self._clear()

    def _clear(self) -> None:
        self._part = None
        self._data.clear()
