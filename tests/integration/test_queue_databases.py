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

from broker.storage.database import CannotOpen, Trouble
from tests.support.postgresql import PostgreSQL
from tests.support.queues import QueueStore
from tests.support.store_worker import StoreWorker

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


def test_brokers_with_schemas_of_their_own_share_the_queues(url: str, server: PostgreSQL) -> None:
    with closing(broker(url, "one")) as first, closing(broker(url, "Two; --")) as second:
        first.define("q")
        first.put("q", b"1", b"2")
        got = second.take("q")
        assert got.payload == b"1"
        assert first.payloads("q") == [b"2"]
        assert second.ack(got) == ["ok"]
        assert first.stats("q")["messages"] == 1
        tables = server.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'meta'", url)
        assert sorted(tables) == [("Two; --",), ("one",)]


@pytest.mark.parametrize("schema", ["", "one"])
def test_two_brokers_do_not_share_the_sessions(url: str, schema: str) -> None:
    with closing(broker(url, schema)), pytest.raises(CannotOpen, match="another broker uses"):
        broker(url, schema)


def test_public_by_name_is_public(url: str) -> None:
    with closing(broker(url, "")), pytest.raises(CannotOpen, match="another broker uses"):
        broker(url, "public")


@pytest.mark.parametrize("schema", ["heliograph", "pg_catalog"])
def test_the_sessions_stay_out_of_some_schemas(url: str, schema: str) -> None:
    with pytest.raises(CannotOpen, match="choose another name"):
        broker(url, schema)


def test_a_role_called_heliograph_finds_its_sessions_again(server: PostgreSQL, url: str) -> None:
    """Its search path begins with the schema of the queues, once that is there."""
    server.execute(
        "CREATE ROLE heliograph LOGIN; GRANT ALL ON SCHEMA public TO heliograph; "
        f"GRANT CREATE ON DATABASE {url.partition('///')[2].partition('?')[0]} TO heliograph",
        url,
    )
    its_url = url.replace("user=postgres", "user=heliograph")
    for position in (1, 2):
        with closing(broker(its_url, "")) as queues:
            queues.put("q", b"")
            assert queues.position == position
    assert server.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'meta'", url) == [
        ("public",)
    ]


def test_who_may_not_make_the_schema_is_told_what_to_do(server: PostgreSQL, url: str) -> None:
    server.execute("CREATE ROLE modest LOGIN; GRANT ALL ON SCHEMA public TO modest", url)
    with pytest.raises(CannotOpen, match='CREATE SCHEMA "heliograph" AUTHORIZATION "modest"'):
        broker(url.replace("user=postgres", "user=modest"), "")


def test_queues_of_a_newer_release_are_left_alone(server: PostgreSQL, url: str) -> None:
    broker(url, "").close()
    server.execute("UPDATE heliograph.version SET number = 1000", url)
    with pytest.raises(CannotOpen, match="update this broker"):
        broker(url, "")


def test_a_server_that_shuts_down_while_a_broker_connects_is_waited_for(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shut_down(*_: object) -> None:
        raise psycopg.errors.AdminShutdown("terminating connection")

    monkeypatch.setattr("broker.storage.postgresql.make_schema", shut_down)
    with pytest.raises(Trouble, match="terminating connection"):
        broker(url, "s")


def test_brokers_that_start_at_once_install_once(url: str) -> None:
    referee = Referee(4)

    def start(schema: str) -> None:
        with closing(broker(url, schema)) as queues:
            queues.put("q", b"")
        referee.done()

    run_all(referee, *(lambda schema=f"s{n}": start(schema) for n in range(4)))
    with closing(broker(url, "s0")) as queues:
        assert queues.stats("q")["messages"] == 4
        queues.check()


# -- what it costs ---------------------------------------------------------------------------------


def work_done(queues: QueueStore, what: str) -> int:
    """A figure of the server's statistics."""
    queues.sql("SELECT pg_stat_force_next_flush()")
    queues.sql("SELECT 1")  # the flush comes with the end of the transaction before
    ((figure,),) = queues.sql(f"SELECT {what}")
    return int(figure)


def test_what_is_put_and_leased_in_one_batch_is_written_once(url: str) -> None:
    updates = "n_tup_upd FROM pg_stat_user_tables WHERE relname = 'queued'"
    with closing(broker(url, "")) as queues:
        queues.define("q")
        before = work_done(queues, updates)
        for _ in range(3):
            row = queues.row("q", b"x")
            ((_rows, *_),) = queues.do(
                ("queue_put", [row]), queues.lease_operation("q", 5, "w", 30.0, 1 << 20)
            )
            assert len(_rows) == 1
        assert work_done(queues, updates) == before
        queues.put("q", b"x")
        queues.take("q")
        assert work_done(queues, updates) == before + 1


def test_acknowledging_looks_at_nothing_but_what_is_acknowledged(url: str) -> None:
    """A plan made while little is leased would lead by way of all that are leased."""
    visits = "idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'queued_pkey'"
    with closing(broker(url, "")) as queues:
        queues.define("q")
        queues.put("q", *[b"x"] * 100)
        got = queues.lease("q", 100)
        before = work_done(queues, visits)
        assert queues.ack(*got) == ["ok"] * 100
        assert work_done(queues, visits) >= before + 100


# -- who hears of what -----------------------------------------------------------------------------


def heard(queues: QueueStore) -> list[str]:
    """What the store process would tell its broker, as soon as there is anything."""
    while not (names := queues.database.take_notices()):
        descriptor = queues.database.notices
        assert descriptor is not None
        assert select.select([descriptor], [], [], DEADLINE)[0], "nothing was heard"
    return names


def test_a_broker_hears_what_others_make_ready(server: PostgreSQL, url: str) -> None:
    with closing(broker(url, "one")) as first, closing(broker(url, "two")) as second:
        first.define("q", order="key")
        second.database.take_notices()
        first.put("q", b"1", b"2", key="k")
        assert heard(second) == ["q"]
        got = second.take("q")
        first.database.take_notices()
        assert second.ack(got) == ["ok"]  # now the next of its key is ready
        assert heard(first) == ["q"]
        server.execute("SELECT heliograph.enqueue('q', '3')", url)
        assert heard(second) == ["q"]


def test_two_store_processes_work_on_one_queue(url: str) -> None:
    row = (None, "q", 5, None, 0.0, None, None, "a/b", b"1", b"", 50, "p", 104, *(None,) * 4)
    with StoreWorker(url=url, schema="one") as one, StoreWorker(url=url, schema="two") as two:
        clock = ("queue_clock", [(0.0,)])
        one.apply(clock, ("queue_put", [row]))
        assert two.wait_for("wake") == (["q"],)
        two.apply(clock, ("queue_lease", [(1, "q", "c", 1, 1000, 30.0, 77)]))
        ((_, ((message,), _, _)),) = two.results
        two.apply(clock, ("queue_ack", [(2, *message[:2])]))
        assert (two.results, two.counts) == ([(2, "ok")], [("q", 0, 0)])


def test_after_a_lost_connection_all_queues_are_looked_at(server: PostgreSQL, url: str) -> None:
    with closing(broker(url, "one")) as queues:
        queues.put("a", b"1")
        queues.put("b", b"1")
        queues.database.take_notices()
        ours = queues.sql("SELECT pg_backend_pid()")[0][0]
        server.execute(f"SELECT pg_terminate_backend({ours})")
        assert heard(queues) == ["a", "b"]
        server.execute("SELECT heliograph.enqueue('a', '')", url)
        assert heard(queues) == ["a"]


def test_counters_of_sessions_that_are_gone_are_gathered(server: PostgreSQL, url: str) -> None:
    with closing(broker(url, "")) as queues:
        queues.define("q")
        for _ in range(3):
            ((session, _),) = server.execute(
                "SELECT pg_backend_pid(), heliograph.enqueue('q', '')", url
            )
            # The server may still be at its end: this waits for it.
            server.execute(f"SELECT pg_terminate_backend({session}, 30000)", url)
        queues.admin("reap", "")
        queues.check()
        assert queues.stats("q")["messages"] == 3
        assert queues.sql("SELECT count(*) FROM heliograph.queue_counter WHERE messages > 0") == [
            (1,)
        ]
