"""The modes without frames: what is whole gets through, what is not costs little, nothing grows."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.serial.events import Event, LogLine, Reading, Received
from bridges.serial.frames import Channel
from bridges.serial.modes import (
    LARGEST_OUTBOX,
    LONGEST_LINE,
    LONGEST_PACKET,
    PACKET_TYPES,
    PATIENCE,
    PacketStream,
    Plain,
    Slip,
    TextLines,
    Unframed,
    packet_end,
    slip,
    unslip,
)

CONNECT = bytes.fromhex("0a040c01003c74657374")
PUBLISH = bytes.fromhex("0c0c62000161626364656667")
PINGREQ = bytes.fromhex("0216")
LONG = b"\x01\x01\x2c\x0c\x00\x00\x01\x00\x00" + bytes(291)  # 300 bytes, the length in three
FORWARDED = bytes.fromhex("06fe00010203") + PINGREQ
PACKETS = [CONNECT, PUBLISH, PINGREQ, LONG, FORWARDED]


def packets(events: list[Event]) -> list[bytes]:
    return [event.payload for event in events if isinstance(event, Received)]


def feed(machine: Unframed, data: bytes, size: int) -> list[Event]:
    events: list[Event] = []
    for at in range(0, len(data), size):
        events += machine.receive(data[at : at + size], 0.0)
    return events


# -- raw MQTT-SN ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_packets_are_cut_wherever_the_reads_end(size: int) -> None:
    assert packets(feed(Unframed(PacketStream()), b"".join(PACKETS), size)) == PACKETS


def test_bytes_with_which_no_packet_begins_are_passed_over() -> None:
    machine = Unframed(PacketStream())
    events = machine.receive(b"\x00\x00\x00" + CONNECT, 0.0)
    assert packets(events) == [CONNECT]


def test_a_packet_that_stops_costs_a_moment_and_nothing_behind_it() -> None:
    machine = Unframed(PacketStream())
    assert machine.receive(PUBLISH[:5] + CONNECT[:4], 0.0) == []
    assert machine.next_deadline() == PATIENCE
    machine.tick(PATIENCE)
    assert packets(machine.receive(CONNECT, 1.0)) == [CONNECT]


def test_after_a_byte_was_lost_later_packets_are_found() -> None:
    machine = Unframed(PacketStream())
    events = machine.receive(CONNECT[1:] + PUBLISH * 3, 0.0)
    deadline = machine.next_deadline()
    while deadline is not None:
        events += machine.tick(deadline)
        deadline = machine.next_deadline()
    assert packets(events).count(PUBLISH) >= 2


@pytest.mark.parametrize("length", range(256))
def test_every_length_byte_with_every_type_is_survived(length: int) -> None:
    codec = PacketStream()
    for kind in range(256):
        data = bytes((length, kind)) + bytes(10)
        for packet in packets(codec.receive(data) + codec.give_up()):
            assert len(packet) <= LONGEST_PACKET
        codec.clear()


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_end_as_packets_or_nothing(chunks: list[bytes]) -> None:
    codec = PacketStream()
    for chunk in chunks:
        for packet in packets(codec.receive(chunk)):
            assert packet_end(packet, 0) == len(packet)
        assert len(codec._held) <= 2 * LONGEST_PACKET


def test_the_types_are_those_of_the_standard() -> None:
    assert len(PACKET_TYPES) == 28
    assert {0x03, 0x11, 0x19, 0x1E, 0xFD, 0xFF}.isdisjoint(PACKET_TYPES)


# -- SLIP -----------------------------------------------------------------------------------------


@given(st.binary(max_size=100))
def test_slip_comes_back(packet: bytes) -> None:
    frame = slip(packet)
    assert frame[0] == frame[-1] == 0xC0
    assert 0xC0 not in frame[1:-1]
    assert unslip(frame[1:-1]) == packet


def test_slip_escapes_as_rfc_1055_says() -> None:
    assert slip(b"\x01\xc0\x02\xdb\x03").hex() == "c001dbdc02dbdd03c0"


@pytest.mark.parametrize("frame", [b"\xdb", b"a\xdb", b"\xdba", b"\xdb\xdb\xdc"])
def test_an_escape_of_nothing_is_damage(frame: bytes) -> None:
    assert unslip(frame) is None


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_slip_packets_survive_noise_between_them(size: int) -> None:
    stream = b"noise".join(slip(packet) for packet in PACKETS)
    machine = Unframed(Slip())
    assert packets(feed(machine, stream, size)) == PACKETS


def test_slip_without_an_end_is_not_held() -> None:
    codec = Slip()
    for _ in range(1000):
        codec.receive(bytes(100))
        assert len(codec._held) <= 2 * LONGEST_PACKET + 100
    assert packets(codec.receive(slip(PINGREQ))) == [PINGREQ]


# -- MQTT and text --------------------------------------------------------------------------------


def test_plain_mqtt_is_passed_on() -> None:
    machine = Unframed(Plain())
    assert machine.receive(b"\x10\x00", 0.0) == [Received(Channel.RAW, b"\x10\x00")]
    assert machine.send(Channel.RAW, b"\x20\x02\x00\x00", 0.0)
    assert machine.data_to_send() == b"\x20\x02\x00\x00"


LINES = [
    ("temp/1 21.5", Reading("temp/1", b"21.5")),
    ("temp 21.5", Reading("temp", b"21.5")),
    ("temp -3e2", Reading("temp", b"-3e2")),
    ("door open", LogLine("door open")),
    ("site/door open now", Reading("site/door", b"open now")),
    ("led on", Reading("led", b"on")),
    ('state {"a": 1}', Reading("state", b'{"a": 1}')),
    ("Hello world", LogLine("Hello world")),
    ("temp: 21.5", LogLine("temp: 21.5")),
    ("http://x 1", LogLine("http://x 1")),
    ("temp/+ 1", LogLine("temp/+ 1")),
    ("a/# 1", LogLine("a/# 1")),
    ("$SYS/x 1", LogLine("$SYS/x 1")),
    (" temp/1 2", LogLine(" temp/1 2")),
    ("temp/1", LogLine("temp/1")),
    ("temp/1 ", LogLine("temp/1 ")),
    ("temp/1   5  ", Reading("temp/1", b"5")),
    ("größe/1 5", Reading("größe/1", b"5")),
    ("a/b \x07", LogLine("a/b \x07")),
]


@pytest.mark.parametrize(("line", "event"), LINES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_is_a_reading_or_a_log(line: str, event: Event, end: str) -> None:
    assert TextLines().receive((line + end).encode()) == [event]


def test_bytes_that_are_no_text_are_a_log() -> None:
    (event,) = TextLines().receive(b"temp/1 \xff\xfe\n")
    assert isinstance(event, LogLine)


@given(st.lists(st.binary(max_size=700), max_size=8), st.lists(st.integers(0, 4000)))
def test_any_split_of_lines_reads_the_same(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = TextLines()
    found = [event for begin, end in pairwise(edges) for event in pieces.receive(stream[begin:end])]
    assert found == TextLines().receive(stream)


def test_a_line_without_end_is_not_held() -> None:
    codec = TextLines()
    for _ in range(1000):
        assert codec.receive(b"x" * 100) == []
        assert len(codec._held) <= LONGEST_LINE
    assert codec.receive(b"\ntemp/1 2\n") == [Reading("temp/1", b"2")]
    assert codec.too_long == 1


# -- what they share ------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [PacketStream, Slip, Plain, TextLines])
def test_what_goes_out_is_bounded(codec: type) -> None:
    machine = Unframed(codec())
    channel = machine.codec.channel
    while machine.writable(channel):
        assert machine.send(channel, bytes(100), 0.0)
    assert not machine.send(channel, PINGREQ, 0.0)
    assert len(machine.data_to_send()) < LARGEST_OUTBOX + 300
    assert machine.writable(channel)
    assert not machine.send(Channel.FILES, b"", 0.0)


def test_two_lines_are_not_one() -> None:
    machine = Unframed(TextLines())
    assert not machine.send(Channel.RAW, b"a\nb", 0.0)
    assert machine.send(Channel.RAW, b"led on", 0.0)
    assert machine.data_to_send() == b"led on\n"


@pytest.mark.parametrize("codec", [PacketStream, Slip, TextLines])
def test_what_began_before_an_unplug_does_not_end_after_it(codec: type) -> None:
    machine = Unframed(codec())
    rng = Random(1)
    machine.receive(CONNECT[:5] + rng.randbytes(3), 0.0)
    machine.receive(b"", 0.1)
    assert machine.next_deadline() is None
    machine.plugged(0.2)
    data = slip(PINGREQ) if codec is Slip else PINGREQ if codec is PacketStream else b"a/b 1\n"
    assert len(machine.receive(data, 0.3)) == 1
