"""The consumers of a queue in one broker: who gets what, and until when."""

from __future__ import annotations

import pytest

from broker.clock import Clock
from broker.queues.delivery import Delivery
from broker.queues.policy import QueuePolicy
from broker.queues.pool import AHEAD, DOORS, GRACE, Pool

WALL = 1_000_000.0


class Eater:
    def __init__(self, name: str, room: int) -> None:
        self.name = name
        self.free = room
        self.got: list[Delivery] = []

    @property
    def room(self) -> int:
        return self.free - len(self.got)

    def take(self, deliveries: list[Delivery]) -> None:
        self.got += deliveries


class Sot(Eater):
    """Acknowledges at once."""

    pool: Pool

    def take(self, deliveries: list[Delivery]) -> None:
        for each in deliveries:
            self.free += 1
            self.got.append(each)
            assert self.pool.settle(each)
            self.pool.serve()


def made(*members: Eater, **policy: object) -> Pool:
    clock = Clock()
    clock.now = 100.0
    pool = Pool("pool", QueuePolicy(**policy), clock, lambda: WALL + clock.now)  # type: ignore[arg-type]
    for member in members:
        pool.join(member)
    return pool


def message(number: int, rank: int = 5, expires_at: float | None = None) -> Delivery:
    return Delivery(
        *(number, 7, "q", None, rank, "t", b"x", b"", 0x32, "p", 0.0, None, 1, 0, expires_at)
    )


def messages(*numbers: int) -> list[Delivery]:
    return [message(number) for number in numbers]


def numbers(deliveries: list[Delivery]) -> list[int]:
    return [each.number for each in deliveries]


def test_consumers_share_what_comes_in_order():
    one, other = Eater("one", 2), Eater("other", 2)
    pool = made(one, other)
    pool.take(messages(1, 2, 3, 4, 5))
    assert sorted(numbers(one.got) + numbers(other.got)) == [1, 2, 3, 4]
    assert numbers(one.got) == sorted(numbers(one.got))
    assert numbers(list(pool.window)) == [5]


def test_an_answer_lets_the_next_one_out():
    one = Eater("one", 1)
    pool = made(one)
    pool.take(messages(1, 2))
    one.free += 1
    assert pool.settle(one.got[0])
    pool.serve()
    assert numbers(one.got) == [1, 2]


def test_what_comes_late_and_belongs_before_is_handed_out_before():
    one = Eater("one", 0)
    pool = made(one)
    pool.take(messages(5, 6))
    pool.take([message(9, rank=0)])
    pool.take(messages(3))
    one.free = 4
    pool.has_room_again()
    assert numbers(one.got) == [9, 3, 5, 6]


def test_a_consumer_that_acknowledges_at_once_gets_all_without_end_of_the_stack():
    sot = Sot("sot", 1)
    pool = made(sot)
    sot.pool = pool
    pool.take(messages(*range(1, 5000)))
    assert numbers(sot.got) == list(range(1, 5000))
    assert not pool.leases


def test_one_active_consumer_gets_everything_until_it_leaves():
    one, other = Eater("one", 2), Eater("other", 9)
    pool = made(one, other, order="single_active")
    pool.take(messages(1, 2, 3))
    assert (numbers(one.got), other.got) == ([1, 2], [])
    assert numbers(pool.part(one)) == [1, 2]
    pool.has_room_again()
    assert numbers(other.got) == [3]


def test_it_asks_for_what_consumers_have_room_for_and_some_ahead():
    pool = made(Eater("one", 3), Eater("other", 0))
    assert pool.room == 3 + AHEAD
    pool.asked = 3
    assert pool.room == AHEAD
    pool.asked = AHEAD // 2 + 1
    assert pool.room == 0
    pool.looks_ahead = False
    pool.asked = 0
    assert pool.room == 3


def test_it_asks_for_nothing_when_nobody_is_there_or_the_queue_is_paused():
    assert made().room == 0
    pool = made(Eater("one", 3))
    pool.is_paused = True
    assert (pool.room, pool.has_space) == (0, False)
    pool.take(messages(1))
    assert numbers(list(pool.window)) == [1]


def test_large_messages_are_not_asked_for_ahead_without_end():
    pool = made(Eater("one", 0))
    large = message(1)
    large.payload = b"x" * 2_000_000
    pool.take([large])
    assert pool.room == 0


def test_who_comes_by_another_door_finds_nothing_hoarded():
    pool = made(Eater("one", 0))
    pool.take(messages(1, 2))
    assert numbers(pool.make_way()) == [1, 2]
    assert (pool.room, pool.has_space) == (0, False)
    pool._clock.now += DOORS
    assert pool.has_space


def test_leases_end_on_time_unless_they_are_renewed():
    one = Eater("one", 3)
    pool = made(one, lease=30.0)
    ended: list[Delivery] = []
    pool.on_expired = ended.append
    pool.take(messages(1, 2))
    assert one.got[0].lease_until == WALL + 130
    assert pool.next_deadline() == 130
    assert pool.renew(one.got[1], 50.0)
    pool.tick(129.0)
    assert ended == []
    pool.tick(130.0)
    assert numbers(ended) == [1]
    assert pool.next_deadline() == 150
    assert numbers(pool.part(one)) == [2]
    assert pool.next_deadline() is None


def test_a_message_that_grows_too_old_in_the_window_is_not_handed_out():
    one = Eater("one", 0)
    pool = made(one)
    stale: list[Delivery] = []
    pool.on_stale = stale.append
    pool.take([message(1, expires_at=WALL + 105), message(2)])
    pool._clock.now = 110.0
    one.free = 2
    pool.has_room_again()
    assert (numbers(stale), numbers(one.got)) == ([1], [2])


def test_what_waits_long_in_the_window_is_renewed_in_time():
    pool = made(Eater("one", 0), lease=30.0)
    pool.take(messages(1))
    pool.window[0].lease_until = WALL + 100 + pool.lease_seconds
    assert pool.ageing() == []
    pool._clock.now += GRACE
    assert numbers(pool.ageing()) == [1]
    assert pool.ageing() == []


def test_an_answer_that_is_too_late_counts_for_nothing():
    one = Eater("one", 2)
    pool = made(one)
    pool.take(messages(1))
    pool.tick(1000.0)
    assert not pool.settle(one.got[0])
    pool.take(messages(1))  # again, with another lease
    assert not pool.settle(one.got[0])
    assert not pool.renew(one.got[0], 5.0)
    assert pool.settle(one.got[1])
    assert not pool.settle(one.got[1])


def test_who_retires_gets_no_more_and_may_answer_what_it_has():
    one, other = Eater("one", 1), Eater("other", 0)
    pool = made(one, other)
    pool.take(messages(1))
    pool.retire(one)
    one.free = 5
    pool.take(messages(2))
    assert numbers(one.got) == [1]
    assert pool.settle(one.got[0])


def test_a_consumers_fault_is_told_and_harms_nobody_else():
    one = Eater("one", 1)
    pool = made(one)
    faults: list[Exception] = []
    pool.on_fault = faults.append
    one.take = lambda _: 1 / 0  # type: ignore[assignment,return-value]
    pool.take(messages(1))
    assert isinstance(faults[0], ZeroDivisionError)


@pytest.mark.parametrize(
    "policy", [{"on_full": "drop_oldest"}, {"last_value": True}, {"max_rate": 10.0}]
)
def test_nothing_is_leased_ahead_where_the_store_must_reach_what_waits(policy):
    pool = made(Eater("one", 3), **policy)
    assert pool.room == 3
    assert not pool.has_space


def test_what_has_grown_too_old_behind_a_hung_consumer_is_taken_out():
    pool = made(Eater("one", 0))
    pool.take([message(1, expires_at=WALL + 105), message(2), message(3, expires_at=WALL + 200)])
    assert pool.expired() == []
    pool._clock.now = 110.0
    assert numbers(pool.expired()) == [1]
    assert numbers(list(pool.window)) == [2, 3]


def test_what_is_new_comes_after_what_the_store_was_asked_for():
    one = Eater("one", 9)
    pool = made(one)
    pool.asked = 2
    pool.offer(message(8))
    pool.offer(message(9))
    pool.serve()
    assert (one.got, pool.room) == ([], 9 + AHEAD - 4)
    pool.asked = 0
    pool.take(messages(5, 6))
    assert pool.answered(is_all=True) == []
    assert numbers(one.got) == [5, 6, 8, 9]


def test_what_is_new_waits_in_the_store_if_that_has_more_that_is_older():
    one = Eater("one", 9)
    pool = made(one)
    pool.asked = 2
    pool.offer(message(8))
    pool.asked = 0
    assert numbers(pool.answered(is_all=False)) == [8]
    assert (one.got, pool.flush()) == ([], [])


def test_where_order_is_all_it_asks_for_one_answer_after_the_other():
    pool = made(Eater("one", 3), order="single_active")
    assert pool.room == 3
    pool.asked = 1
    assert pool.room == 0
