"""The same looks into a store on PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert

from broker.storage import checking, opening
from broker.storage.postgresql import make_engine
from broker.storage.tables import metadata
from tests.support.postgresql import PostgreSQL
from tests.unit.storage_salvage.building import NEXT_NUMBER, Row, contents

if TYPE_CHECKING:
    from collections.abc import Iterator

NOWHERE = Path("heliograph.db")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


def of_sessions() -> dict[str, Iterator[Row]]:
    """Without the queues, which lie elsewhere."""
    return {name: rows for name, rows in contents().items() if name in metadata.tables}


@pytest.fixture(scope="module")
def url(server: PostgreSQL) -> str:
    """A database with the rows that the tests on SQLite have, too."""
    url = server.new_database()
    engine = make_engine(url)
    with engine.begin() as connection:
        opening.create_schema(connection)
        connection.execute(
            insert(metadata.tables["meta"]).values((1, 77, NEXT_NUMBER, 350, 150, 1.0, 1.0, 0))
        )
        for name, rows in of_sessions().items():
            columns = [column.name for column in metadata.tables[name].columns]
            values = [dict(zip(columns, row, strict=True)) for row in rows]
            connection.execute(insert(metadata.tables[name]), values)
    engine.dispose()
    return url


def test_a_good_store_has_no_problems(url: str) -> None:
    with checking.looking_at(url, NOWHERE) as connection:
        assert checking.check(connection) == []


def test_the_figures_are_those_of_the_rows(url: str) -> None:
    with checking.looking_at(url, NOWHERE) as connection:
        seen = checking.stats(connection, NOWHERE)
    rows = {name: len(list(rows)) for name, rows in of_sessions().items()}
    assert seen["rows"] == {"meta": 1, **rows}
    assert seen["database"].startswith("PostgreSQL ")
    assert seen["bytes"]["database"] > 0
    assert len(seen["most_waiting"]) == 10
    assert seen["oldest_message"]["number"] == 1


def test_problems_are_found(server: PostgreSQL, url: str) -> None:
    server.execute("DELETE FROM session WHERE id = 7", url)
    with checking.looking_at(url, NOWHERE) as connection:
        found = checking.check(connection)
    assert "2 rows of subscription belong to a session that is not there" in found
