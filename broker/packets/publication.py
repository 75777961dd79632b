"""A message on its way out: encoded once per shape and shared by all its receivers.

A *shape* is everything that changes the bytes of a PUBLISH except the packet identifier: the first
byte (QoS and RETAIN) and the protocol version. What differs for one receiver alone (subscription
identifiers, a topic alias, the seconds left until expiry) is encoded for it and not kept.
"""

from __future__ import annotations

from broker.packets.codes import MQTT_5, PacketType
from broker.packets.primitives import encode_varint
from broker.packets.properties import (
    Properties,
    Property,
    decode_properties,
    encode_properties,
)

PUBLISH = 0x30
DUP = 0x08
RETAIN = 0x01
QOS_BITS = 0x06

# Properties that belong to one hop and are never passed on with the message.
HOP_PROPERTIES = (
    Property.TOPIC_ALIAS,
    Property.SUBSCRIPTION_IDENTIFIER,
    Property.MESSAGE_EXPIRY_INTERVAL,
    Property.WILL_DELAY_INTERVAL,  # says when a Will is published, not what it is
)

_ALIAS = bytes((Property.TOPIC_ALIAS,))
_EXPIRY = bytes((Property.MESSAGE_EXPIRY_INTERVAL,))
_IDENTIFIER = bytes((Property.SUBSCRIPTION_IDENTIFIER,))

MOST_SHAPES = 4  # each holds a payload: a fan-out needs few at a time, a retained message none
_NO_FRAME = 0  # a key that no shape has
_FOR_MQTT_5 = 0x100  # added to the first byte in the key of a shape

Shape = tuple[bytes, bytes]  # what stands before and after the packet identifier


class Publication:
    """One application message, as every receiver will see it.

    `properties` are the encoded MQTT 5 properties that travel with the message, without their
    length prefix and in the order of the publisher; `expires_at` is the instant (seconds of the
    engine's clock) after which no delivery may begin; `publisher` is the client identifier it came
    from ("" for the broker's own messages). `first` is the first byte of its own PUBLISH, `size`
    what it holds on to in bytes. `number` is its place among the messages that are kept in the
    store: 0 = it is not kept, below 0 = it is kept for one session alone, out of line.
    """

    __slots__ = (
        "_body",
        "_frame",
        "_key",
        "_shapes",
        "expires_at",
        "first",
        "number",
        "properties",
        "publisher",
        "size",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        properties: bytes = b"",
        expires_at: float | None = None,
        publisher: str = "",
    ) -> None:
        self.topic = topic
        self.publisher = publisher
        self.first = PUBLISH | qos << 1 | retain
        self.properties = properties
        self.expires_at = expires_at
        self.number = 0
        self.size = len(payload) + len(properties) + len(topic)
        self._frame = payload
        self._body = 0
        self._key = _NO_FRAME
        self._shapes: dict[int, Shape] | None = None

    @classmethod
    def from_frame(
        cls, topic: str, publisher: str, frame: bytes, body: int, is_5: bool
    ) -> Publication:
        """Make one of a whole incoming PUBLISH without DUP, RETAIN and properties.

        What comes in plain goes out as it is, but for the packet id. `body` is where what follows
        the topic and packet id begins in `frame`: the payload, in MQTT 5 after an empty property
        block.
        """
        self = cls.__new__(cls)
        self.topic = topic
        self.publisher = publisher
        self.first = frame[0]
        self.properties = b""
        self.expires_at = None
        self.number = 0
        self.size = len(frame)
        self._frame = frame
        self._body = body
        self._key = frame[0] | _FOR_MQTT_5 if is_5 else frame[0]
        self._shapes = None
        return self

    def copy(self, number: int) -> Publication:
        """The same message with another number."""
        made = Publication(
            self.topic,
            self.payload,
            self.qos,
            self.retain,
            self.properties,
            self.expires_at,
            self.publisher,
        )
        made.number = number
        return made

    @property
    def received_id(self) -> bytes:
        """The packet identifier in the frame it was made of, for QoS 1 and 2."""
        return self._frame[self._body - 2 : self._body]

    @property
    def payload(self) -> bytes:
        """The application message itself."""
        start = self._body if self._key < _FOR_MQTT_5 else self._body + 1
        return self._frame[start:]

    @property
    def qos(self) -> int:
        """The QoS it was published with."""
        return self.first >> 1 & 3

    @property
    def retain(self) -> bool:
        """The RETAIN flag it was published with."""
        return self.first & RETAIN != 0

    def expired(self, now: float) -> bool:
        """Whether delivery may no longer begin [MQTT-3.3.2-5]."""
        return self.expires_at is not None and now >= self.expires_at

    def encode(self, first: int, version: int, packet_id: int, now: float) -> bytes:
        """Return the complete PUBLISH; `first` is its first byte, `packet_id` 0 where QoS is 0."""
        key = first if version < MQTT_5 else first | _FOR_MQTT_5
        if key == self._key:
            if not packet_id:
                return self._frame
            body = self._body
            frame = self._frame
            return frame[: body - 2] + packet_id.to_bytes(2, "big") + frame[body:]
        if self.expires_at is not None and version == MQTT_5:
            return self.encode_for_one(first, packet_id, now, (), 0, True)
        shapes = self._shapes
        if shapes is None:
            shapes = self._shapes = {}
        shape = shapes.get(key)
        if shape is None:
            if len(shapes) == MOST_SHAPES:
                shapes.clear()
            shape = shapes[key] = self._shape(first, version)
        if packet_id:
            return shape[0] + packet_id.to_bytes(2, "big") + shape[1]
        return shape[0]

    def encode_for_one(
        self,
        first: int,
        packet_id: int,
        now: float,
        identifiers: tuple[int, ...],
        alias: int,
        with_topic: bool,
    ) -> bytes:
        """Return the MQTT 5 frame for one receiver: its subscription identifiers, its topic alias
        (0 = none), the time left.
        """
        block = self._block_for_one(now, identifiers, alias)
        topic = self.topic.encode() if with_topic else b""
        head = len(topic).to_bytes(2, "big") + topic
        if packet_id:
            head += packet_id.to_bytes(2, "big")
        body = head + encode_varint(len(block)) + block + self.payload
        return bytes((first,)) + encode_varint(len(body)) + body

    def _block_for_one(self, now: float, identifiers: tuple[int, ...], alias: int) -> bytes:
        block = self.properties
        if self.expires_at is not None:  # [MQTT-3.3.2-6]
            left = max(0, int(self.expires_at - now + 0.999))
            block += _EXPIRY + left.to_bytes(4, "big")
        if alias:
            block += _ALIAS + alias.to_bytes(2, "big")
        for identifier in identifiers:  # [MQTT-3.3.4-4]
            block += _IDENTIFIER + encode_varint(identifier)
        return block

    def _shape(self, first: int, version: int) -> Shape:
        topic = self.topic.encode()
        head = len(topic).to_bytes(2, "big") + topic
        tail = self.payload
        if version == MQTT_5:
            tail = encode_varint(len(self.properties)) + self.properties + tail
        with_id = bool(first & QOS_BITS)
        length = len(head) + len(tail) + (2 if with_id else 0)
        start = bytes((first,)) + encode_varint(length) + head
        return (start, tail) if with_id else (start + tail, b"")


def travelling_properties(properties: Properties) -> bytes:
    """Encode the properties that are passed on unaltered with a message, without their length
    prefix.
    """
    if not properties:
        return b""
    kept = {key: value for key, value in properties.items() if key not in HOP_PROPERTIES}
    encoded = encode_properties(kept)
    return encoded[len(encode_varint(_length_of(encoded))) :]


def user_properties(encoded: bytes) -> dict[str, str]:
    """The user properties in a Publication's `properties`, of each name the last one."""
    if not encoded:
        return {}
    block = encode_varint(len(encoded)) + encoded
    properties, _ = decode_properties(block, 0, len(block), PacketType.PUBLISH)
    return dict(properties.get(Property.USER_PROPERTY, ()))


def _length_of(encoded: bytes) -> int:
    value = shift = 0
    for byte in encoded:
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value
