"""`heliograph serial ports` and the options of `monitor`."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from bridges.gateway import command_monitor, command_ports
from bridges.serial.port_names import Device
from bridges.serial.port_spec import parse_port

if TYPE_CHECKING:
    from pathlib import Path

UNO = Device("/dev/ttyACM0", "/dev/serial/by-id/usb-Arduino_X-if00", 0x2341, 0x43, "X", "Uno")
CLONE = Device("/dev/ttyUSB0", "", 0x1A86, 0x7523, "", "USB Serial")
TWIN = Device("/dev/ttyUSB1", "", 0x1A86, 0x7523, "", "USB Serial")
BUILT_IN = Device("/dev/ttyS0")


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    found: list[Device] = []
    monkeypatch.setattr(command_ports, "devices", lambda: found)
    return found


def blocks(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.startswith(("  [[", "  port ="))]
    found: list[dict[str, str]] = tomllib.loads("\n".join(lines))["serial"]
    return found


def test_each_port_comes_with_a_block_that_names_it_for_good(
    plugged: list[Device], capsys: pytest.CaptureFixture[str]
) -> None:
    plugged += [UNO, CLONE, BUILT_IN]
    assert command_ports.main([]) == 0
    said = capsys.readouterr().out
    assert "/dev/ttyACM0  Uno  usb 2341:0043:X" in said
    ports = [block["port"] for block in blocks(said)]
    assert ports == ["/dev/serial/by-id/usb-Arduino_X-if00", "1a86:7523"]
    for port in ports:
        parse_port(port)


def test_two_that_cannot_be_told_apart_go_by_their_paths(
    plugged: list[Device], capsys: pytest.CaptureFixture[str]
) -> None:
    plugged += [CLONE, TWIN]
    command_ports.main([])
    assert [block["port"] for block in blocks(capsys.readouterr().out)] == [
        "/dev/ttyUSB0",
        "/dev/ttyUSB1",
    ]


def test_who_may_not_open_a_port_is_told_how_he_may(
    plugged: list[Device], capsys: pytest.CaptureFixture[str]
) -> None:
    plugged.append(Device("/dev/tty-that-is-not-there", "", 1, 2))
    command_ports.main([])
    assert "sudo usermod -aG dialout USER" in capsys.readouterr().out


def test_no_port_is_said_with_what_to_do(
    plugged: list[Device], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_ports.main([]) == 0
    assert "Is the cable one for data?" in capsys.readouterr().out
    plugged.append(BUILT_IN)
    command_ports.main([])
    assert "perhaps without a plug: /dev/ttyS0 (see --all)" in capsys.readouterr().out
    command_ports.main(["--all"])
    assert blocks(capsys.readouterr().out) == [{"port": "/dev/ttyS0"}]


def test_programs_get_json(plugged: list[Device], capsys: pytest.CaptureFixture[str]) -> None:
    plugged.append(UNO)
    command_ports.main(["--json"])
    (fact,) = json.loads(capsys.readouterr().out)
    assert fact["usb"] == "2341:0043:X"


def test_the_monitor_refuses_what_is_no_port_and_what_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_monitor.main(["ttyUSB0"]) == 2
    assert "is no serial port: use auto" in capsys.readouterr().err
    assert command_monitor.main(["auto", "--write", f"{tmp_path}/no/x.pcapng"]) == 1
    assert "No such file or directory" in capsys.readouterr().err
