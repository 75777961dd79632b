"""COBS, the seal, the cutting of a stream: whatever comes, only sound frames get through."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.serial import cobs
from bridges.serial.crc import LONGEST_WITH_CRC_16, Seal, seal_between
from bridges.serial.framing import Deframer, longest_on_wire, wrap

# From the paper, and around each edge of its groups.
VECTORS = [
    ("", "01"),
    ("00", "0101"),
    ("0000", "010101"),
    ("001100", "01021101"),
    ("11220033", "0311220233"),
    ("11223344", "0511223344"),
    ("11000000", "0211010101"),
    ("01" * 253, "fe" + "01" * 253),
    ("01" * 254, "ff" + "01" * 254 + "01"),
    ("01" * 255, "ff" + "01" * 254 + "0201"),
    ("00" + "01" * 254, "01ff" + "01" * 254 + "01"),
    ("01" * 254 + "00", "ff" + "01" * 254 + "0101"),
]
bodies = st.one_of(
    st.binary(max_size=40),
    st.lists(st.sampled_from([b"\0", b"\1", b"\xff" * 253, b"\xff" * 254, b"ab" * 130])).map(
        b"".join
    ),
)


@pytest.mark.parametrize(("plain", "encoded"), VECTORS)
def test_cobs_is_as_published(plain: str, encoded: str) -> None:
    assert cobs.encode(bytes.fromhex(plain)).hex() == encoded
    assert cobs.decode(bytes.fromhex(encoded)) == bytes.fromhex(plain)


def test_a_last_full_group_may_stand_alone() -> None:
    assert cobs.decode(b"\xff" + b"x" * 254) == b"x" * 254


@given(bodies)
def test_cobs_comes_back_has_no_zero_and_costs_little(body: bytes) -> None:
    encoded = cobs.encode(body)
    assert 0 not in encoded
    assert len(encoded) + 1 <= longest_on_wire(len(body))
    assert cobs.decode(encoded) == body


@given(st.binary(max_size=300))
def test_any_bytes_decode_to_something_shorter_or_nothing(data: bytes) -> None:
    decoded = cobs.decode(data)
    assert decoded is None or len(decoded) <= len(data)


@pytest.mark.parametrize("encoded", ["00", "02", "0511", "0101ff", "021105"])
def test_a_code_that_leads_beyond_the_end_is_no_encoding(encoded: str) -> None:
    assert cobs.decode(bytes.fromhex(encoded)) is None


# -- the seal -------------------------------------------------------------------------------------


def test_the_checks_are_the_catalogued_ones() -> None:
    assert Seal().close(b"123456789")[9:].hex() == "d64e"  # CRC-16/GENIBUS
    assert Seal(is_strong=True).close(b"123456789")[9:].hex() == "cbf43926"  # CRC-32/ISO-HDLC


@pytest.mark.parametrize("size", [2, LONGEST_WITH_CRC_16, LONGEST_WITH_CRC_16 + 1, 2000])
@pytest.mark.parametrize("is_strong", [False, True])
def test_a_seal_opens_what_it_closed_and_nothing_shorter(size: int, is_strong: bool) -> None:
    seal = seal_between(1, 2, is_strong)
    body = bytes(range(256)) * 8
    data = seal.close(body[:size])
    assert len(data) - size == (4 if is_strong or size > LONGEST_WITH_CRC_16 else 2)
    assert seal.open(data) == body[:size]
    for end in range(min(len(data), 300)):
        assert seal.open(data[:end]) is None


@pytest.mark.parametrize("is_strong", [False, True])
def test_every_change_of_two_neighbouring_bytes_is_noticed(is_strong: bool) -> None:
    seal = seal_between(7, 9, is_strong)
    data = seal.close(b"\x31\x20a reading of twenty")
    for at in range(len(data) - 1):
        for change in (0x0001, 0x0100, 0x0180, 0x8001, 0xFFFF, 0x1021):
            changed = int.from_bytes(data[at : at + 2], "big") ^ change
            assert seal.open(data[:at] + changed.to_bytes(2, "big") + data[at + 2 :]) is None


@pytest.mark.parametrize("is_strong", [False, True])
def test_zeros_after_a_frame_are_noticed(is_strong: bool) -> None:
    # One doubled byte can do that: if the last byte of the check is 01, COBS reads the second one
    # as a code.
    seal = seal_between(7, 9, is_strong)
    for number in range(600):
        data = seal.close(b"\x31\x20" + number.to_bytes(2, "big"))
        assert seal.open(data + b"\0") is None
        assert seal.open(data + b"\0\0") is None
        doubled = cobs.decode(cobs.encode(data) + data[-1:])
        assert doubled is None or seal.open(doubled) is None


def test_frames_of_other_sessions_and_the_other_direction_do_not_fit() -> None:
    ours = seal_between(1, 2, is_strong=False)
    data = ours.close(b"\x31\x20reading")
    for other in (
        seal_between(2, 1, False),
        seal_between(1, 3, False),
        seal_between(3, 2, False),
        Seal(),
    ):
        assert other.open(data) is None


# -- the stream -----------------------------------------------------------------------------------


def cut_all(deframer: Deframer, chunks: list[bytes]) -> list[bytes]:
    return [frame for chunk in chunks for frame in deframer.cut(chunk)]


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(0, 300)))
def test_any_split_of_a_stream_gives_the_same_frames(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(wrap(part) for part in parts)
    deframer = Deframer(100)
    found = cut_all(deframer, split(stream, cuts))
    assert [cobs.decode(frame) for frame in found] == parts
    assert deframer.pending == 0


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)), st.integers(1, 30))
def test_any_bytes_in_any_split_are_cut_the_same(
    stream: bytes, cuts: list[int], limit: int
) -> None:
    whole, pieces = Deframer(limit), Deframer(limit)
    assert cut_all(whole, [stream]) == cut_all(pieces, split(stream, cuts))
    assert whole.too_long == pieces.too_long
    assert whole.pending == pieces.pending <= limit


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(min_size=2, max_size=30))))
def test_garbage_between_frames_costs_no_frame_when_a_zero_goes_before(
    parts: list[tuple[bytes, bytes]],
) -> None:
    seal = seal_between(1, 2, is_strong=True)
    stream = b"".join(garbage + b"\0" + wrap(seal.close(body)) for garbage, body in parts)
    decoded = [cobs.decode(frame) for frame in Deframer(100).cut(stream)]
    opened = [seal.open(data) for data in decoded if data is not None]
    assert [body for body in opened if body is not None] == [body for _, body in parts]


@given(st.binary(min_size=1, max_size=50), st.integers(0, 60))
def test_a_truncated_frame_is_held_and_then_lost_alone(body: bytes, keep: int) -> None:
    seal = seal_between(1, 2, is_strong=True)
    frame = wrap(seal.close(body))
    piece = frame[: min(keep, len(frame) - 2)]
    deframer = Deframer(100)
    assert deframer.cut(piece) == []
    deframer.cut(b"\0")
    assert [cobs.decode(each) for each in deframer.cut(frame)] == [seal.close(body)]


def test_an_hour_of_noise_without_a_zero_is_not_held() -> None:
    deframer = Deframer(64)
    for _ in range(10_000):
        assert deframer.cut(b"\xff" * 50) == []
        assert deframer.pending <= 64
    assert deframer.too_long == 1
    assert deframer.cut(b"tail\0good\0") == [b"good"]
