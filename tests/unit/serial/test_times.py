"""A device without a clock learns the time, as well as the wire allows."""

from __future__ import annotations

from random import Random

import pytest

from bridges.serial.frames import Channel
from bridges.serial.times import TimeAsker, answer, stamp
from tests.unit.serial.link_world import World

WALL = 1_900_000_000.25


def ask(asker: TimeAsker, now: float, there: float, back: float) -> bool:
    """Ask now over a wire with these delays; the true clock is WALL ahead of `now`."""
    question = asker.question(now)
    assert question is not None
    told = answer(question, WALL + now + there)
    assert told is not None
    return asker.receive(told, now + there + back)


def test_the_round_trip_is_halved() -> None:
    asker = TimeAsker()
    assert asker.wall(0) is None
    assert ask(asker, 0.0, 0.1, 0.1)
    assert asker.wall(10.0) == pytest.approx(WALL + 10, abs=0.002)


def test_of_a_row_of_answers_the_fastest_counts() -> None:
    asker = TimeAsker(samples=4, wait=1.0)
    for at, (there, back) in enumerate([(0.5, 0.0), (0.01, 0.01), (0.0, 0.4), (0.3, 0.1)]):
        ask(asker, float(at), there, back)
    assert asker.wall(10.0) == pytest.approx(WALL + 10, abs=0.002)


def test_a_later_row_replaces_an_earlier_one_even_if_it_is_slower() -> None:
    asker = TimeAsker(samples=1, period=100.0)
    ask(asker, 0.0, 0.0, 0.0)
    asker.offset = 0.0  # the own clock has drifted away
    assert asker.question(50.0) is None
    assert ask(asker, 100.0, 0.1, 0.1)
    assert asker.wall(100.0) == pytest.approx(WALL + 100, abs=0.002)


def test_a_slow_a_foreign_and_a_second_answer_are_worth_nothing() -> None:
    asker = TimeAsker(wait=1.0)
    assert not ask(asker, 0.0, 1.0, 0.1)
    question = asker.question(2.0)
    assert question is not None
    other = answer(bytes((1, question[1] ^ 1)), WALL)
    assert other is not None
    assert not asker.receive(other, 2.1)
    told = answer(question, WALL)
    assert told is not None
    assert asker.receive(told, 2.2)
    assert not asker.receive(told, 2.3)


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x02\x00", b"\x01\x00\x00", b"\xff\x00"])
def test_what_is_no_question_is_not_answered(payload: bytes) -> None:
    assert answer(payload, WALL) is None
    assert not TimeAsker().receive(payload, 0.0)


def test_any_answer_is_survived() -> None:
    rng = Random(1)
    asker = TimeAsker()
    for at in range(1000):
        asker.question(float(at))
        asker.receive(rng.randbytes(rng.randrange(14)), float(at))
    assert asker.offset is None


def test_a_message_was_sent_half_a_round_trip_before_it_came() -> None:
    assert stamp(100.0, 0.5) == 99.75
    assert stamp(100.0, None) == 100.0


def test_over_a_link_the_time_is_right_within_a_few_milliseconds() -> None:
    world = World().opened()
    asker = TimeAsker(samples=1)
    question = asker.question(world.bench.now)
    assert question is not None
    world.device.send_once(Channel.TIME, question, world.bench.now)
    world.bench.pump()
    world.bench.run(world.bench.now + 1, lambda: bool(world.arrived(0)))
    told = answer(world.arrived(0)[0], WALL + world.bench.now)
    assert told is not None
    world.host.send_once(Channel.TIME, told, world.bench.now)
    world.bench.pump()
    world.bench.run(world.bench.now + 1, lambda: bool(world.arrived(1)))
    assert asker.receive(world.arrived(1)[0], world.bench.now)
    assert asker.wall(world.bench.now) == pytest.approx(WALL + world.bench.now, abs=0.005)
