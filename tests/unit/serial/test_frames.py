"""HELLO: what it says comes back, and what cannot be is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.serial.crc import Seal
from bridges.serial.frames import (
    HELLO_HEADER,
    LONGEST_NAME,
    SMALLEST_PAYLOAD_LIMIT,
    Capability,
    Hello,
    decode_hello,
    encode_hello,
)
from bridges.serial.framing import wrap

FULL = Hello(
    mine=0x1234,
    yours=0xABCD,
    is_open=True,
    capabilities=Capability.CRC_32 | Capability.SLEEPS,
    window=8,
    payload_limit=1024,
    buffer=512,
    baud=115_200,
    uid=b"0123456789abcdef",
    firmware="v1.2.3-rc1+abcde",
)
words = st.integers(0, 0xFFFF)
hellos = st.builds(
    Hello,
    mine=st.integers(1, 0xFFFF),
    yours=words,
    is_open=st.booleans(),
    capabilities=st.integers(0, 31).map(Capability),
    window=st.integers(1, 8),
    payload_limit=st.integers(SMALLEST_PAYLOAD_LIMIT, 0xFFFF),
    buffer=words,
    baud=words.map(lambda hundreds: hundreds * 100),
    uid=st.binary(max_size=LONGEST_NAME),
    firmware=st.text("abc.0-9", max_size=LONGEST_NAME),
    version=st.integers(1, 255),
)


@given(hellos)
def test_a_hello_comes_back(hello: Hello) -> None:
    body = encode_hello(hello)
    assert body.startswith(HELLO_HEADER)
    assert decode_hello(body) == hello
    assert decode_hello(body + b"a later version adds") == hello


def test_a_truncated_hello_is_none() -> None:
    body = encode_hello(FULL)
    assert all(decode_hello(body[:end]) is None for end in range(len(body)))


@given(st.binary(max_size=80))
def test_any_bytes_are_a_hello_or_none(data: bytes) -> None:
    hello = decode_hello(HELLO_HEADER + data)
    assert hello is None or 1 <= hello.window <= 8


@pytest.mark.parametrize(
    ("at", "value"),
    [(0, "00"), (2, "0000"), (7, "00"), (7, "09"), (8, "002f"), (14, "11")],
    ids=["version 0", "nonce 0", "window 0", "window 9", "payload limit 47", "uid of 17 bytes"],
)
def test_what_cannot_be_is_no_hello(at: int, value: str) -> None:
    body = bytearray(encode_hello(FULL))
    raw = bytes.fromhex(value)
    body[2 + at : 2 + at + len(raw)] = raw
    assert decode_hello(bytes(body)) is None


def test_the_longest_hello_fits_a_buffer_of_64_bytes() -> None:
    assert len(b"\0" + wrap(Seal().close(encode_hello(FULL)))) <= 64


def test_names_that_are_too_long_are_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="at most 16"):
        encode_hello(Hello(1, firmware="seventeen letters"))
