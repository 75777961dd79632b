"""The schema `heliograph` of a PostgreSQL database: tables and functions as this release has them.

Several brokers may start at once: who comes first installs, under a lock, and the others find it
done. What a newer release has installed is left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.queues.policy import QueuePolicy
from broker.storage.database import CannotOpen

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from broker.storage.database import Row

SCHEMA = "heliograph"
# What `heliograph.version` says. Raise it whenever a .sql file changes.
VERSION = 5
LOCK = 0x48656C6971  # "Heliq"
SCRIPTS = ("tables", "rules", "batches", "administration", "door")

TAKE_LOCK = "SELECT pg_advisory_xact_lock(%s)::text"
HAS_SCHEMA = "SELECT to_regnamespace(quote_ident(%s)) IS NOT NULL"
HAS_VERSION = f"SELECT to_regclass('{SCHEMA}.version') IS NOT NULL"
GET_VERSION = f"SELECT coalesce(max(number), 0) FROM {SCHEMA}.version"  # noqa: S608 - our own name
SET_VERSION = f"TRUNCATE {SCHEMA}.version; INSERT INTO {SCHEMA}.version VALUES ({VERSION})"  # noqa: S608
MAY_CREATE = (
    "SELECT has_database_privilege(current_database(), 'CREATE'), current_user, current_database()"
)


def install(connection: Connection) -> None:
    """In the connection's transaction. Raises CannotOpen."""
    if installed(connection) != VERSION:
        fetch(connection, TAKE_LOCK, (LOCK,))
        if installed(connection) != VERSION:
            make_schema(connection, SCHEMA)
            for name in SCRIPTS:
                run_script(connection, script(name))
            run_script(connection, SET_VERSION)


def installed(connection: Connection) -> int:
    """The version that is there, 0 for none. Raises CannotOpen for one that is newer."""
    if not fetch(connection, HAS_VERSION)[0][0]:
        return 0
    version = int(fetch(connection, GET_VERSION)[0][0])
    if version > VERSION:
        raise CannotOpen(
            f"the queues in this database (schema {SCHEMA}, version {version}) were made by a "
            f"newer release of Heliograph, and this one knows {VERSION}: update this broker"
        )
    return version


def make_schema(connection: Connection, name: str) -> None:
    """Unless it is there. Raises CannotOpen when that is somebody else's to do."""
    if fetch(connection, HAS_SCHEMA, (name,))[0][0]:
        return
    allowed, user, database = fetch(connection, MAY_CREATE)[0]
    if not allowed:
        raise CannotOpen(
            f"the schema {name} is not there, and {user} may not create it. Let an administrator "
            f'say: CREATE SCHEMA "{name}" AUTHORIZATION "{user}"; in the database {database}, and '
            "start again"
        )
    run_script(connection, f"CREATE SCHEMA IF NOT EXISTS {quoted(name)}")


def quoted(name: str) -> str:
    """The name of something, as SQL has it."""
    inner = name.replace('"', '""')
    return f'"{inner}"'


def script(name: str) -> str:
    """One of SCRIPTS."""
    text = Path(__file__).with_name(f"{name}.sql").read_text(encoding="utf-8")
    default = QueuePolicy()
    text = text.replace("{{DEFAULT_POLICY}}", default.to_json())
    return text.replace("{{DEAD_LETTER_POLICY}}", QueuePolicy.for_dead_letters(default).to_json())


def run_script(connection: Connection, text: str) -> None:
    """Many statements, in which a % is a %."""
    cursor: Any = connection.connection.cursor()
    with cursor:
        cursor.execute(text)


def fetch(connection: Connection, text: str, values: Row = ()) -> list[Any]:
    """By the driver itself, within the connection's transaction: what SQLAlchemy does for a
    statement costs more than most of these, and marshal refuses its rows.
    """
    if not connection.in_transaction():
        connection.begin()
    driver: Any = connection.connection.driver_connection
    return list(driver.execute(text, values).fetchall())
