"""The few MQTT packets that the torture needs, 3.1.1 and 5, written from the standard alone.

It shares no code with the broker: a misunderstanding there must not be repeated here.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

V3_1_1, V5 = 4, 5

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK = 8, 9
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14

RETAIN, DUP = 0x01, 0x08
FAILURE = 0x80  # reason codes from here on are refusals

SESSION_EXPIRY_INTERVAL, RECEIVE_MAXIMUM = 0x11, 0x21
DEFAULT_RECEIVE_MAXIMUM = 65_535

# property -> bytes of its value; the others are strings, a pair of them, or numbers of bytes
FIXED = {
    **dict.fromkeys((0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A), 1),
    **dict.fromkeys((0x13, 0x21, 0x22, 0x23), 2),
    **dict.fromkeys((0x02, 0x11, 0x18, 0x27), 4),
}
PAIR = 0x26
NUMBERS = {0x0B}  # of as many bytes as they need


class Connack(NamedTuple):
    session_present: bool
    reason: int
    receive_maximum: int


class Publish(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    dup: bool
    retain: bool
    packet_id: int
    user: tuple[tuple[str, str], ...] = ()  # user properties


class Ack(NamedTuple):
    """PUBACK, PUBREC, PUBREL, PUBCOMP and SUBACK; the reason is the last byte's."""

    packet_type: int
    packet_id: int
    reason: int


class Splitter:
    """Cuts a stream of bytes into packets: (first byte, body)."""

    def __init__(self) -> None:
        self._waiting = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        data = self._waiting + data
        packets, at = [], 0
        while (end := _end_of_packet(data, at)) and end[1] <= len(data):
            packets.append((data[at], data[end[0] : end[1]]))
            at = end[1]
        self._waiting = data[at:]
        return packets


def _end_of_packet(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the body of the packet begins and ends; None when that is not known yet."""
    length = shift = 0
    for place in range(at + 1, min(at + 5, len(data))):
        length |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            return place + 1, place + 1 + length
        shift += 7
    return None


# ---- to the broker ----


def connect(
    version: int, client_id: str, clean: bool, expiry: int = 0, receive_maximum: int = 0
) -> bytes:
    properties = b""
    if version == V5:
        properties = struct.pack(">BI", SESSION_EXPIRY_INTERVAL, expiry)
        if receive_maximum:
            properties += struct.pack(">BH", RECEIVE_MAXIMUM, receive_maximum)
        properties = number(len(properties)) + properties
    body = text("MQTT") + bytes((version, 2 if clean else 0, 0, 0)) + properties + text(client_id)
    return packet(CONNECT << 4, body)


def publish(version: int, message: Publish) -> bytes:
    first = PUBLISH << 4 | message.qos << 1
    first |= (DUP if message.dup else 0) | (RETAIN if message.retain else 0)
    packet_id = struct.pack(">H", message.packet_id) if message.qos else b""
    properties = b""
    if version == V5:
        properties = b"".join(bytes((PAIR,)) + text(n) + text(v) for n, v in message.user)
        properties = number(len(properties)) + properties
    return packet(first, text(message.topic) + packet_id + properties + message.payload)


def ack(packet_type: int, packet_id: int) -> bytes:
    """Both versions: without a reason it means success."""
    flags = 2 if packet_type == PUBREL else 0
    return struct.pack(">BBH", packet_type << 4 | flags, 2, packet_id)


def subscribe(version: int, packet_id: int, filters: dict[str, int]) -> bytes:
    properties = b"\x00" if version == V5 else b""
    wanted = b"".join(text(name) + bytes((qos,)) for name, qos in filters.items())
    return packet(SUBSCRIBE << 4 | 2, struct.pack(">H", packet_id) + properties + wanted)


PING = bytes((PINGREQ << 4, 0))
GOODBYE = bytes((DISCONNECT << 4, 0))


def packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + number(len(body)) + body


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


def number(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


# ---- from the broker ----


def read_connack(version: int, body: bytes) -> Connack:
    receive_maximum = DEFAULT_RECEIVE_MAXIMUM
    if version == V5:
        receive_maximum = _properties(body, 2).get(RECEIVE_MAXIMUM, receive_maximum)
    return Connack(bool(body[0] & 1), body[1], receive_maximum)


def read_publish(version: int, first: int, body: bytes) -> Publish:
    (length,) = struct.unpack_from(">H", body)
    at = 2 + length
    topic = body[2:at].decode()
    qos, packet_id = first >> 1 & 3, 0
    if qos:
        (packet_id,) = struct.unpack_from(">H", body, at)
        at += 2
    user: tuple[tuple[str, str], ...] = ()
    if version == V5:
        user = tuple(_user_properties(body, at))
        size, at = _number(body, at)
        at += size
    return Publish(topic, body[at:], qos, bool(first & DUP), bool(first & RETAIN), packet_id, user)


def read_ack(version: int, first: int, body: bytes) -> Ack:
    kind = first >> 4
    reason = body[-1] if kind == SUBACK else body[2] if len(body) > 2 else 0
    return Ack(kind, body[0] << 8 | body[1], reason)


def _properties(body: bytes, at: int) -> dict[int, int]:
    """Those of fixed size; the others are passed over."""
    return {
        key: int.from_bytes(body[start:end], "big")
        for key, start, end in _each_property(body, at)
        if key in FIXED
    }


def _user_properties(body: bytes, at: int) -> Iterator[tuple[str, str]]:
    for key, start, end in _each_property(body, at):
        if key == PAIR:
            middle = start + 2 + (body[start] << 8 | body[start + 1])
            yield body[start + 2 : middle].decode(), body[middle + 2 : end].decode()


def _each_property(body: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """Its identifier, and where its value begins and ends."""
    size, at = _number(body, at)
    end = at + size
    while at < end:
        key, start = body[at], at + 1
        at = start + FIXED.get(key, 0)
        if key in NUMBERS:
            _, at = _number(body, start)
        elif key not in FIXED:
            for _ in range(2 if key == PAIR else 1):
                at += 2 + (body[at] << 8 | body[at + 1])
        yield key, start, at


def _number(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (body[at] & 0x7F) << shift
        shift += 7
        at += 1
        if body[at - 1] < 0x80:
            return value, at
