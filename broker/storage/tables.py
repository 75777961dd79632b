"""The tables, one schema for SQLite and PostgreSQL. Whoever changes them adds a migration.

A message is stored once. Its audience is a set of sessions (`member`); what waits for a session is
what its audiences hold above its `cursor`. What is sent and not finished is in `inflight`.
Texts that are keys compare by their bytes, in both databases.

The queues' tables are a group of their own: in SQLite they lie beside the others, in PostgreSQL in
the schema `heliograph`, which several brokers share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    text,
)

if TYPE_CHECKING:
    from sqlalchemy import Dialect

# What `alembic_version` says of this schema: the newest file in migrations/versions.
REVISION = "0002"

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

# -- queues ----------------------------------------------------------------------------------------

queue_metadata = MetaData()
QUEUE_SCHEMA = "heliograph"  # where they are in PostgreSQL, shared by all brokers of the database

READY, LEASED, WAITING, DELAYED = range(4)  # `queued.state`

# What is looked up stands before what may be long: a row is read up to the last column wanted.
queued = Table(
    "queued",
    queue_metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("queue", BYTEWISE, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("rank", SmallInteger, nullable=False),  # 9 - priority
    # Leased: its end (NULL: none); delayed, or waiting and then delayed: when it becomes ready.
    Column("due", INSTANT),
    Column("key", BYTEWISE),
    Column("token", BigInteger),  # of the lease
    Column("consumer", Text),
    Column("acquisitions", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("enqueued_at", INSTANT, nullable=False),
    Column("expires_at", INSTANT),
    Column("dead_from", Text),
    Column("dead_reason", Text),
    Column("dead_at", INSTANT),
    Column("topic", Text, nullable=False),
    Column("first", SmallInteger, nullable=False),
    Column("publisher", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("content", BigInteger),  # where the payload is, when it is not here
    Column("properties", LargeBinary, nullable=False),
    Column("payload", LargeBinary),
)
# What is ready, in the order of its delivery: a lease takes it from the front.
Index(
    "queued_ready",
    *(queued.c.queue, queued.c.rank, queued.c.number),
    sqlite_where=text("state = 0"),
    postgresql_where=text("state = 0"),
)
# What is not, by what it waits for.
Index(
    "queued_busy",
    *(queued.c.queue, queued.c.state, queued.c.due),
    sqlite_where=text("state <> 0"),
    postgresql_where=text("state <> 0"),
)
Index(
    "queued_key",
    *(queued.c.queue, queued.c.key, queued.c.number),
    sqlite_where=text("key IS NOT NULL"),
    postgresql_where=text("key IS NOT NULL"),
)
Index(
    "queued_expiry",
    *(queued.c.queue, queued.c.expires_at),
    sqlite_where=text("expires_at IS NOT NULL"),
    postgresql_where=text("expires_at IS NOT NULL"),
)

queue_payload = Table(  # that several queues share, or that is large
    "queue_payload",
    queue_metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=False),
    Column("uses", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

queue = Table(
    "queue",
    queue_metadata,
    Column("name", BYTEWISE, primary_key=True),
    Column("policy", Text, nullable=False),  # JSON
    Column("origin", Text, nullable=False),  # config or client
    Column("bindings", Text, nullable=False),  # JSON: topic filters
    Column("mode", Text, nullable=False),  # running, paused or draining
    Column("active", Text),  # the one consumer, where there may be only one
    Column("active_until", INSTANT),
    Column("tokens", INSTANT),  # deliveries that the rate allows at once; NULL: all it ever does
    Column("tokens_at", INSTANT),
)

queue_counter = Table(
    "queue_counter",
    queue_metadata,
    Column("queue", BYTEWISE, primary_key=True),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("messages", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

queue_seen = Table(  # ids of messages that would come twice
    "queue_seen",
    queue_metadata,
    Column("queue", BYTEWISE, primary_key=True),
    Column("dedup_id", BYTEWISE, primary_key=True),
    Column("until", INSTANT, nullable=False),
    Index("queue_seen_until", "until"),
    sqlite_with_rowid=False,
)


def all_tables(dialect: Dialect) -> list[Table]:
    """Everything that lies in one place: not the queues of PostgreSQL."""
    queues = queue_metadata.sorted_tables if dialect.name == "sqlite" else []
    return [*metadata.sorted_tables, *queues]
