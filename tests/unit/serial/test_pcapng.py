"""The file as another program reads it: written from the format's description alone."""

from __future__ import annotations

from io import BytesIO
from struct import unpack, unpack_from
from typing import NamedTuple

from bridges.serial.pcapng import HINT, PacketKind, PcapngWriter, ip_header


class Block(NamedTuple):
    kind: int
    body: bytes


def blocks(data: bytes) -> list[Block]:
    found, pos = [], 0
    while pos < len(data):
        kind, size = unpack_from("<II", data, pos)
        assert size % 4 == 0
        assert unpack_from("<I", data, pos + size - 4) == (size,)
        found.append(Block(kind, data[pos + 8 : pos + size - 4]))
        pos += size
    assert pos == len(data)
    return found


def options(data: bytes) -> dict[int, bytes]:
    found, pos = {}, 0
    while True:
        code, size = unpack_from("<HH", data, pos)
        if code == 0:
            assert pos + 4 == len(data)
            return found
        found[code] = data[pos + 4 : pos + 4 + size]
        pos += 4 + size + -size % 4


def packet(block: Block) -> tuple[int, int, bytes, dict[int, bytes]]:
    interface, high, low, size, original = unpack_from("<IIIII", block.body)
    assert (block.kind, size) == (6, original)
    end = 20 + size + -size % 4
    return interface, high << 32 | low, block.body[20 : 20 + size], options(block.body[end:])


def test_the_file_begins_with_a_section_and_both_interfaces() -> None:
    file = BytesIO()
    PcapngWriter(file)
    section, *interfaces = blocks(file.getvalue())
    assert section.kind == 0x0A0D0D0A
    assert unpack_from("<IHHq", section.body) == (0x1A2B3C4D, 1, 0, -1)
    assert [unpack_from("<H", each.body)[0] for each in interfaces] == [147, 228]
    assert [options(each.body[8:])[2] for each in interfaces] == [b"wire", b"packets"]


def test_a_frame_is_there_with_time_direction_damage_and_comment() -> None:
    file = BytesIO()
    writer = PcapngWriter(file)
    writer.wire(1_700_000_000.25, b"\1\2\3\0\5", is_outbound=False, comment="ACK ü")
    writer.wire(1.0, b"", is_outbound=True, is_damaged=True)
    first, second = map(packet, blocks(file.getvalue())[3:])
    assert first[:3] == (0, 1_700_000_000_250_000, b"\1\2\3\0\5")
    assert first[3] == {2: b"\1\0\0\0", 1: "ACK ü".encode()}
    assert unpack("<I", second[3][2]) == (0x0100_0002,)


def test_an_mqtt_sn_packet_has_headers_that_are_right() -> None:
    file = BytesIO()
    PcapngWriter(file).packet(0.0, PacketKind.MQTT_SN, b"\2\x16", is_outbound=True)
    interface, _, data, _ = packet(blocks(file.getvalue())[3])
    assert interface == 1
    assert unpack_from(">H", data, 2) == (len(data),)
    assert data[9] == 17
    assert folded_sum(data[:20]) == 0xFFFF
    assert unpack_from(">HHH", data, 20) == (1884, 1884, 10)
    assert data[28:] == b"\2\x16"


def test_mqtt_is_a_stream_whose_numbers_go_on() -> None:
    file = BytesIO()
    writer = PcapngWriter(file)
    for data, is_outbound in ((b"abc", False), (b"de", True), (b"f", False)):
        writer.packet(0.0, PacketKind.MQTT, data, is_outbound=is_outbound)
    heads = [unpack_from(">HHII", packet(each)[2], 20) for each in blocks(file.getvalue())[3:]]
    assert heads == [(50_000, 1883, 1, 1), (1883, 50_000, 1, 4), (50_000, 1883, 4, 3)]


def test_a_packet_that_is_too_long_for_its_headers_is_left_out() -> None:
    file = BytesIO()
    PcapngWriter(file).packet(0.0, PacketKind.MQTT_SN, bytes(65_535), is_outbound=True)
    assert len(blocks(file.getvalue())) == 3


def test_headers_of_both_directions_have_their_checksum() -> None:
    for is_outbound in (True, False):
        for size in (8, 1000, 65_515):
            assert folded_sum(ip_header(17, size, is_outbound)) == 0xFFFF


def test_people_are_told_how_to_read_it() -> None:
    assert "tshark -r x.pcapng" in HINT.format(file="x.pcapng")


def folded_sum(header: bytes) -> int:
    total = sum(unpack(f">{len(header) // 2}H", header))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
