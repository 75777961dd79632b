"""Packets and their bytes, written by hand from the layouts of the two standards.

One table feeds decode, encode, round trip and every truncation. A frame is given in full, its
fields apart: b"fixed header" b"field" b"field" ...
"""

from typing import NamedTuple

from broker.packets.codes import PacketType
from broker.packets.properties import WILL, Properties, Property
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


class Vector(NamedTuple):
    """`frame` and `packet` say the same at protocol level `version`."""

    name: str
    version: int
    packet: Packet
    frame: bytes


_WILL_5 = Will("w", b"bye", 2, True, {Property.WILL_DELAY_INTERVAL: 5})
_ALL_OPTIONS = SubscriptionRequest("a/+", 2, True, True, 2)

_PACKETS = [
    # CONNECT
    Vector(
        "connect-3.1",
        3,
        Connect("c", True, 60, version=3),
        b"\x10\x0f\0\6MQIsdp\3\x02\0\x3c\0\1c",
    ),
    Vector(
        "connect-3.1-credentials",
        3,
        Connect("c", True, 0, "u", b"p", version=3),
        b"\x10\x15\0\6MQIsdp\3\xc2\0\0\0\1c\0\1u\0\1p",
    ),
    Vector(
        "connect",
        4,
        Connect("c", True, 60, version=4),
        b"\x10\x0d\0\4MQTT\4\x02\0\x3c\0\1c",
    ),
    Vector(
        "connect-without-client-id",
        4,
        Connect("", True, 65535, version=4),
        b"\x10\x0c\0\4MQTT\4\x02\xff\xff\0\0",
    ),
    Vector(
        "connect-persistent-without-client-id",  # well formed; the broker refuses it
        4,
        Connect("", False, 0, version=4),
        b"\x10\x0c\0\4MQTT\4\x00\0\0\0\0",
    ),
    Vector(
        "connect-user-without-password",
        4,
        Connect("c", False, 0, "u", None, version=4),
        b"\x10\x10\0\4MQTT\4\x80\0\0\0\1c\0\1u",
    ),
    Vector(
        "connect-empty-user-and-password",
        4,
        Connect("c", False, 0, "", b"", version=4),
        b"\x10\x11\0\4MQTT\4\xc0\0\0\0\1c\0\0\0\0",
    ),
    Vector(
        "connect-password-is-binary",
        4,
        Connect("c", False, 0, "u", b"\0\xff", version=4),
        b"\x10\x14\0\4MQTT\4\xc0\0\0\0\1c\0\1u\0\2\0\xff",
    ),
    Vector(
        "connect-will-qos-0",
        4,
        Connect("c", True, 0, will=Will("w", b""), version=4),
        b"\x10\x12\0\4MQTT\4\x06\0\0\0\1c\0\1w\0\0",
    ),
    Vector(
        "connect-will-qos-1-retained",
        4,
        Connect("c", True, 0, will=Will("w", b"x", 1, True), version=4),
        b"\x10\x13\0\4MQTT\4\x2e\0\0\0\1c\0\1w\0\1x",
    ),
    Vector(
        "connect-everything",
        4,
        Connect("c", True, 10, "u", b"p", Will("w", b"x", 2, True), version=4),
        b"\x10\x19\0\4MQTT\4\xf6\0\x0a\0\1c\0\1w\0\1x\0\1u\0\1p",
    ),
    Vector(
        "connect-5",
        5,
        Connect("c", True, 60, version=5),
        b"\x10\x0e\0\4MQTT\5\x02\0\x3c\0\0\1c",
    ),
    Vector(
        "connect-5-password-without-user",
        5,
        Connect("c", True, 0, None, b"p", version=5),
        b"\x10\x11\0\4MQTT\5\x42\0\0\0\0\1c\0\1p",
    ),
    Vector(
        "connect-5-everything",
        5,
        Connect("c", False, 10, "u", b"p", _WILL_5, {Property.RECEIVE_MAXIMUM: 20}, version=5),
        b"\x10\x25\0\4MQTT\5\xf4\0\x0a\x03\x21\0\x14\0\1c\x05\x18\0\0\0\x05\0\1w\0\3bye\0\1u\0\1p",
    ),
    # CONNACK
    Vector("connack", 4, Connack(False, 0), b"\x20\2\0\0"),
    Vector("connack-session-present", 4, Connack(True, 0), b"\x20\2\1\0"),
    Vector("connack-3.1-refused", 3, Connack(False, 4), b"\x20\2\0\4"),
    Vector("connack-refused", 4, Connack(False, 5), b"\x20\2\0\5"),
    Vector("connack-5", 5, Connack(False, 0), b"\x20\3\0\0\0"),
    Vector("connack-5-session-present", 5, Connack(True, 0), b"\x20\3\1\0\0"),
    Vector("connack-5-refused", 5, Connack(False, 0x86), b"\x20\3\0\x86\0"),
    # PUBLISH
    Vector("publish", 4, Publish("t", b"x"), b"\x30\4\0\1tx"),
    Vector("publish-empty", 4, Publish("t"), b"\x30\3\0\1t"),
    Vector("publish-retained", 4, Publish("t", b"x", retain=True), b"\x31\4\0\1tx"),
    Vector("publish-1", 4, Publish("t", b"x", 1, packet_id=10), b"\x32\6\0\1t\0\x0ax"),
    Vector(
        "publish-1-again",
        4,
        Publish("t", b"x", 1, True, True, 65535),
        b"\x3b\6\0\1t\xff\xffx",
    ),
    Vector("publish-2", 4, Publish("t", b"", 2, packet_id=1), b"\x34\5\0\1t\0\1"),
    Vector("publish-2-again", 4, Publish("t", b"", 2, False, True, 1), b"\x3c\5\0\1t\0\1"),
    Vector("publish-3.1", 3, Publish("a/b", b"\0\xff"), b"\x30\7\0\3a/b\0\xff"),
    Vector(
        "publish-utf-8",
        4,
        Publish("\N{DEGREE SIGN}\U0001f600"),
        b"\x30\x08\0\6\xc2\xb0\xf0\x9f\x98\x80",
    ),
    Vector("publish-bom-stays", 4, Publish("\ufefft"), b"\x30\6\0\4\xef\xbb\xbft"),
    Vector("publish-length-127", 4, Publish("t", b"x" * 124), b"\x30\x7f\0\1t" + b"x" * 124),
    Vector("publish-length-128", 4, Publish("t", b"x" * 125), b"\x30\x80\1\0\1t" + b"x" * 125),
    Vector(
        "publish-length-16383",
        4,
        Publish("t", b"x" * 16380),
        b"\x30\xff\x7f\0\1t" + b"x" * 16380,
    ),
    Vector(
        "publish-length-16384",
        4,
        Publish("t", b"x" * 16381),
        b"\x30\x80\x80\1\0\1t" + b"x" * 16381,
    ),
    Vector("publish-5", 5, Publish("t", b"x"), b"\x30\5\0\1t\0x"),
    Vector("publish-5-1", 5, Publish("t", b"x", 1, packet_id=258), b"\x32\7\0\1t\1\2\0x"),
    Vector(
        "publish-5-alias-for-topic",
        5,
        Publish("", b"x", properties={Property.TOPIC_ALIAS: 7}),
        b"\x30\7\0\0\3\x23\0\7x",
    ),
    Vector(
        "publish-5-several-subscription-identifiers",
        5,
        Publish("t", properties={Property.SUBSCRIPTION_IDENTIFIER: [1, 128]}),
        b"\x30\x09\0\1t\5\x0b\1\x0b\x80\1",
    ),
    Vector(
        "publish-5-user-properties-in-order",
        5,
        Publish("t", properties={Property.USER_PROPERTY: [("b", "1"), ("a", "2"), ("b", "")]}),
        b"\x30\x18\0\1t\x14\x26\0\1b\0\x011\x26\0\1a\0\x012\x26\0\1b\0\0",
    ),
    # PUBACK, PUBREC, PUBREL, PUBCOMP
    Vector("puback", 4, Puback(1), b"\x40\2\0\1"),
    Vector("pubrec", 4, Pubrec(2), b"\x50\2\0\2"),
    Vector("pubrel", 4, Pubrel(3), b"\x62\2\0\3"),
    Vector("pubcomp", 4, Pubcomp(65535), b"\x70\2\xff\xff"),
    Vector("puback-3.1", 3, Puback(1), b"\x40\2\0\1"),
    Vector("puback-5", 5, Puback(1), b"\x40\2\0\1"),
    Vector("pubrec-5", 5, Pubrec(2), b"\x50\2\0\2"),
    Vector("pubrel-5", 5, Pubrel(3), b"\x62\2\0\3"),
    Vector("pubcomp-5", 5, Pubcomp(65535), b"\x70\2\xff\xff"),
    Vector("puback-5-reason", 5, Puback(1, 0x10), b"\x40\3\0\1\x10"),
    Vector("pubrec-5-reason", 5, Pubrec(1, 0x97), b"\x50\3\0\1\x97"),
    Vector("pubrel-5-reason", 5, Pubrel(1, 0x92), b"\x62\3\0\1\x92"),
    Vector("pubcomp-5-reason", 5, Pubcomp(1, 0x92), b"\x70\3\0\1\x92"),
    # SUBSCRIBE, SUBACK
    Vector(
        "subscribe",
        4,
        Subscribe(10, [SubscriptionRequest("a/b", 1), SubscriptionRequest("#", 2)]),
        b"\x82\x0c\0\x0a\0\3a/b\1\0\1#\2",
    ),
    Vector("subscribe-3.1", 3, Subscribe(1, [SubscriptionRequest("t")]), b"\x82\6\0\1\0\1t\0"),
    Vector("subscribe-5", 5, Subscribe(1, [SubscriptionRequest("t")]), b"\x82\7\0\1\0\0\1t\0"),
    Vector("subscribe-5-options", 5, Subscribe(1, [_ALL_OPTIONS]), b"\x82\x09\0\1\0\0\3a/+\x2e"),
    Vector(
        "subscribe-5-shared",
        5,
        Subscribe(1, [SubscriptionRequest("$share/g/t", 1, retain_handling=1)]),
        b"\x82\x10\0\1\0\0\x0a$share/g/t\x11",
    ),
    Vector("suback", 4, Suback(10, [1, 0x80, 2, 0]), b"\x90\6\0\x0a\1\x80\2\0"),
    Vector("suback-5", 5, Suback(10, [0, 0x8F]), b"\x90\5\0\x0a\0\0\x8f"),
    # UNSUBSCRIBE, UNSUBACK
    Vector("unsubscribe", 4, Unsubscribe(10, ["a/b", "#"]), b"\xa2\x0a\0\x0a\0\3a/b\0\1#"),
    Vector("unsubscribe-5", 5, Unsubscribe(1, ["t"]), b"\xa2\6\0\1\0\0\1t"),
    Vector("unsuback", 4, Unsuback(10), b"\xb0\2\0\x0a"),
    Vector("unsuback-5", 5, Unsuback(10, [0, 0x11]), b"\xb0\5\0\x0a\0\0\x11"),
    # PINGREQ, PINGRESP
    Vector("pingreq", 4, Pingreq(), b"\xc0\0"),
    Vector("pingresp", 4, Pingresp(), b"\xd0\0"),
    Vector("pingreq-5", 5, Pingreq(), b"\xc0\0"),
    Vector("pingresp-5", 5, Pingresp(), b"\xd0\0"),
    # DISCONNECT, AUTH
    Vector("disconnect", 4, Disconnect(), b"\xe0\0"),
    Vector("disconnect-5", 5, Disconnect(), b"\xe0\0"),
    Vector("disconnect-5-with-will", 5, Disconnect(4), b"\xe0\1\4"),
    Vector("disconnect-5-taken-over", 5, Disconnect(0x8E), b"\xe0\1\x8e"),
    Vector(
        "disconnect-5-normal-with-properties",
        5,
        Disconnect(0, {Property.SESSION_EXPIRY_INTERVAL: 0}),
        b"\xe0\7\0\5\x11\0\0\0\0",
    ),
    Vector("auth-5", 5, Auth(), b"\xf0\0"),
    Vector("auth-5-reason", 5, Auth(0x19), b"\xf0\1\x19"),
]

# Each property with a value and its bytes.
PROPERTY_BYTES: dict[Property, tuple[object, bytes]] = {
    Property.PAYLOAD_FORMAT_INDICATOR: (1, b"\x01\1"),
    Property.MESSAGE_EXPIRY_INTERVAL: (0x01020304, b"\x02\1\2\3\4"),
    Property.CONTENT_TYPE: ("text", b"\x03\0\4text"),
    Property.RESPONSE_TOPIC: ("r/t", b"\x08\0\3r/t"),
    Property.CORRELATION_DATA: (b"\0\xff", b"\x09\0\2\0\xff"),
    Property.SUBSCRIPTION_IDENTIFIER: ([268_435_455], b"\x0b\xff\xff\xff\x7f"),
    Property.SESSION_EXPIRY_INTERVAL: (0xFFFFFFFF, b"\x11\xff\xff\xff\xff"),
    Property.ASSIGNED_CLIENT_IDENTIFIER: ("c1", b"\x12\0\2c1"),
    Property.SERVER_KEEP_ALIVE: (258, b"\x13\1\2"),
    Property.AUTHENTICATION_METHOD: ("M", b"\x15\0\1M"),
    Property.AUTHENTICATION_DATA: (b"\xfe", b"\x16\0\1\xfe"),
    Property.REQUEST_PROBLEM_INFORMATION: (0, b"\x17\0"),
    Property.WILL_DELAY_INTERVAL: (1, b"\x18\0\0\0\1"),
    Property.REQUEST_RESPONSE_INFORMATION: (1, b"\x19\1"),
    Property.RESPONSE_INFORMATION: ("i", b"\x1a\0\1i"),
    Property.SERVER_REFERENCE: ("s:1", b"\x1c\0\3s:1"),
    Property.REASON_STRING: ("why", b"\x1f\0\3why"),
    Property.RECEIVE_MAXIMUM: (65535, b"\x21\xff\xff"),
    Property.TOPIC_ALIAS_MAXIMUM: (0, b"\x22\0\0"),
    Property.TOPIC_ALIAS: (1, b"\x23\0\1"),
    Property.MAXIMUM_QOS: (1, b"\x24\1"),
    Property.RETAIN_AVAILABLE: (0, b"\x25\0"),
    Property.USER_PROPERTY: ([("k", "v"), ("k", "v")], b"\x26\0\1k\0\1v" * 2),
    Property.MAXIMUM_PACKET_SIZE: (1, b"\x27\0\0\0\1"),
    Property.WILDCARD_SUBSCRIPTION_AVAILABLE: (1, b"\x28\1"),
    Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE: (0, b"\x29\0"),
    Property.SHARED_SUBSCRIPTION_AVAILABLE: (1, b"\x2a\1"),
}

# Table 2-4 again, by packet: what each may carry.
_ACK = {Property.REASON_STRING, Property.USER_PROPERTY}
_MESSAGE = {
    Property.PAYLOAD_FORMAT_INDICATOR,
    Property.MESSAGE_EXPIRY_INTERVAL,
    Property.CONTENT_TYPE,
    Property.RESPONSE_TOPIC,
    Property.CORRELATION_DATA,
    Property.USER_PROPERTY,
}
_AUTHENTICATION = {Property.AUTHENTICATION_METHOD, Property.AUTHENTICATION_DATA}
_LIMITS = {
    Property.SESSION_EXPIRY_INTERVAL,
    Property.RECEIVE_MAXIMUM,
    Property.TOPIC_ALIAS_MAXIMUM,
    Property.MAXIMUM_PACKET_SIZE,
    Property.USER_PROPERTY,
}
PROPERTIES_OF: dict[int, set[Property]] = {
    PacketType.CONNECT: _LIMITS
    | _AUTHENTICATION
    | {Property.REQUEST_PROBLEM_INFORMATION, Property.REQUEST_RESPONSE_INFORMATION},
    PacketType.CONNACK: _LIMITS
    | _AUTHENTICATION
    | {
        Property.ASSIGNED_CLIENT_IDENTIFIER,
        Property.SERVER_KEEP_ALIVE,
        Property.RESPONSE_INFORMATION,
        Property.SERVER_REFERENCE,
        Property.REASON_STRING,
        Property.MAXIMUM_QOS,
        Property.RETAIN_AVAILABLE,
        Property.WILDCARD_SUBSCRIPTION_AVAILABLE,
        Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        Property.SHARED_SUBSCRIPTION_AVAILABLE,
    },
    PacketType.PUBLISH: _MESSAGE | {Property.SUBSCRIPTION_IDENTIFIER, Property.TOPIC_ALIAS},
    PacketType.PUBACK: _ACK,
    PacketType.PUBREC: _ACK,
    PacketType.PUBREL: _ACK,
    PacketType.PUBCOMP: _ACK,
    PacketType.SUBSCRIBE: {Property.SUBSCRIPTION_IDENTIFIER, Property.USER_PROPERTY},
    PacketType.SUBACK: _ACK,
    PacketType.UNSUBSCRIBE: {Property.USER_PROPERTY},
    PacketType.UNSUBACK: _ACK,
    PacketType.DISCONNECT: _ACK | {Property.SESSION_EXPIRY_INTERVAL, Property.SERVER_REFERENCE},
    PacketType.AUTH: _ACK | _AUTHENTICATION,
    WILL: _MESSAGE | {Property.WILL_DELAY_INTERVAL},
}


def carrier(where: int, properties: Properties, block: bytes) -> tuple[Packet, bytes]:
    """Return a packet of MQTT 5 with `properties` in `where`, and its frame around `block`."""
    packet, first, before, after = _carriers(properties)[where]
    body = before + bytes([len(block)]) + block + after
    return packet, bytes([first, len(body)]) + body


def place(where: int) -> str:
    """Return the name of a packet type or of the Will, as the ids of cases have it."""
    return "will" if where == WILL else PacketType(where).name.lower()


def _carriers(properties: Properties) -> dict[int, tuple[Packet, int, bytes, bytes]]:
    request = SubscriptionRequest("t", 1)
    will = Will("w", b"x", 0, False, properties)
    return {
        PacketType.CONNECT: (
            Connect("c", properties=properties),
            0x10,
            b"\0\4MQTT\5\2\0\0",
            b"\0\1c",
        ),
        PacketType.CONNACK: (Connack(properties=properties), 0x20, b"\0\0", b""),
        PacketType.PUBLISH: (Publish("t", b"x", properties=properties), 0x30, b"\0\1t", b"x"),
        PacketType.PUBACK: (Puback(1, 0, properties), 0x40, b"\0\1\0", b""),
        PacketType.PUBREC: (Pubrec(1, 0, properties), 0x50, b"\0\1\0", b""),
        PacketType.PUBREL: (Pubrel(1, 0, properties), 0x62, b"\0\1\0", b""),
        PacketType.PUBCOMP: (Pubcomp(1, 0, properties), 0x70, b"\0\1\0", b""),
        PacketType.SUBSCRIBE: (Subscribe(1, [request], properties), 0x82, b"\0\1", b"\0\1t\1"),
        PacketType.SUBACK: (Suback(1, [1], properties), 0x90, b"\0\1", b"\1"),
        PacketType.UNSUBSCRIBE: (Unsubscribe(1, ["t"], properties), 0xA2, b"\0\1", b"\0\1t"),
        PacketType.UNSUBACK: (Unsuback(1, [0], properties), 0xB0, b"\0\1", b"\0"),
        PacketType.DISCONNECT: (Disconnect(0, properties), 0xE0, b"\0", b""),
        PacketType.AUTH: (Auth(0x18, properties), 0xF0, b"\x18", b""),
        WILL: (
            Connect("c", will=will),
            0x10,
            b"\0\4MQTT\5\6\0\0\0\0\1c",
            b"\0\1w\0\1x",
        ),
    }


def _property_vector(where: int, identifier: Property) -> Vector:
    value, block = PROPERTY_BYTES[identifier]
    properties: Properties = {identifier: value}
    if identifier is Property.AUTHENTICATION_DATA:  # never without its method
        method, method_block = PROPERTY_BYTES[Property.AUTHENTICATION_METHOD]
        properties, block = (
            {Property.AUTHENTICATION_METHOD: method, **properties},
            method_block + block,
        )
    return Vector(
        f"{place(where)}-5-{identifier.name.lower()}", 5, *carrier(where, properties, block)
    )


VECTORS = _PACKETS + [
    _property_vector(where, identifier)
    for where, allowed in PROPERTIES_OF.items()
    for identifier in sorted(allowed)
]

# Bytes that a peer may send though we write the same value shorter.
LONG_FORMS = [
    Vector("puback-5-success-spelled-out", 5, Puback(1), b"\x40\3\0\1\0"),
    Vector("puback-5-no-properties-spelled-out", 5, Puback(1), b"\x40\4\0\1\0\0"),
    Vector("pubrel-5-no-properties-spelled-out", 5, Pubrel(1, 0x92), b"\x62\4\0\1\x92\0"),
    Vector("disconnect-5-normal-spelled-out", 5, Disconnect(), b"\xe0\1\0"),
    Vector("disconnect-5-no-properties-spelled-out", 5, Disconnect(), b"\xe0\2\0\0"),
    Vector("auth-5-success-spelled-out", 5, Auth(), b"\xf0\2\0\0"),
]
