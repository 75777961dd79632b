"""What the broker knows of a queue: who asks for how many, how full it is, how fast it moves."""

from __future__ import annotations

from math import inf
from typing import Any

from broker.clock import Clock
from broker.queues.policy import QueuePolicy
from broker.queues.pool import Pool
from broker.queues.queue import Queue


class Eater:
    lease_seconds = 30.0

    def __init__(self, name: str, room: int) -> None:
        self.name = name
        self.room = room
        self.asked = 0

    def take(self, deliveries: list[Any]) -> None:
        """Not here."""


def queue(*rooms: int, hint: float = inf, **policy: Any) -> Queue:
    settings = QueuePolicy(**policy)
    made = Queue("q", settings, "config", Pool("pool", settings, Clock(), float))
    for number, room in enumerate(rooms):
        made.join(Eater(f"c{number}", room))
    made.hint = hint
    return made


def asked(one: Queue) -> dict[str, int]:
    return {consumer.name: most for consumer, most in one.asks()}


def test_when_nobody_knows_how_many_are_ready_all_ask_for_what_they_have_room_for():
    assert asked(queue(3, 0, 16)) == {"c0": 3, "c2": 16}


def test_a_few_messages_are_shared_among_the_hungry():
    assert sorted(asked(queue(16, 16, 16, hint=5)).values()) == [1, 2, 2]
    assert list(asked(queue(16, 16, 16, hint=1)).values()) == [1]


def test_consumers_take_turns():
    one = queue(16, 16, 16, hint=1)
    assert {next(iter(asked(one))) for _ in range(3)} == {"c0", "c1", "c2"}


def test_nobody_asks_a_paused_queue_nor_without_room_nor_for_nothing():
    assert queue(1).wants
    assert not queue(0).wants
    assert not queue(1, hint=0).wants
    one = queue(1)
    one.mode = "paused"
    assert not one.wants


def test_a_consumer_of_the_same_name_takes_the_place_of_the_old_one():
    one = queue(1)
    old = one.consumers["c0"]
    one.join(Eater("c0", 7))
    one.part(old)
    assert asked(one) == {"c0": 7}
    one.part(one.consumers["c0"])
    assert not one.wants


def test_what_the_store_counts_and_what_it_has_not_got_yet_add_up():
    one = queue(max_messages=3, max_bytes=10_000_000)
    one.count_in(10)
    one.counted(1, 100)
    assert (one.messages, one.size) == (2, 110)
    assert one.has_room(1)
    one.begin_count(7)
    one.counted(1, 100, 6)  # of the batch before
    assert one.messages == 2
    one.counted(3, 120, 7)
    assert not one.has_room(1)
    one.counted(2, 120)
    assert not one.has_room(10_000_000)


def test_a_message_that_was_never_written_does_not_count():
    one = queue()
    one.count_in(10)
    one.count_out(10)
    one.counted(0, 0)
    assert (one.messages, one.size) == (0, 0)


def test_a_queue_that_nears_its_bounds_needs_a_closer_look():
    one = queue(max_messages=1000)
    assert not one.refuses
    one.counted(900, 0)
    assert one.refuses
    one = queue(max_messages=1000, on_full="drop_oldest")
    one.counted(1700, 0)
    assert not one.refuses  # the store drops the oldest
    one.counted(2000, 0)  # but for what it cannot drop
    assert one.refuses
    assert not one.has_room(1)
    one = queue()
    one.mode = "draining"
    assert one.refuses


def test_watchers_are_woken_and_a_message_more_may_be_ready():
    one = queue(hint=0)
    woken = []
    one.watchers[object()] = lambda: woken.append(1)
    one.wake()
    assert (woken, one.hint) == ([1], 1)


def test_its_time_comes_once():
    one = queue(hint=0)
    due = []
    one.on_due = due.append
    one.look_at = 10.0
    one.tick(9.0)
    assert (due, one.next_deadline()) == ([], 10.0)
    one.tick(10.0)
    assert (due, one.next_deadline(), one.hint) == ([one], None, inf)


def test_rates_are_those_of_the_last_while():
    one = queue()
    one.measure(5.0)
    for _ in range(10):
        one.count_in(1)
    one.begin_count()
    one.counted(4, 4)
    one.measure(5.0)
    assert one.rates == {"in": 2.0, "out": 1.2}


def test_what_becomes_ready_while_the_store_looks_is_not_forgotten():
    one = queue(hint=inf)
    asked_at = one.woken
    one.none_left(asked_at)
    assert one.hint == 0
    one.wake()
    asked_at = one.woken
    one.wake(2)
    one.begin_count()  # whatever goes into another batch meanwhile
    one.none_left(asked_at)
    assert one.hint == 2
    asked_at = one.woken
    one.wake(inf)
    one.none_left(asked_at)
    assert one.hint == inf
    one.none_left(one.woken)
    assert one.hint == 0


def test_more_messages_than_were_known_wake_it():
    one = queue(hint=0)
    one.counted(3, 30)
    assert one.hint == 3
