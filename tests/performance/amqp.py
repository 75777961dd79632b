"""The bytes of AMQP 0-9-1 that the benchmark of queues sends and expects: see wire.py.

Frames are type, channel, size, payload and an end; a message is a method, a header and a body.
"""

import struct
from collections.abc import Iterator

HEADER = b"AMQP\0\0\x09\x01"
METHOD, CONTENT, BODY, END = 1, 2, 3, 0xCE
CHANNEL = 1
DURABLE, MULTIPLE = 2, 1  # bits of Queue.Declare and of Basic.Ack
PERSISTENT = b"\x10\0\x02"  # the flag of the only property, and delivery mode 2

Method = tuple[int, int]
START, START_OK = (10, 10), (10, 11)
TUNE, TUNE_OK = (10, 30), (10, 31)
OPEN, OPEN_OK = (10, 40), (10, 41)
CHANNEL_OPEN, CHANNEL_OPEN_OK = (20, 10), (20, 11)
DECLARE, DECLARE_OK = (50, 10), (50, 11)
QOS, QOS_OK = (60, 10), (60, 11)
CONSUME, CONSUME_OK = (60, 20), (60, 21)
PUBLISH, DELIVER, ACK = (60, 40), (60, 60), (60, 80)
SELECT, SELECT_OK = (85, 10), (85, 11)

FRAME_HEAD = 7
ACK_FRAME = FRAME_HEAD + 4 + 8 + 1 + 1  # bytes


def frame(kind: int, payload: bytes, channel: int = CHANNEL) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([END])


def method(which: Method, arguments: bytes = b"", channel: int = CHANNEL) -> bytes:
    return frame(METHOD, struct.pack(">HH", *which) + arguments, channel)


def short(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def long(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def table(**fields: str) -> bytes:
    """Keys are written with dashes."""
    pairs = (
        short(name.replace("_", "-")) + b"S" + long(text.encode()) for name, text in fields.items()
    )
    return long(b"".join(pairs))


def start_ok() -> bytes:
    login = short("PLAIN") + long(b"\0guest\0guest")
    return method(START_OK, table() + login + short("en_US"), channel=0)


def tune_ok(offered: bytes) -> bytes:
    """What the broker offers, without heartbeats: nothing moves on an idle connection."""
    return method(TUNE_OK, offered[:6] + b"\0\0", channel=0)


def open_host() -> bytes:
    return method(OPEN, short("/") + short("") + b"\0", channel=0)


def declare(queue: str, kind: str) -> bytes:
    return method(DECLARE, b"\0\0" + short(queue) + bytes([DURABLE]) + table(x_queue_type=kind))


def qos(prefetch: int) -> bytes:
    return method(QOS, struct.pack(">IHB", 0, prefetch, 0))


def consume(queue: str, tag: str) -> bytes:
    return method(CONSUME, b"\0\0" + short(queue) + short(tag) + b"\0" + table())


def publish_head(queue: str, size: int) -> bytes:
    """All of a message but its body of so many bytes and the end of that frame."""
    sent = method(PUBLISH, b"\0\0" + short("") + short(queue) + b"\0")
    header = struct.pack(">HHQ", PUBLISH[0], 0, size) + PERSISTENT
    return sent + frame(CONTENT, header) + struct.pack(">BHI", BODY, CHANNEL, size)


def delivery(queue: str, consumer: str, tag: int, body: bytes) -> bytes:
    """A message as it comes, for the first time."""
    where = struct.pack(">QB", tag, 0) + short("") + short(queue)
    header = struct.pack(">HHQ", DELIVER[0], 0, len(body)) + PERSISTENT
    come = method(DELIVER, short(consumer) + where)
    return come + frame(CONTENT, header) + frame(BODY, body)


def ack(tag: int, bits: int) -> bytes:
    return method(ACK, struct.pack(">QB", tag, bits))


def split(stream: bytes) -> Iterator[tuple[Method, bytes]]:
    """Every complete method frame as (method, arguments): for whatever is not timed."""
    at = 0
    while at + FRAME_HEAD <= len(stream):
        kind, _, size = struct.unpack_from(">BHI", stream, at)
        body = stream[at + FRAME_HEAD : at + FRAME_HEAD + size]
        at += FRAME_HEAD + size + 1
        if at <= len(stream) and kind == METHOD:
            yield struct.unpack_from(">HH", body), body[4:]
