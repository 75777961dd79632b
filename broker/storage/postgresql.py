"""PostgreSQL: one connection, made again when it is lost, its errors by their SQLSTATE.

An advisory lock of the connection keeps a second broker out of the database. A server that is not
there is waited for; only what a person must change (password, database, driver) is given up on.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from broker.storage.database import AWAY, FULL, LOCKED, READ_ONLY, CannotOpen, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from broker.storage.database import Salvage

LOCK_KEY = 0x48656C696F  # "Helio"
LONGEST_LOCK = 5.0  # seconds
BETWEEN_TRIES = 0.05
# A server that has vanished without a word is given up after 10 s, not after the kernel's 15 min.
CONNECTING = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
    "application_name": "heliograph",
}

# SQLSTATE, or the beginning of one, the longer first.
KINDS = (
    ("53100", FULL),
    ("25006", READ_ONLY),
    ("55P03", LOCKED),
    ("40", LOCKED),  # deadlock, serialization
    ("53", AWAY),  # no memory, no connection left
    ("57", AWAY),  # shutting down, crashed
    ("58", AWAY),  # the server's own disk fails
    ("08", AWAY),  # the connection
)
# The driver's own words for a connection that is gone: there is no state when nobody answers.
LOST = {"OperationalError", "InterfaceError", "ConnectionTimeout"}
# What a server says when waiting will not help.
HOPELESS = ("authentication failed", "does not exist", "pg_hba.conf", "permission denied")


class PostgreSQLDatabase:
    """The database at `url`."""

    longest_name = 2_600  # an entry of a B-tree has at most 2,704 bytes

    __slots__ = ("_connection", "_engine", "_version", "_was_open", "dialect", "read_only")

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        self._connection: Connection | None = None
        self._version = ""
        self._was_open = False
        self.read_only = False
        self.dialect = self._engine.dialect

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            self._connection = self._open()
            self._was_open = True
        return self._connection

    def name(self) -> str:
        return f"PostgreSQL {self._version}"

    def lock(self) -> None:
        """The lock is taken with each connection."""

    def make(self, create: Callable[[Connection], None]) -> None:
        """The server has a database, or has none: `CREATE DATABASE` is its administrator's."""

    def has_lost_its_log(self) -> bool:
        return False

    def set_aside(self, stamp: str) -> str:  # noqa: ARG002 - nothing is moved
        raise CannotOpen(
            "the database was written by a newer release of Heliograph: run that release, "
            "or give this one a database of its own in [store] url"
        )

    def salvage(self, salvage: Salvage, stamp: str) -> Any:  # noqa: ARG002 - as above
        raise CannotOpen(
            "the tables of the database are not complete: restore a backup, "
            "or give the broker an empty database in [store] url"
        )

    def prepare(self, synced: bool) -> None:
        if not synced:
            self.connection.exec_driver_sql("SET LOCAL synchronous_commit=off")

    def take_restore(self, stamp: str) -> str | None:  # noqa: ARG002 - see Database
        """pg_restore is the tool."""
        return None

    def explain(self, error: Exception) -> Exception:
        return explained(error) or error

    def forget(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.invalidate()
                connection.close()

    def make_room(self) -> bool:
        """Nor is its room ours to give."""
        return False

    def room(self) -> Trouble | None:
        """The server's disk is its administrator's care."""
        return None

    def sizes(self) -> dict[str, int]:
        size = self.connection.exec_driver_sql("SELECT pg_database_size(current_database())")
        return {"file_bytes": int(size.scalar_one()), "log_bytes": 0}

    def checkpoint(self) -> None:
        """The server does it."""

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _open(self) -> Connection:
        try:
            connection = self._engine.connect()
            try:
                self._take_lock(connection)
                self._take_settings(connection)
            except BaseException:
                connection.close()
                raise
        except DBAPIError as error:
            raise self._why_not(error) from error
        return connection

    def _why_not(self, error: DBAPIError) -> Exception:
        text = str(error.orig).strip()
        if not self._was_open and any(each in text for each in HOPELESS):
            return CannotOpen(f"the database cannot be opened, check [store] url: {text}")
        return explained(error) or error

    def _take_lock(self, connection: Connection) -> None:
        deadline = time.monotonic() + LONGEST_LOCK
        sql = "SELECT pg_try_advisory_lock(%s::bigint)"
        while not connection.exec_driver_sql(sql, (LOCK_KEY,)).scalar_one():
            connection.rollback()
            if time.monotonic() > deadline:
                raise self._locked()
            time.sleep(BETWEEN_TRIES)

    def _locked(self) -> Exception:
        """After a lost connection it is our own old one that the server has not yet given up."""
        if self._was_open:
            return Trouble(LOCKED, "the database is locked by another connection")
        return CannotOpen(
            "another broker uses this database. Stop it, or give each broker its own database"
        )

    def _take_settings(self, connection: Connection) -> None:
        """A server that answers before it has synced by default shall not make us lie."""
        if connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "off":
            connection.exec_driver_sql("SET synchronous_commit=on")
        version = connection.exec_driver_sql("SHOW server_version").scalar_one()
        self._version = version.split()[0]
        connection.commit()


def make_engine(url: str) -> Engine:
    try:
        parsed = make_url(url).set(drivername="postgresql+psycopg")
        engine = create_engine(
            parsed, poolclass=NullPool, paramstyle="format", connect_args=CONNECTING
        )
    except ArgumentError as error:
        raise CannotOpen(f"[store] url cannot be read: {error}") from error
    except ModuleNotFoundError as error:
        raise CannotOpen(
            'PostgreSQL needs a driver: pip install "heliograph[postgresql]"'
        ) from error
    return engine


def explained(error: Exception) -> Exception | None:
    """Trouble; None when it is a fault of ours."""
    cause = getattr(error, "orig", error)
    state: Any = getattr(cause, "sqlstate", None) or ""
    text = str(cause).strip()
    for beginning, kind in KINDS:
        if state.startswith(beginning):
            return Trouble(kind, text)
    if not state and type(cause).__name__ in LOST:
        return Trouble(AWAY, text)
    return None
