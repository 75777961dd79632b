"""The fifteen MQTT control packets as values: what `decode` returns and `encode` takes.

One shape for all versions: MQTT 5 is 3.1.1 plus a property block and reason codes. Below MQTT 5
`properties` is empty, and `reason` is the CONNACK's return code or 0.
"""

from dataclasses import dataclass, field

from broker.packets.codes import MQTT_5
from broker.packets.properties import Properties


@dataclass(slots=True)
class Will:
    """The message to publish when the connection ends badly; at most 65,535 bytes of payload."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Connect:
    """`clean_start` is Clean Session below MQTT 5; `keep_alive` is in seconds, 0 for none."""

    client_id: str = ""
    clean_start: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = field(default_factory=dict)
    version: int = MQTT_5


@dataclass(slots=True)
class Connack:
    """`reason` is a ReasonCode in MQTT 5, a return code 0 to 5 below."""

    session_present: bool = False
    reason: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Publish:
    """`packet_id` is 0 for QoS 0; `topic` may be empty in MQTT 5 beside a TOPIC_ALIAS."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Puback:
    """QoS 1: received."""

    packet_id: int
    reason: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Pubrec:
    """QoS 2, first answer: received."""

    packet_id: int
    reason: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Pubrel:
    """QoS 2, second step: the sender has let go of the message."""

    packet_id: int
    reason: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Pubcomp:
    """QoS 2, last answer: complete."""

    packet_id: int
    reason: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class SubscriptionRequest:
    """One filter with its options; below MQTT 5 only `qos` is not the default."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(slots=True)
class Subscribe:
    """At least one request; whether the filters are valid is for the receiver to say."""

    packet_id: int
    requests: list[SubscriptionRequest]
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Suback:
    """One reason per request, in order: the QoS granted, or 0x80 and above."""

    packet_id: int
    reasons: list[int]
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Unsubscribe:
    """At least one filter."""

    packet_id: int
    filters: list[str]
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Unsuback:
    """One reason per filter, in order; no reasons below MQTT 5."""

    packet_id: int
    reasons: list[int] = field(default_factory=list)
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Pingreq:
    """Are you there?"""


@dataclass(slots=True)
class Pingresp:
    """I am here."""


@dataclass(slots=True)
class Disconnect:
    """The last packet of its sender; `reason` is 0 below MQTT 5."""

    reason: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(slots=True)
class Auth:
    """A step of enhanced authentication (MQTT 5 only)."""

    reason: int = 0
    properties: Properties = field(default_factory=dict)


Packet = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
