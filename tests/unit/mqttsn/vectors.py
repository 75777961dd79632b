"""MQTT-SN messages and their bytes, written by hand from chapter 5 of the standard.

One table feeds decode, encode, round trip, every truncation and every length byte. A frame is given
in full: b"length, type" b"field" b"field" ...
"""

from typing import NamedTuple

from bridges.mqttsn.codes import Flags, TopicIdType
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


class Vector(NamedTuple):
    """`frame` and `packet` say the same."""

    name: str
    packet: Packet
    frame: bytes


_SHORT = Flags(qos=1, topic_id_type=TopicIdType.SHORT)
_PREDEFINED = Flags(qos=-1, retain=True, topic_id_type=TopicIdType.PREDEFINED)

VECTORS = [
    Vector("advertise", Advertise(7, 900), b"\x05\x00\x07\x03\x84"),
    Vector("searchgw", SearchGw(1), b"\x03\x01\x01"),
    Vector("gwinfo", GwInfo(7), b"\x03\x02\x07"),
    Vector("gwinfo-address", GwInfo(7, b"\xc0\xa8\0\1"), b"\x07\x02\x07\xc0\xa8\0\1"),
    Vector(
        "connect",
        Connect(Flags(clean_session=True), 60, "dev"),
        b"\x09\x04\x04\x01\x00\x3cdev",
    ),
    Vector("connect-will", Connect(Flags(will=True), 65535, "d"), b"\x07\x04\x08\x01\xff\xffd"),
    Vector("connect-protocol", Connect(Flags(), 0, "d", 2), b"\x07\x04\x00\x02\x00\x00d"),
    Vector("connack", Connack(1), b"\x03\x05\x01"),
    Vector("willtopicreq", WillTopicReq(), b"\x02\x06"),
    Vector("willtopic", WillTopic(Flags(qos=1, retain=True), "w/t"), b"\x06\x07\x30w/t"),
    Vector("willtopic-none", WillTopic(), b"\x02\x07"),
    Vector("willmsgreq", WillMsgReq(), b"\x02\x08"),
    Vector("willmsg", WillMsg(b"gone\0"), b"\x07\x09gone\0"),
    Vector("willmsg-empty", WillMsg(b""), b"\x02\x09"),
    Vector("register", Register(0, 0x0102, "a/b"), b"\x09\x0a\x00\x00\x01\x02a/b"),
    Vector("regack", Regack(5, 0x0102, 2), b"\x07\x0b\x00\x05\x01\x02\x02"),
    Vector("publish", Publish(Flags(), 5, 0, b"21.5"), b"\x0b\x0c\x00\x00\x05\x00\x0021.5"),
    Vector("publish-empty", Publish(Flags(), 5, 0, b""), b"\x07\x0c\x00\x00\x05\x00\x00"),
    Vector(
        "publish-qos-1-short",
        Publish(_SHORT, 0x6162, 9, b"x"),
        b"\x08\x0c\x22ab\x00\x09x",
    ),
    Vector(
        "publish-qos-2-dup",
        Publish(Flags(dup=True, qos=2), 5, 9, b"x"),
        b"\x08\x0c\xc0\x00\x05\x00\x09x",
    ),
    Vector(
        "publish-qos-minus-1-predefined",
        Publish(_PREDEFINED, 3, 0, b"x"),
        b"\x08\x0c\x71\x00\x03\x00\x00x",
    ),
    Vector(
        "publish-255-bytes",
        Publish(Flags(), 5, 0, bytes(248)),
        b"\xff\x0c\x00\x00\x05\x00\x00" + bytes(248),
    ),
    Vector(
        "publish-258-bytes",
        Publish(Flags(), 5, 0, bytes(249)),
        b"\x01\x01\x02\x0c\x00\x00\x05\x00\x00" + bytes(249),
    ),
    Vector(
        "publish-65535-bytes",
        Publish(Flags(), 5, 0, bytes(65526)),
        b"\x01\xff\xff\x0c\x00\x00\x05\x00\x00" + bytes(65526),
    ),
    Vector("puback", Puback(5, 9, 0), b"\x07\x0d\x00\x05\x00\x09\x00"),
    Vector("pubcomp", Pubcomp(0xFFFE), b"\x04\x0e\xff\xfe"),
    Vector("pubrec", Pubrec(9), b"\x04\x0f\x00\x09"),
    Vector("pubrel", Pubrel(9), b"\x04\x10\x00\x09"),
    Vector("subscribe", Subscribe(Flags(qos=1), 9, "a/#"), b"\x08\x12\x20\x00\x09a/#"),
    Vector("subscribe-short", Subscribe(_SHORT, 9, "ab"), b"\x07\x12\x22\x00\x09ab"),
    Vector(
        "subscribe-predefined",
        Subscribe(Flags(dup=True, qos=2, topic_id_type=1), 9, 3),
        b"\x07\x12\xc1\x00\x09\x00\x03",
    ),
    Vector("suback", Suback(Flags(qos=2), 5, 9, 0), b"\x08\x13\x40\x00\x05\x00\x09\x00"),
    Vector("unsubscribe", Unsubscribe(Flags(), 9, "a/#"), b"\x08\x14\x00\x00\x09a/#"),
    Vector(
        "unsubscribe-predefined",
        Unsubscribe(Flags(topic_id_type=1), 9, 3),
        b"\x07\x14\x01\x00\x09\x00\x03",
    ),
    Vector("unsuback", Unsuback(9), b"\x04\x15\x00\x09"),
    Vector("pingreq", Pingreq(), b"\x02\x16"),
    Vector("pingreq-client-id", Pingreq("dev"), b"\x05\x16dev"),
    Vector("pingresp", Pingresp(), b"\x02\x17"),
    Vector("disconnect", Disconnect(), b"\x02\x18"),
    Vector("disconnect-sleep", Disconnect(3600), b"\x04\x18\x0e\x10"),
    Vector("willtopicupd", WillTopicUpd(Flags(qos=2), "w"), b"\x04\x1a\x40w"),
    Vector("willtopicupd-none", WillTopicUpd(), b"\x02\x1a"),
    Vector("willtopicresp", WillTopicResp(0), b"\x03\x1b\x00"),
    Vector("willmsgupd", WillMsgUpd(b"new"), b"\x05\x1cnew"),
    Vector("willmsgresp", WillMsgResp(3), b"\x03\x1d\x03"),
    Vector(
        "encapsulated", Encapsulated(2, b"\x0a\x0b", b"\x02\x16"), b"\x05\xfe\x02\x0a\x0b\x02\x16"
    ),
]

# Read, but not written: a peer may spell out what we leave out.
LONG_FORMS = [
    Vector("a length of three bytes for a short message", Pingresp(), b"\x01\x00\x04\x17"),
    Vector("a will topic of flags alone", WillTopic(), b"\x03\x07\x30"),
    Vector("flags that mean nothing here", Connect(Flags(), 1, "d"), b"\x07\x04\xf3\x01\0\1d"),
    Vector("the reserved bits of Ctrl", Encapsulated(1, b"", b"\2\x16"), b"\x03\xfe\xfd\2\x16"),
]

UNREADABLE = {
    "nothing": b"",
    "a length of 0": b"\x00\x17",
    "a long length of 3": b"\x01\x00\x03\x17",
    "a length beyond the datagram": b"\x03\x17",
    "a datagram beyond the length": b"\x02\x17\x00",
    "reserved type 0x03": b"\x02\x03",
    "reserved type 0x11": b"\x04\x11\x00\x01",
    "reserved type 0xfd": b"\x02\xfd",
    "reserved topic id type": b"\x08\x0c\x03\x00\x05\x00\x00x",
    "a subscription of QoS -1": b"\x08\x12\x60\x00\x09a/#",
    "a will of QoS -1": b"\x04\x07\x60w",
    "a short topic of three bytes": b"\x08\x12\x22\x00\x09abc",
    "a client id that is not UTF-8": b"\x07\x04\x04\x01\x00\x3c\xff",
    "U+0000 in a topic": b"\x09\x0a\x00\x00\x01\x02a\0b",
    "a forwarder's header with nothing behind": b"\x05\xfe\x02\x0a\x0b",
    "a forwarder's header without Ctrl": b"\x02\xfe\x02\x17",
    "a forwarder's header in the long form": b"\x01\x00\x05\xfe\x02\x02\x17",
}
