"""Bytes -> packets: one decoder for MQTT 3.1, 3.1.1 and 5, dispatched by the packet type.

Rule kept here: every check that needs nothing but the packet itself is made here, so what comes out
is well formed; what does not comes out as ProtocolViolation and nothing else. Left to the receiver:
what depends on the session or the direction, and whether topic filters are valid.
"""

from collections.abc import Callable
from typing import Final

from broker.packets.codes import (
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5,
    REASONS,
    PacketType,
    ReasonCode,
)
from broker.packets.errors import ProtocolViolation, malformed, misuse
from broker.packets.primitives import (
    decode_binary,
    decode_string,
    decode_uint8,
    decode_uint16,
    text_of,
    truncated,
)
from broker.packets.properties import WILL, Properties, Property, decode_properties
from broker.packets.types import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
    Will,
)

# The flags of the fixed header by packet type (table 2.2); PUBLISH has its own meaning for them.
_FLAGS: Final = (0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 2, 0, 0, 0, 0, 0)

# MQTT 3.1 knows a DUP flag for PUBREL, SUBSCRIBE and UNSUBSCRIBE, too (its section 2.1).
_REPEATED_3_1: Final = (0x6A, 0x8A, 0xAA)

# Protocol name -> the levels known under it.
_LEVELS: Final = {b"MQTT": (MQTT_3_1_1, MQTT_5), b"MQIsdp": (MQTT_3_1,)}

_USERNAME: Final = 0x80  # the Connect Flags
_PASSWORD: Final = 0x40
_WILL_RETAIN: Final = 0x20
_WILL_QOS: Final = 0x18
_WILL: Final = 0x04
_CLEAN_START: Final = 0x02
_RESERVED: Final = 0x01

_SUBACK_CODES_3_1_1: Final = frozenset({0, 1, 2, 0x80})

_PUBLISH: Final = int(PacketType.PUBLISH)  # a plain int: an enum's member costs 0.1 us to look up

# Topic names found good, by their bytes: most traffic repeats few names, and a name met before
# needs no decoding and no checks. Bounded in entries and in the length of each.
_KNOWN_TOPICS: Final[dict[bytes, str]] = {}
_MOST_KNOWN: Final = 8192
_LONGEST_KNOWN: Final = 128


def decode(first: int, data: bytes, pos: int, end: int, version: int) -> Packet:
    """Read the packet whose first byte is `first` and whose body is `data[pos:end]`.

    `version` is the connection's protocol level (3, 4 or 5); a CONNECT brings its own.
    Raises ProtocolViolation.
    """
    kind = first >> 4
    if kind == _PUBLISH:
        return decode_publish(first, data, pos, end, version)
    if first & 15 != _FLAGS[kind] and (version != MQTT_3_1 or first not in _REPEATED_3_1):
        raise malformed(  # [MQTT-2.1.3-1]
            "MQTT-2.1.3-1", f"flags {first & 15:04b} in packet type {kind}"
        )
    return _DECODERS[kind](data, pos, end, version)


def connect_version(data: bytes, pos: int, end: int) -> int:
    """Return the protocol level a CONNECT body asks for, 0 if its name or level is unknown.

    Never raises: it tells how to answer a CONNECT that `decode` refused.
    """
    try:
        return _decode_protocol(data, pos, end)[0]
    except ProtocolViolation:
        return 0


def decode_publish(first: int, data: bytes, pos: int, end: int, version: int) -> Publish:
    """Read a PUBLISH; see `decode`."""
    if first & 0x06 == 0x06 or first & 0x0E == 0x08:
        raise _publish_flags(first)
    start = pos + 2
    if start > end or (pos := start + (data[pos] << 8 | data[pos + 1])) > end:
        raise malformed("2.1.4", "a topic name that reaches beyond its packet")
    raw = data[start:pos]
    topic = _KNOWN_TOPICS.get(raw)
    if topic is None:
        topic = _new_topic(raw)
    qos = first >> 1 & 3
    packet_id = 0  # [MQTT-2.2.1-2]
    if qos:
        packet_id, pos = _decode_packet_id(data, pos, end)
    properties: Properties = {}
    if version >= MQTT_5:
        if pos < end and not data[pos]:  # no properties: not worth a call
            pos += 1
        else:
            properties, pos = decode_properties(data, pos, end, _PUBLISH)
    if not topic and Property.TOPIC_ALIAS not in properties:
        raise misuse("MQTT-4.7.3-1", "empty topic name without a topic alias")
    return Publish(topic, data[pos:end], qos, first & 1 != 0, first & 8 != 0, packet_id, properties)


def _new_topic(raw: bytes) -> str:
    topic = text_of(raw)
    if "+" in topic or "#" in topic:  # [MQTT-3.3.2-2]
        raise ProtocolViolation(
            ReasonCode.TOPIC_NAME_INVALID, "MQTT-3.3.2-2", "wildcard in the topic name", topic
        )
    if len(raw) <= _LONGEST_KNOWN:
        if len(_KNOWN_TOPICS) >= _MOST_KNOWN:
            _KNOWN_TOPICS.clear()
        _KNOWN_TOPICS[raw] = topic
    return topic


def _publish_flags(first: int) -> ProtocolViolation:
    if first & 0x06 == 0x06:  # [MQTT-3.3.1-4]
        return malformed("MQTT-3.3.1-4", "QoS 3")
    return malformed("MQTT-3.3.1-2", "DUP with QoS 0")  # [MQTT-3.3.1-2]


def _decode_connect(data: bytes, pos: int, end: int, version: int) -> Connect:
    version, pos = _decode_protocol(data, pos, end)
    flags, pos = decode_uint8(data, pos, end)
    _check_connect_flags(flags, version)
    keep_alive, pos = decode_uint16(data, pos, end)
    properties: Properties = {}
    if version >= MQTT_5:
        properties, pos = decode_properties(data, pos, end, PacketType.CONNECT)
        _check_authentication(properties)
    client_id, pos = decode_string(data, pos, end)  # [MQTT-3.1.3-3] [MQTT-3.1.3-4]
    will, username, password = None, None, None
    if flags & _WILL:  # [MQTT-3.1.3-1] gives the order of what follows
        will, pos = _decode_will(flags, data, pos, end, version)
    if flags & _USERNAME:
        username, pos = decode_string(data, pos, end)
    if flags & _PASSWORD:
        password, pos = decode_binary(data, pos, end)
    _check_end(pos, end)
    clean_start = flags & _CLEAN_START != 0
    return Connect(
        client_id, clean_start, keep_alive, username, password, will, properties, version
    )


def _decode_protocol(data: bytes, pos: int, end: int) -> tuple[int, int]:
    name, pos = decode_binary(data, pos, end)
    level, pos = decode_uint8(data, pos, end)
    levels = _LEVELS.get(name)
    if levels is None:  # [MQTT-3.1.2-1]
        raise _unsupported("MQTT-3.1.2-1", f"protocol name {name[:20]!r}")
    if level not in levels:  # [MQTT-3.1.2-2]
        raise _unsupported("MQTT-3.1.2-2", f"protocol level {level} of {name.decode()}")
    return level, pos


def _unsupported(rule: str, fact: str) -> ProtocolViolation:
    return ProtocolViolation(ReasonCode.UNSUPPORTED_PROTOCOL_VERSION, rule, fact)


def _check_connect_flags(flags: int, version: int) -> None:
    if flags & _RESERVED:  # [MQTT-3.1.2-3]
        raise malformed("MQTT-3.1.2-3", "the reserved Connect flag is set")
    if flags & _WILL_QOS == _WILL_QOS:  # [MQTT-3.1.2-12]
        raise malformed("MQTT-3.1.2-12", "Will QoS 3")
    if not flags & _WILL:
        if flags & _WILL_QOS:  # [MQTT-3.1.2-11]
            raise malformed("MQTT-3.1.2-11", "Will QoS without a Will")
        if flags & _WILL_RETAIN:  # [MQTT-3.1.2-13]
            raise malformed("MQTT-3.1.2-13", "Will Retain without a Will")
    if version < MQTT_5 and flags & (_USERNAME | _PASSWORD) == _PASSWORD:  # [3.1.1:MQTT-3.1.2-22]
        raise malformed("3.1.1:MQTT-3.1.2-22", "password without a user name")


def _check_authentication(properties: Properties) -> None:
    if (
        Property.AUTHENTICATION_DATA in properties
        and Property.AUTHENTICATION_METHOD not in properties
    ):
        raise misuse("3.1.2.11.10", "authentication data without a method")


def _decode_will(flags: int, data: bytes, pos: int, end: int, version: int) -> tuple[Will, int]:
    properties: Properties = {}
    if version >= MQTT_5:
        properties, pos = decode_properties(data, pos, end, WILL)
    topic, pos = decode_string(data, pos, end)
    if "+" in topic or "#" in topic:  # [MQTT-3.3.2-2], for a Will becomes a PUBLISH
        raise misuse("MQTT-3.3.2-2", "wildcard in the Will Topic", topic)
    if not topic:
        raise misuse("MQTT-4.7.3-1", "empty Will Topic")
    payload, pos = decode_binary(data, pos, end)
    qos = (flags & _WILL_QOS) >> 3
    return Will(topic, payload, qos, flags & _WILL_RETAIN != 0, properties), pos


def _decode_connack(data: bytes, pos: int, end: int, version: int) -> Connack:
    flags, pos = decode_uint8(data, pos, end)
    if flags > 1:  # [MQTT-3.2.2-1]
        raise malformed("MQTT-3.2.2-1", f"Connect Acknowledge Flags {flags}")
    reason, pos = decode_uint8(data, pos, end)
    properties: Properties = {}
    if version >= MQTT_5:
        _check_reason(PacketType.CONNACK, reason)
        properties, pos = decode_properties(data, pos, end, PacketType.CONNACK)
    elif reason > 5:
        raise malformed("3.1.1:3.2.2.3", f"return code {reason}")
    if flags and reason:  # [MQTT-3.2.2-6]
        raise misuse("MQTT-3.2.2-6", f"session present with reason {reason:#04x}")
    _check_end(pos, end)
    return Connack(flags == 1, reason, properties)


def _ack_decoder(
    kind: PacketType, make: Callable[[int, int, Properties], Packet]
) -> Callable[[bytes, int, int, int], Packet]:
    def decode_ack(data: bytes, pos: int, end: int, version: int) -> Packet:
        packet_id, pos = _decode_packet_id(data, pos, end)
        if pos == end:  # by far the most frequent: success
            return make(packet_id, 0, {})
        if version < MQTT_5:
            raise _trailing(end - pos)
        return make(packet_id, *_decode_outcome(kind, data, pos, end))

    return decode_ack


def _decode_outcome(kind: PacketType, data: bytes, pos: int, end: int) -> tuple[int, Properties]:
    """Read the reason code and properties that may be left out from the right."""
    reason, pos = decode_uint8(data, pos, end)
    _check_reason(kind, reason)
    properties: Properties = {}
    if pos < end:
        properties, pos = decode_properties(data, pos, end, kind)
    _check_end(pos, end)
    return reason, properties


def _decode_subscribe(data: bytes, pos: int, end: int, version: int) -> Subscribe:
    packet_id, properties, pos = _decode_request(PacketType.SUBSCRIBE, data, pos, end, version)
    requests = []
    while pos < end:
        topic_filter, pos = decode_string(data, pos, end)  # [MQTT-3.8.3-1]
        options, pos = decode_uint8(data, pos, end)
        requests.append(_subscription_request(topic_filter, options, version))
    if not requests:  # [MQTT-3.8.3-2]
        raise misuse("MQTT-3.8.3-2", "SUBSCRIBE without a filter")
    return Subscribe(packet_id, requests, properties)


def _subscription_request(topic_filter: str, options: int, version: int) -> SubscriptionRequest:
    if options & 0xC0 or (version < MQTT_5 and options > 2):  # [MQTT-3.8.3-5]
        raise malformed("MQTT-3.8.3-5", f"subscription options {options:#04x}")
    qos = options & 3
    if qos == 3:
        raise misuse("3.8.3.1", "subscription with QoS 3")
    no_local = options & 4 != 0
    if no_local and topic_filter.startswith("$share/"):  # [MQTT-3.8.3-4]
        raise misuse("MQTT-3.8.3-4", "No Local on a shared subscription", topic_filter)
    retain_handling = options >> 4 & 3
    if retain_handling == 3:
        raise misuse("3.8.3.1", "Retain Handling 3")
    return SubscriptionRequest(topic_filter, qos, no_local, options & 8 != 0, retain_handling)


def _decode_suback(data: bytes, pos: int, end: int, version: int) -> Suback:
    packet_id, properties, pos = _decode_request(PacketType.SUBACK, data, pos, end, version)
    reasons = list(data[pos:end])
    allowed = REASONS[PacketType.SUBACK] if version >= MQTT_5 else _SUBACK_CODES_3_1_1
    if not reasons or not allowed.issuperset(reasons):  # [MQTT-3.9.3-2]
        raise malformed("MQTT-3.9.3-2", "SUBACK with the reasons", reasons[:8])
    return Suback(packet_id, reasons, properties)


def _decode_unsubscribe(data: bytes, pos: int, end: int, version: int) -> Unsubscribe:
    packet_id, properties, pos = _decode_request(PacketType.UNSUBSCRIBE, data, pos, end, version)
    filters = []
    while pos < end:
        topic_filter, pos = decode_string(data, pos, end)  # [MQTT-3.10.3-1]
        filters.append(topic_filter)
    if not filters:  # [MQTT-3.10.3-2]
        raise misuse("MQTT-3.10.3-2", "UNSUBSCRIBE without a filter")
    return Unsubscribe(packet_id, filters, properties)


def _decode_unsuback(data: bytes, pos: int, end: int, version: int) -> Unsuback:
    packet_id, properties, pos = _decode_request(PacketType.UNSUBACK, data, pos, end, version)
    if version < MQTT_5:
        _check_end(pos, end)
        return Unsuback(packet_id)
    reasons = list(data[pos:end])
    if not reasons or not REASONS[PacketType.UNSUBACK].issuperset(reasons):  # [MQTT-3.11.3-2]
        raise malformed("MQTT-3.11.3-2", "UNSUBACK with the reasons", reasons[:8])
    return Unsuback(packet_id, reasons, properties)


def _decode_request(
    kind: PacketType, data: bytes, pos: int, end: int, version: int
) -> tuple[int, Properties, int]:
    """Read what SUBSCRIBE, UNSUBSCRIBE and their answers begin with."""
    packet_id, pos = _decode_packet_id(data, pos, end)
    properties: Properties = {}
    if version >= MQTT_5:
        properties, pos = decode_properties(data, pos, end, kind)
    return packet_id, properties, pos


def _decode_pingreq(_data: bytes, pos: int, end: int, _version: int) -> Pingreq:
    _check_end(pos, end)
    return Pingreq()


def _decode_pingresp(_data: bytes, pos: int, end: int, _version: int) -> Pingresp:
    _check_end(pos, end)
    return Pingresp()


def _decode_disconnect(data: bytes, pos: int, end: int, version: int) -> Disconnect:
    if pos == end:
        return Disconnect()
    if version < MQTT_5:
        raise _trailing(end - pos)
    return Disconnect(*_decode_outcome(PacketType.DISCONNECT, data, pos, end))


def _decode_auth(data: bytes, pos: int, end: int, version: int) -> Auth:
    if version < MQTT_5:
        raise malformed("3.1.1:2.2.1", "packet type 15")
    if pos == end:
        return Auth()
    return Auth(*_decode_outcome(PacketType.AUTH, data, pos, end))


def _decode_reserved(_data: bytes, _pos: int, _end: int, _version: int) -> Packet:
    raise malformed("2.1.2", "packet type 0")


def _decode_packet_id(data: bytes, pos: int, end: int) -> tuple[int, int]:
    after = pos + 2
    if after > end:
        raise truncated(2, end - pos)
    packet_id = data[pos] << 8 | data[pos + 1]
    if not packet_id:  # [MQTT-2.2.1-3]
        raise misuse("MQTT-2.2.1-3", "packet identifier 0")
    return packet_id, after


def _check_reason(kind: PacketType, reason: int) -> None:
    if reason not in REASONS[kind]:
        raise malformed(_REASON_RULE[kind], f"reason {reason:#04x} in {kind.name}")


def _check_end(pos: int, end: int) -> None:
    if pos != end:
        raise _trailing(end - pos)


def _trailing(size: int) -> ProtocolViolation:
    return malformed("2.1.4", f"{size} bytes after the packet's last field")


_REASON_RULE: Final = {
    PacketType.CONNACK: "MQTT-3.2.2-8",
    PacketType.PUBACK: "MQTT-3.4.2-1",
    PacketType.PUBREC: "MQTT-3.5.2-1",
    PacketType.PUBREL: "MQTT-3.6.2-1",
    PacketType.PUBCOMP: "MQTT-3.7.2-1",
    PacketType.DISCONNECT: "MQTT-3.14.2-1",
    PacketType.AUTH: "MQTT-3.15.2-1",
}

_DECODERS: Final[tuple[Callable[[bytes, int, int, int], Packet], ...]] = (
    _decode_reserved,  # in the order of packet types, from 0
    _decode_connect,
    _decode_connack,
    _decode_reserved,  # PUBLISH: decode() has sent it to decode_publish, which needs the flags
    _ack_decoder(PacketType.PUBACK, Puback),
    _ack_decoder(PacketType.PUBREC, Pubrec),
    _ack_decoder(PacketType.PUBREL, Pubrel),
    _ack_decoder(PacketType.PUBCOMP, Pubcomp),
    _decode_subscribe,
    _decode_suback,
    _decode_unsubscribe,
    _decode_unsuback,
    _decode_pingreq,
    _decode_pingresp,
    _decode_disconnect,
    _decode_auth,
)
