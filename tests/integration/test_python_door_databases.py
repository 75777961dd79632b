"""The Python client in the database itself: what only a database can do, and what goes wrong."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from bridges.queues import LeaseLost, Queue, QueueError, SyncQueue, postgresql_client
from bridges.queues.sqlite_client import STORE_FILE, SQLiteBackend
from broker.queues.policy import QueuePolicy
from broker.storage.sqlite import SQLiteDatabase
from tests.integration.python_doors import PostgreSQLDoor, SQLiteDoor, open_queue
from tests.support.queues import QueueStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.postgresql import PostgreSQL


@pytest.fixture(scope="module")
def database(postgresql: PostgreSQL) -> PostgreSQLDoor:
    return PostgreSQLDoor.create(postgresql)


@pytest.fixture
async def door(database: PostgreSQLDoor) -> AsyncIterator[PostgreSQLDoor]:
    database.clear()
    async with asyncio.timeout(30):
        yield database


def states(postgresql: PostgreSQL, door: PostgreSQLDoor) -> list[tuple[Any, ...]]:
    sql = "SELECT state, failures FROM heliograph.queued ORDER BY number"
    return list(postgresql.execute(sql, door.url))


READY, LEASED = 0, 1


# ---- PostgreSQL: acknowledging within a transaction of one's own ----


async def test_an_ack_is_committed_with_the_programs_own_work(
    postgresql: PostgreSQL, door: PostgreSQLDoor
) -> None:
    postgresql.execute("CREATE TABLE reading (value text)", door.url)
    async with open_queue(door) as queue:
        await queue.publish("x")
        async with (
            await psycopg.AsyncConnection.connect(door.url) as mine,
            await anext(queue.consume()) as message,
            mine.transaction(),
        ):
            await mine.execute("INSERT INTO reading VALUES (%s)", (message.text(),))
            await queue.ack_in(mine, message)
            assert states(postgresql, door) == [(LEASED, 0)]
    assert states(postgresql, door) == []
    assert postgresql.execute("SELECT * FROM reading", door.url) == [("x",)]


async def test_an_ack_that_is_rolled_back_is_a_failure_of_the_block(
    postgresql: PostgreSQL, door: PostgreSQLDoor
) -> None:
    async def work(queue: Queue) -> None:
        mine = await psycopg.AsyncConnection.connect(door.url)
        async with mine, await anext(queue.consume()) as message, mine.transaction():
            await queue.ack_in(mine, message)
            1 / 0  # noqa: B018 - it is to fail

    async with open_queue(door) as queue:
        await queue.publish("x")
        with pytest.raises(ZeroDivisionError):
            await work(queue)
    assert states(postgresql, door) == [(READY, 1)]


async def test_an_ack_of_a_lost_message_rolls_the_work_back(
    postgresql: PostgreSQL, door: PostgreSQLDoor
) -> None:
    async with open_queue(door) as queue, open_queue(door) as other:
        await queue.publish("x")
        (message,) = await queue.receive(lease=600)
        await door.pass_time(601)
        (again,) = await other.receive(wait=20)
        async with await psycopg.AsyncConnection.connect(door.url) as mine:
            with pytest.raises(LeaseLost):
                async with mine.transaction():
                    await queue.ack_in(mine, message)
        assert message.lost
        await again.ack()


def test_the_same_without_asyncio(postgresql: PostgreSQL, database: PostgreSQLDoor) -> None:
    database.clear()
    with SyncQueue("work", database.url) as queue, psycopg.connect(database.url) as mine:
        queue.publish("x")
        with next(queue.consume()) as message, mine.transaction():
            queue.ack_in(mine, message)
    assert states(postgresql, database) == []


# ---- PostgreSQL: waiting and trouble ----


async def test_one_who_waits_is_woken_by_the_database(
    door: PostgreSQLDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_client, "ASK_AGAIN", 3600.0)
    async with open_queue(door) as queue, open_queue(door) as other:
        waiting = asyncio.create_task(queue.receive(wait=20))
        await queue.backend._listener._listening.wait()
        await other.publish("x")
        assert len(await waiting) == 1


async def test_a_lease_that_was_given_up_in_the_moment_it_came_goes_back(
    postgresql: PostgreSQL, door: PostgreSQLDoor
) -> None:
    async with open_queue(door) as queue:
        await queue.publish("x")
        with psycopg.connect(door.url) as blocking:
            blocking.execute("LOCK TABLE heliograph.queued")
            receiving = asyncio.create_task(queue.receive())
            while not await asyncio.to_thread(is_waiting, postgresql, door):
                pass
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
    assert states(postgresql, door) == [(READY, 0)]


def is_waiting(postgresql: PostgreSQL, door: PostgreSQLDoor) -> bool:
    sql = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    return postgresql.execute(sql, door.url) == [(1,)]


async def test_consumers_outlive_a_restart_of_the_database(
    postgresql: PostgreSQL, door: PostgreSQLDoor
) -> None:
    async with open_queue(door) as queue:
        messages = queue.consume(lease=600)
        await queue.publish("before")
        first = await anext(messages)
        waiting = asyncio.create_task(anext(messages))
        await queue.backend._listener._listening.wait()
        await asyncio.to_thread(postgresql.kill)
        ack = asyncio.create_task(first.ack())
        await asyncio.to_thread(postgresql.start)
        await ack
        async with open_queue(door) as other:
            await other.publish("after")
        assert (await waiting).text() == "after"


async def test_a_wrong_database_ends_the_waiting_at_once(postgresql: PostgreSQL) -> None:
    url = postgresql.url.replace("///postgres?", "///nowhere?")
    async with Queue("work", url) as queue:
        with pytest.raises(QueueError, match="does not exist") as told:
            await anext(queue.consume())
        assert told.value.code == "not_allowed"


async def test_a_database_without_queues_says_what_to_do(postgresql: PostgreSQL) -> None:
    async with Queue("work", postgresql.new_database()) as queue:
        with pytest.raises(QueueError, match="start a broker once"):
            await anext(queue.consume())


async def test_a_role_without_rights_is_told(postgresql: PostgreSQL, door: PostgreSQLDoor) -> None:
    postgresql.execute("DROP ROLE IF EXISTS reader")
    postgresql.execute("CREATE ROLE reader LOGIN")
    async with Queue("work", door.url.replace("user=postgres", "user=reader")) as queue:
        with pytest.raises(QueueError, match="permission denied") as told:
            await queue.receive()
        assert told.value.code == "not_allowed"


# ---- SQLite ----


def named(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


async def test_what_was_published_is_there_for_the_next(tmp_path: Path) -> None:
    await SQLiteDoor(tmp_path).close()
    async with Queue("work", f"sqlite:///{tmp_path}") as queue:
        first = await queue.publish("x" * 10_000)
        await (await queue.receive())[0].nack(delay=0)
    async with Queue("work", f"sqlite:///{tmp_path / STORE_FILE}") as queue:
        second = await queue.publish("y")
        found = await queue.receive(2)
        assert [(each.id, each.failures) for each in found] == [(first, 1), (second, 0)]
        assert first is not None
        assert second is not None
        assert second > first


async def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    await SQLiteDoor(tmp_path).close()
    numbers = []
    for _ in range(3):
        async with Queue("work", f"sqlite:///{tmp_path}") as queue:
            numbers.append(await queue.publish("x"))
            await queue.purge()
    assert numbers == sorted(set(numbers))


async def test_what_clients_have_bound_is_unbound_for_the_broker_to_come(tmp_path: Path) -> None:
    place = {"url": "", "path": str(tmp_path / STORE_FILE)}
    store = QueueStore(place)
    store.do(("queue_define", [("mine", QueuePolicy().to_json(), "client", '["a/#", "b/+"]')]))
    store.close()
    async with Queue("mine", f"sqlite:///{tmp_path}") as queue:
        assert list((await queue.stats()).bindings) == ["a/#", "b/+"]
        await queue.unbind("a/#")
        await queue.publish("x")
    store = QueueStore(place)
    (row,) = store.sql("SELECT bindings FROM queue WHERE name = 'mine'")
    store.close()
    assert row == ('["b/+"]',)
    async with Queue("mine", f"sqlite:///{tmp_path}") as queue:
        assert await queue.drop() == 1
        with pytest.raises(QueueError, match="there is no queue"):
            await queue.publish("x")
    store = QueueStore(place)
    assert store.sql("SELECT name FROM queue") == []
    store.close()


async def test_a_folder_whose_broker_runs_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await SQLiteDoor(tmp_path).close()
    monkeypatch.setattr("broker.storage.sqlite.LONGEST_LOCK", 0.0)
    broker = SQLiteDatabase(tmp_path / STORE_FILE)
    broker.lock()
    async with Queue("work", f"sqlite:///{tmp_path}") as queue:
        with pytest.raises(QueueError, match="another broker uses this folder") as told:
            await queue.receive()
        assert told.value.code == "in_use"
        broker.close()
        assert await queue.receive() == []


async def test_closing_leaves_the_folder_to_the_broker(tmp_path: Path) -> None:
    door = SQLiteDoor(tmp_path)
    async with open_queue(door) as queue:
        await queue.publish("x")
    await door.close()
    database = SQLiteDatabase(tmp_path / STORE_FILE)
    database.lock()
    database.close()
    assert named(tmp_path, "*-wal") == []


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
async def test_what_is_no_store_is_told_and_left_as_it_is(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / STORE_FILE
    if content is not None:
        path.write_bytes(content)
    async with Queue("work", f"sqlite:///{path}") as queue:
        with pytest.raises(QueueError) as told:
            await queue.receive()
        assert told.value.code in {"unavailable", "in_use"}
        assert_free(path)
    assert (path.read_bytes() if path.exists() else None) == content


async def test_a_newer_store_is_not_moved_aside(tmp_path: Path) -> None:
    await SQLiteDoor(tmp_path).close()
    database = SQLiteDatabase(tmp_path / STORE_FILE)
    database.connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'of tomorrow'")
    database.connection.commit()
    database.close()
    async with Queue("work", f"sqlite:///{tmp_path}") as queue:
        with pytest.raises(QueueError, match="newer release"):
            await queue.receive()
        assert_free(tmp_path / STORE_FILE)
    assert named(tmp_path, "*newer*") == []


def assert_free(path: Path) -> None:
    """A broker may have the folder."""
    database = SQLiteDatabase(path)
    database.lock()
    database.close()


async def test_closing_ends_the_thread(tmp_path: Path) -> None:
    await SQLiteDoor(tmp_path).close()
    before = threading.active_count()
    backend = SQLiteBackend(tmp_path)
    await backend.stats()
    await backend.close()
    await asyncio.to_thread(lambda: [t.join(5) for t in threading.enumerate() if "store" in t.name])
    assert threading.active_count() <= before + 1  # that of to_thread
