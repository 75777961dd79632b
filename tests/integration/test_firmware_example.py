"""docs/firmware.md's example: an emulated Arduino, the real gateway and the real broker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.mcu import built

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "test_firmware.py"


def test_the_example_passes(tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", f"--basetemp={tmp_path / 'run'}", str(EXAMPLE)]
    environment = {**os.environ, "FIRMWARE": str(built("avr", "avr.elf"))}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
