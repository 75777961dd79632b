"""The store process itself: it starts with a damaged file, and works while it is looked after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker.storage import checking
from broker.storage.backup import back_up, restore, take_waiting_restore
from tests.support.store_worker import StoreWorker, message_row
from tests.unit.storage_salvage.building import PAGE, SESSIONS, build

if TYPE_CHECKING:
    from pathlib import Path

SESSION = ("session_put", [(1, "sensor", None, 100, None, 0)])
MEMBER = ("member_put", [(1, 1, 1, 0, "", "sensors/#", "")])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "heliograph.db"


@pytest.mark.parametrize(("lost", "kept"), [(slice(0, PAGE), SESSIONS), (slice(0, None), 0)])
def test_it_starts_with_a_zeroed_file_and_says_so(path: Path, lost: slice, kept: int) -> None:
    build(path)
    image = bytearray(path.read_bytes())
    image[lost] = bytes(len(image[lost]))
    path.write_bytes(image)
    with StoreWorker(path) as worker:
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
            assert checking.stats(connection, path)["rows"]["message"] == 500
        worker.apply(("message_sweep", [(1, 500)]))
        assert "when it is started the next time" in restore(path, saved, "X")
        worker.close()
    assert take_waiting_restore(path, "X")
    with StoreWorker(path) as worker:
        assert worker.opened["alarms"] == []
        assert len(worker.ask("backlog", 1, 0, 1000, 1 << 20)) == 500
