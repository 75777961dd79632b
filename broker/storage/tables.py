"""The tables, one schema for SQLite and PostgreSQL. Whoever changes them adds a migration.

A message is stored once. Its audience is a set of sessions (`member`); what waits for a session is
what its audiences hold above its `cursor`. What is sent and not finished is in `inflight`.
Texts that are keys compare by their bytes, in both databases.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

# What `alembic_version` says of this schema: the newest file in migrations/versions.
REVISION = "0001"

NUMBER = BigInteger().with_variant(Integer(), "sqlite")  # SQLite: INTEGER is the row id itself
BYTEWISE = Text().with_variant(Text(collation="C"), "postgresql")  # SQLite does so by itself
INSTANT = Float(53)  # seconds on the store's timeline

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=False),  # always 1
    Column("position", BigInteger, nullable=False),
    Column("next_number", BigInteger, nullable=False),
    Column("next_session", BigInteger, nullable=False),
    Column("next_audience", BigInteger, nullable=False),
    Column("store_time", INSTANT, nullable=False),
    Column("wall_time", INSTANT, nullable=False),
    Column("clean", SmallInteger, nullable=False),  # 1: closed properly, nothing is in the log
    implicit_returning=False,
)

session = Table(
    "session",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=False),
    # NULL: the session has ended, but what it leaves to others has not been given to all of them.
    Column("client_id", BYTEWISE, unique=True),
    Column("username", Text),
    Column("expiry_interval", BigInteger, nullable=False),
    Column("expires_at", INSTANT),
    Column("cursor", BigInteger, nullable=False),
)

subscription = Table(
    "subscription",
    metadata,
    Column("session", BigInteger, primary_key=True, autoincrement=False),
    Column("filter", BYTEWISE, primary_key=True),
    Column("qos", SmallInteger, nullable=False),
    Column("no_local", SmallInteger, nullable=False),
    Column("retain_as_published", SmallInteger, nullable=False),
    Column("identifiers", Text, nullable=False),
    Column("replaying", SmallInteger, nullable=False),
    sqlite_with_rowid=False,
)

member = Table(
    "member",
    metadata,
    Column("audience", BigInteger, primary_key=True, autoincrement=False),
    Column("session", BigInteger, primary_key=True, autoincrement=False),
    Column("qos", SmallInteger, nullable=False),
    Column("retain_as_published", SmallInteger, nullable=False),
    Column("identifiers", Text, nullable=False),
    Column("filter", Text, nullable=False),
    Column("share_name", Text, nullable=False),
    Index("member_session", "session"),
    sqlite_with_rowid=False,
)

message = Table(
    "message",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("audience", BigInteger),  # NULL: for one session only, deleted by its number
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("properties", LargeBinary, nullable=False),
    Column("first", SmallInteger, nullable=False),
    Column("publisher", Text, nullable=False),
    Column("expires_at", INSTANT),
    Column("size", BigInteger, nullable=False),
)
# Backlogs are paged, counted and added up in this index alone.
Index("message_audience", message.c.audience, message.c.number, message.c.size)
_EXPIRES = message.c.expires_at.is_not(None)
Index(
    "message_expiry",
    message.c.audience,
    message.c.expires_at,
    sqlite_where=_EXPIRES,  # a message that never expires costs nothing here
)

inflight = Table(
    "inflight",
    metadata,
    Column("session", BigInteger, primary_key=True, autoincrement=False),
    Column("packet_id", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    Column("first", SmallInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),  # 0 published, 1 released
    Column("place", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

received = Table(
    "received",
    metadata,
    Column("session", BigInteger, primary_key=True, autoincrement=False),
    Column("packet_id", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

retained = Table(
    "retained",
    metadata,
    Column("topic", BYTEWISE, primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    Column("properties", LargeBinary, nullable=False),
    Column("first", SmallInteger, nullable=False),
    Column("publisher", Text, nullable=False),
    Column("expires_at", INSTANT),
    Column("size", BigInteger, nullable=False),
    Index("retained_size", "size"),  # a start counts and adds up a million without their payloads
)

will = Table(
    "will",
    metadata,
    Column("client_id", BYTEWISE, primary_key=True),
    Column("username", Text),
    Column("topic", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("qos", SmallInteger, nullable=False),
    Column("retain", SmallInteger, nullable=False),
    Column("properties", LargeBinary, nullable=False),
    Column("delay", BigInteger, nullable=False),
    Column("due_at", INSTANT),
)
