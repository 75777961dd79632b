"""A row that the database refuses costs itself and nothing else, and never a full disk's rows."""

import os
from pathlib import Path

import pytest

from broker.storage.database import Trouble
from broker.storage.salvage import salvage
from broker.storage.sqlite import SQLiteDatabase
from broker.storage.store import Store

SESSION = (1, "client", None, 60, None, 0)
SAME_NAME = (2, "client", None, 60, None, 0)


def opened(path: Path, max_size: int = 0) -> Store:
    store = Store(SQLiteDatabase(path / "x.db", max_size), 10, salvage)
    store.open()
    return store


def meta(position: int) -> tuple[str, list[tuple[object, ...]]]:
    return "meta", [(position, 100, 10, 10, 0.0, 0.0)]


def message(number: int, payload: bytes = b"x") -> tuple[object, ...]:
    return (number, 1, "t", payload, b"", 0x32, "p", None, 100)


def batch(position: int, payload: bytes = b"x") -> list[tuple[str, list[tuple[object, ...]]]]:
    return [
        ("session_put", [SESSION, SAME_NAME]),
        ("member_put", [(1, 1, 1, 0, "", "t", "")]),
        ("message_put", [message(number, payload) for number in range(1, 60)]),
        meta(position),
    ]


def test_all_other_rows_of_the_batch_are_stored_and_the_operator_is_told(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.apply(1, True, batch(1))
    assert len(store.answer("backlog", (1, 0, 100, 1 << 20))) == 59
    (alarm,) = store.take_alarms()
    assert "refused 1 rows (session_put)" in alarm
    assert store.answer("stats", ())["position"] == 1


def test_a_full_disk_refuses_the_whole_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.storage.sqlite.RESERVE", 0)
    store = opened(tmp_path, max_size=65_536)
    with pytest.raises(Trouble) as trouble:
        store.apply(1, True, batch(1, os.urandom(600_000)))
    assert trouble.value.kind == "full"
    rows = store.answer("stats", ())
    assert rows["position"] == 0
    assert rows["rows"]["message"] == 0
    assert store.take_alarms() == []
