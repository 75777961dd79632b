"""The messages of MQTT-SN 1.2 as values, in the order of sections 5.4.2 to 5.5: what `decode`
returns and `encode` takes.
"""

from dataclasses import dataclass

from bridges.mqttsn.codes import NO_FLAGS, Flags


@dataclass(slots=True)
class Advertise:
    """A gateway is here; the next of these comes in `duration` seconds."""

    gateway_id: int
    duration: int


@dataclass(slots=True)
class SearchGw:
    """Who is a gateway? `radius` is the broadcast radius, 0 for the whole network."""

    radius: int


@dataclass(slots=True)
class GwInfo:
    """A gateway's id, and its address when somebody else answers for it."""

    gateway_id: int
    address: bytes = b""


@dataclass(slots=True)
class Connect:
    """`flags`: will, clean_session. `duration` is the keep-alive in seconds."""

    flags: Flags
    duration: int
    client_id: str
    protocol_id: int = 1


@dataclass(slots=True)
class Connack:
    """The answer to CONNECT."""

    return_code: int


@dataclass(slots=True)
class WillTopicReq:
    """Send your will's topic."""


@dataclass(slots=True)
class WillTopic:
    """`flags`: qos, retain. No topic and no flags: there is to be no will."""

    flags: Flags = NO_FLAGS
    topic: str = ""


@dataclass(slots=True)
class WillMsgReq:
    """Send your will's message."""


@dataclass(slots=True)
class WillMsg:
    """The will's payload."""

    message: bytes


@dataclass(slots=True)
class Register:
    """`topic_id` is 0 from a device, which asks for one."""

    topic_id: int
    msg_id: int
    topic: str


@dataclass(slots=True)
class Regack:
    """The answer to REGISTER."""

    topic_id: int
    msg_id: int
    return_code: int


@dataclass(slots=True)
class Publish:
    """`flags`: dup, qos, retain, topic_id_type. `topic_id` of type SHORT is the name's two bytes;
    `msg_id` is 0 for QoS 0 and -1.
    """

    flags: Flags
    topic_id: int
    msg_id: int
    data: bytes


@dataclass(slots=True)
class Puback:
    """QoS 1: received; and for any QoS: refused."""

    topic_id: int
    msg_id: int
    return_code: int


@dataclass(slots=True)
class Pubcomp:
    """QoS 2, last answer: complete."""

    msg_id: int


@dataclass(slots=True)
class Pubrec:
    """QoS 2, first answer: received."""

    msg_id: int


@dataclass(slots=True)
class Pubrel:
    """QoS 2, second step: the sender has let go of the message."""

    msg_id: int


@dataclass(slots=True)
class Subscribe:
    """`flags`: dup, qos, topic_id_type. `topic` is an int for a predefined id, else a filter, of
    two bytes if the type is SHORT.
    """

    flags: Flags
    msg_id: int
    topic: str | int


@dataclass(slots=True)
class Suback:
    """`flags`: qos, the one granted. `topic_id` is 0 for a filter with wildcards."""

    flags: Flags
    topic_id: int
    msg_id: int
    return_code: int


@dataclass(slots=True)
class Unsubscribe:
    """`flags`: topic_id_type; `topic` as in Subscribe."""

    flags: Flags
    msg_id: int
    topic: str | int


@dataclass(slots=True)
class Unsuback:
    """The answer to UNSUBSCRIBE."""

    msg_id: int


@dataclass(slots=True)
class Pingreq:
    """Are you there? With a client id: I am awake, send what waits."""

    client_id: str = ""


@dataclass(slots=True)
class Pingresp:
    """I am here. To one that is awake: that was all."""


@dataclass(slots=True)
class Disconnect:
    """The end; with a `duration` of some seconds: I sleep."""

    duration: int | None = None


@dataclass(slots=True)
class WillTopicUpd:
    """A new will topic; see WillTopic."""

    flags: Flags = NO_FLAGS
    topic: str = ""


@dataclass(slots=True)
class WillTopicResp:
    """The answer to WILLTOPICUPD."""

    return_code: int


@dataclass(slots=True)
class WillMsgUpd:
    """A new will message."""

    message: bytes


@dataclass(slots=True)
class WillMsgResp:
    """The answer to WILLMSGUPD."""

    return_code: int


@dataclass(slots=True)
class Encapsulated:
    """A forwarder passes on `message`, a whole message with its own header, of or for the node."""

    radius: int
    node_id: bytes
    message: bytes


Packet = (
    Advertise
    | SearchGw
    | GwInfo
    | Connect
    | Connack
    | WillTopicReq
    | WillTopic
    | WillMsgReq
    | WillMsg
    | Register
    | Regack
    | Publish
    | Puback
    | Pubcomp
    | Pubrec
    | Pubrel
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | WillTopicUpd
    | WillTopicResp
    | WillMsgUpd
    | WillMsgResp
    | Encapsulated
)
