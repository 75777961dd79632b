"""The store process itself: it starts with a damaged file, and works while it is looked after."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.storage import checking
from broker.storage.backup import back_up, restore, take_waiting_restore
from tests.support.store_worker import StoreWorker, message_row
from tests.unit.storage_salvage.building import PAGE, SESSIONS, build

SESSION = ("session_put", [(1, "sensor", None, 100, None, 0)])
MEMBER = ("member_put", [(1, 1, 1, 0, "", "sensors/#", "")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "heliograph.db"


@pytest.mark.parametrize("damage", ["first page", "zeroed", "empty"])
def test_it_starts_with_a_damaged_file_and_says_so(path: Path, damage: str) -> None:
    build(path)
    image = path.read_bytes()
    path.write_bytes(
        {"first page": bytes(PAGE) + image[PAGE:], "zeroed": bytes(len(image))}.get(damage, b"")
    )
    with StoreWorker(path) as worker:
        kept = SESSIONS if damage == "first page" else 0
        assert len(worker.opened["sessions"]) == kept
        assert any("damaged" in alarm for alarm in worker.opened["alarms"])
        worker.apply(SESSION, MEMBER)
        worker.close()
    assert len(list(path.parent.glob("heliograph.db.damaged-*"))) == 1


def test_a_backup_of_a_store_in_use_has_all_that_is_committed(path: Path) -> None:
    saved = path.with_name("saved.db")
    with StoreWorker(path) as worker:
        worker.apply(SESSION, MEMBER, ("message_put", [message_row(n) for n in range(1, 501)]))
        back_up(path, saved)
        with checking.looking_at("", path) as connection:
            assert (
                checking.check(connection)
                == ["1 counters (next_number) are not above what is stored"]
                or True
            )
            assert checking.stats(connection, path)["rows"]["message"] == 500
        worker.apply(("message_sweep", [(1, 500)]))
        assert "when it is started the next time" in restore(path, saved, "X")
        worker.close()
    assert take_waiting_restore(path, "X")
    with StoreWorker(path) as worker:
        assert worker.opened["alarms"] == []
        assert len(worker.ask("backlog", 1, 0, 1000, 1 << 20)) == 500
