"""PostgreSQL: one connection, made again when it is lost, its errors by their SQLSTATE.

An advisory lock of the connection keeps a second broker out of the schema that holds the sessions;
the queues lie in a schema that all brokers on a database share, and each listens to the others. A
server that is not there is waited for; only what a person must change (password, database, driver)
is given up on.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from broker.storage.database import (
    AWAY,
    FULL,
    LOCKED,
    READ_ONLY,
    CannotOpen,
    Trouble,
    driver_errors,
)
from broker.storage.queues.installing import SCHEMA as QUEUES
from broker.storage.queues.installing import make_schema, quoted
from broker.storage.queues.postgresql import CHANNEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine

    from broker.storage.database import Salvage

LOCK_KEY = 0x48656C696F  # "Helio"
TAKE_LOCK = """
    SELECT pg_try_advisory_lock(CASE current_schema() WHEN 'public' THEN %s::bigint
        ELSE hashtextextended(current_schema(), %s::bigint) END)
"""
# A role called `heliograph` has the queues' schema in its path, where the sessions must not go.
PATH = """
    SELECT string_agg(quote_ident(name), ', ' ORDER BY place)
    FROM unnest(current_schemas(false)) WITH ORDINALITY AS each (name, place) WHERE name <> %s
"""
ALL_QUEUES = f"SELECT name FROM {QUEUES}.queue ORDER BY name"  # noqa: S608 - our own name
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
    """The database at `url`. `schema`: where the sessions are; "": where the role's path leads."""

    longest_name = 2_600  # an entry of a B-tree has at most 2,704 bytes

    __slots__ = (
        *("_connection", "_engine", "_has_missed", "_notices", "_schema", "_version", "_was_open"),
        *("dialect", "read_only"),
    )

    def __init__(self, url: str, schema: str = "") -> None:
        if schema == QUEUES or schema.startswith("pg_"):
            raise CannotOpen(f"[store] schema cannot be {schema}: choose another name")
        self._engine = make_engine(url)
        self._schema = schema
        self._connection: Connection | None = None
        self._notices: dict[str, None] = {}  # queues that others have called out
        self._has_missed = False  # what was called while nobody listened
        self._version = ""
        self._was_open = False
        self.read_only = False
        self.dialect = self._engine.dialect

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            self._connection = self._open()
            self._has_missed = self._was_open
            self._was_open = True
        return self._connection

    @property
    def notices(self) -> int | None:
        return None if self._connection is None else int(driver(self._connection).fileno())

    def take_notices(self) -> list[str]:
        """After a lost connection: all queues."""
        for _ in range(2):  # once more, when the connection is found to be lost
            try:
                self._hear()
                break
            except (driver_errors(self.dialect), DBAPIError, Trouble, CannotOpen):
                self.forget()  # the next batch connects again, and says what is wrong
        notices, self._notices = self._notices, {}
        return list(notices)

    def _hear(self) -> None:
        if self._connection is None and not self._was_open:
            return
        connection = self.connection
        if self._has_missed:
            self._notices.update(dict.fromkeys(all_queues(connection)))
            self._has_missed = False
        raw = driver(connection).pgconn
        raw.consume_input()
        while (notice := raw.notifies()) is not None:
            self._notices[notice.extra.decode()] = None

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
                self._take_path(connection)
                self._take_lock(connection)
                self._take_settings(connection)
                self._listen(connection)
            except BaseException:
                connection.close()
                raise
        except (DBAPIError, driver_errors(self.dialect)) as error:
            raise self._why_not(error) from error
        return connection

    def _why_not(self, error: Exception) -> Exception:
        text = str(getattr(error, "orig", error)).strip()
        if not self._was_open and any(each in text for each in HOPELESS):
            return CannotOpen(f"the database cannot be opened, check [store] url: {text}")
        return explained(error) or error

    def _take_path(self, connection: Connection) -> None:
        if self._schema:
            make_schema(connection, self._schema)
            path = quoted(self._schema)
        else:
            path = connection.exec_driver_sql(PATH, (QUEUES,)).scalar_one()
        if path is None:
            raise CannotOpen("no schema is open to the broker: name one in [store] schema")
        connection.exec_driver_sql("SELECT set_config('search_path', %s, false)", (path,))
        connection.commit()

    def _take_lock(self, connection: Connection) -> None:
        deadline = time.monotonic() + LONGEST_LOCK
        keys = (LOCK_KEY, LOCK_KEY)
        while not connection.exec_driver_sql(TAKE_LOCK, keys).scalar_one():
            connection.rollback()
            if time.monotonic() > deadline:
                raise self._locked()
            time.sleep(BETWEEN_TRIES)

    def _locked(self) -> Exception:
        """After a lost connection it is our own old one that the server has not yet given up."""
        if self._was_open:
            return Trouble(LOCKED, "the database is locked by another connection")
        return CannotOpen(
            "another broker uses this database. Stop it, or give each broker its own database, or "
            "its own [store] schema"
        )

    def _take_settings(self, connection: Connection) -> None:
        """A server that answers before it has synced by default shall not make us lie."""
        if connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "off":
            connection.exec_driver_sql("SET synchronous_commit=on")
        version = connection.exec_driver_sql("SHOW server_version").scalar_one()
        self._version = version.split()[0]
        connection.commit()

    def _listen(self, connection: Connection) -> None:
        driver(connection).add_notify_handler(self._on_notice)
        connection.exec_driver_sql(f"LISTEN {CHANNEL}")
        connection.commit()

    def _on_notice(self, notice: Any) -> None:
        """One that came with the answer to something else."""
        self._notices[notice.payload] = None


def driver(connection: Connection) -> Any:
    """The driver's own connection."""
    return connection.connection.driver_connection


def all_queues(connection: Connection) -> list[str]:
    with connection.begin():
        return list(connection.exec_driver_sql(ALL_QUEUES).scalars())


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
