"""The client in C is built with every option, for every compiler there is, without a warning."""

import subprocess

import pytest

from tests.support.mcu import FOLDER

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror", "-fsyntax-only"]
COMPILERS = [
    ["gcc"],
    ["avr-gcc", "-mmcu=atmega328p", "-Os"],
    ["arm-none-eabi-gcc", "-mcpu=cortex-m3", "-mthumb"],
]
EVERYTHING = ["HG_FILES=1", "HG_TIME=1", "HG_LOG=1", "HG_CRC32=1", "HG_WINDOW=8"]
OPTIONS = [
    [],
    *([option] for option in EVERYTHING),
    ["HG_WILL=0"],
    ["HG_QOS2=0"],
    ["HG_WILL=0", "HG_QOS2=0"],
    [*EVERYTHING, "HG_PAYLOAD=240", "HG_BUFFER=0"],
]


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
@pytest.mark.parametrize("compiler", COMPILERS, ids=lambda words: words[0])
def test_it_compiles_without_a_warning(compiler, options):
    command = [*compiler, *STRICT, *(f"-D{option}" for option in options), "heliograph.c"]
    made = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert (made.returncode, made.stderr) == (0, "")


@pytest.mark.parametrize(
    "option", ["HG_PAYLOAD=47", "HG_PAYLOAD=241", "HG_WINDOW=0", "HG_WINDOW=9"]
)
def test_a_value_that_cannot_be_is_refused(option):
    command = ["gcc", "-fsyntax-only", f"-D{option}", "heliograph.c"]
    made = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert made.returncode != 0
    assert f"{option.partition('=')[0]} is" in made.stderr
