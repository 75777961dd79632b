"""The emulator itself: it begins, is reset, ends, and never outlives us."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firmware_sim import command_emulate
from firmware_sim.firmware.emulator import Emulator, EmulatorError
from firmware_sim.firmware.images import PARTS, ImageError
from firmware_sim.firmware.port import emulated_port
from tests.support.mcu import built

PATIENCE = 30  # seconds
HELLO = b"\0\x01\x03\x10\x01"  # how one begins on the wire
PARTS_AND_FILES = [("atmega328p", "avr"), ("arduino-uno", "avr"), ("lm3s6965", "lm3s")]

OWNER = """
import sys, time
from pathlib import Path
from firmware_sim import command_emulate
from firmware_sim.firmware.port import emulated_port
from firmware_sim.firmware.emulator import Emulator
from firmware_sim.firmware.images import PARTS
emulator = Emulator(Path(sys.argv[1]), PARTS["lm3s6965"])
emulator.run()
print(emulator.pid, flush=True)
time.sleep(600)
"""


def nonce(emulator):
    """Of the next HELLO of its UART, as it is on the wire."""
    data = b""
    while len(data) < data.find(HELLO) + len(HELLO) + 4 or HELLO not in data:
        assert select.select([emulator], [], [], PATIENCE)[0], "it says nothing"
        new = emulator.read()
        assert new is not None, emulator.last_words()
        data += new
    return data.partition(HELLO)[2][:4]


@pytest.mark.parametrize(("part", "name"), PARTS_AND_FILES)
def test_it_stands_still_until_it_runs_and_begins_anew_when_it_is_reset(part, name):
    built("simavr", "simavr-run")
    with Emulator(built(name, f"{name}.elf"), PARTS[part]) as emulator:
        assert emulator.read() == b""
        emulator.run()
        first = nonce(emulator)
        emulator.reset()
        second = nonce(emulator)
        for _ in range(5):
            if second == first:  # said before the reset
                second = nonce(emulator)
    assert second != first  # its RAM was kept, so it knows that it has started before


def test_it_does_not_outlive_its_owner():
    image = built("lm3s", "lm3s.elf")
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, image], stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        supervisor = os.pidfd_open(int(owner.stdout.readline()))
        owner.send_signal(signal.SIGKILL)
        try:
            assert select.select([supervisor], [], [], PATIENCE)[0], "the emulator lives"
        finally:
            os.close(supervisor)


def test_one_that_ends_says_why(tmp_path):
    with Emulator(built("lm3s", "lm3s.elf"), PARTS["lm3s6965"]) as emulator:
        emulator.quit()
        with pytest.raises(EmulatorError, match="the emulator has ended"):
            emulator.run()
        assert select.select([emulator], [], [], PATIENCE)[0]
        assert emulator.read() is None


def test_a_missing_emulator_names_its_package(monkeypatch):
    image = built("avr", "avr.elf")
    monkeypatch.setattr(shutil, "which", lambda command: None)
    with pytest.raises(
        EmulatorError, match=r"qemu-system-avr is missing.*install .*qemu-system-misc"
    ):
        Emulator(image, PARTS["atmega328p"])


def test_a_missing_simavr_says_how_to_build_it(monkeypatch):
    image = built("avr", "avr.elf")
    monkeypatch.setattr(shutil, "which", lambda command: None)
    with pytest.raises(EmulatorError, match=r"libsimavr-dev && make -C .*/mcu simavr"):
        Emulator(image, PARTS["arduino-uno"])


def test_an_image_for_another_part_does_not_start():
    with pytest.raises(ImageError, match="is made for AVR"):
        Emulator(built("avr", "avr.elf"), PARTS["lm3s6965"])


def test_a_missing_compiler_names_its_package():
    folder = Path(__file__).parents[2] / "firmware_sim" / "mcu"
    made = subprocess.run(
        ["make", "-C", folder, "-B", "avr", "AVR=no-such-gcc"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode != 0
    assert "no-such-gcc is missing; install it with: sudo apt-get install" in made.stderr


async def test_a_port_whose_emulator_ends_says_so(tmp_path):
    image, part = built("lm3s", "lm3s.elf"), PARTS["lm3s6965"]
    async with asyncio.timeout(PATIENCE), emulated_port(image, part, tmp_path / "tty") as port:
        assert port.path.exists()
        port.emulator.quit()
        assert "the emulator has ended" in await port.ended()
    assert not port.path.exists()


def test_the_command_ends_with_a_signal_and_leaves_nothing(tmp_path):
    image, path = built("lm3s", "lm3s.elf"), tmp_path / "ttyEMU"
    command = [sys.executable, "-m", "firmware_sim.command_emulate", image, "--part", "lm3s6965"]
    with subprocess.Popen([*command, "--port", path], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert f"runs on an emulated lm3s6965 behind {path}" in run.stdout.readline()
        run.terminate()
        assert run.wait(PATIENCE) == 0
    assert not path.is_symlink()


def test_the_command_refuses_what_it_cannot_run(tmp_path, capsys):
    image = tmp_path / "blink.hex"
    image.write_text(":100000000C9434000C943E00")
    assert command_emulate.main([str(image)]) == 1
    assert "is no ELF file" in capsys.readouterr().err
