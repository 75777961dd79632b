"""The servers of tests that were killed go with them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

PATIENCE = 20.0  # seconds
PROGRAM = """
import subprocess, sys
from tests.support import orphans

stays, goes = (subprocess.Popen(["sleep", "1000"]) for _ in range(2))
orphans.enlist(stays.pid)
orphans.enlist(goes.pid)
orphans.strike_off(stays.pid)
print(stays.pid, goes.pid, flush=True)
sys.stdin.read()
"""


def has_ended(descriptor: int, seconds: float) -> bool:
    return bool(select.select([descriptor], [], [], seconds)[0])


def test_who_is_enlisted_ends_with_the_tests_and_nobody_else() -> None:
    arguments = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tests:
        assert tests.stdout is not None
        stays, goes = (os.pidfd_open(int(each)) for each in tests.stdout.readline().split())
        tests.kill()
    try:
        assert has_ended(goes, PATIENCE)
        assert not has_ended(stays, 0.0)
    finally:
        for each in (stays, goes):
            if not has_ended(each, 0.0):
                signal.pidfd_send_signal(each, signal.SIGKILL)
            os.close(each)
