"""What a wire looks like to people."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.gateway.wire_view import MODES, Seen, View, mqtt_sn, view_of
from bridges.mqttsn.codes import Flags
from bridges.mqttsn.encode import encode
from bridges.mqttsn.packets import Connect, Encapsulated, Pingreq, Publish
from bridges.serial.frames import Channel
from bridges.serial.link import Link, LinkSettings
from bridges.serial.modes import slip
from bridges.serial.overhearing import Way
from bridges.serial.pcapng import PacketKind

CONNECT = encode(Connect(Flags(clean_session=True), 30, "dev1"))
PUBLISH = encode(Publish(Flags(qos=1), 7, 2, b"21.5"))
HELLO = bytes.fromhex(  # E1 of docs/serial-protocol.md
    "00 01 03 10 01 03 ab cd 01 01 02 01 02 30 0f 30 04 80 04 01 02 03 04 03 31 2e 30 d6 79 00"
)
OPEN = bytes.fromhex(  # E3
    "00 01 08 10 01 01 ab cd 12 34 02 01 02 30 0f 30 04 80 04 01 02 03 04 03 31 2e 30 d0 64 00"
)


def seen(mode: str, *said: bytes, way: Way = Way.FROM_DEVICE) -> list[Seen]:
    view = view_of(mode)
    return [each for data in said for each in view.see(way, data, 0.0)]


def texts(mode: str, *said: bytes) -> list[str]:
    return [each.text for each in seen(mode, *said)]


def test_the_frames_of_the_protocol_page_are_read() -> None:
    view = view_of("framed")
    lines = [each.text for each in view.see(Way.FROM_DEVICE, HELLO + OPEN, 0.0)]
    assert lines[0] == (
        'HELLO mine=ABCD yours=0000 uid=01020304 firmware="1.0" window=1 limit=48 buffer=48 '
        "baud=115200 can=-"
    )
    assert lines[1].startswith("HELLO open mine=ABCD yours=1234")
    for way, frame, text in (
        (
            Way.FROM_DEVICE,
            "02 31 05 02 16 58 7c 00",
            'MQTT_SN #0 PINGREQ client_id="" [expects 0, takes 1]',
        ),
        (Way.TO_DEVICE, "05 08 01 ec 84 00", "ACK [expects 1, takes 8]"),
        (Way.TO_DEVICE, "07 38 01 02 17 4e 7e 00", "MQTT_SN #0 PINGRESP [expects 1, takes 8]"),
        (Way.TO_DEVICE, "06 08 03 05 90 6a 00", "ACK holds +1 +3 [expects 3, takes 8]"),
        (Way.TO_DEVICE, "05 08 21 c8 e6 00", "NAK [expects 1, takes 8]"),
        (Way.FROM_DEVICE, "07 41 01 68 69 46 a0 00", 'LOG once "hi" [expects 1, takes 1]'),
    ):
        (line,) = view.see(way, bytes.fromhex(frame), 0.0)
        assert line.text == text


def test_a_damaged_frame_is_said_to_be_damaged() -> None:
    (*_, last) = seen("framed", HELLO + OPEN, bytes.fromhex("02 31 05 02 17 58 7c 00"))
    assert last.text == "DAMAGED 02 31 05 02 17 58 7c"
    assert last.is_damaged


def test_a_frame_of_a_session_that_nobody_saw_begin_is_shown_with_a_doubt() -> None:
    (line,) = texts("framed", bytes.fromhex("02 31 05 02 16 58 7c 00"))
    assert line == 'MQTT_SN #0 PINGREQ client_id="" [expects 0, takes 1] (check not known)'


def test_mqtt_sn_packets_are_names_and_fields() -> None:
    assert mqtt_sn(CONNECT) == (
        'CONNECT flags=clean_session:1 duration=30 client_id="dev1" protocol_id=1'
    )
    assert mqtt_sn(PUBLISH) == 'PUBLISH flags=qos:1 topic_id=7 msg_id=2 data="21.5"'
    wrapped = encode(Encapsulated(1, b"\x0a", encode(Pingreq("x"))))
    assert mqtt_sn(wrapped) == 'ENCAPSULATED node=0a radius=1: PINGREQ client_id="x"'
    assert mqtt_sn(b"\x02\x03") == "unreadable (reserved message type: 3): 02 03"


@pytest.mark.parametrize(
    ("mode", "wire", "line", "kind"),
    [
        ("framed", HELLO, "HELLO mine=ABCD", None),
        ("mqtt-sn", CONNECT, "CONNECT flags", PacketKind.MQTT_SN),
        ("slip", slip(CONNECT), "CONNECT flags", PacketKind.MQTT_SN),
        ("text", b"temp/1 21.5\n", 'reading "temp/1" "21.5"', None),
        ("mqtt", b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00", "CONNECT", PacketKind.MQTT),
    ],
)
def test_auto_finds_out_and_then_shows_what_came_before(
    mode: str, wire: bytes, line: str, kind: PacketKind | None
) -> None:
    first, second = seen("auto", wire)
    assert first.text == f"-- this is {mode} --"
    assert second.text.startswith(line)
    assert second.kind is kind


def test_auto_knows_frames_of_a_session_that_nobody_saw_begin() -> None:
    device, host = (Link(LinkSettings(), random.Random(seed)) for seed in (1, 2))
    for link in (device, host):
        link.plugged(0.0)
    host.receive(device.data_to_send(), 0.0)
    device.receive(host.data_to_send(), 0.0)
    host.receive(device.data_to_send(), 0.0)
    device.send(Channel.RAW, b"one", 0.0)
    device.send(Channel.RAW, b"two", 0.0)
    first, *rest = texts("auto", device.data_to_send())
    assert first == "-- this is framed --"
    assert 'RAW #1 "two"' in rest[1]


def test_mqtt_is_cut_into_its_packets_however_it_comes() -> None:
    wire = b"\x30\x07\x00\x01ahell" + b"\xc0\x00" + b"\x32\x81\x01" + bytes(129)
    whole = texts("mqtt", wire)
    assert [line.split()[0] for line in whole] == ["PUBLISH", "PINGREQ", "PUBLISH"]
    assert texts("mqtt", *(wire[at : at + 1] for at in range(len(wire)))) == whole
    assert texts("mqtt", b"\x30\xff\xff\xff\xff") == ["PUBLISH 30 ff ff ff ff"]


def test_until_it_is_clear_bytes_are_shown() -> None:
    assert texts("auto", b"\xaa\xbb") == ["bytes aa bb"]


def test_nothing_but_lines_is_text_after_a_while() -> None:
    view = view_of("auto")
    view.see(Way.FROM_DEVICE, b"Hello world\n", 0.0)
    assert [each.text for each in view.tick(6.0)] == ["-- this is text --", 'log "Hello world"']


def test_half_a_packet_is_given_up_after_a_while() -> None:
    view = view_of("mqtt-sn")
    assert view.see(Way.FROM_DEVICE, b"\x05" + encode(Pingreq()), 0.0) == []
    assert [each.text for each in view.tick(1.0)] == ['PINGREQ client_id=""']


def test_no_device_controls_the_terminal() -> None:
    (line,) = texts("text", b"boot \x1b[31m\x07\n")
    assert line.isprintable()
    (line,) = texts("mqtt-sn", encode(Publish(Flags(), 1, 0, "\x1b]0;x\x07\u202e".encode())))
    assert line.isprintable()


@given(st.sampled_from(MODES), st.lists(st.binary(max_size=50), max_size=12))
def test_no_noise_raises_and_all_lines_are_printable(mode: str, chunks: list[bytes]) -> None:
    view: View = view_of(mode)
    lines = []
    for number, chunk in enumerate(chunk for chunk in chunks if chunk):
        for way in Way:
            lines += view.see(way, chunk, float(number))
        lines += view.tick(float(number))
    assert all(line.text.isprintable() for line in lines)
