"""What a third party can know of frames."""

from __future__ import annotations

import random
from binascii import crc_hqx
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.serial.crc import seal_between
from bridges.serial.frames import Capability, Channel
from bridges.serial.link import Link, LinkSettings
from bridges.serial.overhearing import (
    Check,
    Overhearing,
    Way,
    start_of_crc_16,
    start_of_crc_32,
)

if TYPE_CHECKING:
    from bridges.serial.events import Event

Said = list[tuple[Way, bytes]]


def talk(capabilities: Capability) -> Said:
    """A device and a gateway meet and exchange messages; all that went over the wire."""
    ends = {
        Way.FROM_DEVICE: Link(LinkSettings(capabilities=capabilities), random.Random(1)),
        Way.TO_DEVICE: Link(LinkSettings(), random.Random(2)),
    }
    said: Said = []
    for link in ends.values():
        link.plugged(0.0)

    def exchange() -> list[Event]:
        events: list[Event] = []
        for way in (*Way, *Way, *Way):
            data = ends[way].data_to_send()
            if data:
                said.append((way, data))
                events += ends[way.other].receive(data, 1.0)
        return events

    exchange()
    for number in range(6):
        ends[Way.FROM_DEVICE].send(Channel.RAW, b"up %d" % number, 1.0)
        ends[Way.TO_DEVICE].send(Channel.RAW, b"down %d" % number, 1.0)
        exchange()
    return said


def overheard(said: Said) -> list[Check]:
    ear = Overhearing()
    return [heard.check for way, data in said for heard in ear.receive(way, data)]


@pytest.mark.parametrize("capabilities", [Capability.NONE, Capability.CRC_32])
def test_from_the_first_hello_on_every_check_is_known(capabilities: Capability) -> None:
    checks = overheard(talk(capabilities))
    assert len(checks) > 12
    assert set(checks) == {Check.SOUND}


@pytest.mark.parametrize("capabilities", [Capability.NONE, Capability.CRC_32])
def test_one_direction_is_enough_when_its_hello_names_both(capabilities: Capability) -> None:
    said = [each for each in talk(capabilities) if each[0] is Way.FROM_DEVICE]
    assert set(overheard(said)) == {Check.SOUND}


@pytest.mark.parametrize("capabilities", [Capability.NONE, Capability.CRC_32])
def test_who_comes_late_knows_from_the_second_frame_of_a_direction_on(
    capabilities: Capability,
) -> None:
    said = [each for each in talk(capabilities)[4:] if each[0] is Way.FROM_DEVICE]
    checks = overheard(said)
    assert checks[0] is Check.UNKNOWN
    assert set(checks[1:]) == {Check.SOUND}


@pytest.mark.parametrize("late", [0, 4])
def test_damage_is_seen_and_forgotten(late: int) -> None:
    said = talk(Capability.NONE)[late:]
    way, data = said[8]
    said[8] = way, data[:3] + bytes((data[3] ^ 0x40 or 1,)) + data[4:]
    checks = overheard(said)
    assert checks.count(Check.DAMAGED) == 1
    assert checks[8] is Check.DAMAGED
    assert set(checks[9:]) == {Check.SOUND}


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_noise_raises(chunks: list[bytes]) -> None:
    ear = Overhearing()
    for chunk in chunks:
        for way in Way:
            ear.receive(way, chunk + b"\0")


@given(st.integers(1, 0xFFFF), st.integers(1, 0xFFFF), st.binary(min_size=2, max_size=300))
def test_the_start_of_a_check_is_reckoned_back(mine: int, yours: int, body: bytes) -> None:
    prefix = mine.to_bytes(2, "big") + yours.to_bytes(2, "big")
    strong = seal_between(mine, yours, True).close(body)
    assert start_of_crc_32(strong) == crc32(prefix)
    if len(body) <= 256:
        plain = seal_between(mine, yours, False).close(body)
        assert start_of_crc_16(plain) == crc_hqx(prefix, 0xFFFF)
