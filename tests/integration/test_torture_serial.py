"""A short round of `python -m tests.integration.torture_serial`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.torture_serial import torture

if TYPE_CHECKING:
    from pathlib import Path


async def test_pulled_plugs_and_a_kill_lose_nothing_and_leak_nothing(tmp_path: Path) -> None:
    await torture(tmp_path, seed=1, pulls=20, kills=1, devices=3, say=print)
