"""What the broker and its store process say to each other: frames on a socket pair.

A frame is a length (4 bytes, big-endian) and a tuple in marshal's format: both ends are the same
interpreter running the same source, and marshal is several times faster than anything portable.
Never used for bytes from outside: marshal trusts what it reads.
"""

import marshal
from typing import Any

Message = tuple[Any, ...]

LENGTH_SIZE = 4
LARGEST = (1 << 32) - 1


def encode(message: Message) -> bytes:
    """The whole frame. Values are None, bool, int, float, str, bytes, tuple, list and dict.

    Raises ValueError for any other value, and for more than 4 GiB.
    """
    body = marshal.dumps(message)
    if len(body) > LARGEST:
        raise ValueError(f"a frame of {len(body)} bytes is too long")
    return len(body).to_bytes(LENGTH_SIZE, "big") + body


class Frames:
    """Cuts a stream of bytes into messages. A frame that is not complete waits for its rest."""

    __slots__ = ("_chunks", "_missing", "_size")

    def __init__(self) -> None:
        self._chunks: list[
            bytes
        ] = []  # joined once, when complete: a long frame is not copied often
        self._size = 0
        self._missing = LENGTH_SIZE  # how much must be there before it is worth looking

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with these bytes, in order."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size < self._missing:
            return []
        stream = b"".join(self._chunks)
        messages, used = self._cut(stream)
        rest = stream[used:]
        self._chunks = [rest] if rest else []
        self._size = len(rest)
        return messages

    def _cut(self, stream: bytes) -> tuple[list[Message], int]:
        messages: list[Message] = []
        view, start = memoryview(stream), 0
        while True:
            body = start + LENGTH_SIZE
            end = body + int.from_bytes(view[start:body], "big")
            if len(stream) < body or len(stream) < end:
                self._missing = LENGTH_SIZE if len(stream) < body else end - start
                return messages, start
            messages.append(marshal.loads(view[body:end]))  # noqa: S302 - from our own process
            start = end
