"""The bytes the benchmark sends and expects, all made before the clock starts.

Nothing of `broker/` is used: a load generator with the broker's own codec would share its faults.
Every message of one publisher has the same size, so a whole read is checked by one comparison
against a preformatted *tape*, and packet ids are lifted out of it by slices with that stride.
"""

import itertools
import struct
from collections.abc import Iterator

V311, V5 = 4, 5

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x20, 0x30, 0x40, 0x50, 0x62, 0x70
SUBSCRIBE, SUBACK, DISCONNECT = 0x82, 0x90, 0xE0

CYCLE = 1024  # a tape repeats after so many messages; far more than are ever outstanding
PAYLOAD = 64  # bytes
NUMBERS = [b"%08d" % number for number in range(CYCLE)]  # the end of each payload
ACK = 4  # bytes of a PUBACK, PUBREC, PUBREL or PUBCOMP that has nothing to add

_CONNECT_CLEAN = 0x02


def packet(first: int, body: bytes) -> bytes:
    """`first` is the whole first byte: packet type and flags."""
    length, left = b"", len(body)
    while True:
        left, digit = divmod(left, 128)
        length += bytes([digit | 0x80 if left else digit])
        if not left:
            return bytes([first]) + length + body


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


def connect(client_id: str, version: int, *, clean_session: bool = True) -> bytes:
    """Without keep-alive: nothing moves on an idle connection."""
    head = text("MQTT") + bytes([version, _CONNECT_CLEAN * clean_session, 0, 0])
    return packet(0x10, head + no_properties(version) + text(client_id))


def subscribe(packet_id: int, topic_filter: str, qos: int, version: int) -> bytes:
    head = struct.pack(">H", packet_id) + no_properties(version)
    return packet(SUBSCRIBE, head + text(topic_filter) + bytes([qos]))


def suback(packet_id: int, qos: int, version: int) -> bytes:
    return packet(SUBACK, struct.pack(">H", packet_id) + no_properties(version) + bytes([qos]))


def publish(
    topic: str, payload: bytes, qos: int, version: int, *, packet_id: int = 0, retain: bool = False
) -> bytes:
    middle = struct.pack(">H", packet_id) if qos else b""
    body = text(topic) + middle + no_properties(version) + payload
    return packet(PUBLISH | qos << 1 | retain, body)


def no_properties(version: int) -> bytes:
    return b"\0" if version == V5 else b""


def payload(number: int) -> bytes:
    """64 bytes that end in the number of the message (modulo the tape's length)."""
    return b".".ljust(PAYLOAD - 8, b"-") + NUMBERS[number % CYCLE]


def number_of(message: bytes) -> int:
    """The number in a PUBLISH made by `payload`; ValueError if there is none."""
    return int(message[-8:])


def split(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Every complete packet as (first byte, body): the slow way, for whatever is not timed."""
    at = 0
    while at < len(stream):
        length, start = _remaining_length(stream, at + 1)
        if length < 0 or start + length > len(stream):
            return
        yield stream[at], stream[start : start + length]
        at = start + length


def _remaining_length(stream: bytes, at: int) -> tuple[int, int]:
    """(the length, where the body starts); the length is -1 while it is incomplete."""
    length = 0
    for place in range(4):
        if at + place >= len(stream):
            break
        digit = stream[at + place]
        length |= (digit & 0x7F) << 7 * place
        if digit < 0x80:
            return length, at + place + 1
    return -1, at


class Tape:
    """Packets of one size, end to end; packet `n` of the tape is packet `n % CYCLE`."""

    __slots__ = ("_bytes", "stride")

    def __init__(self, packets: list[bytes]) -> None:
        assert len(packets) == CYCLE
        self.stride = len(packets[0])
        assert all(len(made) == self.stride for made in packets)
        self._bytes = b"".join(packets) * 2  # twice, so that a slice never wraps

    def cut(self, start: int, count: int) -> bytes:
        """`count` (at most CYCLE) packets beginning with number `start`."""
        begin = start % CYCLE * self.stride
        return self._bytes[begin : begin + count * self.stride]


def sent_tape(topic: str, qos: int, version: int) -> Tape:
    """What a publisher sends: numbered payloads, packet ids from 1 to CYCLE."""
    return Tape([publish(topic, payload(n), qos, version, packet_id=n + 1) for n in range(CYCLE)])


def received_tape(topic: str, qos: int, version: int) -> Tape:
    """What its subscriber must get, with the packet ids (the broker's choice) set to zero."""
    return Tape([publish(topic, payload(n), qos, version) for n in range(CYCLE)])


def ack_tape(kind: int) -> Tape:
    """The acks of a `sent_tape`, in its order. [MQTT-4.6.0-2] [MQTT-4.6.0-3]"""
    return Tape([struct.pack(">BBH", kind, 2, n + 1) for n in range(CYCLE)])


def publish_id_at(topic: str) -> int:
    """Where the packet id stands in a short PUBLISH with QoS above 0."""
    return 4 + len(topic.encode())


def batches(packets: list[bytes], size: int) -> Iterator[bytes]:
    source = iter(packets)
    while batch := b"".join(itertools.islice(source, size)):
        yield batch
