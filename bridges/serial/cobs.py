"""Consistent Overhead Byte Stuffing: any bytes as bytes without a zero, so that a zero can end a
frame (Cheshire and Baker, 1999).

A code byte c is followed by c - 1 bytes that are not zero, and stands for a zero after them, except
c = 255 and the last one.
"""

from typing import Final

LONGEST_GROUP: Final = 254  # bytes after one code byte
_CODES: Final = tuple(bytes((length + 1,)) for length in range(LONGEST_GROUP + 1))
_FULL: Final = 255


def encode(data: bytes) -> bytes:
    """Return `data` without zeros: one byte longer, and one more for each full 254 bytes."""
    if len(data) < LONGEST_GROUP:
        codes = _CODES
        return b"".join([codes[len(part)] + part for part in data.split(b"\0")])
    return b"".join([_long(part) for part in data.split(b"\0")])


def decode(data: bytes) -> bytes | None:
    """Return what was encoded, or None: the bytes are not an encoding."""
    size = len(data)
    out = bytearray(data)
    pos = 0
    while pos < size:
        code = data[pos]
        if code == _FULL or not code:
            return _decode_long(data)
        out[pos] = 0
        pos += code
    return bytes(out[1:]) if pos == size else None


def _decode_long(data: bytes) -> bytes | None:
    """The same, group by group, for any length."""
    size = len(data)
    parts = []
    pos = 0
    while pos < size:
        code = data[pos]
        end = pos + code
        if end > size or not code:
            return None
        parts.append(data[pos + 1 : end])
        if code != _FULL and end < size:
            parts.append(b"\0")
        pos = end
    return b"".join(parts)


def _long(part: bytes) -> bytes:
    """One run without a zero: a full group stands for no zero, so another group must follow."""
    groups = []
    while len(part) >= LONGEST_GROUP:
        groups.append(_CODES[LONGEST_GROUP] + part[:LONGEST_GROUP])
        part = part[LONGEST_GROUP:]
    groups.append(_CODES[len(part)] + part)
    return b"".join(groups)
