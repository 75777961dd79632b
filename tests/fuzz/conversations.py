"""Valid conversations of MQTT 3.1, 3.1.1 and 5 as lists of packets, and the ways to spoil them.

Everything comes from one `random.Random`, so a seed repeats exactly.
"""

from collections.abc import Callable
from random import Random

from broker.packets.encode import encode
from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Auth,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
    Will,
)

CLIENT_IDS = ("", "a", "b", "c", "d", "ü" * 20)
TOPICS = ("t", "t/1", "t/2", "t/1/x", "/", "t//", "ü/€", "$SYS/broker/uptime", "$x/y", "a/" * 9)
FILTERS = (
    *("#", "+", "t/#", "t/+", "+/+", "t/1", "$SYS/#", "a/" * 20 + "#", "t", "/#", "+/1/+"),
    *("$share/g/t/#", "$share/h/t/1", "$share/g/+", "t/#/x", "t+", "$share/", "$share/g/"),
)
IDS = (1, 1, 1, 2, 2, 3, 4, 100, 65_535)
LENGTHS = (0, 1, 1, 10, 10, 100, 1000, 5000)


def conversation(rng: Random) -> list[bytes]:
    """One client's packets from CONNECT on, each a frame of its own."""
    version = rng.choice((3, 4, 4, 5, 5, 5, 5))
    packets = [_connect(rng, version)]
    packets += [rng.choice(_MAKERS)(rng, version) for _ in range(rng.randrange(25))]
    return [encode(packet, version) for packet in packets if version == 5 or _is_old(packet)]


def spoil(rng: Random, frames: list[bytes]) -> list[bytes]:
    """Change a few things in a conversation; sometimes nothing."""
    frames = list(frames)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8))):
        if frames:
            rng.choice(_SPOILERS)(rng, frames)
    return frames


def split(rng: Random, frames: list[bytes]) -> list[bytes]:
    """The same bytes as reads of random size."""
    stream = b"".join(frames)
    largest = rng.choice((1, 7, 50, 1000, 100_000))
    reads = []
    while stream:
        size = rng.randint(1, largest)
        reads.append(stream[:size])
        stream = stream[size:]
    return reads


# -- packets --------------------------------------------------------------------------------------


def _connect(rng: Random, version: int) -> Packet:
    properties: Properties = {}
    if version == 5:
        properties = _some(
            rng,
            {
                Property.SESSION_EXPIRY_INTERVAL: rng.choice((0, 1, 5, 100, 0xFFFFFFFF)),
                Property.RECEIVE_MAXIMUM: rng.choice((1, 2, 65_535)),
                Property.MAXIMUM_PACKET_SIZE: rng.choice((1, 20, 200, 100_000)),
                Property.TOPIC_ALIAS_MAXIMUM: rng.choice((0, 1, 5, 65_535)),
                Property.REQUEST_RESPONSE_INFORMATION: rng.randrange(2),
                Property.REQUEST_PROBLEM_INFORMATION: rng.randrange(2),
                Property.USER_PROPERTY: [("k", "v")] * rng.randrange(4),
                Property.AUTHENTICATION_METHOD: rng.choice(("TALK", "none")),
            },
        )
    will = None
    if rng.random() < 0.5:
        mine = {Property.WILL_DELAY_INTERVAL: rng.choice((0, 1, 100)), **_message(rng)}
        will = Will(
            rng.choice(TOPICS),
            bytes(rng.choice(LENGTHS)),
            rng.randrange(3),
            rng.random() < 0.5,
            _some(rng, mine) if version == 5 else {},
        )
    client_id = rng.choice(CLIENT_IDS)
    user = rng.choice((None, None, "user", "slow", "broken", "late"))
    password = None if user is None else b"password"
    keep_alive = rng.choice((0, 1, 60, 65_535))
    clean = rng.random() < 0.5
    return Connect(client_id, clean, keep_alive, user, password, will, properties, version)


def _publish(rng: Random, version: int) -> Packet:
    qos = rng.randrange(3)
    properties = _some(rng, _message(rng)) if version == 5 else {}
    if version == 5 and rng.random() < 0.3:
        properties[Property.TOPIC_ALIAS] = rng.choice((1, 2, 5, 6, 65_535))
    topic = rng.choice(TOPICS)
    if Property.TOPIC_ALIAS in properties and rng.random() < 0.5:
        topic = ""
    payload = rng.choice((b"x", b"\xff")) * rng.choice(LENGTHS)
    packet_id = rng.choice(IDS) if qos else 0
    dup = bool(qos) and rng.random() < 0.2
    return Publish(topic, payload, qos, rng.random() < 0.3, dup, packet_id, properties)


def _message(rng: Random) -> Properties:
    return {
        Property.PAYLOAD_FORMAT_INDICATOR: rng.randrange(2),
        Property.MESSAGE_EXPIRY_INTERVAL: rng.choice((0, 1, 5, 0xFFFFFFFF)),
        Property.CONTENT_TYPE: "text",
        Property.RESPONSE_TOPIC: "answer/here",
        Property.CORRELATION_DATA: bytes(5),
        Property.USER_PROPERTY: [("name", "value")] * rng.choice((1, 2, 30)),
    }


def _subscribe(rng: Random, version: int) -> Packet:
    requests = []
    for _ in range(rng.choice((1, 1, 2, 10))):
        topic_filter = rng.choice(FILTERS)
        if version == 5:
            local = rng.random() < 0.3 and not topic_filter.startswith("$share/")
            options = (local, rng.random() < 0.5, rng.randrange(3))
            requests.append(SubscriptionRequest(topic_filter, rng.randrange(3), *options))
        else:
            requests.append(SubscriptionRequest(topic_filter, rng.randrange(3)))
    properties: Properties = {}
    if version == 5 and rng.random() < 0.4:
        properties = {Property.SUBSCRIPTION_IDENTIFIER: [rng.choice((1, 127, 268_435_455))]}
    return Subscribe(rng.choice(IDS), requests, properties)


def _unsubscribe(rng: Random, _version: int) -> Packet:
    return Unsubscribe(rng.choice(IDS), [rng.choice(FILTERS) for _ in range(rng.choice((1, 3)))])


def _acknowledgement(rng: Random, version: int) -> Packet:
    kind = rng.choice((Puback, Pubrec, Pubrel, Pubcomp))
    reason = 0
    if version == 5 and rng.random() < 0.2:
        reason = 0x92 if kind in {Pubrel, Pubcomp} else 0x80
    made: Packet = kind(rng.choice(IDS), reason)
    return made


def _pingreq(_rng: Random, _version: int) -> Packet:
    return Pingreq()


def _disconnect(rng: Random, version: int) -> Packet:
    if version < 5:
        return Disconnect()
    properties: Properties = {Property.SESSION_EXPIRY_INTERVAL: rng.choice((0, 3))}
    return Disconnect(rng.choice((0, 4)), _some(rng, properties))


def _auth(rng: Random, _version: int) -> Packet:
    properties: Properties = {
        Property.AUTHENTICATION_METHOD: rng.choice(("TALK", "other")),
        Property.AUTHENTICATION_DATA: rng.choice((b"go on", b"yes", b"no", b"late", b"break")),
    }
    return Auth(rng.choice((0x18, 0x18, 0x19)), _some(rng, properties, 0.9))


def _some(rng: Random, properties: Properties, chance: float = 0.25) -> Properties:
    return {key: value for key, value in properties.items() if rng.random() < chance}


def _is_old(packet: Packet) -> bool:
    """Whether MQTT 3.1.1 has this packet."""
    return not isinstance(packet, Auth)


_MAKERS: tuple[Callable[[Random, int], Packet], ...] = (
    *(_publish,) * 6,
    *(_subscribe,) * 4,
    *(_acknowledgement,) * 5,
    _unsubscribe,
    _pingreq,
    _disconnect,
    _auth,
)


# -- ways to spoil --------------------------------------------------------------------------------


def _flip(rng: Random, frames: list[bytes]) -> None:
    at, frame = _one(rng, frames)
    frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
    frames[at] = bytes(frame)


def _set(rng: Random, frames: list[bytes]) -> None:
    at, frame = _one(rng, frames)
    frame[rng.randrange(len(frame))] = rng.choice((0, 1, 0x23, 0x2B, 0x2F, 0x7F, 0x80, 0xC0, 0xFF))
    frames[at] = bytes(frame)


def _insert(rng: Random, frames: list[bytes]) -> None:
    at, frame = _one(rng, frames)
    place = rng.randint(0, len(frame))
    frame[place:place] = rng.randbytes(rng.choice((1, 2, 4, 50)))
    frames[at] = bytes(frame)


def _delete(rng: Random, frames: list[bytes]) -> None:
    at, frame = _one(rng, frames)
    place = rng.randrange(len(frame))
    del frame[place : place + rng.choice((1, 2, 4, 50))]
    if frame:
        frames[at] = bytes(frame)
    else:
        del frames[at]


def _rewrite_inside(rng: Random, frames: list[bytes]) -> None:
    """Change the body and mend the length, so that the damage reaches the decoder."""
    at, frame = _one(rng, frames)
    body = bytearray(frame[2:]) if len(frame) < 130 else bytearray(frame[3:])
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(body))
        body[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
    size = len(body)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7 & 127])
    frames[at] = bytes(frame[:1]) + length + bytes(body)


def _repeat(rng: Random, frames: list[bytes]) -> None:
    at = rng.randrange(len(frames))
    frames[at:at] = [frames[at]] * rng.choice((1, 1, 2, 300))


def _drop(rng: Random, frames: list[bytes]) -> None:
    del frames[rng.randrange(len(frames))]


def _swap(rng: Random, frames: list[bytes]) -> None:
    one, other = rng.randrange(len(frames)), rng.randrange(len(frames))
    frames[one], frames[other] = frames[other], frames[one]


def _truncate(rng: Random, frames: list[bytes]) -> None:
    del frames[rng.randint(1, len(frames)) :]
    frames[-1] = frames[-1][: rng.randint(1, len(frames[-1]))]


def _graft(rng: Random, frames: list[bytes]) -> None:
    """The head of one packet with the tail of another."""
    head, tail = rng.choice(frames), rng.choice(frames)
    frames.append(head[: rng.randint(1, len(head))] + tail[rng.randrange(len(tail)) :])


def _garbage(rng: Random, frames: list[bytes]) -> None:
    frames.insert(rng.randint(0, len(frames)), rng.randbytes(rng.choice((1, 20, 2000))))


def _one(rng: Random, frames: list[bytes]) -> tuple[int, bytearray]:
    at = rng.randrange(len(frames))
    return at, bytearray(frames[at])


_SPOILERS: tuple[Callable[[Random, list[bytes]], None], ...] = (
    *(_flip, _flip, _set, _set, _insert, _delete, _rewrite_inside, _rewrite_inside),
    *(_repeat, _drop, _swap, _truncate, _graft, _garbage),
)
