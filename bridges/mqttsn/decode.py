"""Bytes -> packets, dispatched by the message type. One datagram is one message.

Rule kept here: what comes out is well formed, what is not comes out as UnreadableError and nothing
else. Every reader takes the variable part alone. Left to the receiver: what depends on the state,
and whether topics are valid.
"""

from collections.abc import Callable
from typing import Final

from bridges.mqttsn.codes import (
    CLEAN_SESSION,
    DUP,
    FLAGS,
    NO_FLAGS,
    QOS,
    RETAIN,
    TOPIC_ID_TYPE,
    WILL,
    Flags,
    MessageType,
    TopicIdType,
)
from bridges.mqttsn.errors import UnreadableError
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

LONG_FORM: Final = 0x01  # the first byte of a length of three bytes

# The flags that a message uses (section 5.4); others are to be ignored.
CONNECT_FLAGS: Final = WILL | CLEAN_SESSION
WILL_FLAGS: Final = QOS | RETAIN
PUBLISH_FLAGS: Final = DUP | QOS | RETAIN | TOPIC_ID_TYPE
SUBSCRIBE_FLAGS: Final = DUP | QOS | TOPIC_ID_TYPE
SUBACK_FLAGS: Final = QOS
UNSUBSCRIBE_FLAGS: Final = TOPIC_ID_TYPE

_RADIUS: Final = 0x03  # of the Ctrl byte (section 5.5)


def decode(data: bytes) -> Packet:
    """Read the one message that `data` is. Raises UnreadableError."""
    length, start = _header(data)
    kind = data[start]
    if kind == MessageType.ENCAPSULATED:
        return _encapsulated(data, length, start)
    if length != len(data):
        raise UnreadableError("a length that is not the datagram's", length, len(data))
    read = _READERS.get(kind)
    if read is None:
        raise UnreadableError("reserved message type", kind)
    return read(data[start + 1 :])


def message_length(data: bytes) -> int:
    """The length of the message that a byte stream begins with; 0: more bytes are needed to say.

    For raw MQTT-SN on a serial wire. Raises UnreadableError when no message begins so.
    """
    if not data or (data[0] == LONG_FORM and len(data) < 3):
        return 0
    length = data[0] if data[0] != LONG_FORM else data[1] << 8 | data[2]
    if length < (4 if data[0] == LONG_FORM else 2):
        raise UnreadableError("a length too small for its header", length)
    return length


def text_of(raw: bytes) -> str:
    """Decode strict UTF-8 without U+0000."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise UnreadableError("ill-formed UTF-8", raw) from None
    if "\0" in text:
        raise UnreadableError("U+0000 in a text", text)
    return text


def _header(data: bytes) -> tuple[int, int]:
    """The message's length and the position of its type."""
    length = message_length(data)
    start = 3 if data[:1] == b"\x01" else 1
    if length == 0 or len(data) < length:
        raise UnreadableError("truncated", length, len(data))
    return length, start


def _encapsulated(data: bytes, length: int, start: int) -> Encapsulated:
    """Its length counts up to the node id's end; a whole message follows (section 5.5)."""
    if start != 1 or length < 3:
        raise UnreadableError("a forwarder's header without Ctrl", data[:8])
    if length == len(data):
        raise UnreadableError("a forwarder's header without a message")
    return Encapsulated(data[2] & _RADIUS, data[3:length], data[length:])


def _exactly(body: bytes, size: int) -> None:
    if len(body) != size:
        raise UnreadableError("a variable part of the wrong size", size, len(body))


def _at_least(body: bytes, size: int) -> None:
    if len(body) < size:
        raise UnreadableError("a variable part that is too short", size, len(body))


def _uint16(body: bytes, pos: int) -> int:
    return body[pos] << 8 | body[pos + 1]


def _advertise(body: bytes) -> Advertise:
    _exactly(body, 3)
    return Advertise(body[0], _uint16(body, 1))


def _searchgw(body: bytes) -> SearchGw:
    _exactly(body, 1)
    return SearchGw(body[0])


def _gwinfo(body: bytes) -> GwInfo:
    _at_least(body, 1)
    return GwInfo(body[0], body[1:])


def _connect(body: bytes) -> Connect:
    _at_least(body, 4)
    flags = FLAGS[body[0] & CONNECT_FLAGS]
    return Connect(flags, _uint16(body, 2), text_of(body[4:]), body[1])


def _willtopic(body: bytes) -> WillTopic:
    return WillTopic(*_will_topic(body))


def _will_topic(body: bytes) -> tuple[Flags, str]:
    if not body:  # no will: neither flags nor topic (section 5.4.7)
        return NO_FLAGS, ""
    flags = FLAGS[body[0] & WILL_FLAGS]
    if flags.qos < 0:
        raise UnreadableError("a will of QoS -1")
    topic = text_of(body[1:])
    return (flags, topic) if topic else (NO_FLAGS, "")


def _register(body: bytes) -> Register:
    _at_least(body, 4)
    return Register(_uint16(body, 0), _uint16(body, 2), text_of(body[4:]))


def _regack(body: bytes) -> Regack:
    _exactly(body, 5)
    return Regack(_uint16(body, 0), _uint16(body, 2), body[4])


def _publish(body: bytes) -> Publish:
    _at_least(body, 5)
    flags = _topic_flags(body[0] & PUBLISH_FLAGS)
    return Publish(flags, _uint16(body, 1), _uint16(body, 3), body[5:])


def _puback(body: bytes) -> Puback:
    _exactly(body, 5)
    return Puback(_uint16(body, 0), _uint16(body, 2), body[4])


def _msg_id(body: bytes) -> int:
    _exactly(body, 2)
    return _uint16(body, 0)


def _subscribe(body: bytes) -> Subscribe:
    _at_least(body, 3)
    flags = _topic_flags(body[0] & SUBSCRIBE_FLAGS)
    if flags.qos < 0:
        raise UnreadableError("a subscription of QoS -1")
    return Subscribe(flags, _uint16(body, 1), _topic(flags, body[3:]))


def _suback(body: bytes) -> Suback:
    _exactly(body, 6)
    return Suback(FLAGS[body[0] & SUBACK_FLAGS], _uint16(body, 1), _uint16(body, 3), body[5])


def _unsubscribe(body: bytes) -> Unsubscribe:
    _at_least(body, 3)
    flags = _topic_flags(body[0] & UNSUBSCRIBE_FLAGS)
    return Unsubscribe(flags, _uint16(body, 1), _topic(flags, body[3:]))


def _topic_flags(byte: int) -> Flags:
    flags = FLAGS[byte]
    if flags.topic_id_type > TopicIdType.SHORT:
        raise UnreadableError("reserved topic id type", flags.topic_id_type)
    return flags


def _topic(flags: Flags, raw: bytes) -> str | int:
    if flags.topic_id_type == TopicIdType.NORMAL:
        return text_of(raw)
    _exactly(raw, 2)
    return _uint16(raw, 0) if flags.topic_id_type == TopicIdType.PREDEFINED else text_of(raw)


def _disconnect(body: bytes) -> Disconnect:
    if not body:
        return Disconnect()
    _exactly(body, 2)
    return Disconnect(_uint16(body, 0))


def _bare(packet: Callable[[], Packet]) -> Callable[[bytes], Packet]:
    """A reader for messages without a variable part."""

    def read(body: bytes) -> Packet:
        _exactly(body, 0)
        return packet()

    return read


def _answer(packet: Callable[[int], Packet]) -> Callable[[bytes], Packet]:
    """A reader for messages that are one return code."""

    def read(body: bytes) -> Packet:
        _exactly(body, 1)
        return packet(body[0])

    return read


_READERS: Final[dict[int, Callable[[bytes], Packet]]] = {
    MessageType.ADVERTISE: _advertise,
    MessageType.SEARCHGW: _searchgw,
    MessageType.GWINFO: _gwinfo,
    MessageType.CONNECT: _connect,
    MessageType.CONNACK: _answer(Connack),
    MessageType.WILLTOPICREQ: _bare(WillTopicReq),
    MessageType.WILLTOPIC: _willtopic,
    MessageType.WILLMSGREQ: _bare(WillMsgReq),
    MessageType.WILLMSG: WillMsg,
    MessageType.REGISTER: _register,
    MessageType.REGACK: _regack,
    MessageType.PUBLISH: _publish,
    MessageType.PUBACK: _puback,
    MessageType.PUBCOMP: lambda body: Pubcomp(_msg_id(body)),
    MessageType.PUBREC: lambda body: Pubrec(_msg_id(body)),
    MessageType.PUBREL: lambda body: Pubrel(_msg_id(body)),
    MessageType.SUBSCRIBE: _subscribe,
    MessageType.SUBACK: _suback,
    MessageType.UNSUBSCRIBE: _unsubscribe,
    MessageType.UNSUBACK: lambda body: Unsuback(_msg_id(body)),
    MessageType.PINGREQ: lambda body: Pingreq(text_of(body)),
    MessageType.PINGRESP: _bare(Pingresp),
    MessageType.DISCONNECT: _disconnect,
    MessageType.WILLTOPICUPD: lambda body: WillTopicUpd(*_will_topic(body)),
    MessageType.WILLTOPICRESP: _answer(WillTopicResp),
    MessageType.WILLMSGUPD: WillMsgUpd,
    MessageType.WILLMSGRESP: _answer(WillMsgResp),
}
