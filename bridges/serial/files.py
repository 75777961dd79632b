"""The files channel: one file at a time in each direction, in chunks, resumed where it stopped.

    01 id, size (4), SHA-256 (32), name    offer    sender to receiver; also after every restart
    02 id, offset (4)                      want     receiver: send from there
    03 id, offset (4), data                chunk    sender
    04 id, outcome                         end      receiver: done, or why not; sender: no more

The link makes the channel reliable; what is kept here is the place. A receiver says what it has of
the same file (same size and digest), and only what is missing is sent.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from hashlib import _Hash

_OFFER: Final = Struct(">BBI32s")
_PLACE: Final = Struct(">BBI")
_END: Final = Struct(">BBB")
_LONGEST_NAME: Final = 64
_READ: Final = 4096  # bytes at a time, when what is there is digested again
_FORBIDDEN: Final = frozenset('/\\:*?"<>|')
CHUNK_OVERHEAD: Final = _PLACE.size


class FileMessage(IntEnum):
    """The first byte."""

    OFFER = 1
    WANT = 2
    CHUNK = 3
    END = 4


class Outcome(IntEnum):
    """How it ended."""

    DONE = 0
    DAMAGED = 1  # the digest is another
    TOO_LARGE = 2
    REFUSED = 3
    ABANDONED = 4
    UNDERWAY = 255  # never on the wire


class Source(Protocol):
    """What is sent."""

    def read(self, offset: int, size: int) -> bytes: ...


class Shelf(Protocol):
    """Where files are put; the receiver's port to the world."""

    def begin(self, name: str, size: int, digest: bytes) -> int:
        """Return how many bytes of this very file are there; negative to refuse it."""

    def read(self, offset: int, size: int) -> bytes: ...
    def append(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def discard(self) -> None: ...


class FileSender:
    """One file on its way to the peer."""

    __slots__ = (
        "_digest",
        "_id",
        "_is_wanted",
        "_name",
        "_offered",
        "_size",
        "_source",
        "offset",
        "outcome",
    )

    def __init__(self, file_id: int, name: str, size: int, digest: bytes, source: Source) -> None:
        self.offset = 0  # what the peer has, as far as was sent
        self.outcome = Outcome.UNDERWAY
        self._id = file_id
        self._size = size
        self._source = source
        self._offered = False
        self._is_wanted = False  # the peer said where to begin
        self._name = name.encode()
        self._digest = digest
        if len(self._name) > _LONGEST_NAME or len(digest) != sha256().digest_size:
            raise ValueError(f"a name of at most {_LONGEST_NAME} bytes and a SHA-256 are needed")

    def restart(self) -> None:
        """The peer has forgotten everything: offer the file again."""
        self._offered = self._is_wanted = False

    def payload(self, limit: int) -> bytes | None:
        """Take the next message of at most `limit` bytes; None: nothing to send now."""
        if self.outcome is not Outcome.UNDERWAY:
            return None
        if not self._offered:
            self._offered = True
            return _OFFER.pack(FileMessage.OFFER, self._id, self._size, self._digest) + self._name
        if not self._is_wanted or self.offset >= self._size:
            return None
        data = self._source.read(self.offset, min(limit - CHUNK_OVERHEAD, self._size - self.offset))
        place = _PLACE.pack(FileMessage.CHUNK, self._id, self.offset)
        self.offset += len(data)
        return place + data

    def receive(self, payload: bytes) -> None:
        """The receiver said something; what it cannot mean is passed over."""
        if len(payload) == _PLACE.size and payload[0] == FileMessage.WANT:
            _, file_id, offset = _PLACE.unpack(payload)
            if file_id == self._id and offset <= self._size:
                self.offset = offset
                self._is_wanted = True
        elif len(payload) == _END.size and payload[0] == FileMessage.END:
            self._on_end(payload[1], payload[2])

    def _on_end(self, file_id: int, outcome: int) -> None:
        if file_id == self._id and outcome < Outcome.UNDERWAY:
            self.outcome = Outcome(min(outcome, Outcome.ABANDONED))


class FileReceiver:
    """Takes one file after the other; `receive` returns the answer, if it needs one."""

    __slots__ = (
        "_digest",
        "_hash",
        "_id",
        "_is_misplaced",
        "_is_open",
        "_largest",
        "_shelf",
        "_size",
        "offset",
    )

    def __init__(self, shelf: Shelf, largest: int) -> None:
        self.offset = 0  # bytes that are there
        self._shelf = shelf
        self._largest = largest
        self._id = 0
        self._size = 0
        self._digest = b""
        self._hash: _Hash = sha256()
        self._is_open = False
        self._is_misplaced = False

    def receive(self, payload: bytes) -> bytes | None:
        """The sender said something; what it cannot mean is passed over."""
        kind = payload[0] if payload else 0
        if kind == FileMessage.OFFER and len(payload) > _OFFER.size:
            return self._on_offer(payload)
        if kind == FileMessage.CHUNK and len(payload) > _PLACE.size:
            return self._on_chunk(payload)
        if kind == FileMessage.END:
            self._is_open = False
        return None

    def _on_offer(self, payload: bytes) -> bytes:
        _, self._id, self._size, self._digest = _OFFER.unpack_from(payload)
        self._is_open = self._is_misplaced = False
        name = safe_name(payload[_OFFER.size :])
        if name is None:
            return self._end(Outcome.REFUSED)
        if self._size > self._largest:
            return self._end(Outcome.TOO_LARGE)
        offset = self._shelf.begin(name, self._size, self._digest)
        if not 0 <= offset <= self._size:
            return self._end(Outcome.REFUSED)
        self._take_up(offset)
        return self._finish() if offset == self._size else self._want()

    def _take_up(self, offset: int) -> None:
        """Digest what is there already."""
        self._is_open = True
        self._hash = sha256()
        self.offset = 0
        while self.offset < offset:
            data = self._shelf.read(self.offset, min(_READ, offset - self.offset))
            if not data:
                raise EOFError(f"{offset} bytes of a file were there, only {self.offset} are")
            self._hash.update(data)
            self.offset += len(data)

    def _on_chunk(self, payload: bytes) -> bytes | None:
        _, file_id, offset = _PLACE.unpack_from(payload)
        if not self._is_open or file_id != self._id:
            return _END.pack(FileMessage.END, file_id, Outcome.ABANDONED)
        data = payload[_PLACE.size :]
        if offset != self.offset or len(data) > self._size - offset:
            return self._on_misplaced()
        self._is_misplaced = False
        self._shelf.append(data)
        self._hash.update(data)
        self.offset += len(data)
        return self._finish() if self.offset == self._size else None

    def _on_misplaced(self) -> bytes | None:
        """Say once where to go on; what was on its way meanwhile is passed over."""
        if self._is_misplaced:
            return None
        self._is_misplaced = True
        return self._want()

    def _finish(self) -> bytes:
        if self._hash.digest() != self._digest:
            self._shelf.discard()
            return self._end(Outcome.DAMAGED)
        self._shelf.finish()
        return self._end(Outcome.DONE)

    def _want(self) -> bytes:
        return _PLACE.pack(FileMessage.WANT, self._id, self.offset)

    def _end(self, outcome: Outcome) -> bytes:
        self._is_open = False
        return _END.pack(FileMessage.END, self._id, outcome)


def safe_name(raw: bytes) -> str | None:
    """Return the name of an offered file, or None: it is no plain name of a file."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return None
    if len(raw) > _LONGEST_NAME or not name.isprintable() or name.startswith("."):
        return None
    return None if set(name) & _FORBIDDEN else name
