"""The conversations of every device with real firmware: the C client in emulated microcontrollers,
on a paced wire, in real time.

With HIL_DEVICE=/dev/ttyUSB0 in the environment (`make hil`) the same goes over a real port, with
firmware that was flashed; HIL_NAME is the name it was built with.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from firmware_sim.emulator import EmulatedEnd, Emulator
from firmware_sim.faults import errors
from firmware_sim.images import PARTS, check_image
from firmware_sim.uart import LaneSettings
from firmware_sim.worlds import RealWorld
from tests.support.device_conversations import (
    IMAGE_TALKS,
    TALKS,
    on_a_bad_wire_everything_comes_once,
)
from tests.support.device_site import Conversation, Site
from tests.support.mcu import built

PATIENCE = 30  # seconds for each step of a conversation
DEVICES = {"avr": ("atmega328p", 512), "lm3s": ("lm3s6965", 32_768)}  # name: part, its shelf
SMALL = ("atmega328p", 0)
BAD = LaneSettings(faults=errors(1 / 200))


async def hold(site: Site, talk: Conversation, end: EmulatedEnd) -> None:
    """Go through a conversation."""
    changed = asyncio.Event()
    site.changed = changed.set
    if not site.ups():
        site.begin()
    for step, condition in enumerate(talk(site)):
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            pytest.fail(f"step {step} does not come; {end.failure or 'the emulator runs'}")


async def emulate(name: str, *talks: Conversation, **arguments: Any) -> bytes:
    """A controller in QEMU, at the end of a wire; its RAM after that."""
    part, shelf = DEVICES.get(name, SMALL)
    loop = asyncio.get_running_loop()
    world = RealWorld(loop)
    with Emulator(built(name, f"{name}.elf"), PARTS[part]) as emulator:
        end = EmulatedEnd(emulator, loop)
        site = Site(world, end, name, shelf, min(shelf, 4000), **arguments)
        end.wake = site.wake
        try:
            for talk in talks:
                await hold(site, talk, end)
            return emulator.memory(PARTS[part].ram_at, PARTS[part].ram)
        finally:
            world.close()
            end.close()


@pytest.mark.parametrize("talk", TALKS + IMAGE_TALKS, ids=lambda talk: talk.__name__)
@pytest.mark.parametrize("name", DEVICES)
async def test_an_emulated_device(name, talk):
    await emulate(name, talk)


async def test_publish_and_subscribe_with_sleep_need_512_bytes_of_ram_with_the_stack():
    ram = await emulate("small", TALKS[2], TALKS[4])
    untouched = max(len(run) for run in re.findall(rb"\xa5+", ram))
    assert len(ram) - untouched <= 512
    assert check_image(built("small", "small.elf"), PARTS["atmega328p"]).flash <= 8192


@pytest.mark.parametrize("name", DEVICES)
async def test_an_emulated_device_on_a_bad_wire(name):
    await emulate(name, on_a_bad_wire_everything_comes_once, lanes=(BAD, BAD))
