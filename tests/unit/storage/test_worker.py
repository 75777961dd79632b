"""The store process itself: what it says, how it ends, and what it outlives."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.process import LONGEST_WAIT
from tests.support.store_worker import (
    EMPTY_META,
    Ended,
    StoreWorker,
    member_row,
    message_row,
    session_row,
)

PLENTY = 1 << 40


@pytest.fixture
def worker(place):
    with StoreWorker(**place) as started:
        yield started


def stored(worker):
    return [row[0] for row in worker.ask("backlog", 1, 0, 100_000, PLENTY)]


def begin(worker):
    worker.apply(("session_put", [session_row(1)]), ("member_put", [member_row(1, 1)]))


def test_a_commit_is_told_with_its_time_and_its_rows(worker):
    position = worker.submit(("message_put", [message_row(1), message_row(2)]))
    reached, seconds, rows, results, counts = worker.wait_for("committed")
    assert (results, counts) == ([], [])
    assert (reached, rows) == (position, 3)
    assert 0 < seconds < LONGEST_WAIT


def test_a_question_sees_every_batch_before_it(worker):
    begin(worker)
    for number in range(1, 50):
        worker.submit(("message_put", [message_row(number)]), synced=number % 2 == 0)
        assert stored(worker) == list(range(1, number + 1))
    assert [frame[0] for frame in worker.seen] == ["committed"] * 49


@pytest.mark.parametrize("end", ["close", "hang_up", "kill"])
def test_what_was_committed_is_there_however_the_process_ends(worker, end):
    begin(worker)
    worker.apply(("message_put", [message_row(n) for n in range(1, 100)]))
    assert getattr(worker, end)() in (0, None)
    with StoreWorker(worker.config["path"], worker.config["url"]) as second:
        assert second.opened["alarms"] == []
        assert second.position == 2
        assert stored(second) == list(range(1, 100))
        second.close()


def test_a_batch_sent_again_to_the_next_process_is_only_reported(worker):
    position = worker.submit(("message_put", [message_row(1)]))
    worker.wait_committed(position)
    worker.kill()
    with StoreWorker(worker.config["path"], worker.config["url"]) as second:
        meta = ("meta", [(position, *EMPTY_META)])
        second.send("batch", position, True, [("message_put", [message_row(1)]), meta])
        assert second.wait_for("committed") == (position, 0.0, 0, (), ())


def test_signals_that_are_meant_for_the_broker_do_not_end_it(worker):
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(worker.process.pid, each)
    begin(worker)
    assert worker.close() == 0


def test_a_killed_brokers_store_process_gives_way_to_the_next(worker):
    second = StoreWorker(worker.config["path"], worker.config["url"])
    second.launch()
    second.send("open", second.config)  # it waits for the lock
    worker.hang_up()
    assert second.wait_for("opened")[0]["alarms"] == []
    second.kill()


def test_what_cannot_be_opened_is_told_and_ends_the_process(tmp_path):
    worker = StoreWorker(url="no url")
    worker.launch()
    with pytest.raises(Ended, match="cannot be read"):
        worker.open()
    assert worker.hang_up() == 1


def test_the_file_is_damaged_while_at_work_and_the_batch_is_committed_all_the_same(sqlite_place):
    with StoreWorker(**sqlite_place) as worker:
        begin(worker)
        worker.apply(("message_put", [message_row(n) for n in range(1, 3000)]))
        # Half of the file is overwritten under the process.
        path = Path(sqlite_place["path"])
        worker.close()
        worker.launch()
        worker.open()
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(size // 4 // 4096 * 4096)
            file.write(os.urandom(size // 2 // 4096 * 4096))
        worker.ask("stats")
        worker.apply(("message_sweep", [(1, 2000)]), ("message_put", [message_row(5000)]))
        assert stored(worker)[-1] == 5000
        (alarm,) = worker.wait_for("alarm")
        assert "damaged" in alarm
        assert worker.close() == 0


def test_another_writer_is_trouble_until_it_is_done(sqlite_place):
    with StoreWorker(**sqlite_place) as worker:
        begin(worker)
        with closing(sqlite3.connect(sqlite_place["path"], isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            position = worker.submit(("message_put", [message_row(1)]))
            assert worker.wait_for("trouble")[0] == "locked"
            assert worker.seen == []
            other.execute("ROLLBACK")
        worker.wait_committed(position)
        worker.wait_for("well")
        assert stored(worker) == [1]


def test_in_trouble_it_still_notices_that_the_broker_is_gone(sqlite_place):
    with StoreWorker(**sqlite_place) as worker:
        begin(worker)
        with closing(sqlite3.connect(sqlite_place["path"], isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            worker.submit(("message_put", [message_row(1)]))
            worker.wait_for("trouble")
            assert worker.hang_up() == 0
            other.execute("ROLLBACK")


def test_a_store_above_its_size_is_in_trouble_and_well_again_by_itself(sqlite_place):
    with StoreWorker(**sqlite_place, max_size=300_000) as worker:
        begin(worker)
        rows = [message_row(n, payload=bytes(1000)) for n in range(1, 3000)]
        worker.apply(("message_put", rows))
        assert worker.wait_for("trouble")[0] == "full"
        worker.apply(("audience_drop", [(1,)]))
        worker.wait_for("well")


# -- a server that comes and goes ------------------------------------------------------------------


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_while_the_server_is_away_nothing_is_committed_and_then_everything(
    postgresql, postgresql_place, end
):
    with StoreWorker(**postgresql_place) as worker:
        begin(worker)
        getattr(postgresql, end)()
        try:
            position = worker.submit(("message_put", [message_row(1)]))
            assert worker.wait_for("trouble")[0] == "away"
            worker.send("ask", 1, "backlog", (1, 0, 10, PLENTY))
            assert worker.seen == []
        finally:
            postgresql.start()
        worker.wait_committed(position)
        assert [row[0] for row in worker.wait_for("answer")[1]] == [1]
        worker.wait_for("well")
        assert worker.seen == []


def test_a_server_that_is_killed_under_load_has_everything_that_was_committed(
    postgresql, postgresql_place
):
    with StoreWorker(**postgresql_place) as worker:
        begin(worker)
        number = 0
        for _ in range(3):
            positions = []
            for _ in range(40):
                rows = [message_row(number + n) for n in range(1, 51)]
                positions.append(worker.submit(("message_put", rows)))
                number += 50
            worker.wait_committed(positions.pop(0))
            postgresql.kill()
            committed = 1 + sum(frame[0] == "committed" for frame in worker.seen)
            postgresql.start()
            seen = postgresql.execute("SELECT count(*) FROM message", worker.config["url"])
            assert seen[0][0] >= committed * 50
            for position in positions:
                worker.wait_committed(position)
        assert stored(worker) == list(range(1, number + 1))


def test_a_server_that_is_not_there_yet_is_waited_for(postgresql, postgresql_place):
    worker = StoreWorker(**postgresql_place)
    postgresql.stop()
    try:
        worker.launch()
        worker.send("open", worker.config)
        assert worker.wait_for("trouble")[0] == "away"
    finally:
        postgresql.start()
    worker.wait_for("opened")
    worker.wait_for("well")
    worker.position = 0
    begin(worker)
    assert worker.close() == 0
