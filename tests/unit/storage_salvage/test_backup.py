"""A backup is whole or it is none; a restore loses nothing, neither the old store nor the new."""

from __future__ import annotations

import fcntl
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker.storage import backup
from broker.storage.backup import BackupError, back_up, restore, take_waiting_restore
from tests.unit.storage_salvage.building import PAGE, build, owner_of_pages, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

STAMP = "20260102T030405Z"
NOW_GONE = "UPDATE session SET username = 'now gone'"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "heliograph.db"
    build(path)
    return path


@pytest.fixture
def saved(path: Path) -> Path:
    saved = path.with_name("saved.db")
    back_up(path, saved)
    return saved


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


@pytest.fixture
def running_broker(path: Path) -> Iterator[None]:
    """Its lock, which is all that can be seen of it."""
    with Path(f"{path}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_backup_holds_every_row(path: Path, saved: Path) -> None:
    before, after = rows_of(path), rows_of(saved)
    assert {table: rows for table, rows in after.items() if table != "meta"} == {
        table: rows for table, rows in before.items() if table != "meta"
    }


def test_a_backup_is_one_file_that_says_it_was_closed_properly(saved: Path) -> None:
    assert sorted(file.name for file in saved.parent.glob("*saved*")) == ["saved.db"]
    ((*_, clean),) = rows_of(saved)["meta"]
    assert clean == 1


def test_only_its_owner_can_read_a_backup(saved: Path) -> None:
    assert saved.stat().st_mode & 0o777 == 0o600


def test_what_is_written_meanwhile_neither_disturbs_a_backup_nor_gets_into_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store writes at every step of the copy: in the copy is the moment it was begun."""
    monkeypatch.setattr(backup, "PAGES_AT_A_TIME", 1)
    before = rows_of(path)["retained"]
    steps = 0

    class Writing(sqlite3.Connection):
        def backup(self, target: sqlite3.Connection, **options: object) -> None:
            def write(*_: object) -> None:
                nonlocal steps
                steps += 1
                execute(path, f"INSERT INTO retained VALUES ('new/{steps}', '', '', 1, '', 0, 0)")

            super().backup(target, pages=1, progress=write)

    def reader(file: Path) -> sqlite3.Connection:
        uri = f"{file.as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, factory=Writing, isolation_level=None)

    monkeypatch.setattr(backup, "_reader", reader)
    back_up(path, path.with_name("saved.db"))
    assert steps > 50
    assert rows_of(path.with_name("saved.db"))["retained"] == before


def test_a_backup_of_nothing_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"there is no store at .*none\.db"):
        back_up(tmp_path / "none.db", tmp_path / "saved.db")


def test_a_damaged_store_gives_no_backup_and_leaves_no_file(path: Path) -> None:
    page = next(page for page, owner in owner_of_pages(path).items() if owner == "will")
    image = bytearray(path.read_bytes())
    image[(page - 1) * PAGE : page * PAGE] = b"\x55" * PAGE
    path.write_bytes(image)
    before = path.with_name("saved.db")
    before.write_bytes(b"an earlier backup")
    with pytest.raises(BackupError, match=r"damaged|could not be copied"):
        back_up(path, before)
    assert before.read_bytes() == b"an earlier backup"
    assert sorted(file.name for file in path.parent.glob("*saved*")) == ["saved.db"]


def test_the_store_is_no_place_for_its_own_backup(path: Path) -> None:
    with pytest.raises(BackupError, match="choose another file"):
        back_up(path, path)


def test_a_folder_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(BackupError, match="cannot be written"):
        back_up(path, path.parent / "none" / "saved.db")


def test_a_restore_brings_the_rows_back_and_keeps_what_was_there(path: Path, saved: Path) -> None:
    execute(path, NOW_GONE)
    there = rows_of(path)
    said = restore(path, saved, STAMP)
    kept = path.with_name(f"heliograph.db.before-restore-{STAMP}")
    assert str(kept) in said
    assert rows_of(kept) == there
    assert rows_of(path) == rows_of(saved)


def test_the_log_of_the_store_goes_with_it(path: Path, saved: Path) -> None:
    """Beside the restored file it would change pages that it knows nothing of."""
    Path(f"{path}-wal").write_bytes(b"log")
    restore(path, saved, STAMP)
    assert not Path(f"{path}-wal").exists()
    assert path.with_name(f"{path.name}.before-restore-{STAMP}-wal").read_bytes() == b"log"


def test_a_restore_needs_no_store_before_it(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "heliograph.db"
    restore(path, saved, STAMP)
    assert rows_of(path) == rows_of(saved)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.usefixtures("running_broker")
def test_a_running_broker_takes_the_backup_when_it_starts_next(path: Path, saved: Path) -> None:
    execute(path, NOW_GONE)
    there = rows_of(path)
    assert "when it is started the next time" in restore(path, saved, STAMP)
    assert rows_of(path) == there
    said = take_waiting_restore(path, STAMP)
    assert said is not None
    assert f"before-restore-{STAMP}" in said
    assert rows_of(path) == rows_of(saved)


def test_without_a_waiting_backup_nothing_is_taken(path: Path) -> None:
    there = path.read_bytes()
    assert take_waiting_restore(path, STAMP) is None
    assert path.read_bytes() == there


def test_the_lock_is_held_while_a_backup_is_put_in_place(path: Path) -> None:
    Path(f"{path}.lock").touch()
    with backup.lock(path) as first, backup.lock(path) as second:
        assert (first, second) == (True, False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "newer Heliograph"),
        ("DROP TABLE alembic_version", "no backup of Heliograph"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    path: Path, saved: Path, change: str, said: str
) -> None:
    execute(saved, change)
    there = rows_of(path)
    with pytest.raises(BackupError, match=said):
        restore(path, saved, STAMP)
    assert rows_of(path) == there
    assert not backup.waiting_restore(path).exists()


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_a_file_that_is_no_store_is_refused(path: Path, content: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(content)
    with pytest.raises(BackupError, match=r"no(t a)? backup"):
        restore(path, other, STAMP)


def test_a_damaged_backup_is_refused(path: Path, saved: Path) -> None:
    image = bytearray(saved.read_bytes())
    image[20 * PAGE : 21 * PAGE] = b"\x55" * PAGE
    saved.write_bytes(image)
    with pytest.raises(BackupError, match=r"damaged|is not a backup"):
        restore(path, saved, STAMP)


def test_postgresql_is_told_the_tables_and_no_password() -> None:
    url = "postgresql+psycopg://me:hidden@db.example:5433/helio?sslmode=require&sslpassword=hidden"
    file = Path("x.dump")
    for command in (backup.postgresql_backup(url, file), backup.postgresql_restore(url, file)):
        assert "hidden" not in command
        assert "postgresql://me@db.example:5433/helio?sslmode=require" in command
    command = backup.postgresql_backup(url, file)
    assert [table for table in backup.table_names() if f"--table={table} " not in command] == []
