"""Builds the C firmware, once per run of the tests; what is missing is named by its Makefile."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "firmware_sim" / "mcu"


@cache
def built(target: str, file: str) -> Path:
    """Make the target; the file in the build folder."""
    made = subprocess.run(
        ["make", "-C", FOLDER, target], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return FOLDER / "build" / file
