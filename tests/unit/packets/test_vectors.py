"""Every packet of both standards, byte by byte."""

import pytest

from broker.packets.codes import PacketType
from broker.packets.decode import decode
from broker.packets.encode import encode
from broker.packets.errors import ProtocolViolation
from broker.packets.properties import PROPERTY_TABLE, WILL, Property
from broker.packets.reader import Reader
from broker.packets.types import Publish
from tests.unit.packets.reading import read
from tests.unit.packets.vectors import (
    LONG_FORMS,
    PROPERTIES_OF,
    PROPERTY_BYTES,
    VECTORS,
    Vector,
)

every_vector = pytest.mark.parametrize("vector", VECTORS, ids=[v.name for v in VECTORS])
small = [v for v in VECTORS if len(v.frame) < 1000]
every_small_vector = pytest.mark.parametrize("vector", small, ids=[v.name for v in small])

# Bodies of these may be cut short and still be a packet: what is left out at the end has a default
# or is one of a list.
_OPEN_ENDED = frozenset(PacketType) - {
    PacketType.CONNECT,
    PacketType.CONNACK,
    PacketType.PINGREQ,
    PacketType.PINGRESP,
}


@pytest.mark.spec(
    "3.1.1:MQTT-1.5.3-3",
    "3.1.1:MQTT-2.2.2-1",
    "3.1.1:MQTT-2.3.1-5",
    "3.1.1:MQTT-3.1.2-9",
    "3.1.1:MQTT-3.1.2-19",
    "3.1.1:MQTT-3.1.2-21",
    "3.1.1:MQTT-3.1.3-1",
    "3.1.1:MQTT-3.1.3-3",
    "3.1.1:MQTT-3.3.2-1",
    "5.0:MQTT-1.5.4-3",
    "5.0:MQTT-2.2.1-2",
    "5.0:MQTT-3.1.2-9",
    "5.0:MQTT-3.1.2-17",
    "5.0:MQTT-3.1.2-19",
    "5.0:MQTT-3.1.3-1",
    "5.0:MQTT-3.1.3-3",
    "5.0:MQTT-3.3.2-1",
)
@every_vector
def test_a_frame_decodes_to_its_packet(vector: Vector) -> None:
    assert read(vector.frame, vector.version) == vector.packet


@pytest.mark.spec(
    "3.1.1:MQTT-2.2.2-1",
    "3.1.1:MQTT-2.3.1-5",
    "3.1.1:MQTT-3.6.1-1",
    "5.0:MQTT-1.5.5-1",
    "5.0:MQTT-2.1.3-1",
    "5.0:MQTT-2.2.1-2",
    "5.0:MQTT-2.2.2-1",
    "5.0:MQTT-3.2.2-1",
    "5.0:MQTT-3.6.1-1",
)
@every_vector
def test_a_packet_encodes_to_its_frame(vector: Vector) -> None:
    assert encode(vector.packet, vector.version) == vector.frame


@pytest.mark.parametrize("vector", LONG_FORMS, ids=[v.name for v in LONG_FORMS])
def test_what_may_be_left_out_may_also_be_spelled_out(vector: Vector) -> None:
    assert read(vector.frame, vector.version) == vector.packet


@every_small_vector
def test_a_frame_surrounded_by_other_bytes_decodes_within_its_bounds(vector: Vector) -> None:
    data, packets = Reader().cut(b"\xc0\0" + vector.frame + b"\xd0\0")
    first, pos, end = packets[1]
    assert decode(first, data, pos, end, vector.version) == vector.packet


@every_small_vector
def test_a_truncated_stream_is_need_more(vector: Vector) -> None:
    for size in range(len(vector.frame)):
        reader = Reader()
        _, packets = reader.cut(vector.frame[:size])
        assert packets == []
        assert reader.violation is None
        assert reader.pending == size


@every_small_vector
def test_a_truncated_body_is_a_violation_or_a_smaller_packet(vector: Vector) -> None:
    _, [(first, start, stop)] = Reader().cut(vector.frame)
    for end in range(start, stop):
        try:
            # the rest of the frame stays readable behind `end`: reading on would succeed
            packet = decode(first, vector.frame, start, end, vector.version)
        except ProtocolViolation:
            continue
        assert PacketType(first >> 4) in _OPEN_ENDED
        assert packet != vector.packet
        assert read(encode(packet, vector.version), vector.version) == packet


@every_small_vector
def test_a_publish_cut_before_its_payload_is_a_violation(vector: Vector) -> None:
    if not isinstance(vector.packet, Publish):
        return
    _, [(first, start, stop)] = Reader().cut(vector.frame)
    for end in range(start, stop - len(vector.packet.payload)):
        with pytest.raises(ProtocolViolation):
            decode(first, vector.frame, start, end, vector.version)


@every_small_vector
def test_one_byte_too_many_is_refused_where_nothing_may_follow(vector: Vector) -> None:
    _, [(first, start, stop)] = Reader().cut(vector.frame)
    body = vector.frame[start:stop] + b"\xff"
    if isinstance(vector.packet, Publish):
        longer = decode(first, body, 0, len(body), vector.version)
        assert isinstance(longer, Publish)
        assert longer.payload == vector.packet.payload + b"\xff"
    else:
        with pytest.raises(ProtocolViolation):
            decode(first, body, 0, len(body), vector.version)


def test_the_property_table_is_that_of_the_standard() -> None:
    mine = {
        where: {row.identifier for row in PROPERTY_TABLE if where in row.packets}
        for where in [*PacketType, WILL]
    }
    assert mine == {PacketType.PINGREQ: set(), PacketType.PINGRESP: set(), **PROPERTIES_OF}
    assert [row.identifier for row in PROPERTY_TABLE] == sorted(Property)
    assert set(PROPERTY_BYTES) == set(Property)
