"""heliograph passwd: the file after each change, and what is refused."""

import io
import stat
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from broker.cli import passwd, run_command


@pytest.fixture
def users(tmp_path: Path) -> Path:
    return tmp_path / "users"


def entries(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split(":", 1) for line in lines)


def add(path: Path, user: str, password: str = "secret") -> int:
    return run_command(["passwd", str(path), user, "-b", password])


def test_a_new_file_has_the_user_with_an_argon2id_hash_and_is_private(users: Path) -> None:
    assert add(users, "alice") == 0
    hashed = entries(users)["alice"]
    assert hashed.startswith("$argon2id$")
    assert PasswordHasher().verify(hashed, "secret")
    assert stat.S_IMODE(users.stat().st_mode) == 0o600


def test_a_second_user_is_added_and_the_first_stays(users: Path) -> None:
    add(users, "alice")
    before = entries(users)["alice"]
    add(users, "bob")
    assert list(entries(users)) == ["alice", "bob"]
    assert entries(users)["alice"] == before


def test_the_same_user_gets_a_new_password(users: Path) -> None:
    add(users, "alice", "old")
    add(users, "alice", "new")
    assert list(entries(users)) == ["alice"]
    assert PasswordHasher().verify(entries(users)["alice"], "new")


def test_the_same_password_is_never_the_same_line(users: Path) -> None:
    add(users, "alice")
    add(users, "bob")
    assert entries(users)["alice"] != entries(users)["bob"]


def test_a_user_is_deleted_and_only_that_one(users: Path) -> None:
    users.write_text("# ours\nalice:x\nal:y\n", encoding="utf-8")
    assert run_command(["passwd", str(users), "al", "-D"]) == 0
    assert users.read_text(encoding="utf-8") == "# ours\nalice:x\n"


def test_deleting_nobody_is_told_and_changes_nothing(
    users: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    users.write_text("alice:x\n", encoding="utf-8")
    assert run_command(["passwd", str(users), "bob", "-D"]) == 1
    assert 'has no user "bob"' in capsys.readouterr().err
    assert users.read_text(encoding="utf-8") == "alice:x\n"


def test_lines_of_other_programs_stay_as_they_are(users: Path) -> None:
    users.write_text("# comment\nold:$7$101$salt$hash\n", encoding="utf-8")
    add(users, "new")
    lines = users.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["# comment", "old:$7$101$salt$hash"]


@pytest.mark.parametrize("user", ["", "a:b", "#a", " a", "a ", "a\nb", "a\0b", "x" * 65_536])
def test_a_name_that_would_break_the_file_is_refused(
    users: Path, user: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(users, user) == 1
    assert not users.exists()
    assert "user name" in capsys.readouterr().err


def test_the_password_can_come_from_standard_input(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("pass word\n"))
    assert run_command(["passwd", str(users), "alice", "--stdin"]) == 0
    assert PasswordHasher().verify(entries(users)["alice"], "pass word")


@pytest.mark.parametrize(("answers", "code"), [(["a", "a"], 0), (["a", "b"], 1), (["", ""], 1)])
def test_a_typed_password_is_asked_twice(
    users: Path, answers: list[str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter(answers)
    monkeypatch.setattr(passwd, "getpass", lambda _: next(typed))
    assert run_command(["passwd", str(users), "alice"]) == code
    assert users.exists() == (code == 0)


def test_a_link_stays_a_link(users: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    users.touch()
    link.symlink_to(users)
    add(link, "alice")
    assert link.is_symlink()
    assert "alice" in entries(users)


def test_a_failed_write_leaves_the_old_file_and_no_draft(
    users: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.write_text("alice:x\n", encoding="utf-8")

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    assert add(users, "bob") == 1
    assert [path.name for path in users.parent.iterdir()] == ["users"]
    assert users.read_text(encoding="utf-8") == "alice:x\n"


def test_a_folder_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(tmp_path / "none" / "users", "alice") == 1
    assert "No such file or directory" in capsys.readouterr().err
