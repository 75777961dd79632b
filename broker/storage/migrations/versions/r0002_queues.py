"""Queues. Only in SQLite: in PostgreSQL they have a schema and a version of their own."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, SmallInteger, Text, text

revision = "0002"
down_revision = "0001"

NUMBER = BigInteger().with_variant(Integer(), "sqlite")
INSTANT = Float(53)


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.create_table(
        "queued",
        Column("number", NUMBER, primary_key=True, autoincrement=False),
        Column("queue", Text, nullable=False),
        Column("state", SmallInteger, nullable=False),
        Column("rank", SmallInteger, nullable=False),
        Column("due", INSTANT),
        Column("key", Text),
        Column("token", BigInteger),
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
        Column("content", BigInteger),
        Column("properties", LargeBinary, nullable=False),
        Column("payload", LargeBinary),
    )
    op.create_table(
        "queue_payload",
        Column("id", NUMBER, primary_key=True, autoincrement=False),
        Column("uses", BigInteger, nullable=False),
        Column("payload", LargeBinary, nullable=False),
    )
    op.create_table(
        "queue",
        Column("name", Text, primary_key=True),
        Column("policy", Text, nullable=False),
        Column("origin", Text, nullable=False),
        Column("bindings", Text, nullable=False),
        Column("mode", Text, nullable=False),
        Column("active", Text),
        Column("active_until", INSTANT),
        Column("tokens", INSTANT),
        Column("tokens_at", INSTANT),
    )
    op.create_table(
        "queue_counter",
        Column("queue", Text, primary_key=True),
        Column("slot", SmallInteger, primary_key=True, autoincrement=False),
        Column("messages", BigInteger, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "queue_seen",
        Column("queue", Text, primary_key=True),
        Column("dedup_id", Text, primary_key=True),
        Column("until", INSTANT, nullable=False),
        sqlite_with_rowid=False,
    )
    _indexes()


def _indexes() -> None:
    for name, columns, where in (
        ("queued_ready", ["queue", "rank", "number"], "state = 0"),
        ("queued_busy", ["queue", "state", "due"], "state <> 0"),
        ("queued_key", ["queue", "key", "number"], "key IS NOT NULL"),
        ("queued_expiry", ["queue", "expires_at"], "expires_at IS NOT NULL"),
    ):
        op.create_index(name, "queued", columns, sqlite_where=text(where))
    op.create_index("queue_seen_until", "queue_seen", ["until"])
