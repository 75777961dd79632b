"""Cuts a byte stream at its zeros; a frame is what stands between two, COBS encoded.

Rule kept here: nothing longer than the limit is held, however much comes without a zero; what was
too long is dropped up to the next zero and counted.
"""

from typing import Final

from bridges.serial import cobs

END: Final = b"\0"


def wrap(body: bytes) -> bytes:
    """Return the frame for the wire, its end included."""
    return cobs.encode(body) + END


def longest_on_wire(body: int) -> int:
    """Return how many bytes a body of so many takes on the wire at most, its end included."""
    return body + body // cobs.LONGEST_GROUP + 2


class Deframer:
    """Holds the unfinished frame of one stream between two calls of `cut`."""

    __slots__ = ("_held", "_is_skipping", "limit", "too_long")

    def __init__(self, limit: int) -> None:
        self.limit = limit  # bytes between two zeros
        self.too_long = 0  # frames dropped for it
        self._held = b""
        self._is_skipping = False

    @property
    def pending(self) -> int:
        """Bytes held of a frame that has not ended."""
        return len(self._held)

    def cut(self, data: bytes) -> list[bytes]:
        """Return what stands between the zeros, still encoded; empty frames are left out."""
        parts = data.split(END)
        if len(parts) == 1:
            self._hold(data)
            return []
        if self._is_skipping:
            parts[0] = b""
            self._is_skipping = False
        elif self._held:
            parts[0] = self._held + parts[0]
        self._held = b""
        self._hold(parts.pop())
        return [part for part in parts if part and self._is_short(part)]

    def clear(self) -> None:
        """Forget the unfinished frame: the wire was cut."""
        self._held = b""
        self._is_skipping = False

    def _hold(self, data: bytes) -> None:
        if self._is_skipping:
            return
        self._held += data
        if len(self._held) > self.limit:
            self._held = b""
            self._is_skipping = True
            self.too_long += 1

    def _is_short(self, part: bytes) -> bool:
        if len(part) <= self.limit:
            return True
        self.too_long += 1
        return False
