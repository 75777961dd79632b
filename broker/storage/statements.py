"""How many rows go to a database at once: made from the tables, once for each dialect.

SQLite is in this process: `executemany` steps through one statement. For PostgreSQL see `arrays`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import bindparam, delete
from sqlalchemy.dialects import sqlite

from broker.storage.database import Row, Statement

if TYPE_CHECKING:
    from sqlalchemy import ClauseElement, Connection, Dialect, Table


class Run(Protocol):
    """Does one thing with many rows, which are as the broker sends them."""

    def __call__(self, connection: Connection, rows: list[Row]) -> None: ...


class Maker(Protocol):
    """Makes what writes to the tables. The rows' values stand in the order of the columns."""

    def add(self, table: Table) -> Run:
        """Rows whose keys are new."""

    def put(self, table: Table) -> Run:
        """Rows with a key that is there already replace the old ones."""

    def drop(self, table: Table, *keys: str) -> Run:
        """Rows whose columns `keys` are such."""

    def each(self, statement: ClauseElement) -> Run:
        """Any statement, whose parameters are the row's values."""


def maker_for(dialect: Dialect) -> Maker:
    if dialect.name != "postgresql":
        return RowMaker(dialect)
    from broker.storage.arrays import ArrayMaker  # noqa: PLC0415 - brings PostgreSQL's dialect along

    return ArrayMaker(dialect)


@dataclass(frozen=True, slots=True)
class ForEachRow:
    text: str

    def __call__(self, connection: Connection, rows: list[Row]) -> None:
        connection.exec_driver_sql(self.text, rows[0] if len(rows) == 1 else rows)


@dataclass(frozen=True, slots=True)
class RowMaker:
    dialect: Dialect

    def add(self, table: Table) -> Run:
        # After a salvage a batch may come again that the lost position would have told of.
        return self.each(self._insert(table).on_conflict_do_nothing())

    def put(self, table: Table) -> Run:
        return self.each(replacing(table, self._insert(table)))

    def drop(self, table: Table, *keys: str) -> Run:
        return self.each(delete(table).where(*(table.c[key] == bindparam(key) for key in keys)))

    def each(self, statement: ClauseElement) -> Run:
        return ForEachRow(Statement.compile(statement, self.dialect).text)

    def _insert(self, table: Table) -> sqlite.Insert:
        return sqlite.insert(table).values({each.name: bindparam(each.name) for each in table.c})


def replacing(table: Table, insert: Any) -> Any:
    key = list(table.primary_key)
    rest = {each.name: insert.excluded[each.name] for each in table.c if each not in key}
    if not rest:
        return insert.on_conflict_do_nothing()
    return insert.on_conflict_do_update(index_elements=key, set_=rest)
