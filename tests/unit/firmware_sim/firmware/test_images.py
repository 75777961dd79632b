"""Firmware images: what fits is told its size, what does not is refused with a sentence."""

from struct import pack

import pytest

from firmware_sim.firmware.images import PARTS, ImageError, Sizes, check_image

AVR, LM3S = PARTS["atmega328p"], PARTS["lm3s6965"]


def elf(*segments, machine=83, bits=1):
    """An ELF file with (address, load address, bytes in the file, bytes in memory) to load."""
    ident = b"\x7fELF" + bytes((bits, 1, 1)) + bytes(9)
    header = pack(
        "<16sHHIIIIIHHHHHH", ident, 2, machine, 1, 0, 52, 0, 0, 52, 32, len(segments), 0, 0, 0
    )
    heads = [pack("<8I", 1, 0, at, load, size, memory, 7, 1) for at, load, size, memory in segments]
    return header + b"".join(heads)


def check(tmp_path, data, part=AVR):
    path = tmp_path / "x.elf"
    path.write_bytes(data)
    return check_image(path, part)


def test_what_fits_is_told_its_size(tmp_path):
    flash, data, bss = (0, 0, 1000, 1000), (0x80_0100, 1000, 24, 24), (0x80_0118, 0x80_0118, 0, 76)
    assert check(tmp_path, elf(flash, data, bss)) == Sizes(1024, 100)


def test_what_an_image_puts_into_the_eeprom_takes_no_flash_and_no_ram(tmp_path):
    assert check(tmp_path, elf((0, 0, 1000, 1000), (0x81_0000, 0x81_0000, 4, 4))) == Sizes(1000, 0)


def test_all_of_the_flash_and_all_of_the_ram_may_be_taken(tmp_path):
    assert check(tmp_path, elf((0, 0, 32_768, 32_768), (0x80_0100, 0, 0, 2048))) == Sizes(
        32_768, 2048
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (elf((0, 0, 32_769, 32_769)), "takes 32769 bytes of flash, the atmega328p has 32768"),
        (
            elf((0, 0, 8, 8), (0x80_0100, 8, 0, 2049)),
            "takes 2049 bytes of RAM, the atmega328p has 2048",
        ),
        (elf((0, 0, 8, 8), machine=40), "is made for ARM, the atmega328p is an AVR"),
        (elf((0, 0, 8, 8), machine=999), "is made for machine 999, the atmega328p is an AVR"),
        (elf((0, 0, 8, 8), bits=2), "is an ELF file for another kind of machine"),
        (elf(), "has nothing to load: link it first"),
        (elf((0, 0, 8, 8))[:60], "is a damaged ELF file: it ends too early"),
        (b"\x7fELF\x01\x01", "is a damaged ELF file"),
        (b":100000000C9434000C943E00", "is no ELF file; a .hex or .bin has no addresses"),
        (b"", "is no ELF file"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, data, sentence):
    with pytest.raises(ImageError, match=sentence):
        check(tmp_path, data)


def test_an_image_for_avr_is_not_for_arm(tmp_path):
    with pytest.raises(ImageError, match="is made for AVR, the lm3s6965 is an ARM"):
        check(tmp_path, elf((0, 0, 8, 8)), LM3S)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.elf: cannot be read: No such file"):
        check_image(tmp_path / "nowhere.elf", AVR)
