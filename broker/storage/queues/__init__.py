"""Queues in the database: what a consumer may have, and what becomes of it.

One interface (`ports.py`), implemented by statements for SQLite, which has one writer, and by
functions inside PostgreSQL, which has many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Dialect

    from broker.storage.queues.ports import Queues


def queues_for(dialect: Dialect) -> Queues:
    """The queues of a database of that kind."""
    if dialect.name == "postgresql":
        from broker.storage.queues.postgresql import (  # noqa: PLC0415 - rarely used
            PostgreSQLQueues,
        )

        return PostgreSQLQueues()
    from broker.storage.queues.sqlite import SQLiteQueues  # noqa: PLC0415 - not for the other

    return SQLiteQueues()
