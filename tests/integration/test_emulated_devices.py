"""The conversations of every device with real firmware: the C client in emulated microcontrollers,
on a paced wire, in real time.

With HIL_DEVICE=/dev/ttyUSB0 in the environment (`make hil`) the same is talked through over a real
port, with the firmware of `firmware_sim/mcu` in a real controller; HIL_NAME is the one it was built
with, `avr` if nothing is said.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import serial

from firmware_sim.firmware.emulator import EmulatedEnd, Emulator
from firmware_sim.firmware.images import PARTS, check_image
from firmware_sim.wire.faults import errors
from firmware_sim.wire.uart import LaneSettings
from firmware_sim.wire.worlds import RealWorld
from tests.support.device_conversations import (
    IMAGE_TALKS,
    TALKS,
    Talk,
    on_a_bad_wire_everything_comes_once,
)
from tests.support.device_site import Conversation, Site
from tests.support.mcu import built
from tests.support.port_end import PortEnd, press_dtr

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
from struct import pack

PATIENCE = 30  # seconds for each step of a conversation
DEVICES = {  # its name, its part, its shelf
    "avr": ("avr", "atmega328p", 512),
    "uno": ("avr", "arduino-uno", 512),
    "lm3s": ("lm3s", "lm3s6965", 28_672),
    "small": ("small", "atmega328p", 0),
}
TALKERS = ["avr", "uno", "lm3s"]
RESETS_ITSELF = (  # the mark; at 256 bytes stack and entry; the code writes to AIRCR
    b"HGFW".ljust(256, b"\0")
    + pack("<II", 0x2000_8000, 0x2000_8141).ljust(64, b"\0")
    + pack("<4H2I", 0x4801, 0x4902, 0x6001, 0xE7FE, 0xE000_ED0C, 0x05FA_0004)
)
OPEN = LaneSettings(baud=0)  # the real one is slow enough
BAD = LaneSettings(faults=errors(1 / 200))


async def hold(site: Site, talk: Conversation, end: EmulatedEnd | PortEnd) -> None:
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
            pytest.fail(f"step {step} does not come; {end.failure or 'the device runs'}")


async def emulate(device: str, *talks: Conversation, **arguments: Any) -> bytes:
    """A device of the table; its RAM after that."""
    name, part, shelf = DEVICES[device]
    image = built(name, f"{name}.elf")
    return await emulate_image(image, name, part, shelf, *talks, **arguments)


async def emulate_image(
    image: Path, name: str, part: str, shelf: int, *talks: Conversation, **arguments: Any
) -> bytes:
    """A controller in an emulator, at the end of a wire; its RAM after that."""
    loop = asyncio.get_running_loop()
    world = RealWorld(loop)
    built("simavr", "simavr-run")
    with Emulator(image, PARTS[part]) as emulator:
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


async def talk_to_hardware(talk: Conversation) -> None:
    """A controller at a real port."""
    world = RealWorld(asyncio.get_running_loop())
    with serial.Serial(os.environ["HIL_DEVICE"], 115_200, timeout=0) as port:
        end = PortEnd(port.fileno(), port.fileno(), lambda: press_dtr(port))
        name = os.environ.get("HIL_NAME", "avr")
        site = Site(world, end, name, DEVICES[name][2], 500, lanes=(OPEN, OPEN))
        end.wake = site.wake
        try:
            await hold(site, talk, end)
        finally:
            world.close()
            end.close()


HOLDERS = {name: partial(emulate, name) for name in TALKERS}
if "HIL_DEVICE" in os.environ:
    HOLDERS = {"hil": talk_to_hardware}


@pytest.mark.parametrize("talk", TALKS + IMAGE_TALKS, ids=lambda talk: talk.__name__)
@pytest.mark.parametrize("name", HOLDERS)
async def test_a_controller(name, talk):
    await HOLDERS[name](talk)


def it_runs_the_new_image(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    site.offer(built("lm3s", "lm3s-2.bin").read_bytes())
    yield lambda: site.progress()[-1:] == ["done"]
    for starts in range(2, 7):
        site.tell("reset")
        yield lambda starts=starts: len(site.ups()) == starts
        assert site.host.link.peer is not None
        assert site.host.link.peer.firmware == "2.0"
    site.tell("say2 all is well")
    yield lambda: site.has_said("all is well")


def it_gives_up_an_image_that_never_comes_up(site: Site) -> Talk:
    yield lambda: bool(site.ups())
    site.offer(RESETS_ITSELF)
    yield lambda: site.progress()[-1:] == ["done"]
    site.tell("reset")
    yield lambda: len(site.ups()) == 2
    assert site.host.link.peer is not None
    assert site.host.link.peer.firmware == "1.0"


@pytest.mark.parametrize("talk", [it_runs_the_new_image, it_gives_up_an_image_that_never_comes_up])
async def test_a_controller_with_a_new_image(talk):
    await emulate("lm3s", talk)


async def test_the_sketch_with_arduinos_own_core_publishes_readings():
    sketch = built("sketches", "Reading.elf")
    await emulate_image(sketch, "uno", "arduino-uno", 0, a_reading_comes)


async def test_the_first_sketch_prints_its_line():
    with Emulator(built("sketches", "Println.elf"), PARTS["arduino-uno"]) as emulator:
        emulator.run()
        end, line = EmulatedEnd(emulator, asyncio.get_running_loop()), b""
        heard = asyncio.Event()
        end.wake = heard.set
        async with asyncio.timeout(PATIENCE):
            while not line.endswith(b"\n"):
                await heard.wait()
                heard.clear()
                line += end.data_to_send()
        end.close()
    assert line == b"temp/1 21.5\r\n"


async def test_the_sketch_for_arduino_publishes_readings():
    world = RealWorld(asyncio.get_running_loop())
    with running(built("examples", "Reading")) as (source, sink):
        end = PortEnd(source, sink)
        site = Site(world, end, "uno")
        end.wake = site.wake
        try:
            await hold(site, a_reading_comes, end)
        finally:
            world.close()
            end.close()


@contextmanager
def running(command: Path) -> Generator[tuple[int, int]]:
    """A process; the descriptors of its output and its input."""
    with subprocess.Popen([command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.fileno(), process.stdin.fileno()
        finally:
            process.kill()


def a_reading_comes(site: Site) -> Talk:
    yield lambda: bool(site.messages("reading"))
    assert 0 <= int(site.messages("reading")[0].payload) <= 1023
    site.broker.publish("plant/uno/led", b"1", 1)
    site.wake()
    assert site.unanswered() == 1
    yield lambda: site.unanswered() == 0


async def test_publish_and_subscribe_with_sleep_need_512_bytes_of_ram_with_the_stack():
    ram = await emulate("small", TALKS[2], TALKS[4])
    untouched = max(len(run) for run in re.findall(rb"\xa5+", ram))
    assert len(ram) - untouched <= 512
    assert check_image(built("small", "small.elf"), PARTS["atmega328p"]).flash <= 8192


@pytest.mark.parametrize("name", TALKERS)
async def test_a_controller_on_a_bad_wire(name):
    await emulate(name, on_a_bad_wire_everything_comes_once, lanes=(BAD, BAD))


def test_hostile_bytes_are_withstood_under_sanitizers():
    fuzz = built("build/fuzz", "fuzz")
    run = subprocess.run([fuzz, "1", "1"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
