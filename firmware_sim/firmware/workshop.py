"""Where the firmware of simulated fleets is built, once for each target, and each device's image
stamped. Everything lies in a folder of its own, which goes with `close`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from firmware_sim.firmware.compiled import CompiledDevice
from firmware_sim.firmware.emulator import Emulator
from firmware_sim.firmware.identity import stamped
from firmware_sim.firmware.images import PARTS

if TYPE_CHECKING:
    from firmware_sim.firmware.identity import Identity

_MCU: Final = Path(__file__).parents[1] / "mcu"
_INSTALL: Final = "sudo apt-get install --no-install-recommends"
_OF_A_MAKE: Final = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")  # that has started us


class WorkshopError(RuntimeError):
    """The firmware cannot be built; says what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """What `make` is asked for, the file it leaves, and Debian's packages that it needs."""

    name: str
    file: str
    packages: str


HOST: Final = Target("sensor-host", "sensor.so", "make gcc libc6-dev")
_AVR: Final = Target("sensor-avr", "sensor-avr.elf", "make gcc-avr avr-libc")
_ARM: Final = Target(
    "sensor-lm3s", "sensor-lm3s.elf", "make gcc-arm-none-eabi libnewlib-arm-none-eabi"
)
_SIMAVR: Final = Target("simavr", "simavr-run", "make gcc libc6-dev libsimavr-dev")
_IMAGES: Final = {"atmega328p": _AVR, "arduino-uno": _AVR, "lm3s6965": _ARM}


class Workshop:
    """Ends with `close`, or as a context manager: not before its emulators, which may read their
    images again.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="heliograph-firmware-")
        self._built: dict[Target, Path] = {}

    def compiled(self, identity: Identity) -> CompiledDevice:
        """The firmware for this computer. Raises WorkshopError."""
        return CompiledDevice(self._stamped(HOST, identity))

    def emulated(self, identity: Identity, name: str) -> Emulator:
        """A controller of PARTS with the firmware. Raises WorkshopError, EmulatorError."""
        part = PARTS[name]
        if Path(part.emulator).is_absolute():  # ours
            part = replace(part, emulator=str(self._build(_SIMAVR)))
        return Emulator(self._stamped(_IMAGES[name], identity), part)

    def close(self) -> None:
        """Clear up."""
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stamped(self, target: Target, identity: Identity) -> Path:
        image = self._build(target)
        path = image.with_name(f"{identity.name}-{target.file}")
        path.write_bytes(stamped(image.read_bytes(), identity))
        return path

    def _build(self, target: Target) -> Path:
        if target not in self._built:
            _make(target, self._folder.name)
            self._built[target] = Path(self._folder.name, target.file)
        return self._built[target]


def _make(target: Target, folder: str) -> None:
    make = shutil.which("make")
    if make is None:
        raise WorkshopError(f"make is missing; install it with: {_INSTALL} {target.packages}")
    command = [make, "--silent", "-C", str(_MCU), f"BUILD={folder}", target.name]
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_MAKE}
    done = subprocess.run(  # noqa: S603 - no shell reads the arguments
        command, capture_output=True, text=True, errors="replace", env=environment, check=False
    )
    if done.returncode:
        raise WorkshopError(
            f"the firmware cannot be built: {_complaint(done.stderr)}. It needs: "
            f"{_INSTALL} {target.packages}"
        )


def _complaint(said: str) -> str:
    """The first line that says what is wrong, without what we say better."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    about = [line for line in lines if "error" in line or "missing" in line] or lines
    return (about[0] if about else "make has failed").partition("; install")[0].rstrip(".")
