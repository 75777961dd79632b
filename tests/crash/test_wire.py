"""The torture's own codec, against bytes written by hand from the standard."""

import pytest

from tests.crash import wire

V5_CONNACK = bytes.fromhex("0100 0e 21000a 1f000166 26000161000162".replace(" ", ""))


def test_a_connect_names_its_session() -> None:
    made = wire.connect(wire.V5, "c", clean=False, expiry=60, receive_maximum=10)
    assert made == bytes.fromhex("1016 00044d515454 05 00 0000 08 110000003c 21000a 000163")
    made = wire.connect(wire.V3_1_1, "c", clean=True)
    assert made == bytes.fromhex("100d 00044d515454 04 02 0000 000163")


@pytest.mark.parametrize("version", [wire.V3_1_1, wire.V5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_publish_reads_as_it_was_written(version: int, qos: int) -> None:
    message = wire.Publish("a/b", b"x" * 200, qos, True, True, 513 if qos else 0)
    ((first, body),) = wire.Splitter().feed(wire.publish(version, message))
    assert wire.read_publish(version, first, body) == message


def test_a_publish_is_as_the_standard_draws_it() -> None:
    message = wire.Publish("a", b"!", 2, True, True, 7)
    assert wire.publish(wire.V3_1_1, message) == bytes.fromhex("3d06 000161 0007 21")
    assert wire.publish(wire.V5, message) == bytes.fromhex("3d07 000161 0007 00 21")


def test_user_properties_are_found_among_others() -> None:
    message = wire.Publish("a", b"!", 1, False, False, 7, (("key", "k"), ("x", "")))
    ((first, body),) = wire.Splitter().feed(wire.publish(wire.V5, message))
    assert wire.read_publish(wire.V5, first, body) == message
    others = bytes.fromhex("14 0bff01 0300016d 0200000001 260001610001 62 0101".replace(" ", ""))
    body = b"\x00\x01a" + others + b"!"
    assert wire.read_publish(wire.V5, 0x30, body).user == (("a", "b"),)


def test_a_connack_tells_the_receive_maximum() -> None:
    assert wire.read_connack(wire.V5, V5_CONNACK) == wire.Connack(True, 0, 10)
    assert wire.read_connack(wire.V3_1_1, b"\x00\x05") == wire.Connack(False, 5, 65_535)


def test_acks_carry_a_reason_only_where_there_is_one() -> None:
    assert wire.ack(wire.PUBREL, 258) == bytes.fromhex("62020102")
    assert wire.read_ack(wire.V5, 0x40, b"\x01\x02") == wire.Ack(wire.PUBACK, 258, 0)
    assert wire.read_ack(wire.V5, 0x40, b"\x01\x02\x97\x00") == wire.Ack(wire.PUBACK, 258, 0x97)
    assert wire.read_ack(wire.V5, 0x90, b"\x00\x01\x00\x02") == wire.Ack(wire.SUBACK, 1, 2)


def test_any_split_of_the_stream_gives_the_same_packets() -> None:
    large = wire.publish(wire.V5, wire.Publish("t", b"y" * 20_000, 1, False, False, 1))
    stream = wire.PING + large + wire.GOODBYE
    whole = wire.Splitter().feed(stream)
    assert [first for first, _ in whole] == [0xC0, 0x32, 0xE0]
    for place in (1, 2, 3, 4, 5, 6, 20_000, len(stream) - 1):
        splitter = wire.Splitter()
        assert splitter.feed(stream[:place]) + splitter.feed(stream[place:]) == whole
