"""Queues on each database; a PostgreSQL server for as long as the tests run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.postgresql import PostgreSQL
from tests.support.queues import QueueStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Where a store is, as in the configuration."""
    if request.param == "sqlite":
        return {"url": "", "path": str(tmp_path / "heliograph.db")}
    return {"url": request.getfixturevalue("postgresql").new_database(), "path": ""}


@pytest.fixture
def queues(place: dict[str, str]) -> Iterator[QueueStore]:
    """Every test ends by looking at what must always hold."""
    made = QueueStore(place)
    yield made
    made.check()
    made.close()
