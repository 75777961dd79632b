"""All parts together: how they are closed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridges.gateway.assembly import Assembly
from bridges.gateway.keeping import FILE_NAME, Keeping
from bridges.mqttsn.codes import ReturnCode
from bridges.mqttsn.ports import Address
from broker import settings
from tests.unit.gateway.gateway_world import FakeSide

CHOSEN = '[broker]\nsys_interval = 0\n[mqttsn]\napproval = true\n[[serial]]\nport = "{port}"\n'


def assembly_of(folder: Path) -> Assembly:
    path = folder / "serial.toml"
    path.write_text(CHOSEN.format(port=folder / "none"))
    chosen = settings.load(path, {}, {"broker.data_dir": str(folder / "data")})
    return Assembly(FakeSide(), chosen, asyncio.get_running_loop())


async def test_a_port_that_fails_at_the_end_does_not_keep_the_others_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assembly = assembly_of(tmp_path)
    await assembly.open()
    wire: Any = assembly.wires["none"]
    close = wire.close

    async def fail() -> None:
        await close()
        raise OSError("no room")

    wire.close = fail
    await assembly.close()
    assert "no room" in caplog.text
    again = Keeping(tmp_path / "data" / FILE_NAME, asyncio.get_running_loop())  # it is free
    await again.close()


async def test_a_stranger_who_comes_while_the_gateway_ends_leaves_no_timer(tmp_path: Path) -> None:
    assembly = assembly_of(tmp_path)
    assembly.approvals.close()
    verdict = assembly.approvals.door("none").admit(Address(), "dev")
    assert verdict is ReturnCode.CONGESTION
    assert assembly.approvals._timer is None
    await assembly.close()
