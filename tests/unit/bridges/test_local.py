"""The door into the broker of this process: leases are never lost, and nobody asks in vain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridges.queues.backend import QueueError
from bridges.queues.local import LocalBackend, decode_block, parse_receipt
from tests.support.fake_queues import DELAYED, LEASED, READY, FakeQueues

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.fixture
def queues() -> FakeQueues:
    return FakeQueues("work", "other", max_failures=2)


@pytest.fixture
async def door(queues: FakeQueues) -> LocalBackend:
    return LocalBackend(queues, asyncio.get_running_loop())


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so; a bound on turns, not on time."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never became so")


def leases(queues: FakeQueues) -> int:
    return sum(call[0] == "lease" for call in queues.calls)


async def refused(what: Awaitable[object]) -> str:
    with pytest.raises(QueueError) as caught:
        await what
    return caught.value.code


# ---- receiving ----


async def test_what_is_published_is_received_as_it_was(door: LocalBackend) -> None:
    number = await door.publish(
        "work",
        b"\x00\xff",
        topic="site/1",
        key="k",
        priority=9,
        ttl=60,
        content_type="a/b",
        properties={"unit": "°C"},
        publisher="me",
    )
    (message,) = await door.receive("work", "c")
    assert (message.id, message.payload, message.topic) == (number, b"\x00\xff", "site/1")
    assert (message.key, message.priority, message.publisher) == ("k", 9, "me")
    assert (message.content_type, message.properties) == ("a/b", {"unit": "°C"})
    assert (message.delivery_count, message.failures, message.state) == (1, 0, "leased")
    assert message.expires_at == message.enqueued_at + 60
    assert await door.ack([message.receipt]) == ["ok"]
    assert await door.ack([message.receipt]) == ["gone"]


async def test_an_empty_queue_answers_at_once_without_wait(door: LocalBackend) -> None:
    assert await door.receive("work", "c") == []


async def test_a_waiting_receive_gets_what_comes(queues: FakeQueues, door: LocalBackend) -> None:
    task = asyncio.create_task(door.receive("work", "c", wait=20))
    await until(lambda: queues.watchers and leases(queues) == 2)
    queues.add("work", b"late")
    (message,) = await task
    assert message.payload == b"late"
    assert queues.watchers == []


async def test_nobody_asks_again_while_nothing_happens(
    queues: FakeQueues, door: LocalBackend
) -> None:
    task = asyncio.create_task(door.receive("work", "c", wait=20))
    await until(lambda: leases(queues) == 2)
    for _ in range(100):
        await asyncio.sleep(0)
    assert leases(queues) == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_wake_in_vain_is_one_question(queues: FakeQueues, door: LocalBackend) -> None:
    task = asyncio.create_task(door.receive("work", "c", wait=20))
    await until(lambda: leases(queues) == 2)
    queues.wake()
    for _ in range(100):
        await asyncio.sleep(0)
    assert leases(queues) == 3
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_it_is_asked_again_when_the_store_says_so(
    queues: FakeQueues, door: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message becomes ready by time alone; nobody wakes anybody."""
    inside = queues._lease
    soon = 0.001

    def lease(queue: str, consumer: str, most: int, seconds: float | None) -> object:
        if leases(queues) == 4:
            queues.messages[number].state = READY
        status, found, _ = inside(queue, consumer, most, seconds)
        return status, found, soon

    monkeypatch.setattr(queues, "_lease", lease)
    number = queues.add("work", state=DELAYED)
    queues.due[number] = queues.now + 1
    (message,) = await door.receive("work", "c", wait=20)
    assert message.id == number


async def test_of_many_who_wait_only_one_asks_for_each_message(
    queues: FakeQueues, door: LocalBackend
) -> None:
    tasks = [asyncio.create_task(door.receive("work", f"c{n}", wait=20)) for n in range(50)]
    await until(lambda: len(queues.watchers) == 50)
    await until(lambda: leases(queues) == 51)
    assert queues.consumers("work") == 50
    for number in range(50):
        queues.add("work", b"%d" % number)
    got = [(await task)[0].payload for task in tasks]
    assert sorted(got, key=int) == [b"%d" % number for number in range(50)]
    assert leases(queues) <= 51 + 2 * 50


async def test_those_behind_in_line_give_up_when_their_time_is_over(
    queues: FakeQueues, door: LocalBackend
) -> None:
    first = asyncio.create_task(door.receive("work", "a", wait=20))
    await until(lambda: leases(queues) == 2)
    assert await door.receive("work", "b", wait=0.01) == []
    queues.add("work")
    assert len(await first) == 1


async def test_with_a_single_active_consumer_nobody_stands_in_the_way(
    queues: FakeQueues, door: LocalBackend
) -> None:
    queues.policies["work"] = type(queues.policies["work"])(order="single_active")
    tasks = [asyncio.create_task(door.receive("work", f"c{n}", wait=20)) for n in range(3)]
    await until(lambda: leases(queues) == 6)  # each has asked for itself
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# ---- those who are gone ----


async def test_a_receive_cancelled_while_waiting_leases_nothing(
    queues: FakeQueues, door: LocalBackend
) -> None:
    task = asyncio.create_task(door.receive("work", "c", wait=20))
    await until(lambda: queues.watchers)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    queues.add("work")
    assert [each.state for each in queues.of("work")] == [READY]
    assert queues.watchers == []


async def test_what_is_leased_after_a_cancel_goes_back(
    queues: FakeQueues, door: LocalBackend
) -> None:
    number = queues.add("work")
    queues.held = []
    task = asyncio.create_task(door.receive("work", "c"))
    await until(lambda: queues.held)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    queues.let_go()
    message = queues.messages[number]
    assert (message.state, message.failures, message.acquisitions) == (READY, 0, 1)


async def test_what_is_leased_in_the_moment_of_a_cancel_goes_back(
    queues: FakeQueues, door: LocalBackend
) -> None:
    number = queues.add("work")
    queues.held = []
    task = asyncio.create_task(door.receive("work", "c"))
    await until(lambda: queues.held)
    queues.let_go()
    assert queues.messages[number].state == LEASED
    task.cancel()  # before the task could run
    await asyncio.gather(task, return_exceptions=True)
    assert queues.messages[number].state == READY


async def test_a_store_that_does_not_answer_is_told_and_its_late_lease_goes_back(
    queues: FakeQueues,
) -> None:
    door = LocalBackend(queues, asyncio.get_running_loop(), patience=0.001)
    number = queues.add("work")
    queues.held = []
    assert await refused(door.receive("work", "c")) == "unavailable"
    assert await refused(door.ack(["1-1"])) == "unavailable"
    queues.let_go()
    assert queues.messages[number].state == READY


async def test_what_cannot_be_handed_over_goes_back(queues: FakeQueues, door: LocalBackend) -> None:
    number = queues.add("work")
    door.give_back(await door.receive("work", "c"))
    assert queues.messages[number].state == READY


async def test_closing_tells_all_who_wait(queues: FakeQueues, door: LocalBackend) -> None:
    tasks = [asyncio.create_task(door.receive("work", f"c{n}", wait=20)) for n in range(3)]
    await until(lambda: len(queues.watchers) == 3)
    await door.close()
    assert [await refused(task) for task in tasks] == ["unavailable"] * 3
    assert await refused(door.stats()) == "unavailable"


# ---- settling ----


async def test_failures_come_again_and_then_are_dead_letters(
    queues: FakeQueues, door: LocalBackend
) -> None:
    queues.add("work")
    (first,) = await door.receive("work", "c")
    assert await door.nack([first.receipt], delay=0) == ["ok"]
    (second,) = await door.receive("work", "c")
    assert (second.delivery_count, second.failures) == (2, 1)
    assert await door.nack([second.receipt]) == ["dead"]
    (dead,) = await door.peek("work.dlq")
    assert (dead.id, dead.dead_from, dead.dead_reason) == (first.id, "work", "failures")
    assert await door.redrive("work.dlq", ids=[dead.id], payload=b"better") == 1
    (again,) = await door.receive("work", "c")
    assert (again.id, again.payload, again.failures) == (first.id, b"better", 0)


async def test_a_lease_that_ended_is_lost(queues: FakeQueues, door: LocalBackend) -> None:
    queues.add("work")
    (message,) = await door.receive("work", "c", lease=5)
    assert await door.renew([message.receipt], 60) == ["ok"]
    queues.advance(59)
    assert await door.renew([message.receipt], 1) == ["ok"]
    queues.advance(2)
    assert await door.ack([message.receipt]) == ["lost"]


async def test_a_released_message_has_not_failed(queues: FakeQueues, door: LocalBackend) -> None:
    queues.add("work")
    (message,) = await door.receive("work", "c")
    assert await door.release([message.receipt]) == ["ok"]
    assert queues.messages[message.id].failures == 0


async def test_leaving_gives_all_leases_back(queues: FakeQueues, door: LocalBackend) -> None:
    queues.add("work")
    await door.receive("work", "c")
    door.leave("c")
    assert [each.state for each in queues.of("work")] == [READY]


# ---- people ----


async def test_stats_purge_delete_and_modes(queues: FakeQueues, door: LocalBackend) -> None:
    numbers = [queues.add("work") for _ in range(3)]
    await door.receive("work", "c")
    queues.advance(2)
    assert await door.delete("work", numbers[0]) == 0  # leased
    assert await door.delete("work", numbers[1]) == 1
    (stats,) = await door.stats("work")
    assert (stats.messages, stats.ready, stats.leased, stats.oldest_age) == (2, 1, 1, 2)
    assert stats.policy["max_failures"] == 2
    assert await door.purge("work") == 1
    assert {each.name for each in await door.stats()} == {"work", "other"}
    for mode in ("paused", "draining", "running"):
        await door.set_mode("work", mode)
        assert queues.modes["work"] == mode


async def test_a_look_leases_nothing_and_gives_no_receipt(
    queues: FakeQueues, door: LocalBackend
) -> None:
    numbers = [queues.add("work") for _ in range(3)]
    found = await door.peek("work", after=numbers[0], most=1)
    assert [(each.id, each.state, each.receipt) for each in found] == [(numbers[1], "ready", "")]


# ---- bad input ----


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda door: door.receive("none", "c"), "unknown_queue"),
        (lambda door: door.receive("none", "c", wait=20), "unknown_queue"),
        (lambda door: door.receive("work", "c", most=0), "bad_request"),
        (lambda door: door.receive("work", "c", most=257), "bad_request"),
        (lambda door: door.receive("work", "c", wait=21), "bad_request"),
        (lambda door: door.receive("work", "c", wait=float("nan")), "bad_request"),
        (lambda door: door.receive("work", "c", lease=0), "bad_request"),
        (lambda door: door.ack(["1-1"] * 257), "bad_request"),
        (lambda door: door.nack(["1-1"], delay=-1), "bad_request"),
        (lambda door: door.nack(["1-1"], reason="\0"), "bad_request"),
        (lambda door: door.renew(["1-1"], float("inf")), "bad_request"),
        (lambda door: door.publish("none", b""), "unknown_queue"),
        (lambda door: door.publish("work", b"", priority=10), "bad_request"),
        (lambda door: door.publish("work", b"", delay=-1), "bad_request"),
        (lambda door: door.publish("work", b"", ttl=0), "bad_request"),
        (lambda door: door.publish("work", b"", key="\ud800"), "bad_request"),
        (lambda door: door.publish("work", b"", dedup_id="x" * 65_536), "bad_request"),
        (lambda door: door.publish("work", b"", topic="a/+"), "bad_request"),
        (lambda door: door.publish("work", b"", properties={"a": "\0"}), "bad_request"),
        (lambda door: door.publish("work", b"", content_type="x" * 65_536), "bad_request"),
        (lambda door: door.publish("work", bytes(8 * 1024**2 + 1)), "too_large"),
        (lambda door: door.peek("none"), "unknown_queue"),
        (lambda door: door.peek("work", after=-1), "bad_request"),
        (lambda door: door.stats("none"), "unknown_queue"),
        (lambda door: door.purge("none"), "unknown_queue"),
        (lambda door: door.delete("work", 2**63), "bad_request"),
        (lambda door: door.redrive("work", payload=b"x"), "bad_request"),
        (lambda door: door.redrive("work", ids=[0]), "bad_request"),
        (lambda door: door.redrive("work", to="none"), "unknown_queue"),
        (lambda door: door.set_mode("work", "stopped"), "bad_request"),
    ],
)
async def test_what_cannot_be_is_refused(
    door: LocalBackend, call: Callable[[LocalBackend], Awaitable[object]], code: str
) -> None:
    assert await refused(call(door)) == code


async def test_a_full_a_draining_and_a_broken_queue_refuse(
    queues: FakeQueues, door: LocalBackend
) -> None:
    queues.modes["work"] = "draining"
    assert await refused(door.publish("work", b"")) == "draining"
    queues.policies["other"] = type(queues.policies["other"])(max_messages=1)
    await door.publish("other", b"")
    assert await refused(door.publish("other", b"")) == "full"
    queues.full_store = True
    assert await refused(door.publish("other", b"")) == "unavailable"


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "1-", "-1", "1-0", "0-1", "01-1", "1-01", "1-A", "1-g", " 1-1", "1-1\n", "1--1",
        "+1-1", "1_0-1", "٣-1", "9223372036854775808-1", "1-8000000000000000", "1-1" + "0" * 16,
    ],
)  # fmt: skip
async def test_a_receipt_is_read_strictly(text: str) -> None:
    with pytest.raises(QueueError):
        parse_receipt(text)


async def test_good_receipts_are_read() -> None:
    assert parse_receipt("9223372036854775807-7fffffffffffffff") == (2**63 - 1, 2**63 - 1)


async def test_properties_that_cannot_be_read_are_none() -> None:
    assert decode_block(b"\xff\xff") == {}
