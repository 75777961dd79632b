"""SQLite: one file with a write-ahead log, held by one process, its errors by their codes.

The lock is an `flock` of a file beside it: SQLite's own locks are given back between transactions,
and two brokers on one folder must never both believe that they own it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from broker.storage.database import (
    AWAY,
    FULL,
    LOCKED,
    NO_TEXT,
    READ_ONLY,
    UNREADABLE_SCHEMA,
    CannotOpen,
    Damaged,
    Trouble,
)
from broker.storage.files import waiting_restore
from broker.storage.reserve import Reserve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from broker.storage.database import Salvage

LONGEST_LOCK = 5.0  # seconds: a killed broker's store process may still be finishing
BETWEEN_TRIES = 0.05
# 16 MiB of log before it is moved into the main file: a page that is written often is moved once.
CHECKPOINT_PAGES = 4096
LARGEST_LOG = 64 << 20  # bytes that the log keeps on the disk when it is empty again
# Bytes above max_size, so that what has been taken in already, and what makes room, can be written.
# The broker takes in no more when it knows; a file that cannot grow would keep out both.
RESERVE = 128 << 20

OPEN_MODES = ("mode=rwc", "mode=ro", "mode=ro&immutable=1")
IMMUTABLE = OPEN_MODES[-1]
SETTINGS = (
    f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit={LARGEST_LOG}",
    "PRAGMA busy_timeout=1000",
    "PRAGMA cache_size=-8192",
    "PRAGMA synchronous=FULL",
)

KINDS = {
    sqlite3.SQLITE_FULL: FULL,
    sqlite3.SQLITE_READONLY: READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: AWAY,
    sqlite3.SQLITE_IOERR: AWAY,
    sqlite3.SQLITE_PERM: AWAY,
    sqlite3.SQLITE_PROTOCOL: LOCKED,
    sqlite3.SQLITE_BUSY: LOCKED,
    sqlite3.SQLITE_LOCKED: LOCKED,
}
BROKEN = {
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
}


class SQLiteDatabase:
    """The file at `path`, kept below `max_size` bytes (0: as large as the disk). Where another
    process writes, too, `begin` is BEGIN IMMEDIATE: who reads first may write too late.
    """

    longest_name = 0
    notices = None  # nobody else writes

    __slots__ = (
        "_connection",
        "_engine",
        "_lock",
        "_max_size",
        "_mode",
        "_reserve",
        "_synced",
        "dialect",
        "path",
    )

    def __init__(self, path: Path, max_size: int = 0, begin: str = "BEGIN") -> None:
        self.path = path
        self._max_size = max_size
        self._mode = OPEN_MODES[0]
        self._engine = create_engine("sqlite://", creator=self._connect, poolclass=NullPool)
        # The driver begins transactions by guessing from the statement: here they are begun by us.
        event.listen(self._engine, "begin", lambda begun: begun.exec_driver_sql(begin))
        self._connection: Connection | None = None
        self._synced = True
        self._lock: int | None = None
        self._reserve = Reserve(path)
        self.dialect = self._engine.dialect

    @property
    def log_path(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    @property
    def read_only(self) -> bool:
        return self._mode != OPEN_MODES[0]

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def take_notices(self) -> list[str]:
        return []

    def name(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def lock(self) -> None:
        """For the life of the process. Raises CannotOpen when another one keeps it."""
        if self._lock is not None:
            return
        self._lock = self._open_lock()
        deadline = time.monotonic() + LONGEST_LOCK
        while self._lock is not None and not is_locked(self._lock):
            if time.monotonic() > deadline:
                raise CannotOpen(
                    f"another broker uses this folder: {self.path.parent}. "
                    "Stop it, or give each broker its own data_dir"
                )
            time.sleep(BETWEEN_TRIES)

    def make(self, create: Callable[[Connection], None]) -> None:
        if size_of(self.path):
            return
        if self.path.exists() or size_of(self.log_path):
            self.path.touch()  # a log without its file: one is there to be moved aside with it
            raise Damaged("the file is empty")
        new = self.path.with_name(self.path.name + ".new")
        with self._explained_making():
            new.unlink(missing_ok=True)
            engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(new))
            with engine.begin() as connection:
                create(connection)
            engine.dispose()
            new.replace(self.path)
            sync_folder(self.path.parent)

    def has_lost_its_log(self) -> bool:
        return not self.log_path.exists()

    def set_aside(self, stamp: str) -> str:
        self.forget()
        aside = self.path.with_name(f"{self.path.name}.newer-{stamp}")
        for suffix in ("-wal", "-shm", ""):  # the file last: an interrupted move is done again
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).rename(f"{aside}{suffix}")
        return str(aside)

    def salvage(self, salvage: Salvage, stamp: str) -> Any:
        self.forget()
        return salvage(self.path, stamp)

    def prepare(self, synced: bool) -> None:
        if synced != self._synced:
            level = "FULL" if synced else "NORMAL"
            self._run(f"PRAGMA synchronous={level}")
            self._synced = synced

    def take_restore(self, stamp: str) -> str | None:
        if not waiting_restore(self.path).exists():
            return None
        from broker.storage.backup import take_waiting_restore  # noqa: PLC0415 - rarely needed

        return take_waiting_restore(self.path, stamp)

    def explain(self, error: Exception) -> Exception:
        return explained(getattr(error, "orig", error)) or error

    def forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.rollback()
            connection.invalidate()
            connection.close()

    def room(self) -> Trouble | None:
        """Below the limit nothing; above it, where only the reserve has let it in, Trouble."""
        if not self.read_only and not self._reserve.fill():
            return Trouble(FULL, f"the disk of {self.path} is full")
        if not self._max_size:
            return None
        page, used, free = (
            self._run(f"PRAGMA {name}") for name in ("page_size", "page_count", "freelist_count")
        )
        size = page * (used - free)
        if size <= self._max_size:
            return None
        return Trouble(FULL, f"{self.path} holds {size} bytes, max_size is {self._max_size}")

    def make_room(self) -> bool:
        """Give up the reserve; whether there was one."""
        return self._reserve.release()

    def sizes(self) -> dict[str, int]:
        return {
            "file_bytes": size_of(self.path),
            "log_bytes": size_of(self.log_path),
        }

    def checkpoint(self) -> None:
        self._run("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Without a reader left, SQLite itself takes the log into the main file and removes it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if not self.read_only:
            self._reserve.release()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def _run(self, pragma: str) -> int:
        """Past SQLAlchemy, which would begin a transaction: these work only outside of one."""
        made = self.connection.connection.driver_connection
        assert isinstance(made, sqlite3.Connection)
        try:
            row = made.execute(pragma).fetchone()
        except sqlite3.Error as error:
            self.forget()
            raise explained(error) or error from error
        return int(row[0]) if row else 0

    def _open(self) -> Connection:
        """Writable if it can be; a read-only file or folder is at least read."""
        self._synced = True
        failure: Exception | None = None
        for self._mode in OPEN_MODES:
            if self._mode == IMMUTABLE and size_of(self.log_path):
                break  # what is in the log would silently be missing
            try:
                return self._engine.connect()
            except (DBAPIError, UNREADABLE_SCHEMA) as error:
                failure = failure or explained(getattr(error, "orig", error)) or error
                if isinstance(failure, Damaged):
                    break
        self._mode = OPEN_MODES[0]
        assert failure is not None
        raise failure

    def _connect(self) -> sqlite3.Connection:
        made = sqlite3.connect(f"file:{quoted(self.path)}?{self._mode}", uri=True)
        try:
            made.isolation_level = None
            for setting in SETTINGS:
                made.execute(setting)
            made.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if self._mode == OPEN_MODES[0]:
                made.execute("PRAGMA journal_mode=WAL")
            self._limit(made)
        except sqlite3.Error:
            made.close()
            raise
        return made

    def _limit(self, made: sqlite3.Connection) -> None:
        if self._max_size:
            (page,) = made.execute("PRAGMA page_size").fetchone()
            made.execute(f"PRAGMA max_page_count={(self._max_size + RESERVE) // page}")

    @contextlib.contextmanager
    def _explained_making(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error, DBAPIError) as error:
            reason = explained(getattr(error, "orig", error))
            is_full = getattr(error, "errno", None) == errno.ENOSPC
            if is_full or (isinstance(reason, Trouble) and reason.kind == FULL):
                raise Trouble(FULL, f"{self.path} cannot be made: {error}") from error
            raise CannotOpen(
                f"{self.path} cannot be made: {error}. Make the folder writable for the broker, "
                "or set [broker] data_dir"
            ) from error

    def _open_lock(self) -> int | None:
        path = self.path.with_name(self.path.name + ".lock")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
        for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
            with contextlib.suppress(OSError):
                return os.open(path, flags | os.O_CLOEXEC, 0o600)
        return None  # a folder that cannot be written to has no two writers


def explained(error: BaseException | None) -> Exception | None:
    """Trouble or Damaged; None when it is a fault of ours."""
    if isinstance(error, UNREADABLE_SCHEMA):
        return Damaged(NO_TEXT)
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    if code in BROKEN or (code & 0xFF) in BROKEN:
        return Damaged(str(error))
    kind = KINDS.get(code & 0xFF)
    return Trouble(kind, str(error)) if kind else None


def is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
