"""What a firmware image is made for: read from its ELF headers before an emulator gets it.

Rule kept here: an image that cannot run on the part is refused with a sentence that says why, not
by a controller that stands still.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

_MAGIC: Final = b"\x7fELF"
_CLASS_32, _LITTLE_ENDIAN, _LOAD = 1, 1, 1
_HEADER: Final = Struct("<16sHHIIIIIHHH")
_SEGMENT: Final = Struct("<IIIIIIII")
_MACHINES: Final = {
    3: "x86",
    8: "MIPS",
    40: "ARM",
    62: "x86-64",
    83: "AVR",
    183: "ARM64",
    243: "RISC-V",
}
_AVR, _AVR_EEPROM, _ANYWHERE = 83, 0x81_0000, 1 << 32  # where avr-gcc puts the EEPROM
_MCU: Final = Path(__file__).parents[1] / "mcu"
_MOST_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """A microcontroller: its memories in bytes, and who emulates it."""

    name: str
    machine: int  # e_machine of its images
    flash: int
    ram: int
    ram_at: int  # where RAM begins in an image's addresses
    emulator: str  # the command
    package: str  # Debian's, that has it
    arguments: tuple[str, ...]  # before the image
    can_reset: bool = True  # QEMU 7.2 resets all of an AVR but its CPU


PARTS: Final = {
    part.name: part
    for part in (
        Part(
            *("atmega328p", 83, 32 * 1024, 2048, 0x80_0100),
            *("qemu-system-avr", "qemu-system-misc", ("-M", "arduino-uno", "-bios"), False),
        ),
        Part(
            *("lm3s6965", 40, 256 * 1024, 64 * 1024, 0x2000_0000),
            *("qemu-system-arm", "qemu-system-arm", ("-M", "lm3s6965evb", "-kernel")),
        ),
        Part(
            *("arduino-uno", 83, 32 * 1024, 2048, 0x80_0100),
            *(str(_MCU / "build" / "simavr-run"), "libsimavr-dev", ()),
        ),
    )
}


class ImageError(ValueError):
    """The image does not run on the part; says what to do."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")


class Sizes(NamedTuple):
    """What an image takes, in bytes; the stack comes on top of `ram`."""

    flash: int
    ram: int


def check_image(path: Path, part: Part) -> Sizes:
    """Return what the image takes of the part's memories; ImageError if it does not fit."""
    data = _read(path)
    machine, segments = _parse(path, data)
    if machine != part.machine:
        is_for = _MACHINES.get(machine, f"machine {machine}")
        raise ImageError(
            path, f"is made for {is_for}, the {part.name} is an {_MACHINES[part.machine]}"
        )
    sizes = Sizes(*(_extent(segments, part, is_ram) for is_ram in (False, True)))
    for what, size, room in (("flash", sizes.flash, part.flash), ("RAM", sizes.ram, part.ram)):
        if size > room:
            raise ImageError(path, f"takes {size} bytes of {what}, the {part.name} has {room}")
    return sizes


class _Segment(NamedTuple):
    address: int
    load_address: int
    file_size: int
    memory_size: int


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ImageError(path, "is much too large for a microcontroller")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror}") from error


def _parse(path: Path, data: bytes) -> tuple[int, list[_Segment]]:
    """The machine, and what is to be loaded."""
    if not data.startswith(_MAGIC):
        hint = "; a .hex or .bin has no addresses, give the .elf it was made from"
        raise ImageError(path, f"is no ELF file{hint}")
    if data[4:6] != bytes((_CLASS_32, _LITTLE_ENDIAN)):
        raise ImageError(path, "is an ELF file for another kind of machine: 32 bits are needed")
    try:
        header = _HEADER.unpack_from(data)
        machine, offset, size, count = header[2], header[5], header[9], header[10]
        found = [_SEGMENT.unpack_from(data, offset + at * size) for at in range(count)]
    except struct.error as error:
        raise ImageError(path, "is a damaged ELF file: it ends too early") from error
    segments = [_Segment(s[2], s[3], s[4], s[5]) for s in found if s[0] == _LOAD]
    if not segments:
        raise ImageError(path, "has nothing to load: link it first")
    return machine, segments


def _extent(segments: list[_Segment], part: Part, is_ram: bool) -> int:
    """How far the image reaches into one of the memories. What is behind them (an AVR's EEPROM and
    fuses) is programmed on its own.
    """
    behind = _AVR_EEPROM if part.machine == _AVR else _ANYWHERE
    if is_ram:
        found = [s for s in segments if part.ram_at <= s.address < behind]
        ends = [s.address + s.memory_size - part.ram_at for s in found]
    else:
        found = [s for s in segments if s.load_address < behind]
        ends = [s.load_address + s.file_size for s in found if s.file_size]
    return max(ends, default=0)
