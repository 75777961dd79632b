"""The Python client means the same through every door."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from bridges.queues.backend import QueueError
from bridges.queues.received import LeaseLost, Received, Reject, Retry
from tests.integration.python_doors import (
    Door,
    LocalDoor,
    PostgreSQLDoor,
    SQLiteDoor,
    http_door,
    open_queue,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.postgresql import PostgreSQL

DOORS = ("local", "http", "postgresql", "sqlite")


@pytest.fixture(scope="module")
def database(postgresql: PostgreSQL) -> PostgreSQLDoor:
    return PostgreSQLDoor.create(postgresql)


@pytest.fixture(params=DOORS)
async def door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Door]:
    if request.param == "http":
        async with http_door() as made:
            yield made
    elif request.param == "postgresql":
        database = request.getfixturevalue("database")
        database.clear()
        yield database
    elif request.param == "sqlite":
        folder = SQLiteDoor(tmp_path)
        yield folder
        await folder.close()
    else:
        yield LocalDoor()


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    """No test hangs."""
    async with asyncio.timeout(30):
        yield


async def drained(door: Door, name: str = "work") -> list[Received]:
    """What is ready, acknowledged."""
    async with open_queue(door, name) as queue:
        return [message async for message in queue.consume(idle=0, auto_ack=True)]


async def counts(door: Door, name: str = "work") -> dict[str, int]:
    async with open_queue(door, name) as queue:
        stats = await queue.stats()
    found = {each: getattr(stats, each) for each in ("ready", "leased", "delayed", "dead")}
    return {name: count for name, count in found.items() if count}


async def test_a_message_arrives_as_it_was_published(door: Door) -> None:
    payload = bytes(range(256))
    async with open_queue(door) as queue:
        number = await queue.publish(
            payload,
            topic="site/1/dev/7",
            key="7",
            priority=8,
            content_type="application/cbor",
            properties={"unit": "°C"},
        )
        async with await anext(queue.consume()) as message:
            assert message.payload == payload
            assert (message.topic, message.key, message.priority) == ("site/1/dev/7", "7", 8)
            assert message.content_type == "application/cbor"
            assert message.properties == {"unit": "°C"}
            assert (message.queue, message.delivery_count, message.failures) == ("work", 1, 0)
            assert number in {None, message.id}
    assert await counts(door) == {}


@pytest.mark.parametrize(
    ("payload", "body", "content_type"),
    [
        (b"\x00\xff", b"\x00\xff", None),
        (b"", b"", None),
        ("grün", "grün".encode(), "text/plain"),
        ({"a": [1, None]}, b'{"a":[1,null]}', "application/json"),
    ],
)
async def test_bytes_text_and_json_are_published_as_what_they_are(
    door: Door, payload: Any, body: bytes, content_type: str | None
) -> None:
    async with open_queue(door) as queue:
        await queue.publish(payload)
    (message,) = await drained(door)
    assert (message.payload, message.content_type) == (body, content_type)
    if content_type == "application/json":
        assert message.json() == payload


async def test_a_megabyte_goes_through(door: Door) -> None:
    payload = bytes(range(256)) * 4096
    async with open_queue(door) as queue:
        await queue.publish(payload)
    (message,) = await drained(door)
    assert message.payload == payload


async def test_messages_come_by_priority_and_in_their_order(door: Door) -> None:
    async with open_queue(door) as queue:
        for name, priority in (("a", 4), ("b", 4), ("c", 9), ("d", 0), ("e", 4)):
            await queue.publish(name, priority=priority)
    assert [each.text() for each in await drained(door)] == ["c", "a", "b", "e", "d"]


async def test_a_block_that_ends_well_acknowledges(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish("x")
        async with await anext(queue.consume()):
            pass
        assert await counts(door) == {}


async def test_a_block_that_fails_is_a_failure_and_goes_on_being_one(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish("x")
        messages = queue.consume()
        with pytest.raises(ZeroDivisionError):
            async with await anext(messages):
                1 / 0  # noqa: B018 - it is to fail
        again = await anext(messages)
        assert (again.failures, again.delivery_count) == (1, 2)


async def test_after_the_last_failure_it_is_a_dead_letter(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish("x")
        messages = queue.consume()
        assert [await (await anext(messages)).nack() for _ in range(3)] == ["ok", "ok", "dead"]
    (dead,) = await drained(door, "work.dlq")
    assert (dead.dead_from, dead.dead_reason, dead.failures) == ("work", "failures", 3)


async def test_a_rejected_message_is_a_dead_letter_at_once_with_its_reason(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish("x")
        async with await anext(queue.consume()):
            raise Reject("no such device")
    (dead,) = await drained(door, "work.dlq")
    assert dead.dead_reason == "no such device"


async def test_dead_letters_are_driven_back(door: Door) -> None:
    async with open_queue(door) as queue, open_queue(door, "work.dlq") as dead:
        await queue.publish_many(["x", "y"], at_once=1)
        for message in await queue.receive(2):
            await message.nack(dead=True)
        first, second = await dead.peek()
        assert [first.payload, second.payload] == [b"x", b"y"]
        assert await dead.redrive([second.id], payload=b"mended") == 1
        assert await dead.redrive() == 1
    assert [each.text() for each in await drained(door)] == ["x", "mended"]


async def test_retry_waits_for_its_delay(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish("x")
        async with await anext(queue.consume()):
            raise Retry(delay=60)
    assert await counts(door) == {"delayed": 1}
    await door.pass_time(61)
    assert [each.failures for each in await drained(door)] == [1]


async def test_a_released_message_comes_back_without_a_failure(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish("x")
        (message,) = await queue.receive()
        assert await message.release() == "ok"
    assert [each.failures for each in await drained(door)] == [0]


async def test_one_who_waits_is_woken(door: Door) -> None:
    async with open_queue(door) as queue, open_queue(door) as other:
        waiting = asyncio.create_task(anext(queue.consume()))
        await other.publish("x")
        assert (await waiting).text() == "x"


async def test_one_who_gave_up_waiting_takes_nothing(door: Door) -> None:
    async with open_queue(door) as queue:
        waiting = asyncio.create_task(queue.receive(wait=20))
        await queue.stats()  # by now it has asked
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with open_queue(door) as queue:
        await queue.publish("x")
        assert len(await queue.receive(wait=20)) == 1


async def test_a_queue_that_closes_gives_everything_back(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish_many("abc", at_once=1)
        await anext(queue.consume())
    assert await counts(door) == {"ready": 3}
    assert [each.failures for each in await drained(door)] == [0, 0, 0]


async def test_a_lease_that_ended_is_told_to_who_acknowledges(door: Door) -> None:
    async with open_queue(door) as queue, open_queue(door) as other:
        await queue.publish("x")
        (message,) = await queue.receive(lease=600)
        await door.pass_time(601)
        (again,) = await other.receive(wait=20)
        assert again.failures == 1
        with pytest.raises(LeaseLost):
            await message.ack()
        await again.ack()
    assert await counts(door) == {}


async def test_who_is_done_twice_is_told(door: Door) -> None:
    async with open_queue(door) as queue, open_queue(door) as other:
        await queue.publish("x")
        (message,) = await queue.receive(lease=600)
        await door.pass_time(601)
        for again in await other.receive(wait=20):
            await again.ack()
        with pytest.raises(LeaseLost):
            await message.ack()
        assert message.lost


async def test_a_renewed_lease_lasts_longer(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish("x")
        (message,) = await queue.receive(lease=600)
        await message.renew(6000)
        await door.pass_time(3000)
        await message.ack()
    assert await counts(door) == {}


async def test_two_workers_share_and_nothing_is_done_twice(door: Door) -> None:
    done: list[str] = []

    async def handler(message: Received) -> None:
        await asyncio.sleep(0)
        done.append(message.text())

    names = [str(number) for number in range(100)]
    async with open_queue(door) as first, open_queue(door) as second:
        await first.publish_many(names)
        await asyncio.gather(
            first.work(handler, concurrency=4, idle=0), second.work(handler, concurrency=4, idle=0)
        )
    assert sorted(done) == sorted(names)
    assert await counts(door) == {}


async def test_plain_functions_work_in_threads(door: Door) -> None:
    done: list[str] = []
    async with open_queue(door) as queue:
        await queue.publish_many("abcdef")
        await queue.work(lambda message: done.append(message.text()), idle=0)
    assert sorted(done) == list("abcdef")
    assert await counts(door) == {}


async def test_auto_ack_acknowledges_the_last_message_with_the_next_step(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish_many("abc", at_once=1)
        async for message in queue.consume(auto_ack=True, prefetch=1):
            if message.text() == "c":
                break
    assert [each.text() for each in await drained(door)] == ["c"]


async def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish("x")
        await queue.pause()
        assert await queue.receive() == []
        waiting = asyncio.create_task(queue.receive(wait=20))
        await queue.resume()
        assert len(await waiting) == 1


async def test_a_draining_queue_refuses(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.drain()
        with pytest.raises(QueueError) as refused:
            await queue.publish("x")
        assert refused.value.code == "draining"


async def test_a_full_queue_refuses(door: Door) -> None:
    async with open_queue(door, "small") as queue:
        await queue.publish_many("ab")
        with pytest.raises(QueueError) as refused:
            await queue.publish("c")
        assert refused.value.code == "full"


async def test_messages_are_looked_at_deleted_and_purged(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish_many("abc", at_once=1)
        first, second = await queue.peek(2)
        assert [first.payload, second.payload, first.state] == [b"a", b"b", "ready"]
        assert (first.receipt, first.delivery_count) == ("", 0)
        assert [each.payload for each in await queue.peek(after=second.id)] == [b"c"]
        assert [await queue.delete(second.id), await queue.delete(second.id)] == [1, 0]
        (held,) = await queue.receive()
        assert await queue.purge() == 1
        await held.ack()
    assert await counts(door) == {}


async def test_many_are_sent_on_and_purged_to_the_last_one(door: Door) -> None:
    many = 510  # more than one slice of any door
    async with open_queue(door) as queue:
        await queue.publish_many(["x"] * many)
        assert await queue.redrive(to="small") == many
        async with open_queue(door, "small") as small:
            (held,) = await small.receive()
            purging, publishing = await asyncio.gather(small.purge(), queue.publish("new"))
            assert (purging, publishing is None) == (many - 1, False)
            await held.ack()
    assert await counts(door, "small") == {}
    assert await counts(door) == {"ready": 1}


async def test_an_unknown_queue_is_named(door: Door) -> None:
    async with open_queue(door, "nothing") as queue:
        for call in (queue.receive, queue.stats, queue.purge, queue.pause, queue.peek):
            with pytest.raises(QueueError, match="nothing") as refused:
                await call()
            assert refused.value.code == "unknown_queue"
        with pytest.raises(QueueError, match="nothing") as refused:
            await queue.publish("x")
        assert refused.value.code == "unknown_queue"


async def test_what_no_client_has_bound_cannot_be_unbound(door: Door) -> None:
    async with open_queue(door) as queue:
        assert list((await queue.stats()).bindings) == []
        with pytest.raises(QueueError, match="bound") as refused:
            await queue.unbind("a/#")
        only_here = "not_allowed" if isinstance(door, PostgreSQLDoor) else "not_bound"
        assert refused.value.code == only_here


async def test_a_queue_that_is_held_or_in_the_settings_is_not_dropped(door: Door) -> None:
    async with open_queue(door) as queue:
        await queue.publish("x")
        (held,) = await queue.receive()
        with pytest.raises(QueueError) as refused:
            await queue.drop()
        assert refused.value.code in ("in_use", "not_allowed")
        await held.ack()


@pytest.mark.parametrize("options", [{"priority": 10}, {"delay": -1}, {"topic": "a/#"}])
async def test_what_no_queue_takes_is_refused(door: Door, options: dict[str, Any]) -> None:
    async with open_queue(door) as queue:
        with pytest.raises(QueueError) as refused:
            await queue.publish("x", **options)
        assert refused.value.code == "bad_request"
    assert await counts(door) == {}
