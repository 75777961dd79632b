"""Frames as a third party hears them, who does not know the session.

A check is made with the nonces of both ends. They are learnt from a HELLO that names both; without
one, the start of the check is reckoned back from a frame, and the next frame of the same direction
shows whether that was right. Until then the check is not known, and that is what is said.
A machine, like the others.
"""

from __future__ import annotations

from binascii import crc_hqx
from dataclasses import dataclass
from enum import Enum
from typing import Final
from zlib import crc32

from bridges.serial import cobs
from bridges.serial.crc import LONGEST_WITH_CRC_16, Seal, seal_between
from bridges.serial.frames import (
    HEADER_SIZE,
    HELLO_HEADER,
    LARGEST_PAYLOAD,
    Capability,
    Hello,
    decode_hello,
)
from bridges.serial.framing import Deframer, longest_on_wire

_LONGEST: Final = longest_on_wire(HEADER_SIZE + LARGEST_PAYLOAD + 4)
_PLAIN: Final = Seal()
_INVERTED_16, _INVERTED_32 = 0xFFFF, 0xFFFF_FFFF


class Way(Enum):
    """Which end spoke."""

    FROM_DEVICE = "<-"
    TO_DEVICE = "->"

    @property
    def other(self) -> Way:
        """The other end."""
        return Way.TO_DEVICE if self is Way.FROM_DEVICE else Way.FROM_DEVICE


class Check(Enum):
    """What is known of a frame."""

    SOUND = "sound"
    UNKNOWN = "check not known"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame. `wire` is COBS encoded, `body` header and payload, b"" if there is no telling."""

    wire: bytes
    body: bytes
    check: Check
    hello: Hello | None = None


class Overhearing:
    """Both directions of one wire, or only one of them."""

    def __init__(self) -> None:
        self._deframers = {way: Deframer(_LONGEST) for way in Way}
        self._nonces: dict[Way, int] = {}
        self._capabilities: dict[Way, Capability] = {}
        self._guesses: dict[Way, tuple[int, int]] = {}  # starts of CRC-16 and CRC-32
        self._confirmed: dict[Way, tuple[int, int]] = {}  # which of the two, and its value

    def receive(self, way: Way, data: bytes) -> list[Heard]:
        """Return the frames that are complete now."""
        return [self._open(way, frame) for frame in self._deframers[way].cut(data)]

    def _open(self, way: Way, wire: bytes) -> Heard:
        data = cobs.decode(wire)
        if data is None or len(data) < HEADER_SIZE + 2:
            return Heard(wire, b"", Check.DAMAGED)
        if data.startswith(HELLO_HEADER):
            return self._open_hello(way, wire, data)
        for seal in self._seals(way):
            if body := seal.open(data):
                return Heard(wire, body, Check.SOUND)
        if body := self._open_by_guess(way, data):
            return Heard(wire, body, Check.SOUND)
        is_known = len(self._nonces) == len(Way) or way in self._confirmed
        check = Check.DAMAGED if is_known else Check.UNKNOWN
        return Heard(wire, b"" if is_known else data[: -_check_size(data)], check)

    def _open_hello(self, way: Way, wire: bytes, data: bytes) -> Heard:
        body = _PLAIN.open(data)
        hello = decode_hello(body) if body else None
        if body is None or hello is None:
            return Heard(wire, b"", Check.DAMAGED)
        self._nonces[way] = hello.mine
        self._capabilities[way] = hello.capabilities
        self._nonces.pop(way.other, None)
        if hello.yours:
            self._nonces[way.other] = hello.yours
        self._guesses.clear()
        self._confirmed.clear()
        return Heard(wire, body, Check.SOUND, hello)

    def _seals(self, way: Way) -> list[Seal]:
        """The checks that a frame of this direction may have."""
        if len(self._nonces) < len(Way):
            return []
        sender, receiver = self._nonces[way], self._nonces[way.other]
        both = [
            Capability.CRC_32 in self._capabilities.get(each, Capability.CRC_32) for each in Way
        ]
        kinds = (True, False) if all(both) and len(self._capabilities) < len(Way) else (all(both),)
        return [seal_between(sender, receiver, is_strong) for is_strong in kinds]

    def _open_by_guess(self, way: Way, data: bytes) -> bytes | None:
        """Two frames that need the same start of their check are both sound."""
        before = self._guesses.get(way)
        guess = self._guesses[way] = (start_of_crc_16(data), start_of_crc_32(data))
        for kind, size in enumerate((2, 4)):
            start = (kind, guess[kind])
            if self._confirmed.get(way) == start or (before and before[kind] == guess[kind]):
                self._confirmed[way] = start
                return data[:-size]
        return None


def _check_size(data: bytes) -> int:
    """Guess: an MQTT-SN packet says how long it is."""
    left = len(data) - HEADER_SIZE - data[HEADER_SIZE]
    if left in {2, 4}:
        return left
    return 2 if len(data) <= LONGEST_WITH_CRC_16 + 2 else 4


# -- backwards through a CRC ----------------------------------------------------------------------


def _table_32() -> list[int]:
    """What one byte does to CRC-32, as zlib has it."""
    zero = crc32(b"\0", _INVERTED_32)  # of the state 0, inverted
    return [crc32(bytes((byte,)), _INVERTED_32) ^ zero for byte in range(256)]


_STEP_16: Final = [crc_hqx(bytes((byte,)), 0) for byte in range(256)]
_STEP_32: Final = _table_32()
_BACK_16: Final = {step & 0xFF: byte for byte, step in enumerate(_STEP_16)}
_BACK_32: Final = {step >> 24: byte for byte, step in enumerate(_STEP_32)}


def start_of_crc_16(data: bytes) -> int:
    """Return the one start with which the check at the end of `data` is right."""
    state = int.from_bytes(data[-2:], "big") ^ _INVERTED_16
    for byte in reversed(data[:-2]):
        index = _BACK_16[state & 0xFF]
        state = (state ^ _STEP_16[index]) >> 8 | (index ^ byte) << 8
    return state


def start_of_crc_32(data: bytes) -> int:
    """The same for CRC-32: the value that `zlib.crc32` begins with."""
    state = int.from_bytes(data[-4:], "big") ^ _INVERTED_32
    for byte in reversed(data[:-4]):
        index = _BACK_32[state >> 24]
        state = ((state ^ _STEP_32[index]) << 8 & _INVERTED_32) | (index ^ byte)
    return state ^ _INVERTED_32
