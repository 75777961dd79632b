"""Several brokers and psql sessions on one PostgreSQL database, all at once."""

from __future__ import annotations

import random
import select
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from broker.storage.database import CannotOpen
from tests.support.postgresql import PostgreSQL
from tests.support.queues import QueueStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEYS = 7
MESSAGES = 160  # of each producer
BATCH = 20
DEADLINE = 90.0  # seconds; a test that works takes a few
LOOK_AGAIN = 0.1  # seconds, when nobody wakes us


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture
def url(server: PostgreSQL) -> str:
    return server.new_database()


def broker(url: str, schema: str) -> QueueStore:
    """The store of one broker."""
    return QueueStore({"url": url, "path": "", "schema": schema})


class Referee:
    """Sees to it that a message and a key are in one hand at a time, and counts what is done."""

    def __init__(self, expected: int) -> None:
        self._lock = threading.Lock()
        self._held: set[Any] = set()
        self._left = expected
        self.faults: list[str] = []
        self.over = threading.Event()
        self.deadline = time.monotonic() + DEADLINE

    @property
    def goes_on(self) -> bool:
        return not self.over.is_set() and time.monotonic() < self.deadline

    def took(self, number: int, key: str) -> None:
        """Called when a lease is committed."""
        with self._lock:
            for each in (number, key):
                if each in self._held:
                    self.faults.append(f"{each} was leased twice")
                self._held.add(each)

    def lets_go(self, number: int, key: str) -> None:
        """Called before it is settled."""
        with self._lock:
            self._held -= {number, key}

    def done(self, count: int = 1) -> None:
        with self._lock:
            self._left -= count
            if self._left <= 0:
                self.over.set()


def run_all(referee: Referee, *works: Callable[[], None]) -> None:
    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            referee.faults.append(repr(error))
            referee.over.set()
            raise

    threads = [threading.Thread(target=guarded, args=(each,)) for each in works]
    for each in threads:
        each.start()
    for each in threads:
        each.join(DEADLINE + 30)
    assert referee.faults == []
    assert referee.over.is_set(), "messages were left over"


def broker_at_work(url: str, schema: str, referee: Referee, seed: int) -> None:
    """Puts its messages in batches; leases, acknowledges and returns in batches, too."""
    rng = random.Random(seed)
    with closing(broker(url, schema)) as queues:
        left = MESSAGES
        while referee.goes_on:
            if left:
                rows = [queues.row("q", b"", key=f"k{rng.randrange(KEYS)}") for _ in range(BATCH)]
                queues.do(("queue_put", rows))
                left -= BATCH
            got = queues.lease("q", 5, consumer=schema)
            for each in got:
                referee.took(each.number, str(each.key))
            for each in got:
                referee.lets_go(each.number, str(each.key))
            failed = [each for each in got if rng.random() < 0.1]
            for each in failed:
                assert queues.fail(each, rng.choice(("nack", "return")), 0.0) == "ok"
            done = [each for each in got if each not in failed]
            if done:
                assert set(queues.ack(*done)) == {"ok"}
                referee.done(len(done))
            if not got and not left:
                listen(queues)


def listen(queues: QueueStore) -> None:
    """Until something may have become ready, or for a little while."""
    descriptor = queues.database.notices
    if not queues.database.take_notices() and descriptor is not None:
        select.select([descriptor], [], [], LOOK_AGAIN)


def session_at_work(url: str, referee: Referee, seed: int) -> None:
    """A backend: leases; acknowledges within a transaction, which it sometimes takes back."""
    rng = random.Random(seed)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN heliograph_queue")
        left = MESSAGES
        while referee.goes_on:
            if left:
                connection.execute(
                    "SELECT heliograph.enqueue('q', '', key => %s)", (f"k{rng.randrange(KEYS)}",)
                )
                left -= 1
            rows = lease(connection, rng)
            for number, _, key in rows:
                referee.took(number, key)
            for number, token, key in rows:
                referee.lets_go(number, key)
                settle(connection, referee, rng, number, token)
            if not rows and not left:
                for _ in connection.notifies(timeout=LOOK_AGAIN, stop_after=1):
                    pass


def lease(connection: psycopg.Connection[Any], rng: random.Random) -> list[Any]:
    with connection.transaction():
        rows = connection.execute("SELECT id, token, key FROM heliograph.lease('q', 2)").fetchall()
        if rng.random() < 0.1:
            rows = []
            raise psycopg.Rollback
    return rows


def settle(
    connection: psycopg.Connection[Any], referee: Referee, rng: random.Random, *lease: int
) -> None:
    if rng.random() < 0.1:
        statement = "SELECT heliograph.nack(%s, %s, 0)"
        assert connection.execute(statement, lease).fetchall() == [("ok",)]
        return
    while True:
        with connection.transaction():
            said = connection.execute("SELECT heliograph.ack(%s, %s)", lease).fetchall()
            assert said == [("ok",)]
            if rng.random() < 0.2:
                raise psycopg.Rollback  # it is ours still
            break
    referee.done()


def test_no_message_and_no_key_is_in_two_hands(url: str) -> None:
    with closing(broker(url, "first")) as queues:
        queues.define("q", order="key", max_failures=0, max_acquisitions=0, max_messages=0)
    referee = Referee(7 * MESSAGES)
    run_all(
        referee,
        lambda: broker_at_work(url, "first", referee, 1),
        lambda: broker_at_work(url, "second", referee, 2),
        *(lambda seed=seed: session_at_work(url, referee, seed) for seed in range(3, 8)),
    )
    with closing(broker(url, "first")) as queues:
        queues.admin("reap", "")
        queues.check()
        assert queues.stats("q")["messages"] == 0
