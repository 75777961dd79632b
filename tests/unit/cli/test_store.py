"""`heliograph store`: what it says, and its exit codes."""

import fcntl
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from broker.cli import run_command
from broker.settings import STORE_FILE
from tests.unit.storage_salvage.building import build, rows_of

HIDDEN = "hunter2"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    build(folder / STORE_FILE)
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Settings whose store is in PostgreSQL."""
    file = tmp_path / "heliograph.toml"
    file.write_text(f'[store]\nurl = "postgresql://me:{HIDDEN}@db.invalid/helio"\n')
    return file


def spoil(data: Path) -> None:
    with closing(sqlite3.connect(data / STORE_FILE, isolation_level=None)) as connection:
        connection.execute("DELETE FROM session WHERE id = 7")


def test_a_backup_is_written_and_can_be_put_back(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = str(tmp_path / "saved.db")
    before = rows_of(data / STORE_FILE)["session"]
    assert run_command(["store", "backup", "--data", str(data), saved]) == 0
    assert f"{saved}: a checked copy" in capsys.readouterr().out
    spoil(data)
    assert run_command(["store", "restore", "--data", str(data), saved]) == 0
    assert "before-restore-" in capsys.readouterr().out
    assert rows_of(data / STORE_FILE)["session"] == before


def test_with_a_running_broker_a_restore_waits(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = str(tmp_path / "saved.db")
    run_command(["store", "backup", "--data", str(data), saved])
    with (data / f"{STORE_FILE}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run_command(["store", "restore", "--data", str(data), saved]) == 0
    assert "restart it" in capsys.readouterr().out
    assert (data / f"{STORE_FILE}.restore").exists()


@pytest.mark.parametrize("action", ["check", "stats"])
def test_a_store_that_is_not_there_is_told_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    assert run_command(["store", action, "--data", str(tmp_path)]) == 1
    assert "there is no store at" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_good_store_is_said_to_be_good(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["store", "check", "--data", str(data)]) == 0
    assert capsys.readouterr().out == f"{data / STORE_FILE}: good.\n"


def test_problems_are_said_with_what_to_do(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(data)
    assert run_command(["store", "check", "--data", str(data)]) == 1
    said = capsys.readouterr()
    assert "2 rows of subscription belong to a session that is not there" in said.err
    assert "heliograph store restore" in said.out


def test_problems_are_there_for_programs(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(data)
    assert run_command(["store", "check", "--json", "--data", str(data)]) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 4


def test_a_file_that_is_no_database_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / STORE_FILE).write_bytes(b"nothing of the kind" * 1000)
    assert run_command(["store", "check", "--data", str(tmp_path)]) == 1
    assert "cannot be read" in capsys.readouterr().err
    assert run_command(["store", "stats", "--data", str(tmp_path)]) == 1
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("action", [["check"], ["stats"], ["backup", "copy.db"]])
def test_a_store_whose_schema_is_no_text_is_a_problem(
    data: Path,
    capsys: pytest.CaptureFixture[str],
    action: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data)
    file = data / STORE_FILE
    file.write_bytes(
        file.read_bytes().replace(b"CREATE TABLE message", b"CR\xc3\x28TE TABLE message")
    )
    assert run_command(["store", *action, "--data", str(data)]) == 1
    said = capsys.readouterr()
    assert "cannot be read: its schema" in said.err or "could not be copied" in said.err
    assert not (data / "copy.db").exists()


def test_figures_are_for_people_and_for_programs(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["store", "stats", "--data", str(data)]) == 0
    text = capsys.readouterr().out
    assert f"{data / STORE_FILE} (SQLite " in text
    assert "  retained                 300\n" in text
    assert "oldest message: number 1, topic" in text
    assert run_command(["store", "stats", "--json", "--data", str(data)]) == 0
    assert json.loads(capsys.readouterr().out)["rows"]["retained"] == 300


def test_the_store_of_a_settings_file_is_taken(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "heliograph.toml"
    file.write_text('[broker]\ndata_dir = "data"\n')
    assert run_command(["store", "check", "-c", str(file)]) == 0
    assert str(data / STORE_FILE) in capsys.readouterr().out


@pytest.mark.parametrize(("action", "tool"), [("backup", "pg_dump"), ("restore", "pg_restore")])
def test_postgresql_has_its_own_tools_and_keeps_its_password(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], action: str, tool: str
) -> None:
    assert run_command(["store", action, "-c", str(elsewhere), "file"]) == 1
    said = capsys.readouterr().err
    assert f"\n{tool} " in said
    assert HIDDEN not in said


def test_bad_settings_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["store", "check", "-c", str(tmp_path / "none.toml")]) == 1
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["backup"], ["mend"], ["check", "--what"]])
def test_a_command_line_that_says_nothing_is_a_usage_error(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_command(["store", *arguments])
