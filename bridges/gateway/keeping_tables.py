"""The tables of `gateway.db`, and how a file of an older version becomes one of today's.

All have the key that they are asked by and no rowid: reading a table to its end reads all of it, so
damage is found at the start and not later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Column, Float, Integer, LargeBinary, MetaData, Table, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection

APPLICATION_ID: Final = 0x48474757  # of the file's header: whose it is
VERSION: Final = 1  # user_version in the file's header

metadata: Final = MetaData()

note: Final = Table(
    "note",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("client_id", Text, primary_key=True),
    Column("peer", Text, nullable=False),
    Column("node", LargeBinary),
    Column("stage", Text, nullable=False),
    Column("clean_session", Integer, nullable=False),
    Column("keep_alive", Integer, nullable=False),
    Column("sleep", Integer, nullable=False),
    Column("will_topic", Text),  # NULL: no will
    Column("will_message", LargeBinary),
    Column("will_qos", Integer, nullable=False),
    Column("will_retain", Integer, nullable=False),
    Column("number", Integer, nullable=False),  # the higher, the later it was written
    sqlite_with_rowid=False,
)

topic: Final = Table(
    "topic",
    metadata,
    Column("gateway", Text, primary_key=True),
    Column("client_id", Text, primary_key=True),
    Column("topic_id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    sqlite_with_rowid=False,
)

approval: Final = Table(
    "approval",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("verdict", Text, nullable=False),
    Column("address", Text),  # a pattern; NULL: from anywhere
    sqlite_with_rowid=False,
)

quarantine: Final = Table(
    "quarantine",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("gateway", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_seen", Float, nullable=False),  # seconds since 1970
    sqlite_with_rowid=False,
)

baud: Final = Table(
    "baud",
    metadata,
    Column("key", Text, primary_key=True),
    Column("baud", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    sqlite_with_rowid=False,
)

told: Final = Table(  # retained topics that a broker may keep, and we have to remove one day
    "told",
    metadata,
    Column("topic", Text, primary_key=True),
    sqlite_with_rowid=False,
)

order: Final = Table(
    "instruction",  # "order" is a word of SQL
    metadata,
    Column("number", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("argument", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("made", Float, nullable=False),  # seconds since 1970
    Column("stage", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    sqlite_autoincrement=True,  # a number names one order for ever
)

# version -> what makes the next one of it
MIGRATIONS: Final[Mapping[int, Callable[[Connection], None]]] = {}


def create(connection: Connection) -> None:
    """All tables, in an empty file."""
    metadata.create_all(connection)
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")


def migrate(connection: Connection, version: int) -> None:
    """Make a file of `version` one of today's; in the transaction of who calls."""
    for each in range(version, VERSION):
        MIGRATIONS[each](connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
