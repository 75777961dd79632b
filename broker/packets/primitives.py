"""The data types of MQTT 5 section 1.5: integers, strings, binary data, the variable byte integer.

Every `decode_*(data, pos, end)` reads at `pos`, never beyond `end`, and returns the value with the
position after it; what does not fit raises ProtocolViolation(MALFORMED_PACKET). Every `encode_*`
raises ValueError for a value the wire cannot hold: that is our own fault, not the peer's.
"""

from typing import Final

from broker.packets.errors import ProtocolViolation, malformed

MAXIMUM_VARINT: Final = 268_435_455
_LONGEST_STRING: Final = 65_535
_ONE_BYTE_VARINTS: Final = tuple(bytes([n]) for n in range(128))


def encode_uint16(value: int) -> bytes:
    """Encode 0 to 65535 in two bytes, big-endian; ValueError outside."""
    if not 0 <= value <= 0xFFFF:
        raise ValueError(f"{value} does not fit into two bytes")
    return value.to_bytes(2, "big")


def encode_varint(value: int) -> bytes:
    """Encode 0 to 268,435,455 in one to four bytes, the shortest form [MQTT-1.5.5-1]."""
    if 0 <= value < 128:
        return _ONE_BYTE_VARINTS[value]
    if not 0 <= value <= MAXIMUM_VARINT:
        raise ValueError(f"{value} does not fit into a variable byte integer")
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_string(text: str) -> bytes:
    """Encode text as UTF-8 with its length in two bytes; ValueError for U+0000 and surrogates."""
    if "\0" in text:  # [MQTT-1.5.4-2]
        raise ValueError("a string must not contain U+0000")
    return encode_binary(text.encode())  # UnicodeEncodeError is a ValueError [MQTT-1.5.4-1]


def encode_binary(value: bytes) -> bytes:
    """Encode at most 65,535 bytes with their length in two bytes."""
    size = len(value)
    if size > _LONGEST_STRING:
        raise ValueError(f"{size} bytes are more than the {_LONGEST_STRING} a string can have")
    return size.to_bytes(2, "big") + value


def decode_uint8(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Read one byte."""
    if pos >= end:
        raise truncated(1, end - pos)
    return data[pos], pos + 1


def decode_uint16(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Read a two byte integer."""
    after = pos + 2
    if after > end:
        raise truncated(2, end - pos)
    return data[pos] << 8 | data[pos + 1], after


def decode_uint32(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Read a four byte integer."""
    after = pos + 4
    if after > end:
        raise truncated(4, end - pos)
    return int.from_bytes(data[pos:after], "big"), after


def decode_varint(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """Read a variable byte integer of one to four bytes in its shortest form."""
    value = shift = 0
    while shift < 28:
        if pos >= end:
            raise truncated(1, 0)
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:  # [MQTT-1.5.5-1]
                raise malformed("MQTT-1.5.5-1", "a variable byte integer longer than needed")
            return value, pos
        shift += 7
    raise malformed("1.5.5", "a variable byte integer of more than four bytes")


def decode_string(data: bytes, pos: int, end: int) -> tuple[str, int]:
    """Read a UTF-8 string; U+FEFF stays [MQTT-1.5.4-3]."""
    raw, after = decode_binary(data, pos, end)
    return text_of(raw), after


def text_of(raw: bytes) -> str:
    """Decode strict UTF-8 (Python's own refuses surrogates and overlong forms), no U+0000."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise malformed("MQTT-1.5.4-1", "ill-formed UTF-8", raw[error.start : error.end]) from None
    if "\0" in text:  # [MQTT-1.5.4-2]
        raise malformed("MQTT-1.5.4-2", "U+0000 in a string", text)
    return text


def decode_binary(data: bytes, pos: int, end: int) -> tuple[bytes, int]:
    """Read binary data: two bytes of length, then as many bytes."""
    start = pos + 2
    if start > end:
        raise truncated(2, end - pos)
    after = start + (data[pos] << 8 | data[pos + 1])
    if after > end:
        raise truncated(after - start, end - start)
    return data[start:after], after


def truncated(wanted: int, left: int) -> ProtocolViolation:
    """Make the violation for a field that reaches beyond its packet's end (sizes in bytes)."""
    return malformed("2.1.4", f"a field of {wanted} bytes where {left} are left")
