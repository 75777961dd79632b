"""The two ways of reading a damaged file, each by itself: the other one would hide its faults."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from broker.storage.damaged import DamagedTable, connect
from broker.storage.pages import Cell, Pages
from broker.storage.salvage import source_of
from broker.storage.tables import metadata
from tests.unit.storage_salvage.building import MESSAGES, PAGE, build, owner_of_pages, rows_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "heliograph.db"
    build(path)
    return path


def read_around(path: Path, table: str, *places: int) -> tuple[int, int]:
    """How many rows are read with these leaf pages gone, and how many there were."""
    whole = len(rows_of(path)[table])
    with closing(sqlite3.connect(path)) as connection:
        leaves = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (table,)
        ).fetchall()
    image = bytearray(path.read_bytes())
    for place in places:
        (page,) = leaves[place]
        image[(page - 1) * PAGE : page * PAGE] = b"\x55" * PAGE
    path.write_bytes(image)
    with closing(connect(str(path))) as connection:
        rows = set(DamagedTable(connection, source_of(metadata.tables[table])).rows())
    return len(rows), whole


@pytest.mark.parametrize("places", [(0,), (3,), (-1,), (2, 4), (2, 4, 6, 8), (0, 2, -1)])
def test_each_lost_page_of_wills_costs_its_own_rows(path: Path, places: tuple[int, ...]) -> None:
    read, whole = read_around(path, "will", *places)
    assert read >= whole - 26 * len(places)


@pytest.mark.parametrize("place", [0, 1, -1])
def test_reading_goes_on_behind_a_lost_page_of_a_table_without_row_ids(
    path: Path, place: int
) -> None:
    read, whole = read_around(path, "subscription", place)
    assert read >= whole - 130


def cells_of(path: Path) -> list[Cell]:
    pages = Pages(path)
    try:
        return list(pages.cells())
    finally:
        pages.close()


def test_pages_give_large_values_whole(path: Path) -> None:
    found = {cell.values[3] for cell in cells_of(path) if len(cell.values) == 9 and cell.rowid}
    assert {row[3] for row in rows_of(path)["message"]} <= found
    assert len((MESSAGES).to_bytes(4, "big") * 3000) > PAGE


def test_pages_give_the_rows_that_stand_inside_a_tree(path: Path) -> None:
    found = {cell.values[:2] for cell in cells_of(path) if cell.rowid is None}
    assert {row[:2] for row in rows_of(path)["member"]} <= found


def test_pages_that_are_free_give_nothing(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")  # or there is nothing left to be found
        connection.execute("DELETE FROM retained")
    assert "retained" in owner_of_pages(path).values()
    assert not [c for c in cells_of(path) if len(c.values) == 7 and c.values[1:2] == (b"0" * 40,)]
