"""What the wire cannot hold is our own fault, told as ValueError before a byte is sent."""

import pytest

from broker.packets.encode import encode
from broker.packets.primitives import MAXIMUM_VARINT, encode_uint16, encode_varint
from broker.packets.properties import Properties, Property, encode_properties
from broker.packets.types import Connect, Packet, Puback, Publish
from tests.unit.packets.reading import read


@pytest.mark.spec("3.1.1:MQTT-1.5.3-1", "5.0:MQTT-1.5.4-1")
def test_a_surrogate_is_never_sent() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        encode(Publish("\ud800"), 4)


@pytest.mark.spec("3.1.1:MQTT-1.5.3-2", "5.0:MQTT-1.5.4-2")
def test_the_character_nul_is_never_sent() -> None:
    with pytest.raises(ValueError, match=r"U\+0000"):
        encode(Publish("a\0b"), 4)


@pytest.mark.parametrize(
    "packet",
    [
        Publish("t" * 65_536),
        Publish("\N{EURO SIGN}" * 21_846),
        Connect("c", username="u", password=b"p" * 65_536),
        Publish("t", qos=1, packet_id=65_536),
        Connect("c", keep_alive=-1),
        Puback(-1),
    ],
    ids=["topic", "topic-in-bytes", "password", "packet-id", "keep-alive", "ack-id"],
)
def test_a_field_too_large_for_its_length_is_a_value_error(packet: Packet) -> None:
    with pytest.raises(ValueError, match=r"65535|two bytes"):
        encode(packet, 4)


def test_the_longest_topic_passes() -> None:
    packet = Publish("t" * 65_535)
    assert read(encode(packet, 4), 4) == packet


@pytest.mark.parametrize("value", [-1, MAXIMUM_VARINT + 1])
def test_a_number_outside_the_variable_byte_integer_is_a_value_error(value: int) -> None:
    with pytest.raises(ValueError, match="variable byte integer"):
        encode_varint(value)


@pytest.mark.parametrize(
    "properties",
    [
        {Property.RECEIVE_MAXIMUM: 0},
        {Property.TOPIC_ALIAS: 0},
        {Property.TOPIC_ALIAS: 65_536},
        {Property.MAXIMUM_QOS: 2},
        {Property.MAXIMUM_PACKET_SIZE: 0},
        {Property.SUBSCRIPTION_IDENTIFIER: [0]},
        {Property.MESSAGE_EXPIRY_INTERVAL: -1},
        {Property.MESSAGE_EXPIRY_INTERVAL: 0x1_0000_0000},
        {Property.RESPONSE_TOPIC: "a/#"},
        {Property.RESPONSE_TOPIC: ""},
    ],
)
@pytest.mark.spec("5.0:MQTT-3.3.2-8", "5.0:MQTT-3.3.2-14")
def test_a_property_outside_its_range_is_a_value_error(properties: Properties) -> None:
    with pytest.raises(ValueError, match=r"must not be|cannot be"):
        encode_properties(properties)


@pytest.mark.parametrize("nothing", [None, {}])
@pytest.mark.spec("5.0:MQTT-2.2.2-1")
def test_no_properties_are_written_as_length_0(nothing: Properties | None) -> None:
    assert encode_properties(nothing) == b"\0"


def test_the_version_asked_for_decides_how_a_connect_is_written() -> None:
    assert read(encode(Connect("c", version=5), 4), 4) == Connect("c", version=4)


def test_below_5_properties_and_reasons_stay_at_home() -> None:
    packet = Puback(1, 0x87, {Property.REASON_STRING: "no"})
    assert encode(packet, 4) == b"\x40\2\0\1"


def test_the_largest_two_byte_integer_passes() -> None:
    assert encode_uint16(0xFFFF) == b"\xff\xff"
