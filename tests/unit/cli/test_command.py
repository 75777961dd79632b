"""The command itself: which sub-command runs, what `run` and `check` make of their options."""

import subprocess
import sys
from pathlib import Path

import pytest

from broker import cli
from broker.cli import COMMANDS, run, run_command
from broker.settings import load


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """The sub-commands that would have run, with their arguments."""
    calls: list[tuple[str, list[str]]] = []

    def note(command: str, arguments: list[str]) -> int:
        calls.append((command, arguments))
        return 0

    monkeypatch.setattr(cli, "start", note)
    return calls


@pytest.mark.parametrize(
    ("arguments", "command", "rest"),
    [
        ([], "run", []),
        (["run", "-v"], "run", ["-v"]),
        (["-c", "f.toml"], "run", ["-c", "f.toml"]),
        (["--listen", "tcp://[::1]:1"], "run", ["--listen", "tcp://[::1]:1"]),
        (["sub", "-h", "x"], "sub", ["-h", "x"]),
        (["check", "f"], "check", ["f"]),
    ],
)
def test_the_first_word_chooses_and_without_one_the_broker_runs(
    started: list[tuple[str, list[str]]], arguments: list[str], command: str, rest: list[str]
) -> None:
    assert run_command(arguments) == 0
    assert started == [(command, rest)]


def test_an_unknown_command_is_told_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["chek"]) == 2
    assert 'did you mean "check"?' in capsys.readouterr().err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == 0
    text = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n  {name} " not in text] == []


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out.startswith("heliograph ")


def test_the_options_of_run_become_settings(tmp_path: Path) -> None:
    options = run._parser().parse_args(
        ["--listen", "tcp://127.0.0.1:0", "--listen", "unix:///s", "--data", "d", "-v"]
    )
    settings = load(None, {}, run.overrides(options))
    assert [listener.url for listener in settings.listeners] == ["tcp://127.0.0.1:0", "unix:///s"]
    assert settings.broker.data_dir == Path("d")
    assert settings.log.level == "debug"


def test_run_without_options_overrides_nothing() -> None:
    assert run.overrides(run._parser().parse_args([])) == {}


def test_run_with_bad_settings_tells_all_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.toml"
    path.write_text("[limits]\nmax_inflight = 0\nx = 1\n", encoding="utf-8")
    assert run_command(["run", "-c", str(path), "--listen", "x"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_check_says_that_a_file_is_good_and_where_the_broker_would_listen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.toml"
    path.write_text('[[listener]]\nurl = "tcp://127.0.0.1:7"\n', encoding="utf-8")
    assert run_command(["check", str(path)]) == 0
    assert "tcp://127.0.0.1:7" in capsys.readouterr().out


def test_check_reads_the_environment_as_the_broker_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.toml"
    path.touch()
    monkeypatch.setenv("HELIOGRAPH_LOG__LEVEL", "loud")
    assert run_command(["check", str(path)]) == 1
    assert "HELIOGRAPH_LOG__LEVEL" in capsys.readouterr().err


def test_importing_the_command_loads_no_part_of_the_broker() -> None:
    code = "import sys, broker.__main__; print(*sorted(m for m in sys.modules if 'broker' in m))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert loaded == ["broker", "broker.__main__", "broker.cli"]
