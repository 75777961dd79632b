"""A message on its way out: whatever it came as, every receiver gets the same message, and it holds
on to few copies of itself.
"""

from itertools import product

import pytest

from broker.packets.codes import MQTT_3_1_1, MQTT_5
from broker.packets.decode import decode_publish
from broker.packets.encode import encode
from broker.packets.publication import DUP, MOST_SHAPES, PUBLISH, RETAIN, Publication
from broker.packets.reader import Reader
from broker.packets.types import Publish

VERSIONS = (MQTT_3_1_1, MQTT_5)
SIZES = (0, 1, 100, 120, 20_000)


def read(frame: bytes, version: int) -> Publish:
    data, packets = Reader().cut(frame)
    ((first, start, end),) = packets
    assert end == len(data)
    return decode_publish(first, data, start, end, version)


def adopted(version: int, qos: int, payload: bytes) -> Publication:
    """A publication made of the bytes of an incoming packet."""
    frame = encode(Publish("a/ü", payload, qos, packet_id=qos and 258), version)
    body = frame.index("a/ü".encode()) + 4 + (2 if qos else 0)
    return Publication.from_frame("a/ü", "me", frame, body, version == MQTT_5)


def firsts(highest_qos: int) -> list[int]:
    found = [
        PUBLISH | qos << 1 | retain for qos in range(highest_qos + 1) for retain in (0, RETAIN)
    ]
    return found + [each | DUP for each in found if each & 0x06]


@pytest.mark.parametrize(("version", "qos", "size"), list(product(VERSIONS, (0, 1, 2), SIZES)))
def test_an_adopted_frame_goes_out_as_if_it_had_been_taken_apart(
    version: int, qos: int, size: int
) -> None:
    payload = bytes(n % 251 for n in range(size))
    publication = adopted(version, qos, payload)
    assert (publication.payload, publication.qos, publication.retain) == (payload, qos, False)
    made = Publication("a/ü", payload, qos, publisher="me")
    for out, first in product(VERSIONS, firsts(qos)):
        packet_id = 513 if first & 0x06 else 0
        frame = publication.encode(first, out, packet_id, 0.0)
        assert frame == made.encode(first, out, packet_id, 0.0)
        packet = read(frame, out)
        assert (packet.topic, packet.payload, packet.packet_id) == ("a/ü", payload, packet_id)
        assert (packet.qos, packet.retain, packet.dup) == (
            first >> 1 & 3,
            bool(first & RETAIN),
            bool(first & DUP),
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_what_comes_in_plain_goes_out_without_a_copy(version: int) -> None:
    publication = adopted(version, 0, b"x")
    first = publication.encode(PUBLISH, version, 0, 0.0)
    assert publication.encode(PUBLISH, version, 0, 0.0) is first


def test_a_message_holds_few_encoded_copies_of_itself() -> None:
    publication = adopted(MQTT_5, 2, bytes(1000))
    for out, first in product(VERSIONS, firsts(2)):
        publication.encode(first, out, 1 if first & 0x06 else 0, 0.0)
        assert len(publication._shapes or ()) <= MOST_SHAPES


def test_the_expiry_sent_is_the_time_left_and_never_less_than_nothing() -> None:
    publication = Publication("t", b"x", expires_at=110.0)
    left = [
        next(iter(read(publication.encode(PUBLISH, MQTT_5, 0, now), MQTT_5).properties.values()))
        for now in (100.0, 109.5, 111.0)
    ]
    assert left == [10, 1, 0]
    assert not read(publication.encode(PUBLISH, MQTT_3_1_1, 0, 100.0), MQTT_3_1_1).properties
