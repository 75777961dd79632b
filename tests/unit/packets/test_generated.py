"""What holds for every packet and for any bytes at all, searched by hypothesis."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.packets.decode import decode
from broker.packets.encode import encode
from broker.packets.errors import ProtocolViolation
from broker.packets.primitives import (
    MAXIMUM_VARINT,
    decode_binary,
    decode_string,
    decode_varint,
    encode_varint,
)
from broker.packets.properties import WILL, decode_properties
from broker.packets.types import Packet
from tests.unit.packets.reading import read
from tests.unit.packets.strategies import packets, versions
from tests.unit.packets.vectors import VECTORS, Vector

# The machine that runs this may be slow and shared: time is not what is tested.
unhurried = settings(deadline=None)


def attempt(first: int, body: bytes, version: int) -> Packet | ProtocolViolation:
    """Decode the body; any other exception than the one is the test's failure."""
    try:
        return decode(first, body, 0, len(body), version)
    except ProtocolViolation as violation:
        return violation


VERSIONED_PACKETS = versions.flatmap(lambda v: st.tuples(st.just(v), packets(v)))


@unhurried
@given(VERSIONED_PACKETS)
def test_every_packet_decodes_to_itself(case: tuple[int, Packet]) -> None:
    version, packet = case
    assert read(encode(packet, version), version) == packet


@settings(unhurried, max_examples=500)
@given(first=st.integers(0, 255), body=st.binary(max_size=60), version=versions)
def test_any_bytes_are_a_packet_or_a_violation(first: int, body: bytes, version: int) -> None:
    outcome = attempt(first, body, version)
    if isinstance(outcome, ProtocolViolation):
        assert str(outcome).isprintable()
    else:
        again = encode(outcome, getattr(outcome, "version", version))
        assert read(again, version) == outcome


@settings(unhurried, max_examples=500)
@given(
    vector=st.sampled_from([v for v in VECTORS if len(v.frame) < 200]),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=3),
)
def test_a_damaged_frame_is_a_packet_or_a_violation(
    vector: Vector, changes: list[tuple[int, int]]
) -> None:
    frame = bytearray(vector.frame)
    for at, value in changes:
        frame[at % len(frame)] = value
    outcome = attempt(frame[0], bytes(frame[2:]), vector.version)
    if isinstance(outcome, ProtocolViolation):
        assert str(outcome).isprintable()


@pytest.mark.spec("5.0:MQTT-1.5.5-1")
@unhurried
@given(st.integers(0, MAXIMUM_VARINT))
def test_a_variable_byte_integer_comes_back_from_its_shortest_form(value: int) -> None:
    raw = encode_varint(value)
    assert len(raw) == 1 + (value > 127) + (value > 16_383) + (value > 2_097_151)
    assert decode_varint(raw, 0, len(raw)) == (value, len(raw))


@pytest.mark.parametrize("read_field", [decode_varint, decode_string, decode_binary])
@unhurried
@given(data=st.binary(max_size=12), end=st.integers(0, 12))
def test_a_field_never_reaches_beyond_its_end(
    read_field: Callable[[bytes, int, int], tuple[object, int]], data: bytes, end: int
) -> None:
    end = min(end, len(data))
    try:
        value, pos = read_field(data, 0, end)
    except ProtocolViolation:
        return
    assert 0 < pos <= end
    assert read_field(data[:pos], 0, pos) == (value, pos)


@settings(unhurried, max_examples=300)
@given(block=st.binary(max_size=30), where=st.integers(1, WILL))
def test_any_property_block_is_read_within_its_length_or_refused(block: bytes, where: int) -> None:
    data = bytes([len(block)]) + block
    try:
        _, pos = decode_properties(data + b"\xff" * 8, 0, len(data), where)
    except ProtocolViolation:
        return
    assert pos == len(data)
