"""Every message of MQTT-SN 1.2, byte by byte."""

from random import Random

import pytest

from bridges.mqttsn.codes import FLAG_BYTES, FLAGS, Flags, MessageType
from bridges.mqttsn.decode import decode, message_length
from bridges.mqttsn.encode import encode
from bridges.mqttsn.errors import UnreadableError
from bridges.mqttsn.packets import Encapsulated, Publish, Subscribe
from tests.unit.mqttsn.vectors import LONG_FORMS, UNREADABLE, VECTORS, Vector

every_vector = pytest.mark.parametrize("vector", VECTORS, ids=[v.name for v in VECTORS])
small = [v for v in VECTORS if len(v.frame) < 300]
every_small_vector = pytest.mark.parametrize("vector", small, ids=[v.name for v in small])


def test_the_table_has_every_message_type() -> None:
    types = {v.frame[3] if v.frame[0] == 1 else v.frame[1] for v in VECTORS}
    assert types == set(MessageType)


@every_vector
def test_a_frame_decodes_to_its_packet(vector: Vector) -> None:
    assert decode(vector.frame) == vector.packet


@every_vector
def test_a_packet_encodes_to_its_frame(vector: Vector) -> None:
    assert encode(vector.packet) == vector.frame


@pytest.mark.parametrize("vector", LONG_FORMS, ids=[v.name for v in LONG_FORMS])
def test_what_may_be_left_out_may_also_be_spelled_out(vector: Vector) -> None:
    assert decode(vector.frame) == vector.packet


@every_small_vector
def test_a_truncated_datagram_is_unreadable(vector: Vector) -> None:
    whole = 0
    if isinstance(vector.packet, Encapsulated):  # what is inside has a length of its own
        whole = vector.frame[0] + 1
    for size in range(len(vector.frame)):
        if whole and size >= whole:
            continue
        with pytest.raises(UnreadableError):
            decode(vector.frame[:size])


@every_small_vector
def test_a_truncated_message_with_a_fitting_length_is_unreadable_or_a_smaller_one(
    vector: Vector,
) -> None:
    start = 3 if vector.frame[0] == 1 else 1
    for size in range(start + 1, len(vector.frame)):
        body = vector.frame[start:size]
        _reads_as_written_or_not_at_all(bytes([len(body) + 1]) + body)


@every_small_vector
def test_every_length_byte_is_unreadable_or_reads_as_written(vector: Vector) -> None:
    for length in range(256):
        _reads_as_written_or_not_at_all(bytes([length]) + vector.frame[1:])


@every_small_vector
def test_every_message_type_is_unreadable_or_reads_as_written(vector: Vector) -> None:
    start = 3 if vector.frame[0] == 1 else 1
    for kind in range(256):
        frame = vector.frame[:start] + bytes([kind]) + vector.frame[start + 1 :]
        _reads_as_written_or_not_at_all(frame)


def test_garbage_is_unreadable_or_reads_as_written() -> None:
    rng = Random(5)
    for _ in range(20_000):
        body = rng.randbytes(rng.randrange(12))
        head = bytes([len(body) + 2, rng.choice([*MessageType])])
        _reads_as_written_or_not_at_all(head + body)


@pytest.mark.parametrize("frame", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_unreadable_says_so_in_a_printable_sentence(frame: bytes) -> None:
    with pytest.raises(UnreadableError) as raised:
        decode(frame)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 150


def test_every_flags_byte_has_its_value_and_back() -> None:
    assert len(FLAGS) == 256
    assert all(FLAG_BYTES[flags] == byte for byte, flags in enumerate(FLAGS))
    assert FLAGS[0x60] == Flags(qos=-1)


@pytest.mark.parametrize(
    "packet",
    [
        Publish(Flags(), 5, 0, bytes(65527)),
        Publish(Flags(), 65536, 0, b""),
        Subscribe(Flags(topic_id_type=2), 1, "abc"),
        Encapsulated(0, bytes(253), b"\x02\x17"),
    ],
    ids=["too long", "topic id", "short topic", "node id"],
)
def test_what_the_wire_cannot_hold_is_a_value_error(packet: Publish) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode(packet)


@every_small_vector
def test_a_stream_tells_the_length_of_its_first_message(vector: Vector) -> None:
    if isinstance(vector.packet, Encapsulated):
        return
    needed = 3 if vector.frame[0] == 1 else 1
    for size in range(needed):
        assert message_length(vector.frame[:size]) == 0
    assert message_length(vector.frame + b"\x02\x17") == len(vector.frame)


def _reads_as_written_or_not_at_all(frame: bytes) -> None:
    try:
        packet = decode(frame)
    except UnreadableError:
        return
    again = encode(packet)
    assert decode(again) == packet
    assert len(again) <= len(frame)
