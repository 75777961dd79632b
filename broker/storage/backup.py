"""Copies of a store: made while the broker runs, checked, and put back.

Rule kept here: a copy has its final name only when it is whole, checked and synced. A restore
writes over nothing: what was there is kept under another name. Problems are a `BackupError` that
says what to do.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import tempfile
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url

from broker.storage.database import UNREADABLE_SCHEMA
from broker.storage.files import free_name, switch, sync, waiting_restore
from broker.storage.tables import QUEUE_SCHEMA, REVISION, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES_AT_A_TIME = 1_000
BUSY_TIMEOUT = 5.0  # seconds


class BackupError(Exception):
    """Why there is no backup or restore, and what to do."""


# ---- SQLite ----


def back_up(path: Path, target: Path) -> int:
    """Copy the store at `path` to `target` while it is in use; the size of the copy in bytes."""
    if not path.exists():
        raise BackupError(f"there is no store at {path}: choose it with -c FILE or --data DIR")
    if target.exists() and target.samefile(path):
        raise BackupError(f"{target} is the store itself: choose another file")
    copy(path, target)
    return target.stat().st_size


def restore(path: Path, backup: Path, stamp: str) -> str:
    """Make `backup` the store at `path`, now or at the broker's next start; what was done."""
    check_backup(backup)
    if not path.parent.is_dir():
        raise BackupError(f"there is no folder {path.parent}: make it, or choose with --data DIR")
    waiting = waiting_restore(path)
    copy(backup, waiting, like=path)
    with lock(path) as is_ours:
        if is_ours:
            return take_waiting_restore(path, stamp) or f"{path} is the backup now."
    return (
        f"The broker is running. It takes the backup when it is started the next time: restart it, "
        f"or delete {waiting} if you have changed your mind."
    )


def take_waiting_restore(path: Path, stamp: str) -> str | None:
    """Put a backup that waits in place; a sentence for the log, None if none waits.

    For who holds the lock, before anything is opened; and only when the broker itself starts, for a
    running broker knows what it has stored.
    """
    waiting = waiting_restore(path)
    if not waiting.exists():
        return None
    kept = free_name(path, f"before-restore-{stamp}")
    switch(path, waiting, kept)
    where = f"; what was there before is {kept}" if kept.exists() else ""
    return f"The backup was put in place of {path}{where}."


def check_backup(backup: Path) -> None:
    """Raise BackupError unless the file is a whole store that this release can use."""
    if not backup.is_file():
        raise BackupError(f"there is no file {backup}")
    try:
        with closing(_reader(backup)) as connection:
            _check_whole(connection, backup)
            _check_schema(connection, backup)
    except (sqlite3.Error, UNREADABLE_SCHEMA) as error:
        raise BackupError(f"{backup} is not a backup: {error}. Choose another one") from error


def copy(source: Path, target: Path, like: Path | None = None) -> None:
    """A checked and synced copy of a store that may be in use, readable by its owner only.

    `like`: a file whose owner is to own the copy, too.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror}") from error
    os.close(handle)
    draft = Path(name)
    try:
        _copy_pages(source, draft)
        _give_to_owner(draft, like)
        sync(draft)
        draft.replace(target)
        sync(target.parent)
    except (sqlite3.Error, OSError, UNREADABLE_SCHEMA) as error:
        raise BackupError(f"{source} could not be copied to {target}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def _copy_pages(source: Path, draft: Path) -> None:
    with closing(_reader(source)) as reader, closing(sqlite3.connect(draft)) as writer:
        # One moment of the store is copied: within a transaction nothing new is seen, and
        # the copying need not begin again whenever the broker has written.
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        reader.backup(writer, pages=PAGES_AT_A_TIME)
        writer.execute("PRAGMA journal_mode = DELETE").fetchone()  # one file, without a log
        _check_whole(writer, source)
        with suppress(sqlite3.OperationalError):  # no such table: for `check_backup` to say
            writer.execute("UPDATE meta SET clean = 1")
        writer.commit()


def _check_whole(connection: sqlite3.Connection, path: Path) -> None:
    ((verdict,),) = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if verdict != "ok":
        raise BackupError(
            f"{path} is damaged ({verdict}). Take an older backup; a broker that is started with a "
            "damaged store saves what can be read"
        )


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    if not {"alembic_version", "meta", "session"} <= names:
        raise BackupError(f"{path} is a database, but no backup of Heliograph. Choose another one")
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    revision = row[0] if row else ""
    if revision == REVISION:
        return
    from broker.storage import migrations  # noqa: PLC0415 - slow, and rarely needed

    if not migrations.knows(revision):
        raise BackupError(
            f"{path} was made by a newer Heliograph (schema {revision}, known here: {REVISION}). "
            "Update this one first"
        )


def _reader(path: Path) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)


def _give_to_owner(draft: Path, like: Path | None) -> None:
    """Root may restore: the broker must still be able to read it."""
    if like is None:
        return
    status = (like if like.exists() else like.parent).stat()
    with suppress(PermissionError):
        os.chown(draft, status.st_uid, status.st_gid)


@contextmanager
def lock(path: Path) -> Iterator[bool]:
    """Whether no broker uses the store; while it is true none can begin to."""
    try:
        handle = os.open(f"{path}.lock", os.O_RDWR)
    except FileNotFoundError:
        yield True  # no broker has ever been here
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


# ---- PostgreSQL ----


def postgresql_backup(url: str, file: Path) -> str:
    """The command that backs our tables up; without the password."""
    tables = " ".join(f"--table={name}" for name in table_names())
    tables += f' --table="{QUEUE_SCHEMA}.*"'  # its functions are made again at the start
    return f'pg_dump --format=custom {tables} --file="{file}" "{without_password(url)}"'


def postgresql_restore(url: str, file: Path) -> str:
    """The command that puts such a backup back; without the password."""
    return (
        "pg_restore --clean --if-exists --no-owner --single-transaction "
        f'--dbname="{without_password(url)}" "{file}"'
    )


def table_names() -> list[str]:
    """Everything of ours in a database."""
    return [*metadata.tables, "alembic_version"]


def without_password(url: str) -> str:
    """The URL as PostgreSQL's own tools read it; they ask for the password, or read PGPASSWORD."""
    parsed = make_url(url)
    query = {key: value for key, value in parsed.query.items() if "pass" not in key.lower()}
    bare = parsed.set(drivername="postgresql", query=query)._replace(password=None)
    return bare.render_as_string(hide_password=False)
