"""A store on each database, in this process; a PostgreSQL server for as long as the tests run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker.storage.store import Store
from broker.storage.worker import make_database
from tests.support.postgresql import PostgreSQL
from tests.support.store_worker import EMPTY_META

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Salvaged:
    moved_to: Path
    rows: dict[str, int]
    lost: list[str]


def start_anew(path: Path, stamp: str) -> Salvaged:
    """A salvage that can read nothing: the database is moved aside."""
    for suffix in ("-wal", "-shm", ""):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(path.with_name(f"{path.name}.damaged-{stamp}{suffix}"))
    return Salvaged(path.with_name(f"{path.name}.damaged-{stamp}"), {"message": 0}, ["everything"])


class LocalStore:
    """The store in this process. Positions are counted here."""

    def __init__(self, url: str, path: str, max_size: int = 0, retained_window: int = 1000) -> None:
        self.path = Path(path)
        config = {"url": url, "path": path, "max_size": max_size}
        self.database = make_database(config)
        self.store = Store(self.database, retained_window, start_anew)
        self.position = 0

    def open(self) -> dict[str, Any]:
        opened = self.store.open()
        self.position = opened["meta"][0]
        return opened

    def apply(self, *operations: tuple[str, list[Any]], synced: bool = True) -> int:
        self.position += 1
        meta = ("meta", [(self.position, *EMPTY_META)])
        return self.store.apply(self.position, synced, [*operations, meta])[1]

    def ask(self, name: str, *arguments: Any) -> Any:
        return self.store.answer(name, arguments)

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        with self.database.connection.begin():
            result = self.database.connection.exec_driver_sql(f"SELECT * FROM {table}")
            return sorted(map(tuple, result.fetchall()))

    def numbers(self) -> list[int]:
        return [row[0] for row in self.rows("message")]

    def close(self) -> None:
        self.store.close()

    def die(self) -> None:
        """Without the mark of a proper end."""
        self.database.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture
def sqlite_place(tmp_path: Path) -> dict[str, str]:
    return {"url": "", "path": str(tmp_path / "heliograph.db")}


@pytest.fixture
def postgresql_place(postgresql: PostgreSQL) -> dict[str, str]:
    return {"url": postgresql.new_database(), "path": ""}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest) -> dict[str, str]:
    """Where a store is, as in the configuration: every test runs on both."""
    return request.getfixturevalue(f"{request.param}_place")


@pytest.fixture
def new_store(place: dict[str, str]) -> Iterator[Any]:
    """Makes stores at that place, one after the other."""
    made: list[LocalStore] = []

    def make(**config: Any) -> LocalStore:
        made.append(LocalStore(**place, **config))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def store(new_store: Any) -> LocalStore:
    made = new_store()
    made.open()
    return made


@pytest.fixture
def local() -> type[LocalStore]:
    return LocalStore
