"""Orders from one process to another, through the file: taken once, answered, or taken back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bridges.gateway import command_devices, command_serial, keeping_writer
from bridges.gateway import desk as desks
from bridges.gateway.approvals import Approvals
from bridges.gateway.desk import Desk, DeskError, follow
from bridges.gateway.orders import Kind, Order, Outcome, Stage
from bridges.mqttsn.admission import Rules
from bridges.mqttsn.codes import ReturnCode
from bridges.mqttsn.ports import Address, Identity, Note
from bridges.mqttsn.ports import Stage as DeviceStage
from tests.unit.gateway.test_keeping import PATIENCE, opened, registered

if TYPE_CHECKING:
    from pathlib import Path

    from bridges.gateway.keeping import Keeping


@pytest.fixture(autouse=True)
def no_ambient_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings of whoever runs the tests are none of ours; looks are frequent."""
    for name in [name for name in os.environ if name.startswith("HELIOGRAPH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keeping_writer, "LOOK_EVERY", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


class Taker:
    """Takes orders and keeps them."""

    def __init__(self, keeping: Keeping) -> None:
        self.orders: list[Order] = []
        self._more = asyncio.Event()
        keeping.on_order = self._on_order

    async def wait_for(self, count: int) -> list[Order]:
        async with asyncio.timeout(PATIENCE):
            while len(self.orders) < count:
                self._more.clear()
                await self._more.wait()
        return self.orders

    def _on_order(self, order: Order) -> None:
        self.orders.append(order)
        self._more.set()


async def answer(desk: Desk, number: int, kind: Kind) -> tuple[bool, str]:
    return await asyncio.to_thread(follow, desk, number, kind, lambda text: None)


async def test_an_order_is_taken_once_and_its_outcome_comes_back(path: Path) -> None:
    keeping = opened(path)
    desk = Desk(path)
    early = desk.give(Kind.ACCEPT, "dev", "usb*")
    taker = Taker(keeping)
    await taker.wait_for(1)
    late = desk.give(Kind.SEND, "usb", "firmware.bin", b"\x00" * 100_000)
    reset = desk.give(Kind.RESET, "usb")
    orders = await taker.wait_for(3)
    assert [each.number for each in orders] == [early, late, reset]
    assert (orders[0].kind, orders[0].target, orders[0].argument) == (Kind.ACCEPT, "dev", "usb*")
    assert orders[1].payload == b"\x00" * 100_000
    keeping.progress(orders[1], "50 %")
    keeping.finish(orders[0], Outcome(True, "dev is accepted"))
    keeping.finish(orders[2], Outcome(False, "no such port"))
    assert await answer(desk, early, Kind.ACCEPT) == (True, "dev is accepted")
    assert await answer(desk, reset, Kind.RESET) == (False, "no such port")
    assert desk.look(late) == (Stage.TAKEN, "50 %")
    keeping.finish(orders[1], Outcome(True))
    await registered(keeping.notebook("usb"), "dev", 1, "t")
    assert len(taker.orders) == 3
    await keeping.close()


async def test_files_are_taken_one_at_a_look_and_in_order(path: Path) -> None:
    keeping = opened(path)
    desk = Desk(path)
    for number in range(3):
        desk.give(Kind.SEND, "usb", f"file{number}", b"x")
    desk.give(Kind.RESET, "usb")
    taker = Taker(keeping)
    first = await taker.wait_for(2)
    assert [each.kind for each in first[:2]] == [Kind.SEND, Kind.RESET]
    orders = await taker.wait_for(4)
    assert [each.argument for each in orders] == ["file0", "", "file1", "file2"]
    await keeping.close()


async def test_an_order_that_was_taken_when_the_gateway_ended_has_failed(path: Path) -> None:
    keeping = opened(path)
    desk = Desk(path)
    number = desk.give(Kind.SEND, "usb", "file", b"x")
    await Taker(keeping).wait_for(1)
    await keeping.close()
    again = opened(path)
    assert desk.look(number) == (Stage.FAILED, "the gateway ended before it was done")
    taker = Taker(again)
    other = desk.give(Kind.ACCEPT, "dev")
    assert [each.number for each in await taker.wait_for(1)] == [other]
    await again.close()


async def test_without_a_gateway_decisions_wait_and_resets_are_taken_back(path: Path) -> None:
    await opened(path).close()
    desk = Desk(path)
    assert not desk.is_gateway_running()
    reset = desk.give(Kind.RESET, "usb")
    is_done, text = follow(desk, reset, Kind.RESET, print)
    assert not is_done
    assert "no gateway is running" in text
    assert desk.look(reset) == (Stage.WITHDRAWN, "")
    accept = desk.give(Kind.ACCEPT, "dev")
    is_done, text = follow(desk, accept, Kind.ACCEPT, print)
    assert is_done
    assert "when one starts" in text
    keeping = opened(path)
    (order,) = await Taker(keeping).wait_for(1)
    assert (order.number, order.target) == (accept, "dev")
    await keeping.close()


async def test_a_gateway_that_takes_no_orders_is_said_so(path: Path) -> None:
    keeping = opened(path)
    desk = Desk(path)
    number = desk.give(Kind.RESET, "usb")
    times = iter([0.0, 1.0, 100.0])
    is_done, text = follow(desk, number, Kind.RESET, print, lambda _: None, lambda: next(times))
    assert (is_done, text) == (False, "the gateway does not take orders: nothing was done")
    await keeping.close()


async def test_when_the_gateway_ends_in_the_middle_nobody_waits_for_ever(path: Path) -> None:
    keeping = opened(path)
    desk = Desk(path)
    number = desk.give(Kind.SEND, "usb", "file", b"x")
    await Taker(keeping).wait_for(1)
    await keeping.close()
    assert await answer(desk, number, Kind.SEND) == (False, "the gateway ended before it was done")


async def test_an_order_that_fails_in_the_gateway_is_answered_and_the_next_one_done(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeping = opened(path)
    desk = Desk(path)

    def on_order(order: Order) -> None:
        if order.target == "bad":
            raise ZeroDivisionError
        keeping.finish(order, Outcome(True, "reset"))

    bad, good = desk.give(Kind.RESET, "bad"), desk.give(Kind.RESET, "good")
    keeping.on_order = on_order
    assert await answer(desk, bad, Kind.RESET) == (False, "an error of the gateway, see its log")
    assert await answer(desk, good, Kind.RESET) == (True, "reset")
    assert "ZeroDivisionError" in caplog.text
    await keeping.close()


async def test_orders_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desks, "MOST_ORDERS", 5)
    monkeypatch.setattr("bridges.gateway.keeping_file.MOST_ORDERS", 5)
    keeping = opened(path)
    desk = Desk(path)
    for number in range(5):
        desk.give(Kind.ACCEPT, f"dev{number}")
    with pytest.raises(DeskError, match="does the gateway run"):
        desk.give(Kind.ACCEPT, "dev5")
    taker = Taker(keeping)
    for order in await taker.wait_for(5):
        keeping.finish(order, Outcome(True))
    last = desk.give(Kind.ACCEPT, "last")
    for _ in range(10):
        number = desk.give(Kind.ACCEPT, "dev")
        keeping.finish((await taker.wait_for(number))[-1], Outcome(True))
        assert await answer(desk, number, Kind.ACCEPT) == (True, "")
    keeping.finish(taker.orders[last - 1], Outcome(True))
    await keeping.close()
    assert desk.look(1) == (Stage.FAILED, "the order is gone")
    assert desk.look(number)[0] is Stage.DONE


def test_without_a_file_the_person_hears_where_to_look(path: Path) -> None:
    with pytest.raises(DeskError, match="-c FILE or --data DIR"):
        Desk(path)


def test_a_foreign_file_is_not_touched(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(DeskError, match="no file of a gateway"):
        Desk(path).give(Kind.RESET, "usb")
    assert path.read_bytes() == b""


# ---- people's decisions ----


class Gateways:
    """Approvals with a file, rules, and gateways that only say what they were asked."""

    def __init__(self, path: Path) -> None:
        self.keeping = opened(path)
        self.rules = Rules(approval=True)
        self.expelled: list[str] = []
        self.forgotten: list[str] = []
        self.approvals = Approvals(
            self.keeping,
            self.rules,
            asyncio.get_running_loop(),
            lambda client_id: bool(self.expelled.append(client_id)),
            lambda client_id: bool(self.forgotten.append(client_id)),
            lambda: 1234.0,
        )
        self.door = self.approvals.door("usb")
        self.keeping.on_order = self._on_order

    def _on_order(self, order: Order) -> None:
        outcome = self.approvals.take(order)
        self.keeping.finish(order, outcome or Outcome(False, "not for us"))

    async def close(self) -> None:
        self.approvals.close()
        await self.keeping.close()


async def test_a_stranger_is_seen_accepted_and_let_in_also_after_a_restart(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = Gateways(path)
    for _ in range(3):
        assert world.door.admit(Address(), "my dev") is ReturnCode.CONGESTION
    assert caplog.text.count("`heliograph serial accept 'my dev'`") == 1
    await registered(world.keeping.notebook("usb"), "other", 1, "t")  # a commit has passed
    desk = Desk(path)
    (stranger,) = [each for each in desk.devices() if each.state == "quarantined"]
    assert (stranger.client_id, stranger.gateway, stranger.address) == ("my dev", "usb", "usb")
    number = desk.give(Kind.ACCEPT, "my dev", "usb")
    is_done, text = await answer(desk, number, Kind.ACCEPT)
    assert is_done
    assert text == "my dev is accepted from usb: it is let in when it tries again"
    assert isinstance(world.door.admit(Address(), "my dev"), Identity)
    other = world.approvals.door("udp")
    assert other.admit(Address("10.0.0.1:5"), "my dev") is ReturnCode.CONGESTION
    await world.close()
    again = Gateways(path)
    assert isinstance(again.door.admit(Address(), "my dev"), Identity)
    await again.close()


async def test_a_rejected_device_is_sent_away_and_a_forgotten_one_is_a_stranger_again(
    path: Path,
) -> None:
    world = Gateways(path)
    desk = Desk(path)
    number = desk.give(Kind.REJECT, "dev")
    assert (await answer(desk, number, Kind.REJECT))[0]
    assert world.expelled == ["dev"]
    assert world.door.admit(Address(), "dev") is ReturnCode.NOT_SUPPORTED
    number = desk.give(Kind.FORGET, "dev")
    assert await answer(desk, number, Kind.FORGET) == (True, "dev is forgotten")
    assert world.forgotten == ["dev"]
    assert world.door.admit(Address(), "dev") is ReturnCode.CONGESTION
    number = desk.give(Kind.FORGET, "never")
    assert not (await answer(desk, number, Kind.FORGET))[0]
    await world.close()


async def test_a_flood_of_strangers_costs_few_lines_and_few_rows(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = Gateways(path)
    for number in range(5000):
        world.door.admit(Address("wire"), f"dev{number}")
    assert len(caplog.records) <= 11
    world.approvals.close()
    assert len(world.keeping.quarantine) <= 100
    await world.keeping.close()
    again = Gateways(path)
    assert len(again.keeping.quarantine) <= 100
    await again.close()


# ---- the command ----


def serial(path: Path, *words: str) -> int:
    return command_serial.main([words[0], *words[1:], "--data", str(path.parent)])


async def test_the_commands_give_orders_to_a_gateway_in_another_process(path: Path) -> None:
    world = Gateways(path)
    world.door.admit(Address(), "dev")
    command = [
        sys.executable,
        "-m",
        "broker",
        "serial",
        "accept",
        "dev",
        "--data",
        str(path.parent),
    ]
    made = await asyncio.create_subprocess_exec(
        *command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    output, errors = await made.communicate()
    assert (made.returncode, output, errors) == (
        0,
        b"dev is accepted: it is let in when it tries again\n",
        b"",
    )
    assert isinstance(world.door.admit(Address(), "dev"), Identity)
    await world.close()


async def test_devices_lists_all_and_what_to_type_next(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = Gateways(path)
    notebook = world.keeping.notebook("usb")
    notebook.write(Note("here", Address(), DeviceStage.ACTIVE, False, 60))
    notebook.write(Note("far", Address("radio", b"\x0a"), DeviceStage.AWAY, False, 60))
    world.door.admit(Address(), "new one")
    world.keeping.reject("bad")
    await registered(notebook, "here", 1, "t")
    assert serial(path, "devices") == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed[1:3]] == [["bad", "never"], ["far", "away"]]
    assert "radio/0a" in printed[2]
    assert printed[3].split() == ["here", "active", "usb", "-", "1", "-"]
    assert printed[4].startswith("new one  waiting (1 tries, ")
    assert printed[-1] == "  heliograph serial accept 'new one'"
    await world.close()
    assert serial(path, "devices", "--json") == 0
    assert '"client_id": "far"' in capsys.readouterr().out
    assert serial(path, "devices") == 0
    assert "No gateway is running" in capsys.readouterr().out


async def test_send_checks_the_file_before_it_gives_an_order(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await opened(path).close()
    assert serial(path, "send", "usb", str(tmp_path / "missing")) == 1
    assert "No such file" in capsys.readouterr().err
    monkeypatch.setattr(command_devices, "LARGEST_FILE", 10)
    file = tmp_path / "firmware.bin"
    file.write_bytes(b"x" * 11)
    assert serial(path, "send", "usb", str(file)) == 1
    assert "at most 10" in capsys.readouterr().err
    file.write_bytes(b"x" * 10)
    assert serial(path, "send", "usb", str(file), "--name", "../x") == 1
    assert "--name" in capsys.readouterr().err
    assert serial(path, "send", "usb", str(file)) == 1
    assert "no gateway is running on this file: nothing was done" in capsys.readouterr().err


def test_commands_say_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_serial.main([]) == 2
    assert command_serial.main(["--help"]) == 0
    assert "accept" in capsys.readouterr().out
    assert command_serial.main(["acept"]) == 2
    assert 'did you mean "accept"?' in capsys.readouterr().err
    for verb in command_devices.VERBS:
        with contextlib.suppress(SystemExit):
            command_serial.main([verb, "--help"])
        assert f"heliograph serial {verb}" in capsys.readouterr().out


def test_what_a_device_calls_itself_does_not_command_the_terminal() -> None:
    device: Any = desks.KnownDevice("\x1b[2Jdev", "away")
    assert "\x1b" not in "".join(command_devices.table([device], 0.0))
