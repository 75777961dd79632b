"""`python -m firmware_sim.command_emulate FIRMWARE.elf`: an emulated controller as a serial port,
until Ctrl-C.

    --part atmega328p     or arduino-uno, lm3s6965
    --port /tmp/ttyEMU    the name of the port
    --baud 115200         of the wire
    --errors 0.001        share of bytes that are damaged on it
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from firmware_sim.firmware.emulator import EmulatorError
from firmware_sim.firmware.images import PARTS, ImageError, check_image
from firmware_sim.firmware.port import emulated_port
from firmware_sim.wire.faults import errors

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(words: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    options = _parser().parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_emulate(options))
    except (EmulatorError, ImageError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{options.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


async def _emulate(options: argparse.Namespace) -> None:
    part = PARTS[options.part]
    sizes = check_image(options.image, part)
    async with emulated_port(
        options.image, part, options.port, baud=options.baud, faults=errors(options.errors)
    ) as port:
        print(
            f"{options.image.name} ({sizes.flash} bytes of flash, {sizes.ram} of RAM) runs on an "
            f"emulated {part.name} behind {port.path}. Ctrl-C ends it.",
            flush=True,
        )
        raise EmulatorError(await port.ended())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m firmware_sim.command_emulate",
        description="An emulated controller with your firmware, behind a serial port.",
    )
    parser.add_argument("image", type=Path, metavar="FIRMWARE.elf")
    parser.add_argument("--part", choices=sorted(PARTS), default="atmega328p")
    parser.add_argument("--port", type=Path, default=Path("/tmp/ttyEMU"), metavar="PATH")  # noqa: S108 - a name that can be typed
    parser.add_argument("--baud", type=_baud, default=115_200, metavar="BIT/S")
    parser.add_argument("--errors", type=_share, default=0.0, metavar="SHARE")
    return parser


def _baud(word: str) -> int:
    baud = int(word)
    if not 50 <= baud <= 4_000_000:
        raise argparse.ArgumentTypeError("is 50 to 4000000")
    return baud


def _share(word: str) -> float:
    share = float(word)
    if not 0 <= share <= 0.5:
        raise argparse.ArgumentTypeError("is 0 to 0.5")
    return share


if __name__ == "__main__":
    sys.exit(main())
