"""Nothing outlives the tests: servers they have started are ended when they are killed.

A broker whose tests were killed would go on for ever, and open the serial ports of the next run. A
guardian process hears through a pipe of each server; when the pipe ends, it kills who is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from functools import cache
from typing import IO


def enlist(process: int) -> None:
    """Kill it when this process ends; the negative number of a group is all of its processes."""
    tell(process, "enlist")


def strike_off(process: int) -> None:
    """It is gone: its number may be another's soon."""
    tell(process, "strike_off")


def tell(process: int, what: str) -> None:
    os.write(guardian(), f"{what} {process}\n".encode())


@cache
def guardian() -> int:
    """The pipe to it, open for as long as we live. It has a session of its own: a Ctrl-C is for the
    tests.
    """
    theirs, ours = os.pipe()
    started = subprocess.Popen(
        [sys.executable, "-I", __file__],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    started.returncode = 0  # it ends after us: nobody waits for it
    os.close(theirs)
    return ours


def guard(lines: IO[bytes]) -> None:
    """Until the end of the lines; then everybody goes who was not struck off."""
    left: set[int] = set()
    for line in lines:
        what, number = line.split()
        (left.add if what == b"enlist" else left.discard)(int(number))
    for process in left:
        with contextlib.suppress(OSError):
            (os.killpg if process < 0 else os.kill)(abs(process), signal.SIGKILL)


if __name__ == "__main__":
    guard(sys.stdin.buffer)
