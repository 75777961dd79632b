"""Packets -> bytes, dispatched by the packet's class.

Rule kept here: what is written can be read back by `decode` as the same value; what the wire cannot
hold is a ValueError (or its kind: OverflowError, UnicodeEncodeError).
"""

from collections.abc import Callable
from typing import Any, Final

from bridges.mqttsn.codes import FLAG_BYTES, Flags, MessageType, TopicIdType
from bridges.mqttsn.packets import (
    Advertise,
    Connack,
    Connect,
    Disconnect,
    Encapsulated,
    GwInfo,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Regack,
    Register,
    SearchGw,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    WillMsg,
    WillMsgReq,
    WillMsgResp,
    WillMsgUpd,
    WillTopic,
    WillTopicReq,
    WillTopicResp,
    WillTopicUpd,
)

LONGEST: Final = 0xFFFF  # bytes of a message
_LONGEST_SHORT: Final = 0xFF  # with a length of one byte


def encode(packet: Packet) -> bytes:
    """Write the whole message; the length in one byte where that is enough."""
    if isinstance(packet, Encapsulated):
        return _encapsulated(packet)
    kind, write = _WRITERS[type(packet)]
    body = write(packet)
    size = len(body) + 2
    if size <= _LONGEST_SHORT:
        return bytes((size, kind)) + body
    size += 2
    if size > LONGEST:
        raise ValueError(f"{size} bytes are more than the {LONGEST} a message can have")
    return bytes((0x01, size >> 8, size & 0xFF, kind)) + body


def _encapsulated(packet: Encapsulated) -> bytes:
    size = len(packet.node_id) + 3
    if size > _LONGEST_SHORT:
        raise ValueError(f"a node id of {len(packet.node_id)} bytes is too long")
    head = bytes((size, MessageType.ENCAPSULATED, packet.radius))
    return head + packet.node_id + packet.message


def _uint16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _flags(flags: Flags) -> bytes:
    return bytes((FLAG_BYTES[flags],))


def _connect(packet: Connect) -> bytes:
    head = _flags(packet.flags) + bytes((packet.protocol_id,)) + _uint16(packet.duration)
    return head + packet.client_id.encode()


def _will_topic(packet: WillTopic | WillTopicUpd) -> bytes:
    return _flags(packet.flags) + packet.topic.encode() if packet.topic else b""


def _publish(packet: Publish) -> bytes:
    msg_id = packet.msg_id
    topic_id = packet.topic_id
    head = (FLAG_BYTES[packet.flags], topic_id >> 8, topic_id & 255, msg_id >> 8, msg_id & 255)
    return bytes(head) + packet.data


def _registration(packet: Register) -> bytes:
    return _uint16(packet.topic_id) + _uint16(packet.msg_id) + packet.topic.encode()


def _topic_answer(packet: Regack | Puback) -> bytes:
    return _uint16(packet.topic_id) + _uint16(packet.msg_id) + bytes((packet.return_code,))


def _subscription(packet: Subscribe | Unsubscribe) -> bytes:
    topic = packet.topic
    raw = topic.encode() if isinstance(topic, str) else _uint16(topic)
    if packet.flags.topic_id_type != TopicIdType.NORMAL and len(raw) != 2:
        raise ValueError(f"a short topic name has two bytes, not {len(raw)}")
    return _flags(packet.flags) + _uint16(packet.msg_id) + raw


def _suback(packet: Suback) -> bytes:
    ids = _uint16(packet.topic_id) + _uint16(packet.msg_id)
    return _flags(packet.flags) + ids + bytes((packet.return_code,))


def _message(packet: WillMsg | WillMsgUpd) -> bytes:
    return packet.message


def _msg_id(packet: Pubcomp | Pubrec | Pubrel | Unsuback) -> bytes:
    return _uint16(packet.msg_id)


def _answer(packet: Connack | WillTopicResp | WillMsgResp) -> bytes:
    return bytes((packet.return_code,))


def _bare(_packet: Packet) -> bytes:
    return b""


_WRITERS: Final[dict[type, tuple[MessageType, Callable[[Any], bytes]]]] = {
    Advertise: (
        MessageType.ADVERTISE,
        lambda packet: bytes((packet.gateway_id,)) + _uint16(packet.duration),
    ),
    SearchGw: (MessageType.SEARCHGW, lambda packet: bytes((packet.radius,))),
    GwInfo: (MessageType.GWINFO, lambda packet: bytes((packet.gateway_id,)) + packet.address),
    Connect: (MessageType.CONNECT, _connect),
    Connack: (MessageType.CONNACK, _answer),
    WillTopicReq: (MessageType.WILLTOPICREQ, _bare),
    WillTopic: (MessageType.WILLTOPIC, _will_topic),
    WillMsgReq: (MessageType.WILLMSGREQ, _bare),
    WillMsg: (MessageType.WILLMSG, _message),
    Register: (MessageType.REGISTER, _registration),
    Regack: (MessageType.REGACK, _topic_answer),
    Publish: (MessageType.PUBLISH, _publish),
    Puback: (MessageType.PUBACK, _topic_answer),
    Pubcomp: (MessageType.PUBCOMP, _msg_id),
    Pubrec: (MessageType.PUBREC, _msg_id),
    Pubrel: (MessageType.PUBREL, _msg_id),
    Subscribe: (MessageType.SUBSCRIBE, _subscription),
    Suback: (MessageType.SUBACK, _suback),
    Unsubscribe: (MessageType.UNSUBSCRIBE, _subscription),
    Unsuback: (MessageType.UNSUBACK, _msg_id),
    Pingreq: (MessageType.PINGREQ, lambda packet: packet.client_id.encode()),
    Pingresp: (MessageType.PINGRESP, _bare),
    Disconnect: (
        MessageType.DISCONNECT,
        lambda packet: b"" if packet.duration is None else _uint16(packet.duration),
    ),
    WillTopicUpd: (MessageType.WILLTOPICUPD, _will_topic),
    WillTopicResp: (MessageType.WILLTOPICRESP, _answer),
    WillMsgUpd: (MessageType.WILLMSGUPD, _message),
    WillMsgResp: (MessageType.WILLMSGRESP, _answer),
}
