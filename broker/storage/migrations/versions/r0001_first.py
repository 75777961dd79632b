"""The first schema. It stands as it was released: later changes are later revisions."""

from alembic import op
from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, SmallInteger, Text, text

revision = "0001"
down_revision = None

NUMBER = BigInteger().with_variant(Integer(), "sqlite")
BYTEWISE = Text().with_variant(Text(collation="C"), "postgresql")
INSTANT = Float(53)


def upgrade() -> None:
    op.create_table(
        "meta",
        Column("id", NUMBER, primary_key=True, autoincrement=False),
        Column("position", BigInteger, nullable=False),
        Column("next_number", BigInteger, nullable=False),
        Column("next_session", BigInteger, nullable=False),
        Column("next_audience", BigInteger, nullable=False),
        Column("store_time", INSTANT, nullable=False),
        Column("wall_time", INSTANT, nullable=False),
        Column("clean", SmallInteger, nullable=False),
    )
    op.create_table(
        "session",
        Column("id", NUMBER, primary_key=True, autoincrement=False),
        Column("client_id", BYTEWISE, unique=True),
        Column("username", Text),
        Column("expiry_interval", BigInteger, nullable=False),
        Column("expires_at", INSTANT),
        Column("cursor", BigInteger, nullable=False),
    )
    op.create_table(
        "subscription",
        Column("session", BigInteger, primary_key=True, autoincrement=False),
        Column("filter", BYTEWISE, primary_key=True),
        Column("qos", SmallInteger, nullable=False),
        Column("no_local", SmallInteger, nullable=False),
        Column("retain_as_published", SmallInteger, nullable=False),
        Column("identifiers", Text, nullable=False),
        Column("replaying", SmallInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "member",
        Column("audience", BigInteger, primary_key=True, autoincrement=False),
        Column("session", BigInteger, primary_key=True, autoincrement=False),
        Column("qos", SmallInteger, nullable=False),
        Column("retain_as_published", SmallInteger, nullable=False),
        Column("identifiers", Text, nullable=False),
        Column("filter", Text, nullable=False),
        Column("share_name", Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "message",
        Column("number", NUMBER, primary_key=True, autoincrement=False),
        Column("audience", BigInteger),
        Column("topic", Text, nullable=False),
        Column("payload", LargeBinary, nullable=False),
        Column("properties", LargeBinary, nullable=False),
        Column("first", SmallInteger, nullable=False),
        Column("publisher", Text, nullable=False),
        Column("expires_at", INSTANT),
        Column("size", BigInteger, nullable=False),
    )
    op.create_table(
        "inflight",
        Column("session", BigInteger, primary_key=True, autoincrement=False),
        Column("packet_id", BigInteger, primary_key=True, autoincrement=False),
        Column("number", BigInteger, nullable=False),
        Column("first", SmallInteger, nullable=False),
        Column("state", SmallInteger, nullable=False),
        Column("place", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "received",
        Column("session", BigInteger, primary_key=True, autoincrement=False),
        Column("packet_id", BigInteger, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "retained",
        Column("topic", BYTEWISE, primary_key=True),
        Column("payload", LargeBinary, nullable=False),
        Column("properties", LargeBinary, nullable=False),
        Column("first", SmallInteger, nullable=False),
        Column("publisher", Text, nullable=False),
        Column("expires_at", INSTANT),
        Column("size", BigInteger, nullable=False),
    )
    op.create_table(
        "will",
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
    op.create_index("member_session", "member", ["session"])
    op.create_index("message_audience", "message", ["audience", "number", "size"])
    op.create_index(
        "message_expiry",
        "message",
        ["audience", "expires_at"],
        sqlite_where=text("expires_at IS NOT NULL"),
    )
    op.create_index("retained_size", "retained", ["size"])
