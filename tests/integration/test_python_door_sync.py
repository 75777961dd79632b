"""The Python client for programs without asyncio, over HTTP: its broker lives in a thread."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from bridges.queues import LeaseLost, QueueError, Reject, Retry, SyncQueue
from bridges.queues.sync import Loop
from tests.integration.python_doors import TOKEN, HTTPDoor

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = 20  # seconds


class Broker:
    """An HTTP door on a loop of its own."""

    def __init__(self, loop: Loop, door: HTTPDoor) -> None:
        self.door = door
        self._loop = loop

    def queue(self, name: str = "work") -> SyncQueue:
        return SyncQueue(name, self.door.url, token=TOKEN)

    def pass_time(self, seconds: float) -> None:
        self._loop.run(self.door.pass_time(seconds))

    def states(self, name: str = "work") -> list[int]:
        """0 ready, 1 leased, 3 delayed."""

        async def states() -> list[int]:
            return [each.state for each in self.door.queues.of(name)]

        return self._loop.run(states())


@pytest.fixture
def broker() -> Iterator[Broker]:
    with loop() as its_loop:
        door = HTTPDoor()
        its_loop.run(door.start())
        yield Broker(its_loop, door)
        its_loop.run(door.stop())


@contextmanager
def loop() -> Iterator[Loop]:
    made = Loop()
    try:
        yield made
    finally:
        made.close()


READY, LEASED, DELAYED = 0, 1, 3


def test_a_loop_over_messages(broker: Broker) -> None:
    with broker.queue() as queue:
        queue.publish_many(["a", "b"], at_once=1)
        texts = []
        for message in queue.consume(idle=0):
            with message:
                texts.append(message.text())
    assert texts == ["a", "b"]
    assert broker.states() == []


def test_a_message_says_of_itself_what_it_is(broker: Broker) -> None:
    with broker.queue() as queue:
        queue.publish({"a": 1}, topic="t/1", key="k", properties={"p": "q"})
        (message,) = queue.receive()
        assert (message.topic, message.key, message.properties) == ("t/1", "k", {"p": "q"})
        assert message.json() == {"a": 1}
        assert "of work" in repr(message)
        message.renew(60)
        message.ack()
        assert message.is_settled


def test_blocks_that_fail_reject_or_ask_for_a_pause(broker: Broker) -> None:
    with broker.queue() as queue:
        queue.publish_many(["fail", "reject", "retry"], at_once=1)
        failing, rejected, retried = queue.receive(3)
        with pytest.raises(ZeroDivisionError), failing:
            1 / 0  # noqa: B018 - it is to fail
        with rejected:
            raise Reject("no")
        with retried:
            raise Retry(delay=60)
    assert sorted(broker.states()) == [READY, DELAYED]
    assert len(broker.states("work.dlq")) == 1


def test_verbs_without_a_block(broker: Broker) -> None:
    with broker.queue() as queue:
        queue.publish_many("abc", at_once=1)
        first, second, third = queue.receive(3)
        first.ack()
        assert second.nack(delay=60) == "ok"
        assert third.release() == "ok"
    assert broker.states() == [DELAYED, READY]


def test_a_lost_lease_is_told(broker: Broker) -> None:
    with broker.queue() as queue:
        queue.publish("x")
        (message,) = queue.receive(lease=600)
        broker.pass_time(601)
        with pytest.raises(LeaseLost):
            message.ack()
        assert message.lost


def test_leaving_the_block_gives_leases_back(broker: Broker) -> None:
    with broker.queue() as queue:
        queue.publish_many("abc")
        next(queue.consume())
    assert broker.states() == [READY] * 3


def test_work_runs_in_threads_and_ends_by_stop(broker: Broker) -> None:
    threads = set()
    all_there = threading.Barrier(3)

    def handler(message: object) -> None:
        threads.add(threading.current_thread().name)
        all_there.wait(LONGEST)
        queue.stop()

    with broker.queue() as queue:
        queue.publish_many("abc")
        queue.work(handler, concurrency=3)
    assert len(threads) == 3
    assert broker.states() == []


def test_looking_and_managing(broker: Broker) -> None:
    with broker.queue() as queue:
        queue.publish_many("abc", at_once=1)
        assert queue.stats().ready == 3
        first = queue.peek(1)[0]
        assert queue.delete(first.id) == 1
        queue.pause()
        assert queue.receive() == []
        queue.resume()
        queue.drain()
        with pytest.raises(QueueError, match="draining"):
            queue.publish("d")
        queue.receive()[0].nack(dead=True)
        assert queue.purge() == 1
        with broker.queue("work.dlq") as dead:
            assert dead.redrive() == 1
    assert broker.states() == [READY]


def test_several_threads_share_one_queue(broker: Broker) -> None:
    with broker.queue() as queue:
        threads = [threading.Thread(target=queue.publish, args=(str(each),)) for each in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(LONGEST)
        assert queue.stats().ready == 8


def test_a_queue_that_was_closed_says_so(broker: Broker) -> None:
    queue = broker.queue()
    queue.close()
    queue.close()
    with pytest.raises(QueueError, match="closed"):
        queue.publish("x")


def test_a_queue_that_is_forgotten_closes_itself(broker: Broker) -> None:
    queue = broker.queue()
    queue.publish("x")
    queue.receive()
    del queue
    assert broker.states() == [READY]


def test_a_bad_url_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with pytest.raises(QueueError):
        SyncQueue("work", "ftp://host")
    assert threading.active_count() == before


# Shells have the programs that run behind their backs ignore Ctrl-C, and so do their children.
PROGRAM = """
import signal, sys
from bridges.queues import SyncQueue

signal.signal(signal.SIGINT, signal.default_int_handler)

with SyncQueue("work", sys.argv[1], token=sys.argv[2]) as queue:
    {}
"""
WAITING = "for message in queue.consume(): print('got one', flush=True)"
WORKING = "queue.work(lambda message: (print('got one', flush=True), sys.stdin.read()))"


@contextmanager
def program(broker: Broker, body: str) -> Iterator[subprocess.Popen[str]]:
    """A program of its own, which has a message in hand when this begins."""
    arguments = [sys.executable, "-c", PROGRAM.format(body), broker.door.url, TOKEN]
    with subprocess.Popen(
        arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "."},
    ) as started:
        try:
            assert started.stdout is not None
            assert "got one" in started.stdout.readline(), started.stderr.read()
            yield started
        finally:
            started.kill()


def test_ctrl_c_in_a_loop_gives_the_leases_back(broker: Broker) -> None:
    with broker.queue() as queue:
        queue.publish_many("abc")
    with program(broker, WAITING) as started:
        assert broker.states() == [LEASED] * 3
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate(timeout=LONGEST)
        assert "KeyboardInterrupt" in errors
    assert broker.states() == [READY] * 3


def test_ctrl_c_at_work_waits_for_those_at_work(broker: Broker) -> None:
    with broker.queue() as queue:
        queue.publish_many("x")
    with program(broker, WORKING) as started:
        started.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            started.wait(0.3)
        assert broker.states() == [LEASED]
        started.communicate("", timeout=LONGEST)
    assert broker.states() == []


def test_asyncio_programs_are_not_disturbed(broker: Broker) -> None:
    async def main() -> int:
        with broker.queue() as queue:
            await asyncio.to_thread(queue.publish, "x")
            return await asyncio.to_thread(lambda: queue.stats().ready)

    assert asyncio.run(main()) == 1
