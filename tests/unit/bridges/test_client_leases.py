"""The client on a clock that the test turns: renewing, losing, gathering, trying again."""

from __future__ import annotations

import asyncio

import pytest

from bridges.queues.backend import QueueError
from bridges.queues.received import LeaseLost, Reject, Retry
from tests.unit.bridges.client_world import World, settle

READY, LEASED, DELAYED = 0, 1, 3


async def test_a_lease_is_renewed_at_its_half_while_its_message_is_worked_on() -> None:
    world = World()
    world.add(1)
    async with world.queue() as queue:
        (message,) = await queue.receive(lease=30)
        await world.time.advance(14)
        assert world.backend.calls["renew"] == 0
        await world.time.advance(2)
        assert world.backend.calls["renew"] == 1
        await world.time.advance(300)
        assert not message.lost
        assert world.states() == [LEASED]
        await message.ack()
    assert world.states() == []


async def test_what_is_settled_is_not_renewed() -> None:
    world = World()
    world.add(1)
    async with world.queue() as queue:
        (message,) = await queue.receive(lease=30)
        await message.ack()
        await world.time.advance(300)
        assert world.backend.calls["renew"] == 0


async def test_leases_that_are_due_together_are_renewed_in_one_call() -> None:
    world = World()
    world.add(10)
    async with world.queue() as queue:
        await queue.receive(10, lease=30)
        await world.time.advance(16)
        assert world.backend.calls["renew"] == 1


async def test_leases_of_different_lengths_are_each_renewed_in_time() -> None:
    world = World()
    world.add(2)
    async with world.queue() as queue:
        long = await queue.receive(lease=600)
        await world.time.advance(1)
        short = await queue.receive(lease=10)
        await world.time.advance(100)
        assert not long[0].lost
        assert not short[0].lost
        assert world.states() == [LEASED, LEASED]


async def test_a_message_held_for_longer_than_max_lease_time_is_lost() -> None:
    world = World()
    world.add(1)
    async with world.queue() as queue:
        (message,) = await queue.receive(lease=30, max_lease_time=100)
        await world.time.advance(99)
        assert not message.lost
        await world.time.advance(40)
        assert message.lost
        assert world.states() == [READY]
        with pytest.raises(LeaseLost, match="longer lease"):
            await message.ack()


async def test_the_program_may_renew_beyond_max_lease_time() -> None:
    world = World()
    world.add(1)
    async with world.queue() as queue:
        (message,) = await queue.receive(lease=30, max_lease_time=40)
        for _ in range(10):
            await world.time.advance(20)
            await message.renew()
        await message.ack()


async def test_a_message_that_another_has_taken_is_told_as_lost() -> None:
    world = World()
    world.add(1)
    async with world.queue() as queue:
        (message,) = await queue.receive(lease=30)
        world.queues.advance(31)  # the broker's clock alone: as if this program had been asleep
        assert world.states() == [READY]
        await world.time.advance(16)
        assert message.lost
        with pytest.raises(LeaseLost):
            await message.renew()
        with pytest.raises(LeaseLost):
            await message.ack()


async def test_a_renewal_that_fails_is_tried_again_before_the_lease_ends() -> None:
    world = World()
    world.add(1)
    async with world.queue() as queue:
        (message,) = await queue.receive(lease=30)
        world.backend.away = True
        await world.time.advance(25)
        assert world.backend.calls["renew"] >= 3
        world.backend.away = False
        await world.time.advance(300)
        assert not message.lost
        await message.ack()


async def test_a_lease_that_could_not_be_renewed_is_told_as_lost_when_it_ends() -> None:
    world = World()
    world.add(1)
    async with world.queue() as queue:
        (message,) = await queue.receive(lease=30)
        world.backend.away = True
        await world.time.advance(29)
        assert not message.lost
        await world.time.advance(2)
        assert message.lost
        world.backend.away = False


async def test_messages_lost_before_they_were_handed_out_are_not_handed_out() -> None:
    world = World()
    world.add(3)
    async with world.queue() as queue:
        messages = queue.consume(prefetch=3, lease=30, max_lease_time=30)
        first = await anext(messages)
        await first.ack()
        await world.time.advance(46)
        again = [await anext(messages), await anext(messages)]
        assert [each.delivery_count for each in again] == [2, 2]
        assert not any(each.lost for each in again)


async def test_acks_that_gather_while_one_is_under_way_go_together() -> None:
    world = World()
    world.add(10)
    async with world.queue() as queue:
        messages = await queue.receive(10)
        world.backend.gate.clear()
        acks = [asyncio.create_task(messages[0].ack())]
        await settle()
        acks += [asyncio.create_task(each.ack()) for each in messages[1:]]
        await settle()
        world.backend.gate.set()
        await asyncio.gather(*acks)
        assert [len(batch) for batch in world.backend.batches] == [1, 9]
    assert world.states() == []


async def test_an_ack_is_tried_until_the_broker_is_back() -> None:
    world = World()
    world.add(1)
    async with world.queue() as queue:
        (message,) = await queue.receive(lease=600)
        world.backend.away = True
        ack = asyncio.create_task(message.ack())
        await world.time.advance(120)
        assert not ack.done()
        world.backend.away = False
        await world.time.advance(20)
        await ack
    assert world.states() == []


async def test_pauses_double_and_are_never_the_same_for_two() -> None:
    world = World()
    world.backend.away = True
    async with world.queue() as queue:
        consumer = asyncio.create_task(anext(queue.consume()))
        await world.time.advance(100)
        bounds = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0]
        for pause, bound in zip(world.time.slept, bounds, strict=False):
            assert bound / 2 <= pause <= bound
        assert len(world.time.slept) >= len(bounds)
        world.backend.away = False
        world.add(1)
        await world.time.advance(16)
        assert (await consumer).payload == b"0"


async def test_an_ack_whose_answer_was_lost_is_no_lost_lease() -> None:
    world = World()
    world.add(1)
    async with world.queue() as queue:
        (message,) = await queue.receive()
        world.backend.answers_lost = 1
        ack = asyncio.create_task(message.ack())
        await world.time.advance(1)
        await ack
        assert not message.lost
        assert world.backend.calls["ack"] == 2


async def test_a_refusal_ends_the_waiting_of_an_ack() -> None:
    world = World()
    world.add(1)
    async with world.queue() as queue:
        (message,) = await queue.receive()
        object.__setattr__(message.message, "receipt", "nonsense")
        with pytest.raises(QueueError, match="is no receipt"):
            await message.ack()


async def test_no_more_than_prefetch_is_leased() -> None:
    world = World()
    world.add(100)
    async with world.queue() as queue:
        messages = queue.consume(prefetch=16)
        mine = [await anext(messages) for _ in range(16)]
        await settle()
        assert sum(state == LEASED for state in world.states()) == 16
        waiting = asyncio.create_task(anext(messages))
        await settle()
        assert not waiting.done()
        await mine[0].ack()
        assert (await waiting).payload == b"16"


async def test_messages_are_fetched_in_halves_of_the_prefetch() -> None:
    world = World()
    world.add(64)
    async with world.queue() as queue:
        async for message in queue.consume(prefetch=16, idle=0, auto_ack=True):
            assert message.payload
            await settle()
        assert all(most >= 8 for most in world.backend.leased)
        assert world.backend.calls["receive"] <= 10


async def test_a_loop_that_is_left_gives_back_what_was_leased_ahead() -> None:
    world = World()
    world.add(10)
    async with world.queue() as queue:
        async for message in queue.consume(prefetch=8):  # noqa: B007 - it is used below
            break
        await settle()
        assert world.states().count(LEASED) == 1
        assert [each.failures for each in world.queues.of("work")] == [0] * 10
        await message.ack()
    assert world.states() == [READY] * 9


async def test_closing_gives_everything_back_without_a_failure() -> None:
    world = World()
    world.add(5)
    async with world.queue() as queue:
        await anext(queue.consume())
        await queue.receive()
    assert world.states() == [READY] * 5
    assert [each.failures for each in world.queues.of("work")] == [0] * 5
    assert world.queues.watchers == []


async def test_closing_does_not_wait_for_ever_for_a_broker_that_is_gone() -> None:
    world = World()
    world.add(1)
    queue = world.queue()
    (message,) = await queue.receive()
    world.backend.away = True
    closing = asyncio.create_task(queue.close())
    await world.time.advance(9)
    assert not closing.done()
    await world.time.advance(2)
    await closing
    assert message.is_settled


async def test_closing_waits_for_acks_under_way() -> None:
    world = World()
    world.add(1)
    queue = world.queue()
    (message,) = await queue.receive()
    world.backend.gate.clear()
    ack = asyncio.create_task(message.ack())
    closing = asyncio.create_task(queue.close())
    await settle()
    assert not closing.done()
    world.backend.gate.set()
    await closing
    await ack
    assert world.states() == []


async def test_a_backend_that_was_handed_in_is_not_closed() -> None:
    world = World()
    await world.queue().close()
    assert not world.backend.closed


async def test_consuming_while_nobody_asks_holds_no_task() -> None:
    world = World()
    before = asyncio.all_tasks()
    async with world.queue() as queue:
        queue.consume()
    await settle()
    assert asyncio.all_tasks() == before


async def test_a_queue_that_is_closed_hands_out_no_consumer() -> None:
    world = World()
    queue = world.queue()
    await queue.close()
    with pytest.raises(QueueError, match="closed"):
        queue.consume()


async def test_a_handler_that_fails_is_a_nack_with_its_reason(caplog) -> None:
    world = World()
    (number,) = world.add(1)

    async def handler(message) -> None:
        raise ValueError("no such device")

    async with world.queue() as queue:
        await queue.work(handler, idle=0)
    assert world.states() == [DELAYED]
    assert world.queues.messages[number].failures == 1
    assert "no such device" in caplog.text


async def test_a_handler_may_reject_and_may_ask_for_a_delay() -> None:
    world = World()
    world.add(2)

    async def handler(message) -> None:
        if message.payload == b"0":
            raise Reject("not for us")
        raise Retry("busy", delay=77)

    async with world.queue() as queue:
        await queue.work(handler, idle=0)
    assert [each.dead_reason for each in world.queues.of("work.dlq")] == ["not for us"]
    assert world.states() == [DELAYED]
    world.queues.advance(76)
    assert world.states() == [DELAYED]
    world.queues.advance(2)
    assert world.states() == [READY]


async def test_cancelled_work_cancels_its_handlers_and_releases_their_messages() -> None:
    world = World()
    world.add(10)
    began = asyncio.Event()
    cancelled = []

    async def handler(message) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(message.id)
            raise

    async with world.queue() as queue:
        work = asyncio.create_task(queue.work(handler, concurrency=3))
        await began.wait()
        await settle()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert len(cancelled) == 3
        await settle()
        assert world.states() == [READY] * 10
    assert world.states() == [READY] * 10
    assert [each.failures for each in world.queues.of("work")] == [0] * 10


async def test_stop_lets_handlers_finish_and_gives_the_rest_back() -> None:
    world = World()
    world.add(10)
    go = asyncio.Event()
    done = []

    async def handler(message) -> None:
        await go.wait()
        done.append(message.id)

    async with world.queue() as queue:
        work = asyncio.create_task(queue.work(handler, concurrency=3))
        await settle()
        queue.stop()
        await settle()
        assert not work.done()
        go.set()
        await work
        assert len(done) == 3
    assert world.states() == [READY] * 7


async def test_work_keeps_as_many_going_as_it_was_told() -> None:
    world = World()
    world.add(30)
    running = most = 0

    async def handler(message) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await settle()
        running -= 1

    async with world.queue() as queue:
        await queue.work(handler, concurrency=5, idle=0)
    assert most == 5
    assert world.states() == []


async def test_a_queue_that_is_not_there_ends_work_and_loop() -> None:
    world = World()
    async with world.queue("nothing") as queue:
        with pytest.raises(QueueError, match="there is no queue 'nothing'"):
            await queue.work(lambda _: None)
        with pytest.raises(QueueError, match="there is no queue 'nothing'"):
            await anext(queue.consume())
