"""Who a device with the fleet's firmware is, stamped into the finished image as a factory does it:
one image serves any number of devices.

Rule kept here: the fields are those of `mcu/firmware/identity.h`, in its order and sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

MARK: Final = b"HG-IDENTITY-OF:1"
LONGEST_NAME: Final = 16  # bytes
LONGEST_TOPIC: Final = 122  # bytes, that of commands included: what HG_PAYLOAD = 128 leaves
_BLOCK: Final = Struct(f"<16sIHHHBBB{LONGEST_NAME + 1}s{LONGEST_TOPIC + 1}s{LONGEST_TOPIC + 1}s")


@dataclass(frozen=True, slots=True)
class Identity:
    """One device. `every` in seconds; `command` "": it listens to none."""

    name: str
    topic: str
    every: float
    qos: int = 1
    keep_alive: int = 60
    is_clean: bool = True
    command: str = ""
    sleep: int = 0  # seconds that it says it is silent for; 0: it stays awake
    nonce: int = 1  # another one for each run: what an earlier one has left is not taken for ours


def stamped(image: bytes, identity: Identity) -> bytes:
    """The image of this device. Raises ValueError: it has no place for an identity, or several."""
    if image.count(MARK) != 1:
        raise ValueError("the image has no place for an identity")
    at = image.index(MARK)
    return image[:at] + _packed(identity) + image[at + _BLOCK.size :]


def _packed(identity: Identity) -> bytes:
    return _BLOCK.pack(
        MARK,
        round(identity.every * 1000),
        identity.keep_alive,
        identity.sleep,
        identity.nonce,
        identity.qos,
        identity.is_clean,
        bool(identity.command),
        _text(identity.name, LONGEST_NAME),
        _text(identity.topic, LONGEST_TOPIC),
        _text(identity.command, LONGEST_TOPIC),
    )


def _text(text: str, longest: int) -> bytes:
    data = text.encode()
    if len(data) > longest:
        raise ValueError(f'"{text}" is too long for the firmware: at most {longest} bytes')
    return data
