"""A message on its way out: encoded once per shape and shared by all its receivers.

A *shape* is everything that changes the bytes of a PUBLISH except the packet identifier: the first byte (QoS and RETAIN)
and the protocol version. What differs for one receiver alone (subscription identifiers, a topic
alias, the seconds left until expiry) is encoded for that receiver and not kept.
"""

from broker.packets.codes import MQTT_5
from broker.packets.primitives import encode_varint
from broker.packets.properties import Properties, Property, encode_properties

PUBLISH = 0x30
DUP = 0x08
RETAIN = 0x01

# Properties that belong to one hop and are never passed on with the message.
HOP_PROPERTIES = (
    Property.TOPIC_ALIAS,
    Property.SUBSCRIPTION_IDENTIFIER,
    Property.MESSAGE_EXPIRY_INTERVAL,
)

_ALIAS = bytes((Property.TOPIC_ALIAS,))
_EXPIRY = bytes((Property.MESSAGE_EXPIRY_INTERVAL,))
_IDENTIFIER = bytes((Property.SUBSCRIPTION_IDENTIFIER,))

Shape = tuple[bytes, bytes]


class Publication:
    """One application message, as every receiver will see it.

    `properties` are the encoded MQTT 5 properties that travel with the message, without their
    length prefix and in the order of the publisher; `expires_at` is the instant (seconds of the
    engine's clock) after which no delivery may begin; `publisher` is the client identifier it came
    from ("" for the broker's own messages).
    """

    __slots__ = (
        "_shapes",
        "expires_at",
        "payload",
        "properties",
        "publisher",
        "qos",
        "retain",
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
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.expires_at = expires_at
        self.publisher = publisher
        self._shapes: dict[int, Shape] | None = None

    @property
    def size(self) -> int:
        """Bytes this message holds on to while it waits."""
        return len(self.payload) + len(self.properties) + len(self.topic)

    def adopt(self, frame: bytes) -> None:
        """Take an incoming MQTT 3.1.1 QoS 0 frame as the encoding for that shape: it is byte for
        byte what goes out.
        """
        self._shapes = {PUBLISH: (frame, b"")}

    def expired(self, now: float) -> bool:
        """Whether delivery may no longer begin [MQTT-3.3.2-5]."""
        return self.expires_at is not None and now >= self.expires_at

    def encode(self, first: int, version: int, packet_id: int, now: float) -> bytes:
        """Return the complete PUBLISH frame; `first` is its first byte, `packet_id` 0 where QoS is
        0.
        """
        if self.expires_at is not None and version == MQTT_5:
            return self.encode_for_one(first, packet_id, now, (), 0, True)
        key = first if version < MQTT_5 else first | 0x100
        shapes = self._shapes
        if shapes is None:
            shapes = self._shapes = {}
        shape = shapes.get(key)
        if shape is None:
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
        with_id = bool(first & 0x06)
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


def _length_of(encoded: bytes) -> int:
    value = shift = 0
    for byte in encoded:
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value
