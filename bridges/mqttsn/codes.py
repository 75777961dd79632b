"""The numbers of MQTT-SN 1.2, in the standard's order and names: message types (table 3), return
codes (table 5), the flags (section 5.3.4).
"""

from enum import IntEnum
from typing import Final, NamedTuple

PROTOCOL_ID: Final = 1
LAST_TOPIC_ID: Final = 0xFFFE  # 0x0000 and 0xFFFF are reserved (section 5.3.11)
NO_CONNECTION: Final = -1  # the QoS of those who publish without a connection (section 6.8)


class MessageType(IntEnum):
    """Table 3."""

    ADVERTISE = 0x00
    SEARCHGW = 0x01
    GWINFO = 0x02
    CONNECT = 0x04
    CONNACK = 0x05
    WILLTOPICREQ = 0x06
    WILLTOPIC = 0x07
    WILLMSGREQ = 0x08
    WILLMSG = 0x09
    REGISTER = 0x0A
    REGACK = 0x0B
    PUBLISH = 0x0C
    PUBACK = 0x0D
    PUBCOMP = 0x0E
    PUBREC = 0x0F
    PUBREL = 0x10
    SUBSCRIBE = 0x12
    SUBACK = 0x13
    UNSUBSCRIBE = 0x14
    UNSUBACK = 0x15
    PINGREQ = 0x16
    PINGRESP = 0x17
    DISCONNECT = 0x18
    WILLTOPICUPD = 0x1A
    WILLTOPICRESP = 0x1B
    WILLMSGUPD = 0x1C
    WILLMSGRESP = 0x1D
    ENCAPSULATED = 0xFE


class ReturnCode(IntEnum):
    """Table 5."""

    ACCEPTED = 0x00
    CONGESTION = 0x01
    INVALID_TOPIC_ID = 0x02
    NOT_SUPPORTED = 0x03


class TopicIdType(IntEnum):
    """What a TopicId field holds (section 5.3.4); 3 is reserved."""

    NORMAL = 0
    PREDEFINED = 1
    SHORT = 2


class Flags(NamedTuple):
    """Section 5.3.4; what a message type does not use is False or 0."""

    dup: bool = False
    qos: int = 0  # -1 to 2
    retain: bool = False
    will: bool = False
    clean_session: bool = False
    topic_id_type: int = TopicIdType.NORMAL


NO_FLAGS: Final = Flags()

DUP: Final = 0x80
QOS: Final = 0x60
RETAIN: Final = 0x10
WILL: Final = 0x08
CLEAN_SESSION: Final = 0x04
TOPIC_ID_TYPE: Final = 0x03

_QOS: Final = (0, 1, 2, NO_CONNECTION)

# Every flags byte as a value: decoding one is a look into this table.
FLAGS: Final = tuple(
    Flags(
        bool(byte & DUP),
        _QOS[(byte & QOS) >> 5],
        bool(byte & RETAIN),
        bool(byte & WILL),
        bool(byte & CLEAN_SESSION),
        byte & TOPIC_ID_TYPE,
    )
    for byte in range(256)
)
FLAG_BYTES: Final = {flags: byte for byte, flags in enumerate(FLAGS)}
