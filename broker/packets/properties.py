"""MQTT 5 properties: the standard's table 2-4 as data, and the two functions that obey it.

Rule kept here: a property stands only in its packets, once unless the table lets it repeat, and
with a value of its range. What is accepted is checked entirely; callers need no second look.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, Final

from broker.packets.codes import PacketType, ReasonCode
from broker.packets.errors import ProtocolViolation, malformed, misuse
from broker.packets.primitives import (
    MAXIMUM_VARINT,
    decode_binary,
    decode_string,
    decode_uint8,
    decode_uint16,
    decode_uint32,
    decode_varint,
    encode_binary,
    encode_string,
    encode_varint,
)

# Property -> value. USER_PROPERTY: list[tuple[str, str]] in the order received;
# SUBSCRIPTION_IDENTIFIER: list[int] (one element in SUBSCRIBE); the rest int, str or bytes.
Properties = dict[int, Any]

WILL: Final = 16  # the Will's own properties inside CONNECT, as if it were a packet type


class Property(IntEnum):
    """Identifiers, in the order of table 2-4."""

    PAYLOAD_FORMAT_INDICATOR = 1
    MESSAGE_EXPIRY_INTERVAL = 2
    CONTENT_TYPE = 3
    RESPONSE_TOPIC = 8
    CORRELATION_DATA = 9
    SUBSCRIPTION_IDENTIFIER = 11
    SESSION_EXPIRY_INTERVAL = 17
    ASSIGNED_CLIENT_IDENTIFIER = 18
    SERVER_KEEP_ALIVE = 19
    AUTHENTICATION_METHOD = 21
    AUTHENTICATION_DATA = 22
    REQUEST_PROBLEM_INFORMATION = 23
    WILL_DELAY_INTERVAL = 24
    REQUEST_RESPONSE_INFORMATION = 25
    RESPONSE_INFORMATION = 26
    SERVER_REFERENCE = 28
    REASON_STRING = 31
    RECEIVE_MAXIMUM = 33
    TOPIC_ALIAS_MAXIMUM = 34
    TOPIC_ALIAS = 35
    MAXIMUM_QOS = 36
    RETAIN_AVAILABLE = 37
    USER_PROPERTY = 38
    MAXIMUM_PACKET_SIZE = 39
    WILDCARD_SUBSCRIPTION_AVAILABLE = 40
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 41
    SHARED_SUBSCRIPTION_AVAILABLE = 42


class DataType(Enum):
    """How a property's value is written (section 1.5)."""

    BYTE = "byte"
    TWO_BYTES = "two byte integer"
    FOUR_BYTES = "four byte integer"
    VARINT = "variable byte integer"
    STRING = "UTF-8 string"
    PAIR = "UTF-8 string pair"
    BINARY = "binary data"


BYTE, TWO_BYTES, FOUR_BYTES, VARINT, STRING, PAIR, BINARY = DataType


@dataclass(frozen=True, slots=True)
class PropertyRow:
    """One row of the table: `low` to `high` bound the integers, `section` is where it is told."""

    identifier: Property
    data_type: DataType
    low: int
    high: int
    packets: frozenset[int]
    repeats_in: frozenset[int]
    section: str


_P = PacketType
_EVERY = frozenset(_P) - {_P.PINGREQ, _P.PINGRESP} | {WILL}
_ACKS = frozenset({_P.PUBACK, _P.PUBREC, _P.PUBREL, _P.PUBCOMP, _P.SUBACK, _P.UNSUBACK})


def _row(
    identifier: Property, kind: DataType, span: tuple[int, int], packets: set[int], section: str
) -> PropertyRow:
    return PropertyRow(
        identifier, kind, *span, frozenset(packets), _REPEATS.get(identifier, frozenset()), section
    )


_BIT = (0, 1)
_U16 = (0, 0xFFFF)
_U32 = (0, 0xFFFF_FFFF)
_NONE = (0, 0)  # strings and bytes have no range
_REPEATS: Final[dict[Property, frozenset[int]]] = {
    Property.SUBSCRIPTION_IDENTIFIER: frozenset({_P.PUBLISH}),
    Property.USER_PROPERTY: _EVERY,
}

# fmt: off
PROPERTY_TABLE: Final[tuple[PropertyRow, ...]] = (
    _row(Property.PAYLOAD_FORMAT_INDICATOR, BYTE, _BIT, {_P.PUBLISH, WILL}, "3.3.2.3.2"),
    _row(Property.MESSAGE_EXPIRY_INTERVAL, FOUR_BYTES, _U32, {_P.PUBLISH, WILL}, "3.3.2.3.3"),
    _row(Property.CONTENT_TYPE, STRING, _NONE, {_P.PUBLISH, WILL}, "3.3.2.3.9"),
    _row(Property.RESPONSE_TOPIC, STRING, _NONE, {_P.PUBLISH, WILL}, "3.3.2.3.5"),
    _row(Property.CORRELATION_DATA, BINARY, _NONE, {_P.PUBLISH, WILL}, "3.3.2.3.6"),
    _row(Property.SUBSCRIPTION_IDENTIFIER, VARINT, (1, MAXIMUM_VARINT), {_P.PUBLISH, _P.SUBSCRIBE},
         "3.8.2.1.2"),
    _row(Property.SESSION_EXPIRY_INTERVAL, FOUR_BYTES, _U32,
         {_P.CONNECT, _P.CONNACK, _P.DISCONNECT}, "3.1.2.11.2"),
    _row(Property.ASSIGNED_CLIENT_IDENTIFIER, STRING, _NONE, {_P.CONNACK}, "3.2.2.3.7"),
    _row(Property.SERVER_KEEP_ALIVE, TWO_BYTES, _U16, {_P.CONNACK}, "3.2.2.3.14"),
    _row(Property.AUTHENTICATION_METHOD, STRING, _NONE, {_P.CONNECT, _P.CONNACK, _P.AUTH},
         "3.1.2.11.9"),
    _row(Property.AUTHENTICATION_DATA, BINARY, _NONE, {_P.CONNECT, _P.CONNACK, _P.AUTH},
         "3.1.2.11.10"),
    _row(Property.REQUEST_PROBLEM_INFORMATION, BYTE, _BIT, {_P.CONNECT}, "3.1.2.11.7"),
    _row(Property.WILL_DELAY_INTERVAL, FOUR_BYTES, _U32, {WILL}, "3.1.3.2.2"),
    _row(Property.REQUEST_RESPONSE_INFORMATION, BYTE, _BIT, {_P.CONNECT}, "3.1.2.11.6"),
    _row(Property.RESPONSE_INFORMATION, STRING, _NONE, {_P.CONNACK}, "3.2.2.3.15"),
    _row(Property.SERVER_REFERENCE, STRING, _NONE, {_P.CONNACK, _P.DISCONNECT}, "3.2.2.3.16"),
    _row(Property.REASON_STRING, STRING, _NONE, {_P.CONNACK, _P.DISCONNECT, _P.AUTH, *_ACKS},
         "3.2.2.3.9"),
    _row(Property.RECEIVE_MAXIMUM, TWO_BYTES, (1, 0xFFFF), {_P.CONNECT, _P.CONNACK}, "3.1.2.11.3"),
    _row(Property.TOPIC_ALIAS_MAXIMUM, TWO_BYTES, _U16, {_P.CONNECT, _P.CONNACK}, "3.1.2.11.5"),
    _row(Property.TOPIC_ALIAS, TWO_BYTES, (1, 0xFFFF), {_P.PUBLISH}, "3.3.2.3.4"),
    _row(Property.MAXIMUM_QOS, BYTE, _BIT, {_P.CONNACK}, "3.2.2.3.4"),
    _row(Property.RETAIN_AVAILABLE, BYTE, _BIT, {_P.CONNACK}, "3.2.2.3.5"),
    _row(Property.USER_PROPERTY, PAIR, _NONE, set(_EVERY), "3.1.2.11.8"),
    _row(Property.MAXIMUM_PACKET_SIZE, FOUR_BYTES, (1, 0xFFFF_FFFF), {_P.CONNECT, _P.CONNACK},
         "3.1.2.11.4"),
    _row(Property.WILDCARD_SUBSCRIPTION_AVAILABLE, BYTE, _BIT, {_P.CONNACK}, "3.2.2.3.11"),
    _row(Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE, BYTE, _BIT, {_P.CONNACK}, "3.2.2.3.12"),
    _row(Property.SHARED_SUBSCRIPTION_AVAILABLE, BYTE, _BIT, {_P.CONNACK}, "3.2.2.3.13"),
)
# fmt: on

_ROWS: Final = {int(row.identifier): row for row in PROPERTY_TABLE}
_LISTS: Final = frozenset(_REPEATS)  # kept as a list, even where one element is all there may be


def decode_properties(data: bytes, pos: int, end: int, where: int) -> tuple[Properties, int]:
    """Read a property length and its properties; `where` is a PacketType or WILL.

    Returns the properties and the position after them. Raises ProtocolViolation: unknown or
    misplaced identifier, truncation (MALFORMED_PACKET), repetition, value out of range
    (PROTOCOL_ERROR, TOPIC_ALIAS_INVALID).
    """
    size, pos = decode_varint(data, pos, end)
    stop = pos + size
    if stop > end:
        raise malformed("2.2.2.1", f"{size} bytes of properties where {end - pos} are left")
    properties: Properties = {}
    while pos < stop:
        row = _row_for(data[pos], where)  # every identifier there is fits one byte
        value, pos = _DECODERS[row.data_type](data, pos + 1, stop)
        _check_value(row, value)
        _put(properties, row, value, where)
    return properties, pos


def encode_properties(properties: Properties | None) -> bytes:
    """Write the properties with their length in front; ValueError for a value out of range."""
    if not properties:
        return b"\0"  # [MQTT-2.2.2-1]
    parts = []
    for identifier, value in properties.items():
        row = _ROWS[identifier]
        for each in value if identifier in _LISTS else (value,):
            parts.append(_ONE_BYTE[identifier])
            parts.append(_ENCODERS[row.data_type](row, each))
    body = b"".join(parts)
    return encode_varint(len(body)) + body


def _row_for(identifier: int, where: int) -> PropertyRow:
    row = _ROWS.get(identifier)
    if row is None:
        raise malformed("2.2.2.2", f"no property has the identifier {identifier}")
    if where not in row.packets:
        raise malformed("2.2.2.2", row.identifier, f"does not belong in {_place(where)}")
    return row


def _check_value(row: PropertyRow, value: Any) -> None:
    if row.identifier == Property.RESPONSE_TOPIC:
        _check_response_topic(value)
    elif row.high and not row.low <= value <= row.high:
        if row.identifier == Property.TOPIC_ALIAS:  # [MQTT-3.3.2-8]
            raise ProtocolViolation(ReasonCode.TOPIC_ALIAS_INVALID, "MQTT-3.3.2-8", "topic alias 0")
        raise misuse(row.section, row.identifier, f"must not be {value}")


def _check_response_topic(topic: str) -> None:
    if "+" in topic or "#" in topic:  # [MQTT-3.3.2-14]
        raise misuse("MQTT-3.3.2-14", "wildcard in the response topic", topic)
    if not topic:  # [MQTT-4.7.3-1]
        raise misuse("MQTT-4.7.3-1", "empty response topic")


def _put(properties: Properties, row: PropertyRow, value: Any, where: int) -> None:
    identifier = int(row.identifier)
    if identifier not in properties:
        properties[identifier] = [value] if identifier in _LISTS else value
    elif where in row.repeats_in:
        properties[identifier].append(value)
    else:
        raise misuse(row.section, row.identifier, f"more than once in {_place(where)}")


def _place(where: int) -> str:
    return "the Will" if where == WILL else PacketType(where).name


def _decode_pair(data: bytes, pos: int, end: int) -> tuple[tuple[str, str], int]:
    name, pos = decode_string(data, pos, end)  # [MQTT-1.5.7-1]
    value, pos = decode_string(data, pos, end)
    return (name, value), pos


_DECODERS: Final[dict[DataType, Callable[[bytes, int, int], tuple[Any, int]]]] = {
    BYTE: decode_uint8,
    TWO_BYTES: decode_uint16,
    FOUR_BYTES: decode_uint32,
    VARINT: decode_varint,
    STRING: decode_string,
    PAIR: _decode_pair,
    BINARY: decode_binary,
}


def _encode_integer(row: PropertyRow, value: int) -> bytes:
    if not row.low <= value <= row.high:
        raise ValueError(f"{row.identifier.name} must not be {value}")
    if row.data_type is VARINT:
        return encode_varint(value)
    return int(value).to_bytes(_WIDTH[row.data_type], "big")


def _encode_text(row: PropertyRow, value: str) -> bytes:
    if row.identifier == Property.RESPONSE_TOPIC and ("+" in value or "#" in value or not value):
        raise ValueError(f"{value!r} cannot be a response topic")  # [MQTT-3.3.2-14]
    return encode_string(value)


def _encode_pair(_: PropertyRow, value: tuple[str, str]) -> bytes:
    return encode_string(value[0]) + encode_string(value[1])


def _encode_bytes(_: PropertyRow, value: bytes) -> bytes:
    return encode_binary(value)


_ONE_BYTE: Final = {identifier: bytes([identifier]) for identifier in _ROWS}
_WIDTH: Final = {BYTE: 1, TWO_BYTES: 2, FOUR_BYTES: 4}
_ENCODERS: Final[dict[DataType, Callable[[PropertyRow, Any], bytes]]] = {
    BYTE: _encode_integer,
    TWO_BYTES: _encode_integer,
    FOUR_BYTES: _encode_integer,
    VARINT: _encode_integer,
    STRING: _encode_text,
    PAIR: _encode_pair,
    BINARY: _encode_bytes,
}
