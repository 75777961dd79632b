"""What is stamped into an image, and where."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from firmware_sim.firmware.identity import LONGEST_TOPIC, MARK, Identity, stamped
from tests.support.mcu import FOLDER, built

ONE = Identity(
    "grey-0001", "site/grey-0001", 0.5, 2, 300, False, "site/grey-0001/command", 60, 0xBEEF
)
IMAGES = [
    ("sensor-host", "sensor.so"),
    ("sensor-avr", "sensor-avr.elf"),
    ("sensor-lm3s", "sensor-lm3s.elf"),
]


@pytest.mark.parametrize(("target", "file"), IMAGES)
def test_every_image_has_one_place_and_nothing_else_is_changed(target: str, file: str) -> None:
    before = built(target, file).read_bytes()
    after = stamped(before, ONE)
    at = before.index(MARK)
    size = max(index for index in range(len(before)) if before[index] != after[index]) + 1 - at
    assert len(after) == len(before)
    assert after[:at] == before[:at]
    assert size < 300


def test_the_fields_are_where_the_firmware_looks_for_them() -> None:
    block = stamped(MARK + bytes(400), ONE)
    assert block[16:29] == bytes.fromhex("f4010000 2c01 3c00 efbe 02 00 01")
    assert block[29:46] == b"grey-0001".ljust(17, b"\0")
    assert block[46:169] == b"site/grey-0001".ljust(123, b"\0")
    assert block[169:292] == b"site/grey-0001/command".ljust(123, b"\0")
    assert stamped(block, replace(ONE, command=""))[28] == 0


def test_the_firmware_has_room_for_the_longest_topic() -> None:
    payload = re.search(r"SENSOR := -DHG_PAYLOAD=(\d+)", (FOLDER / "Makefile").read_text())
    assert payload is not None
    assert int(payload[1]) - 6 == LONGEST_TOPIC


def test_an_image_without_a_place_or_with_two_is_refused() -> None:
    for image in (b"", MARK + bytes(400) + MARK + bytes(400)):
        with pytest.raises(ValueError, match="has no place for an identity"):
            stamped(image, ONE)


@pytest.mark.parametrize(
    "identity", [replace(ONE, name="x" * 17), replace(ONE, topic="ä" * 62)], ids=["name", "topic"]
)
def test_what_is_too_long_is_refused(identity: Identity) -> None:
    with pytest.raises(ValueError, match="is too long for the firmware: at most"):
        stamped(MARK + bytes(400), identity)
