"""`heliograph sim` in virtual time: exit codes, files, and what it says of mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from firmware_sim.command import main
from firmware_sim.fleet import hub
from firmware_sim.fleet.fleet import FleetError
from firmware_sim.fleet.real import load_tcp, make_room
from firmware_sim.network.endpoint import parse_endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from firmware_sim.clients.client import Message

QUICK = """
[scenario]
time = "virtual"
duration = "10 min"
[[devices]]
kind = "soil"
count = 3
interval = "30 s"
qos = 2
"""


@pytest.fixture
def quick(tmp_path: Path) -> str:
    path = tmp_path / "quick.toml"
    path.write_text(QUICK)
    return str(path)


def test_a_good_run_ends_with_0_and_its_report(
    quick: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([quick]) == 0
    told = capsys.readouterr()
    assert "quick: 3 devices, 10 min in virtual time, seed 1" in told.out
    assert "The ledger balances" in told.out
    assert "running" in told.err


def test_a_ledger_that_does_not_balance_ends_with_1(
    quick: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(_: hub.Hub, __: str, message: Message, now: float) -> None:
        """A broker that loses everything."""

    monkeypatch.setattr(hub.Hub, "take", forget)
    assert main([quick, "--duration", "60"]) == 1
    assert "acknowledged and never arrived" in capsys.readouterr().out


def test_a_folder_gets_all_forms_of_the_report(quick: str, tmp_path: Path) -> None:
    folder = tmp_path / "reports" / "today"
    assert main([quick, "--report", str(folder)]) == 0
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.html", "report.json", "report.txt", "ledger.txt"}
    first = (folder / "ledger.txt").read_bytes()
    assert main([quick, "--report", str(folder)]) == 0
    assert (folder / "ledger.txt").read_bytes() == first


def test_one_page_and_one_json_may_be_asked_for(quick: str, tmp_path: Path) -> None:
    html, figures = tmp_path / "a.html", tmp_path / "b.json"
    assert main([quick, "--report", str(html), "--json", str(figures), "--seed", "5"]) == 0
    assert html.read_text().startswith("<!doctype html>")
    assert json.loads(figures.read_text())["seed"] == 5


def test_the_command_line_overrules_the_scenario(
    quick: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([quick, "--devices", "7", "--duration", "2min"]) == 0
    assert "quick: 7 devices, 2 min in virtual time" in capsys.readouterr().out


def test_a_bad_scenario_ends_with_1_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[[devices]]\nkind = "x"\nqos = 7\n')
    assert main([str(path)]) == 1
    assert f"{path}:3: devices[1].qos: 7 is out of range" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--broker", "mqtt://h"], "runs in virtual time, without a broker: leave --broker out"),
        (["--duration", "300d", "--devices", "50"], "messages: at most 20000000 in one run"),
    ],
)
def test_options_that_do_not_go_with_the_scenario_end_with_1(
    quick: str, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([quick, *arguments]) == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--broker", "localhost"],
        ["--broker", "mqtt://h:0"],
        ["--broker", "mqtt://h:99999"],
        ["--seed", "x"],
        ["--duration", "soon"],
        ["--devices", "0"],
    ],
)
def test_a_bad_option_ends_with_2_and_says_what_is_right(
    quick: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([quick, *arguments])
    assert ended.value.code == 2
    assert "write" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_told_before_the_run(
    quick: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main([quick, "--report", str(tmp_path / "file" / "x")]) == 1
    told = capsys.readouterr()
    assert "The ledger" not in told.out
    assert "file" in told.err


def test_a_disk_that_is_full_is_told_with_the_file(
    quick: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([quick, "--json", "/dev/full"]) == 1
    told = capsys.readouterr()
    assert "/dev/full: cannot be written: No space left" in told.err
    assert "The ledger balances" in told.out  # all that is known is said before


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "ca.pem: cannot be read: No such file"), ("x", "ca.pem: has no certificate in it")],
)
def test_certificates_that_are_none_are_told_before_the_run(
    quick: str,
    tmp_path: Path,
    content: str | None,
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    assert main([quick, "--cafile", str(tmp_path / "ca.pem")]) == 1
    assert complaint in capsys.readouterr().err


def test_two_processes_write_the_same_ledger_whatever_the_order_of_their_sets(
    quick: str, tmp_path: Path
) -> None:
    told = []
    for number in ("1", "2"):
        command = [sys.executable, "-m", "firmware_sim", quick, "--report", str(tmp_path / number)]
        environment = {**os.environ, "PYTHONHASHSEED": number}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        told.append((tmp_path / number / "ledger.txt").read_bytes())
    assert told[0] == told[1] != b""


def test_a_missing_library_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "firmware_sim.network.tcp", raising=False)
    monkeypatch.delattr("firmware_sim.network.tcp", raising=False)
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(FleetError, match=r"pip install 'heliograph\[sim\]'"):
        load_tcp()


def test_more_devices_than_files_are_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    make_room(400)
    with pytest.raises(FleetError, match="5000 devices need 10200 open files, and 4096 are"):
        make_room(5000)


def test_a_url_is_read_with_its_defaults_and_shown_without_its_password() -> None:
    endpoint = parse_endpoint("mqtts://me:s%40crt@[::1]")
    assert (endpoint.host, endpoint.port, endpoint.password) == ("::1", 8883, "s@crt")
    assert str(endpoint) == "mqtts://[::1]:8883"
    assert "crt" not in repr(endpoint)
    assert str(parse_endpoint("ws://h")) == "ws://h:80/mqtt"
