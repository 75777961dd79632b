"""Packets -> bytes: complete frames for MQTT 3.1, 3.1.1 and 5, dispatched by the packet's class.

Rule kept here: what is written can be read back by `decode` as the same value; what the wire cannot
hold is a ValueError. Below MQTT 5 properties and reasons are not written.
"""

from collections.abc import Callable
from typing import Any, Final

from broker.packets.codes import MQTT_3_1, MQTT_5
from broker.packets.primitives import (
    encode_binary,
    encode_string,
    encode_uint16,
    encode_varint,
)
from broker.packets.properties import Properties, encode_properties
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

Ack = Puback | Pubrec | Pubrel | Pubcomp


def encode(packet: Packet, version: int) -> bytes:
    """Write the complete frame of `packet` for protocol level `version` (3, 4 or 5).

    `version` also decides for a CONNECT, whatever its own `version` says. Raises ValueError when a
    string or the packet is too long, or a value has no encoding.
    """
    first, write = _ENCODERS[type(packet)]
    if isinstance(packet, Publish):
        first |= packet.dup << 3 | packet.qos << 1 | packet.retain
    body = write(packet, version)
    return bytes((first,)) + encode_varint(len(body)) + body


def _encode_connect(packet: Connect, version: int) -> bytes:
    parts = [
        b"\0\6MQIsdp" if version == MQTT_3_1 else b"\0\4MQTT",
        bytes((version, _connect_flags(packet))),
        encode_uint16(packet.keep_alive),
        _properties(packet.properties, version),
        encode_string(packet.client_id),
    ]
    if packet.will is not None:
        parts.append(_encode_will(packet.will, version))
    if packet.username is not None:
        parts.append(encode_string(packet.username))
    if packet.password is not None:
        parts.append(encode_binary(packet.password))
    return b"".join(parts)


def _connect_flags(packet: Connect) -> int:
    flags = packet.clean_start << 1
    if packet.will is not None:
        flags |= 0x04 | packet.will.qos << 3 | packet.will.retain << 5
    return flags | (packet.password is not None) << 6 | (packet.username is not None) << 7


def _encode_will(will: Will, version: int) -> bytes:
    return (
        _properties(will.properties, version)
        + encode_string(will.topic)
        + encode_binary(will.payload)
    )


def _encode_connack(packet: Connack, version: int) -> bytes:
    head = bytes((packet.session_present, packet.reason))
    return head + _properties(packet.properties, version)


def _encode_publish(packet: Publish, version: int) -> bytes:
    packet_id = encode_uint16(packet.packet_id) if packet.qos else b""  # [MQTT-2.2.1-2]
    properties = _properties(packet.properties, version)
    return encode_string(packet.topic) + packet_id + properties + packet.payload


def _encode_ack(packet: Ack, version: int) -> bytes:
    return encode_uint16(packet.packet_id) + _outcome(packet.reason, packet.properties, version)


def _encode_subscribe(packet: Subscribe, version: int) -> bytes:
    parts = [encode_uint16(packet.packet_id), _properties(packet.properties, version)]
    for request in packet.requests:
        parts.append(encode_string(request.filter))
        parts.append(bytes((_subscription_options(request, version),)))
    return b"".join(parts)


def _subscription_options(request: SubscriptionRequest, version: int) -> int:
    if version < MQTT_5:
        return request.qos
    return (
        request.qos
        | request.no_local << 2
        | request.retain_as_published << 3
        | request.retain_handling << 4
    )


def _encode_suback(packet: Suback, version: int) -> bytes:
    head = encode_uint16(packet.packet_id) + _properties(packet.properties, version)
    return head + bytes(packet.reasons)


def _encode_unsubscribe(packet: Unsubscribe, version: int) -> bytes:
    parts = [encode_uint16(packet.packet_id), _properties(packet.properties, version)]
    parts.extend(encode_string(topic_filter) for topic_filter in packet.filters)
    return b"".join(parts)


def _encode_unsuback(packet: Unsuback, version: int) -> bytes:
    if version < MQTT_5:
        return encode_uint16(packet.packet_id)
    head = encode_uint16(packet.packet_id) + encode_properties(packet.properties)
    return head + bytes(packet.reasons)


def _encode_empty(_packet: Pingreq | Pingresp, _version: int) -> bytes:
    return b""


def _encode_outcome(packet: Disconnect | Auth, version: int) -> bytes:
    return _outcome(packet.reason, packet.properties, version)


def _outcome(reason: int, properties: Properties, version: int) -> bytes:
    """Write reason and properties, without what may be left out from the right."""
    if version < MQTT_5 or not (reason or properties):
        return b""
    if not properties:
        return bytes((reason,))
    return bytes((reason,)) + encode_properties(properties)


def _properties(properties: Properties, version: int) -> bytes:
    return encode_properties(properties) if version >= MQTT_5 else b""


# Class -> the packet's first byte and what writes its body.
_ENCODERS: Final[dict[type, tuple[int, Callable[[Any, int], bytes]]]] = {
    Connect: (0x10, _encode_connect),
    Connack: (0x20, _encode_connack),
    Publish: (0x30, _encode_publish),
    Puback: (0x40, _encode_ack),
    Pubrec: (0x50, _encode_ack),
    Pubrel: (0x62, _encode_ack),
    Pubcomp: (0x70, _encode_ack),
    Subscribe: (0x82, _encode_subscribe),
    Suback: (0x90, _encode_suback),
    Unsubscribe: (0xA2, _encode_unsubscribe),
    Unsuback: (0xB0, _encode_unsuback),
    Pingreq: (0xC0, _encode_empty),
    Pingresp: (0xD0, _encode_empty),
    Disconnect: (0xE0, _encode_outcome),
    Auth: (0xF0, _encode_outcome),
}
