"""The header of a frame, two bytes, and the HELLO.

    byte 0   channel (3 bits) | reliable (1) | credit (4)
    byte 1   sequence, or the kind of a control frame (4) | acknowledgement (4)

A HELLO always begins 00 10; only it is sealed without a session.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

VERSION: Final = 1
SEQUENCES: Final = 16  # twice the largest window: no frame is taken for an older one
LARGEST_WINDOW: Final = 8
RELIABLE: Final = 0x10  # in byte 0
HELLO_HEADER: Final = b"\x00\x10"
HEADER_SIZE: Final = 2
SMALLEST_PAYLOAD_LIMIT: Final = 48  # a HELLO with all its fields fits
LARGEST_PAYLOAD: Final = 65_535
LONGEST_NAME: Final = 16  # bytes of uid and firmware

_HELLO: Final = Struct(">BBHHBBHHH")
_IS_OPEN, _IS_USED = 0x01, 0x02  # in the flags of a HELLO


class Channel(IntEnum):
    """What a frame carries."""

    LINK = 0  # ACK, HELLO, NAK
    MQTT_SN = 1  # one MQTT-SN packet
    LOG = 2  # lines of the device's log
    TIME = 3
    FILES = 4
    RAW = 5  # whatever the two ends agreed on


class Control(IntEnum):
    """The kinds of frames on channel 0."""

    ACK = 0
    HELLO = 1
    NAK = 2  # an ACK that says: something came damaged


class Capability(IntFlag):
    """What a peer can do beyond the least."""

    NONE = 0
    CRC_32 = 0x01  # checks every frame with CRC-32, if the other can as well
    TIME = 0x02
    FILES = 0x04
    LOG = 0x08
    SLEEPS = 0x10  # is silent for long: do not ask whether it is still there


@dataclass(frozen=True, slots=True)
class Hello:
    """Who one end is, and what it takes. `mine` is its nonce, `yours` the other's as it knows."""

    mine: int
    yours: int = 0  # 0: not known yet
    is_open: bool = False  # needs no answer
    is_used: bool = False  # the other has spoken in this session
    capabilities: Capability = Capability.NONE
    window: int = 1
    payload_limit: int = SMALLEST_PAYLOAD_LIMIT
    buffer: int = 0  # bytes on the wire that may be unacknowledged; 0: the window is enough
    baud: int = 0  # bit/s, the fastest its port can; 0: not said
    uid: bytes = b""
    firmware: str = ""
    version: int = VERSION


def encode_hello(hello: Hello) -> bytes:
    """Return the body of a HELLO, its header included."""
    firmware = hello.firmware.encode()
    if len(firmware) > LONGEST_NAME or len(hello.uid) > LONGEST_NAME:
        raise ValueError(f"a uid and a firmware version have at most {LONGEST_NAME} bytes")
    return b"".join(
        (
            HELLO_HEADER,
            _HELLO.pack(
                hello.version,
                _IS_OPEN * hello.is_open | _IS_USED * hello.is_used,
                hello.mine,
                hello.yours,
                hello.capabilities,
                hello.window,
                hello.payload_limit,
                hello.buffer,
                min(hello.baud // 100, 0xFFFF),
            ),
            bytes((len(hello.uid),)),
            hello.uid,
            bytes((len(firmware),)),
            firmware,
        )
    )


def decode_hello(body: bytes) -> Hello | None:
    """Return the HELLO, or None if it is not one; bytes after its last field are passed over."""
    start = HEADER_SIZE + _HELLO.size
    if len(body) < start + 2:
        return None
    version, flags, mine, yours, able, window, limit, buffer, baud = _HELLO.unpack_from(
        body, HEADER_SIZE
    )
    names = _names(body, start)
    if names is None or not version or not mine:
        return None
    if not 1 <= window <= LARGEST_WINDOW or limit < SMALLEST_PAYLOAD_LIMIT:
        return None
    known = Capability(able & 0x1F)
    is_open, is_used = bool(flags & _IS_OPEN), bool(flags & _IS_USED)
    return Hello(
        mine,
        yours,
        is_open,
        is_used,
        known,
        window,
        limit,
        buffer,
        baud * 100,
        *names,
        version=version,
    )


def _names(body: bytes, pos: int) -> tuple[bytes, str] | None:
    names = []
    for _ in range(2):
        if pos >= len(body):
            return None
        end = pos + 1 + body[pos]
        if body[pos] > LONGEST_NAME or end > len(body):
            return None
        names.append(body[pos + 1 : end])
        pos = end
    return names[0], names[1].decode(errors="replace")
