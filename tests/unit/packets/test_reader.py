"""The reader cuts any stream, however it is split, and holds no more than it was sent."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.packets.codes import ReasonCode
from broker.packets.primitives import decode_varint, encode_varint
from broker.packets.reader import LARGEST_PACKET, Reader

unhurried = settings(deadline=None)

# Lengths around every change in the number of length bytes but the last.
frames = st.tuples(
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 126, 127, 128, 129, 300, 16_383, 16_384, 20_000]),
).map(lambda made: bytes([made[0]]) + encode_varint(made[1]) + bytes(made[1]))


def cut_all(reader: Reader, chunks: list[bytes]) -> list[tuple[int, bytes]]:
    """Return (first byte, body) of every packet the reader finds in the chunks."""
    found = []
    for chunk in chunks:
        data, packets = reader.cut(chunk)
        found += [(first, data[pos:end]) for first, pos, end in packets]
    return found


def naive_cut(stream: bytes) -> list[tuple[int, bytes]]:
    """The reference: read one packet after the other from a complete stream."""
    found = []
    while stream:
        length, start = decode_varint(stream, 1, len(stream))
        if start + length > len(stream):
            break
        found.append((stream[0], stream[start : start + length]))
        stream = stream[start + length :]
    return found


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Cut the stream at these places, empty pieces included."""
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


@unhurried
@given(st.lists(frames, max_size=6), st.lists(st.integers(0, 60_000), max_size=12))
def test_any_split_of_a_stream_reads_the_same(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts)
    reader = Reader()
    assert cut_all(reader, split(stream, cuts)) == naive_cut(stream)
    assert reader.pending == 0
    assert reader.violation is None


@unhurried
@given(st.lists(frames.filter(lambda frame: len(frame) < 400), min_size=1, max_size=3))
def test_a_stream_byte_by_byte_reads_the_same(parts: list[bytes]) -> None:
    stream = b"".join(parts)
    assert cut_all(Reader(), [stream[i : i + 1] for i in range(len(stream))]) == naive_cut(stream)


@settings(unhurried, max_examples=300)
@given(
    st.binary(max_size=80),
    st.lists(st.integers(0, 80), max_size=8),
    st.integers(2, 40),
)
def test_any_bytes_in_any_split_are_cut_the_same_and_end_the_same(
    stream: bytes, cuts: list[int], maximum: int
) -> None:
    whole, pieces = Reader(maximum), Reader(maximum)
    assert cut_all(whole, [stream]) == cut_all(pieces, split(stream, cuts))
    assert str(whole.violation) == str(pieces.violation)
    if whole.violation is None:
        assert whole.pending == pieces.pending < max(maximum, 5)  # a fixed header has up to 5


def test_a_chunk_of_whole_packets_is_not_copied() -> None:
    chunk = b"\xc0\0\x30\3\0\1t\xc0\0"
    data, packets = Reader().cut(chunk)
    assert data is chunk
    assert packets == [(0xC0, 2, 2), (0x30, 4, 7), (0xC0, 9, 9)]


def test_an_empty_chunk_changes_nothing() -> None:
    reader = Reader()
    assert reader.cut(b"") == (b"", [])
    reader.cut(b"\x30\3\0")
    assert reader.cut(b"") == (b"", [])
    assert cut_all(reader, [b"\1t"]) == [(0x30, b"\0\1t")]


def test_the_packets_before_an_oversized_one_are_handed_out() -> None:
    reader = Reader(maximum_packet_size=10)
    data, packets = reader.cut(b"\xc0\0\x30\x09")
    assert packets == [(0xC0, 2, 2)]
    assert data[2:4] == b"\x30\x09"
    assert reader.violation is not None
    assert reader.violation.reason == ReasonCode.PACKET_TOO_LARGE


@pytest.mark.parametrize(
    ("maximum", "header", "allowed"),
    [
        (10, b"\x30\x08", True),
        (10, b"\x30\x09", False),
        (129, b"\x30\x7f", True),
        (130, b"\x30\x80\x01", False),
        (131, b"\x30\x80\x01", True),
        (LARGEST_PACKET, b"\x30\xff\xff\xff\x7f", True),
        (LARGEST_PACKET - 1, b"\x30\xff\xff\xff\x7f", False),
    ],
)
def test_the_limit_counts_the_whole_packet_and_needs_no_body(
    maximum: int, header: bytes, allowed: bool
) -> None:
    reader = Reader(maximum)
    assert cut_all(reader, [header]) == []
    assert (reader.violation is None) == allowed
    assert reader.pending == (len(header) if allowed else 0)


@pytest.mark.parametrize("stream", [b"\xc0\x80\x80\x80\x80", b"\xc0\xff\xff\xff\xff\x7f"])
def test_a_length_of_five_bytes_is_malformed_as_soon_as_it_is_seen(stream: bytes) -> None:
    reader = Reader()
    assert cut_all(reader, [b"\xc0\0" + stream]) == [(0xC0, b"")]
    assert reader.violation is not None
    assert reader.violation.reason == ReasonCode.MALFORMED_PACKET


def test_a_limit_lowered_between_chunks_holds_from_the_next_packet() -> None:
    reader = Reader()
    assert cut_all(reader, [b"\x30\x05hello"]) == [(0x30, b"hello")]
    reader.maximum_packet_size = 6
    assert cut_all(reader, [b"\x30\x05hello"]) == []
    assert reader.violation is not None


def test_nothing_is_cut_and_nothing_held_after_a_violation() -> None:
    reader = Reader(maximum_packet_size=4)
    reader.cut(b"\x30\x7f")
    first = reader.violation
    for _ in range(3):
        assert reader.cut(b"\xc0\0" * 1000) == (b"", [])
    assert reader.pending == 0
    assert reader.violation is first


def test_a_large_packet_in_small_pieces_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = Reader._long_length

    def counted(self: Reader, data: bytes, pos: int, size: int) -> tuple[int, int]:
        looks.append(size)
        return look(self, data, pos, size)

    monkeypatch.setattr(Reader, "_long_length", counted)
    reader = Reader()
    frame = b"\x30" + encode_varint(50_000) + bytes(50_000)
    found = cut_all(reader, [frame[i : i + 1] for i in range(len(frame))])
    assert found == [(0x30, bytes(50_000))]
    assert len(looks) <= 5  # while the length itself arrives, and once at the end
