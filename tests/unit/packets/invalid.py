"""Frames that break one rule each, with the reason code and the rule that the decoder names.

`spec` lists the normative statements that the frame observes, prefixed with the standard's version.
"""

from typing import NamedTuple

from broker.packets.codes import PacketType, ReasonCode
from broker.packets.properties import WILL, Property
from tests.unit.packets.vectors import PROPERTIES_OF, PROPERTY_BYTES, carrier, place

MALFORMED = ReasonCode.MALFORMED_PACKET
MISUSE = ReasonCode.PROTOCOL_ERROR
VERSION = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION
TOPIC = ReasonCode.TOPIC_NAME_INVALID
ALIAS = ReasonCode.TOPIC_ALIAS_INVALID


class Invalid(NamedTuple):
    """`frame` at protocol level `version` must be refused with `reason` and `rule`."""

    name: str
    version: int
    frame: bytes
    reason: ReasonCode
    rule: str
    spec: tuple[str, ...] = ()


_UTF8 = ("3.1.1:MQTT-1.5.3-1", "5.0:MQTT-1.5.4-1")
_NUL = ("3.1.1:MQTT-1.5.3-2", "5.0:MQTT-1.5.4-2")
_FLAGS = ("3.1.1:MQTT-2.2.2-1", "3.1.1:MQTT-2.2.2-2", "5.0:MQTT-2.1.3-1")
_NAMED = ("3.1.1:MQTT-3.1.2-1", "5.0:MQTT-3.1.2-1")
_LEVEL = ("3.1.1:MQTT-3.1.2-2", "5.0:MQTT-3.1.2-2")
_ID = ("3.1.1:MQTT-2.3.1-1", "5.0:MQTT-2.2.1-3")
_WILD = ("3.1.1:MQTT-3.3.2-2", "5.0:MQTT-3.3.2-2")


def _connect(flags: int, rest: bytes = b"", level: int = 4) -> bytes:
    """Make a CONNECT with these flags, no properties, client id "c" and `rest`."""
    properties = b"\0" if level == 5 else b""
    body = b"\0\4MQTT" + bytes([level, flags]) + b"\0\0" + properties + b"\0\1c" + rest
    return bytes([0x10, len(body)]) + body


def _named(name: bytes, level: int) -> bytes:
    body = bytes([0, len(name)]) + name + bytes([level]) + b"\2\0\0\0\1c"
    return bytes([0x10, len(body)]) + body


def _topic(topic: bytes, version: int) -> bytes:
    body = bytes([0, len(topic)]) + topic + (b"\0" if version == 5 else b"")
    return bytes([0x30, len(body)]) + body


def _with(where: int, block: bytes) -> bytes:
    return carrier(where, {}, block)[1]


_FIXED_HEADER = [
    Invalid("type-0", 4, b"\x00\0", MALFORMED, "2.1.2"),
    Invalid("type-0-of-5", 5, b"\x00\0", MALFORMED, "2.1.2"),
    Invalid("type-15-below-5", 4, b"\xf0\0", MALFORMED, "3.1.1:2.2.1"),
    Invalid("length-of-five-bytes", 4, b"\xc0\x80\x80\x80\x80\1", MALFORMED, "2.1.4"),
    Invalid(
        "length-not-shortest", 5, b"\xc0\x80\0", MALFORMED, "MQTT-1.5.5-1", ("5.0:MQTT-1.5.5-1",)
    ),
    Invalid("pingreq-with-a-body", 4, b"\xc0\1\0", MALFORMED, "2.1.4"),
    Invalid("pingresp-with-a-body", 5, b"\xd0\1\0", MALFORMED, "2.1.4"),
]

# Every packet but PUBLISH with each of its flag bits flipped.
_GOOD_FRAMES = {
    PacketType.CONNECT: (_connect(2), 4),
    PacketType.CONNACK: (b"\x20\2\0\0", 4),
    PacketType.PUBACK: (b"\x40\2\0\1", 4),
    PacketType.PUBREC: (b"\x50\2\0\1", 4),
    PacketType.PUBREL: (b"\x62\2\0\1", 4),
    PacketType.PUBCOMP: (b"\x70\2\0\1", 4),
    PacketType.SUBSCRIBE: (b"\x82\6\0\1\0\1t\0", 4),
    PacketType.SUBACK: (b"\x90\3\0\1\0", 4),
    PacketType.UNSUBSCRIBE: (b"\xa2\5\0\1\0\1t", 4),
    PacketType.UNSUBACK: (b"\xb0\2\0\1", 4),
    PacketType.PINGREQ: (b"\xc0\0", 4),
    PacketType.PINGRESP: (b"\xd0\0", 4),
    PacketType.DISCONNECT: (b"\xe0\0", 4),
    PacketType.AUTH: (b"\xf0\0", 5),
}
_FLAG_STATEMENTS = {
    PacketType.PUBREL: ("3.1.1:MQTT-3.6.1-1", "5.0:MQTT-3.6.1-1"),
    PacketType.SUBSCRIBE: ("3.1.1:MQTT-3.8.1-1", "5.0:MQTT-3.8.1-1"),
    PacketType.UNSUBSCRIBE: ("3.1.1:MQTT-3.10.1-1", "5.0:MQTT-3.10.1-1"),
    PacketType.DISCONNECT: ("3.1.1:MQTT-3.14.1-1", "5.0:MQTT-3.14.1-1"),
    PacketType.AUTH: ("5.0:MQTT-3.15.1-1",),
}
_WRONG_FLAGS = [
    Invalid(
        f"{kind.name.lower()}-flag-bit-{bit}",
        version,
        bytes([frame[0] ^ 1 << bit]) + frame[1:],
        MALFORMED,
        "MQTT-2.1.3-1",
        _FLAGS + _FLAG_STATEMENTS.get(kind, ()),
    )
    for kind, (frame, version) in _GOOD_FRAMES.items()
    for bit in range(4)
]

_CONNECT = [
    Invalid("connect-empty", 4, b"\x10\0", MALFORMED, "2.1.4"),
    Invalid("connect-name-unknown", 4, _named(b"MQTX", 4), VERSION, "MQTT-3.1.2-1", _NAMED),
    Invalid("connect-name-lower-case", 4, _named(b"mqtt", 4), VERSION, "MQTT-3.1.2-1", _NAMED),
    Invalid("connect-name-empty", 4, _named(b"", 4), VERSION, "MQTT-3.1.2-1", _NAMED),
    Invalid("connect-name-not-utf-8", 4, _named(b"\xff", 4), VERSION, "MQTT-3.1.2-1", _NAMED),
    Invalid("connect-level-0", 4, _named(b"MQTT", 0), VERSION, "MQTT-3.1.2-2", _LEVEL),
    Invalid("connect-level-3-as-MQTT", 4, _named(b"MQTT", 3), VERSION, "MQTT-3.1.2-2", _LEVEL),
    Invalid("connect-level-6", 4, _named(b"MQTT", 6), VERSION, "MQTT-3.1.2-2", _LEVEL),
    Invalid("connect-level-132", 4, _named(b"MQTT", 0x84), VERSION, "MQTT-3.1.2-2", _LEVEL),
    Invalid("connect-level-4-as-MQIsdp", 4, _named(b"MQIsdp", 4), VERSION, "MQTT-3.1.2-2", _LEVEL),
    Invalid(
        "connect-reserved-flag", 4, _connect(3), MALFORMED, "MQTT-3.1.2-3", ("3.1.1:MQTT-3.1.2-3",)
    ),
    Invalid(
        "connect-5-reserved-flag",
        5,
        _connect(3, level=5),
        MALFORMED,
        "MQTT-3.1.2-3",
        ("5.0:MQTT-3.1.2-3",),
    ),
    Invalid(
        "connect-will-qos-3",
        4,
        _connect(0x1E, b"\0\1w\0\0"),
        MALFORMED,
        "MQTT-3.1.2-12",
        ("3.1.1:MQTT-3.1.2-14",),
    ),
    Invalid(
        "connect-5-will-qos-3",
        5,
        _connect(0x1E, b"\0\0\1w\0\0", 5),
        MALFORMED,
        "MQTT-3.1.2-12",
        ("5.0:MQTT-3.1.2-12",),
    ),
    Invalid(
        "connect-will-qos-without-will",
        4,
        _connect(0x0A),
        MALFORMED,
        "MQTT-3.1.2-11",
        ("3.1.1:MQTT-3.1.2-11", "3.1.1:MQTT-3.1.2-13"),
    ),
    Invalid(
        "connect-5-will-qos-without-will",
        5,
        _connect(0x12, level=5),
        MALFORMED,
        "MQTT-3.1.2-11",
        ("5.0:MQTT-3.1.2-11",),
    ),
    Invalid(
        "connect-will-retain-without-will",
        4,
        _connect(0x22),
        MALFORMED,
        "MQTT-3.1.2-13",
        ("3.1.1:MQTT-3.1.2-11", "3.1.1:MQTT-3.1.2-15"),
    ),
    Invalid(
        "connect-5-will-retain-without-will",
        5,
        _connect(0x22, level=5),
        MALFORMED,
        "MQTT-3.1.2-13",
        ("5.0:MQTT-3.1.2-13",),
    ),
    Invalid(
        "connect-password-without-user",
        4,
        _connect(0x42, b"\0\1p"),
        MALFORMED,
        "3.1.1:MQTT-3.1.2-22",
        ("3.1.1:MQTT-3.1.2-22",),
    ),
    Invalid(
        "connect-user-announced-and-absent",
        4,
        _connect(0x82),
        MALFORMED,
        "2.1.4",
        ("3.1.1:MQTT-3.1.2-19",),
    ),
    Invalid(
        "connect-5-user-announced-and-absent",
        5,
        _connect(0x82, level=5),
        MALFORMED,
        "2.1.4",
        ("5.0:MQTT-3.1.2-17",),
    ),
    Invalid(
        "connect-password-announced-and-absent",
        4,
        _connect(0xC2, b"\0\1u"),
        MALFORMED,
        "2.1.4",
        ("3.1.1:MQTT-3.1.2-21",),
    ),
    Invalid(
        "connect-5-password-announced-and-absent",
        5,
        _connect(0x42, level=5),
        MALFORMED,
        "2.1.4",
        ("5.0:MQTT-3.1.2-19",),
    ),
    Invalid(
        "connect-user-not-announced",
        4,
        _connect(2, b"\0\1u"),
        MALFORMED,
        "2.1.4",
        ("3.1.1:MQTT-3.1.2-18",),
    ),
    Invalid(
        "connect-5-user-not-announced",
        5,
        _connect(2, b"\0\1u", 5),
        MALFORMED,
        "2.1.4",
        ("5.0:MQTT-3.1.2-16",),
    ),
    Invalid(
        "connect-password-not-announced",
        4,
        _connect(0x82, b"\0\1u\0\1p"),
        MALFORMED,
        "2.1.4",
        ("3.1.1:MQTT-3.1.2-20",),
    ),
    Invalid(
        "connect-5-password-not-announced",
        5,
        _connect(0x82, b"\0\1u\0\1p", 5),
        MALFORMED,
        "2.1.4",
        ("5.0:MQTT-3.1.2-18",),
    ),
    Invalid(
        "connect-will-announced-and-absent",
        4,
        _connect(6),
        MALFORMED,
        "2.1.4",
        ("3.1.1:MQTT-3.1.2-9",),
    ),
    Invalid(
        "connect-5-will-announced-and-absent",
        5,
        _connect(6, level=5),
        MALFORMED,
        "2.1.4",
        ("5.0:MQTT-3.1.2-9",),
    ),
    Invalid(
        "connect-without-client-id",
        4,
        b"\x10\x0a\0\4MQTT\4\2\0\0",
        MALFORMED,
        "2.1.4",
        ("3.1.1:MQTT-3.1.3-3",),
    ),
    Invalid(
        "connect-5-without-client-id",
        5,
        b"\x10\x0b\0\4MQTT\5\2\0\0\0",
        MALFORMED,
        "2.1.4",
        ("5.0:MQTT-3.1.3-3",),
    ),
    Invalid(
        "connect-client-id-not-utf-8",
        4,
        b"\x10\x0d\0\4MQTT\4\2\0\0\0\1\xff",
        MALFORMED,
        "MQTT-1.5.4-1",
        ("3.1.1:MQTT-3.1.3-4", *_UTF8[:1]),
    ),
    Invalid(
        "connect-5-client-id-not-utf-8",
        5,
        b"\x10\x0e\0\4MQTT\5\2\0\0\0\0\1\xff",
        MALFORMED,
        "MQTT-1.5.4-1",
        ("5.0:MQTT-3.1.3-4", *_UTF8[1:]),
    ),
    Invalid(
        "connect-user-not-utf-8",
        4,
        _connect(0x82, b"\0\1\xc0"),
        MALFORMED,
        "MQTT-1.5.4-1",
        ("3.1.1:MQTT-3.1.3-11",),
    ),
    Invalid(
        "connect-5-user-not-utf-8",
        5,
        _connect(0x82, b"\0\1\xc0", 5),
        MALFORMED,
        "MQTT-1.5.4-1",
        ("5.0:MQTT-3.1.3-12",),
    ),
    Invalid(
        "connect-will-topic-not-utf-8",
        4,
        _connect(6, b"\0\1\xc0\0\0"),
        MALFORMED,
        "MQTT-1.5.4-1",
        ("3.1.1:MQTT-3.1.3-10",),
    ),
    Invalid(
        "connect-5-will-topic-not-utf-8",
        5,
        _connect(6, b"\0\0\1\xc0\0\0", 5),
        MALFORMED,
        "MQTT-1.5.4-1",
        ("5.0:MQTT-3.1.3-11",),
    ),
    Invalid(
        "connect-will-topic-with-wildcard",
        4,
        _connect(6, b"\0\3a/#\0\0"),
        MISUSE,
        "MQTT-3.3.2-2",
        _WILD[:1],
    ),
    Invalid(
        "connect-5-will-topic-with-wildcard",
        5,
        _connect(6, b"\0\0\1+\0\0", 5),
        MISUSE,
        "MQTT-3.3.2-2",
        _WILD[1:],
    ),
    Invalid(
        "connect-will-topic-empty",
        4,
        _connect(6, b"\0\0\0\0"),
        MISUSE,
        "MQTT-4.7.3-1",
        ("3.1.1:MQTT-4.7.3-1",),
    ),
    Invalid(
        "connect-5-will-topic-empty",
        5,
        _connect(6, b"\0\0\0\0\0", 5),
        MISUSE,
        "MQTT-4.7.3-1",
        ("5.0:MQTT-4.7.3-1",),
    ),
    Invalid(
        "connect-trailing-byte", 4, _connect(2, b"x"), MALFORMED, "2.1.4", ("3.1.1:MQTT-3.1.4-1",)
    ),
    Invalid(
        "connect-5-trailing-byte",
        5,
        _connect(2, b"x", 5),
        MALFORMED,
        "2.1.4",
        ("5.0:MQTT-3.1.4-1",),
    ),
]

_PUBLISH = [
    Invalid("publish-empty", 4, b"\x30\0", MALFORMED, "2.1.4"),
    Invalid(
        "publish-qos-3", 4, b"\x36\5\0\1t\0\1", MALFORMED, "MQTT-3.3.1-4", ("3.1.1:MQTT-3.3.1-4",)
    ),
    Invalid(
        "publish-5-qos-3", 5, b"\x36\6\0\1t\0\1\0", MALFORMED, "MQTT-3.3.1-4", ("5.0:MQTT-3.3.1-4",)
    ),
    Invalid(
        "publish-dup-and-qos-3",
        4,
        b"\x3e\5\0\1t\0\1",
        MALFORMED,
        "MQTT-3.3.1-4",
        ("3.1.1:MQTT-3.3.1-4",),
    ),
    Invalid(
        "publish-dup-at-qos-0",
        4,
        b"\x38\3\0\1t",
        MALFORMED,
        "MQTT-3.3.1-2",
        ("3.1.1:MQTT-3.3.1-2",),
    ),
    Invalid(
        "publish-5-dup-at-qos-0",
        5,
        b"\x39\4\0\1t\0",
        MALFORMED,
        "MQTT-3.3.1-2",
        ("5.0:MQTT-3.3.1-2",),
    ),
    Invalid("publish-id-0", 4, b"\x32\5\0\1t\0\0", MISUSE, "MQTT-2.2.1-3", _ID[:1]),
    Invalid("publish-5-id-0", 5, b"\x34\6\0\1t\0\0\0", MISUSE, "MQTT-2.2.1-3", _ID[1:]),
    Invalid("publish-id-missing", 4, b"\x32\4\0\1t\0", MALFORMED, "2.1.4"),
    Invalid("publish-5-properties-missing", 5, b"\x30\3\0\1t", MALFORMED, "2.1.4"),
    Invalid("publish-topic-too-long", 4, b"\x30\3\0\2t", MALFORMED, "2.1.4"),
    Invalid("publish-topic-hash", 4, _topic(b"a/#", 4), TOPIC, "MQTT-3.3.2-2", _WILD[:1]),
    Invalid("publish-topic-plus", 4, _topic(b"a+b", 4), TOPIC, "MQTT-3.3.2-2", _WILD[:1]),
    Invalid("publish-5-topic-hash", 5, _topic(b"#", 5), TOPIC, "MQTT-3.3.2-2", _WILD[1:]),
    Invalid("publish-5-topic-plus", 5, _topic(b"+", 5), TOPIC, "MQTT-3.3.2-2", _WILD[1:]),
    Invalid(
        "publish-topic-empty", 4, _topic(b"", 4), MISUSE, "MQTT-4.7.3-1", ("3.1.1:MQTT-4.7.3-1",)
    ),
    Invalid(
        "publish-5-topic-empty-without-alias",
        5,
        _topic(b"", 5),
        MISUSE,
        "MQTT-4.7.3-1",
        ("5.0:MQTT-4.7.3-1",),
    ),
]

# What is not a UTF-8 string, wherever strings stand: here as a topic.
_BAD_STRINGS = {
    "lone-continuation": b"\x80",
    "truncated-sequence": b"\xe2\x82",
    "overlong-slash": b"\xc0\xaf",
    "overlong-nul": b"\xc0\x80",
    "surrogate-high": b"\xed\xa0\x80",
    "surrogate-low": b"\xed\xbf\xbf",
    "surrogate-pair": b"\xed\xa0\x81\xed\xb0\x80",
    "beyond-unicode": b"\xf4\x90\x80\x80",
    "latin-1": b"caf\xe9",
}
_STRINGS = [
    Invalid(
        f"string-{name}-in-{version}",
        version,
        _topic(raw, version),
        MALFORMED,
        "MQTT-1.5.4-1",
        spec,
    )
    for name, raw in _BAD_STRINGS.items()
    for version, spec in ((4, _UTF8[:1]), (5, _UTF8[1:]))
] + [
    Invalid("string-nul", 4, _topic(b"a\0b", 4), MALFORMED, "MQTT-1.5.4-2", _NUL[:1]),
    Invalid("string-5-nul", 5, _topic(b"\0", 5), MALFORMED, "MQTT-1.5.4-2", _NUL[1:]),
]

_ACKS = [
    Invalid(
        f"{kind.name.lower()}-{name}-in-{version}",
        version,
        bytes([first]) + body,
        reason,
        rule,
        spec,
    )
    for kind, first, statement in (
        (PacketType.PUBACK, 0x40, "MQTT-3.4.2-1"),
        (PacketType.PUBREC, 0x50, "MQTT-3.5.2-1"),
        (PacketType.PUBREL, 0x62, "MQTT-3.6.2-1"),
        (PacketType.PUBCOMP, 0x70, "MQTT-3.7.2-1"),
    )
    for name, version, body, reason, rule, spec in (
        ("empty", 4, b"\0", MALFORMED, "2.1.4", ()),
        ("empty", 5, b"\0", MALFORMED, "2.1.4", ()),
        ("half-an-id", 4, b"\1\0", MALFORMED, "2.1.4", ()),
        ("id-0", 4, b"\2\0\0", MISUSE, "MQTT-2.2.1-3", ()),
        ("id-0", 5, b"\2\0\0", MISUSE, "MQTT-2.2.1-3", ()),
        ("reason-below-5", 4, b"\3\0\1\0", MALFORMED, "2.1.4", ()),
        ("reason-of-another-packet", 5, b"\3\0\1\x8e", MALFORMED, statement, (f"5.0:{statement}",)),
        ("trailing-byte", 5, b"\5\0\1\0\0x", MALFORMED, "2.1.4", ()),
    )
]

_SUBSCRIPTIONS = [
    Invalid("subscribe-id-0", 4, b"\x82\6\0\0\0\1t\0", MISUSE, "MQTT-2.2.1-3", _ID[:1]),
    Invalid("subscribe-5-id-0", 5, b"\x82\7\0\0\0\0\1t\0", MISUSE, "MQTT-2.2.1-3", _ID[1:]),
    Invalid(
        "subscribe-without-filter",
        4,
        b"\x82\2\0\1",
        MISUSE,
        "MQTT-3.8.3-2",
        ("3.1.1:MQTT-3.8.3-3",),
    ),
    Invalid(
        "subscribe-5-without-filter",
        5,
        b"\x82\3\0\1\0",
        MISUSE,
        "MQTT-3.8.3-2",
        ("5.0:MQTT-3.8.3-2",),
    ),
    Invalid("subscribe-without-options", 4, b"\x82\5\0\1\0\1t", MALFORMED, "2.1.4"),
    Invalid(
        "subscribe-reserved-options",
        4,
        b"\x82\6\0\1\0\1t\x04",
        MALFORMED,
        "MQTT-3.8.3-5",
        ("3.1.1:MQTT-3.8.3-4",),
    ),
    Invalid(
        "subscribe-reserved-options-high",
        4,
        b"\x82\6\0\1\0\1t\x80",
        MALFORMED,
        "MQTT-3.8.3-5",
        ("3.1.1:MQTT-3.8.3-4",),
    ),
    Invalid(
        "subscribe-qos-3",
        4,
        b"\x82\6\0\1\0\1t\3",
        MALFORMED,
        "MQTT-3.8.3-5",
        ("3.1.1:MQTT-3.8.3-4",),
    ),
    Invalid(
        "subscribe-5-reserved-options-6",
        5,
        b"\x82\7\0\1\0\0\1t\x40",
        MALFORMED,
        "MQTT-3.8.3-5",
        ("5.0:MQTT-3.8.3-5",),
    ),
    Invalid(
        "subscribe-5-reserved-options-7",
        5,
        b"\x82\7\0\1\0\0\1t\x80",
        MALFORMED,
        "MQTT-3.8.3-5",
        ("5.0:MQTT-3.8.3-5",),
    ),
    Invalid("subscribe-5-qos-3", 5, b"\x82\7\0\1\0\0\1t\3", MISUSE, "3.8.3.1"),
    Invalid("subscribe-5-retain-handling-3", 5, b"\x82\7\0\1\0\0\1t\x30", MISUSE, "3.8.3.1"),
    Invalid(
        "subscribe-5-shared-no-local",
        5,
        b"\x82\x10\0\1\0\0\x0a$share/g/t\x04",
        MISUSE,
        "MQTT-3.8.3-4",
        ("5.0:MQTT-3.8.3-4",),
    ),
    Invalid(
        "subscribe-filter-not-utf-8",
        4,
        b"\x82\6\0\1\0\1\xff\0",
        MALFORMED,
        "MQTT-1.5.4-1",
        ("3.1.1:MQTT-3.8.3-1",),
    ),
    Invalid(
        "subscribe-5-filter-not-utf-8",
        5,
        b"\x82\7\0\1\0\0\1\xff\0",
        MALFORMED,
        "MQTT-1.5.4-1",
        ("5.0:MQTT-3.8.3-1",),
    ),
    Invalid("unsubscribe-id-0", 4, b"\xa2\5\0\0\0\1t", MISUSE, "MQTT-2.2.1-3", _ID[:1]),
    Invalid("unsubscribe-5-id-0", 5, b"\xa2\6\0\0\0\0\1t", MISUSE, "MQTT-2.2.1-3", _ID[1:]),
    Invalid(
        "unsubscribe-without-filter",
        4,
        b"\xa2\2\0\1",
        MISUSE,
        "MQTT-3.10.3-2",
        ("3.1.1:MQTT-3.10.3-2",),
    ),
    Invalid(
        "unsubscribe-5-without-filter",
        5,
        b"\xa2\3\0\1\0",
        MISUSE,
        "MQTT-3.10.3-2",
        ("5.0:MQTT-3.10.3-2",),
    ),
    Invalid(
        "unsubscribe-filter-not-utf-8",
        4,
        b"\xa2\5\0\1\0\1\xff",
        MALFORMED,
        "MQTT-1.5.4-1",
        ("3.1.1:MQTT-3.10.3-1",),
    ),
    Invalid(
        "unsubscribe-5-filter-not-utf-8",
        5,
        b"\xa2\6\0\1\0\0\1\xff",
        MALFORMED,
        "MQTT-1.5.4-1",
        ("5.0:MQTT-3.10.3-1",),
    ),
    Invalid(
        "suback-reason-1-of-5",
        4,
        b"\x90\3\0\1\x87",
        MALFORMED,
        "MQTT-3.9.3-2",
        ("3.1.1:MQTT-3.9.3-2",),
    ),
    Invalid(
        "suback-5-reason-of-another-packet",
        5,
        b"\x90\4\0\1\0\x11",
        MALFORMED,
        "MQTT-3.9.3-2",
        ("5.0:MQTT-3.9.3-2",),
    ),
    Invalid("suback-without-reason", 4, b"\x90\2\0\1", MALFORMED, "MQTT-3.9.3-2"),
    Invalid("unsuback-reason-below-5", 4, b"\xb0\3\0\1\0", MALFORMED, "2.1.4"),
    Invalid(
        "unsuback-5-reason-of-another-packet",
        5,
        b"\xb0\4\0\1\0\1",
        MALFORMED,
        "MQTT-3.11.3-2",
        ("5.0:MQTT-3.11.3-2",),
    ),
    Invalid("unsuback-5-without-reason", 5, b"\xb0\3\0\1\0", MALFORMED, "MQTT-3.11.3-2"),
]

_OUTCOMES = [
    Invalid("connack-flags", 4, b"\x20\2\2\0", MALFORMED, "MQTT-3.2.2-1"),
    Invalid(
        "connack-5-flags", 5, b"\x20\3\x80\0\0", MALFORMED, "MQTT-3.2.2-1", ("5.0:MQTT-3.2.2-1",)
    ),
    Invalid("connack-return-code-6", 4, b"\x20\2\0\6", MALFORMED, "3.1.1:3.2.2.3"),
    Invalid(
        "connack-5-reason-of-another-packet",
        5,
        b"\x20\3\0\x8e\0",
        MALFORMED,
        "MQTT-3.2.2-8",
        ("5.0:MQTT-3.2.2-8",),
    ),
    Invalid(
        "connack-refused-with-session",
        4,
        b"\x20\2\1\5",
        MISUSE,
        "MQTT-3.2.2-6",
        ("3.1.1:MQTT-3.2.2-4",),
    ),
    Invalid(
        "connack-5-refused-with-session",
        5,
        b"\x20\3\1\x87\0",
        MISUSE,
        "MQTT-3.2.2-6",
        ("5.0:MQTT-3.2.2-6",),
    ),
    Invalid("connack-5-in-the-shape-of-3.1.1", 5, b"\x20\2\0\0", MALFORMED, "2.1.4"),
    Invalid("connack-trailing-byte", 4, b"\x20\3\0\0\0", MALFORMED, "2.1.4"),
    Invalid("disconnect-reason-below-5", 4, b"\xe0\1\0", MALFORMED, "2.1.4"),
    Invalid(
        "disconnect-5-reason-of-another-packet",
        5,
        b"\xe0\1\x10",
        MALFORMED,
        "MQTT-3.14.2-1",
        ("5.0:MQTT-3.14.2-1",),
    ),
    Invalid("disconnect-5-trailing-byte", 5, b"\xe0\3\0\0x", MALFORMED, "2.1.4"),
    Invalid(
        "auth-5-reason-of-another-packet",
        5,
        b"\xf0\1\x80",
        MALFORMED,
        "MQTT-3.15.2-1",
        ("5.0:MQTT-3.15.2-1",),
    ),
    Invalid("auth-5-trailing-byte", 5, b"\xf0\3\0\0x", MALFORMED, "2.1.4"),
]

_OUT_OF_RANGE = [
    (PacketType.PUBLISH, b"\x01\2", MISUSE, "3.3.2.3.2", ()),
    (WILL, b"\x01\2", MISUSE, "3.3.2.3.2", ()),
    (PacketType.PUBLISH, b"\x08\0\1+", MISUSE, "MQTT-3.3.2-14", ("5.0:MQTT-3.3.2-14",)),
    (WILL, b"\x08\0\3a/#", MISUSE, "MQTT-3.3.2-14", ("5.0:MQTT-3.3.2-14",)),
    (PacketType.PUBLISH, b"\x08\0\0", MISUSE, "MQTT-4.7.3-1", ("5.0:MQTT-4.7.3-1",)),
    (PacketType.PUBLISH, b"\x08\0\1\xff", MALFORMED, "MQTT-1.5.4-1", ("5.0:MQTT-3.3.2-13",)),
    (PacketType.PUBLISH, b"\x03\0\1\xff", MALFORMED, "MQTT-1.5.4-1", ("5.0:MQTT-3.3.2-19",)),
    (PacketType.PUBLISH, b"\x26\0\1\xff\0\1v", MALFORMED, "MQTT-1.5.4-1", ("5.0:MQTT-1.5.7-1",)),
    (PacketType.PUBLISH, b"\x26\0\1k\0\1\xff", MALFORMED, "MQTT-1.5.4-1", ("5.0:MQTT-1.5.7-1",)),
    (PacketType.PUBLISH, b"\x26\0\1\0\0\1v", MALFORMED, "MQTT-1.5.4-2", ("5.0:MQTT-1.5.4-2",)),
    (PacketType.PUBLISH, b"\x0b\0", MISUSE, "3.8.2.1.2", ()),
    (PacketType.SUBSCRIBE, b"\x0b\0", MISUSE, "3.8.2.1.2", ()),
    (PacketType.SUBSCRIBE, b"\x0b\x81\0", MALFORMED, "MQTT-1.5.5-1", ("5.0:MQTT-1.5.5-1",)),
    (PacketType.SUBSCRIBE, b"\x0b\x80\x80\x80\x80\1", MALFORMED, "1.5.5", ()),
    (PacketType.CONNECT, b"\x17\2", MISUSE, "3.1.2.11.7", ()),
    (PacketType.CONNECT, b"\x19\2", MISUSE, "3.1.2.11.6", ()),
    (PacketType.CONNECT, b"\x21\0\0", MISUSE, "3.1.2.11.3", ()),
    (PacketType.CONNECT, b"\x27\0\0\0\0", MISUSE, "3.1.2.11.4", ()),
    (PacketType.CONNECT, b"\x16\0\0", MISUSE, "3.1.2.11.10", ()),
    (PacketType.CONNACK, b"\x21\0\0", MISUSE, "3.1.2.11.3", ()),
    (PacketType.CONNACK, b"\x27\0\0\0\0", MISUSE, "3.1.2.11.4", ()),
    (PacketType.CONNACK, b"\x24\2", MISUSE, "3.2.2.3.4", ()),
    (PacketType.CONNACK, b"\x25\2", MISUSE, "3.2.2.3.5", ()),
    (PacketType.CONNACK, b"\x28\2", MISUSE, "3.2.2.3.11", ()),
    (PacketType.CONNACK, b"\x29\xff", MISUSE, "3.2.2.3.12", ()),
    (PacketType.CONNACK, b"\x2a\2", MISUSE, "3.2.2.3.13", ()),
    (PacketType.PUBLISH, b"\x23\0\0", ALIAS, "MQTT-3.3.2-8", ("5.0:MQTT-3.3.2-8",)),
    # the block's own shape
    (PacketType.PUBLISH, b"\x00", MALFORMED, "2.2.2.2", ()),
    (PacketType.PUBLISH, b"\x04", MALFORMED, "2.2.2.2", ()),
    (PacketType.PUBLISH, b"\x7f\0", MALFORMED, "2.2.2.2", ()),
    (PacketType.PUBLISH, b"\x81\0\1", MALFORMED, "2.2.2.2", ()),
    (PacketType.PUBLISH, b"\x01", MALFORMED, "2.1.4", ()),
    (PacketType.PUBLISH, b"\x02\0\0\0", MALFORMED, "2.1.4", ()),
    (PacketType.PUBLISH, b"\x23\0", MALFORMED, "2.1.4", ()),
    (PacketType.PUBLISH, b"\x0b\x80", MALFORMED, "2.1.4", ()),
    (PacketType.PUBLISH, b"\x03\0", MALFORMED, "2.1.4", ()),
    (PacketType.PUBLISH, b"\x03\0\2t", MALFORMED, "2.1.4", ()),
    (PacketType.PUBLISH, b"\x09\xff\xff", MALFORMED, "2.1.4", ()),
    (PacketType.PUBLISH, b"\x26\0\1k", MALFORMED, "2.1.4", ()),
]
_VALUES = [
    Invalid(
        f"property-{place(where)}-{block.hex()}",
        5,
        _with(where, block),
        reason,
        rule,
        spec,
    )
    for where, block, reason, rule, spec in _OUT_OF_RANGE
]

# Each property in every packet whose table does not list it.
_MISPLACED = [
    Invalid(
        f"misplaced-{identifier.name.lower()}-in-{place(where)}",
        5,
        _with(where, PROPERTY_BYTES[identifier][1]),
        MALFORMED,
        "2.2.2.2",
    )
    for where, allowed in PROPERTIES_OF.items()
    for identifier in Property
    if identifier not in allowed
]

# Each property twice in every packet that may carry it once.
_REPEATABLE = {
    (PacketType.PUBLISH, Property.SUBSCRIPTION_IDENTIFIER),
    *((where, Property.USER_PROPERTY) for where in PROPERTIES_OF),
}
TWICE = [
    Invalid(
        f"twice-{identifier.name.lower()}-in-{place(where)}",
        5,
        _with(where, PROPERTY_BYTES[identifier][1] * 2),
        MISUSE,
        "",
    )
    for where, allowed in PROPERTIES_OF.items()
    for identifier in sorted(allowed)
    if (where, identifier) not in _REPEATABLE
]

INVALID = (
    _FIXED_HEADER
    + _WRONG_FLAGS
    + _CONNECT
    + _PUBLISH
    + _STRINGS
    + _ACKS
    + _SUBSCRIPTIONS
    + _OUTCOMES
    + _VALUES
    + _MISPLACED
)
