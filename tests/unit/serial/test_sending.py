"""The wait for an acknowledgement: what is measured, and what makes it longer and shorter."""

from __future__ import annotations

from random import Random

import pytest

from bridges.serial.frames import Channel
from bridges.serial.patience import Patience
from bridges.serial.sending import Sending
from tests.unit.serial.link_world import World


def sending() -> tuple[Sending, Patience]:
    patience = Patience(Random(1), first=0.1, shortest=0.02, longest=2.0)
    return Sending(patience, depth=8), patience


def go(one: Sending, now: float) -> None:
    """Send all that may be sent."""
    while taken := one.take():
        one.sent(taken[1], now)


def test_a_prompt_answer_is_measured() -> None:
    one, patience = sending()
    one.offer(Channel.RAW, b"x")
    go(one, 0.0)
    one.on_ack(1, 0, 8, 0.04)
    assert patience.round_trip == pytest.approx(0.04)
    assert patience.wait == pytest.approx(0.04 + 4 * 0.02)


def test_an_answer_that_noise_has_delayed_is_not_measured() -> None:
    one, patience = sending()
    one.offer(Channel.RAW, b"x")
    go(one, 0.0)
    one.on_nak(1, 0, 8, 5.0)
    assert one.is_idle
    assert patience.round_trip is None


def test_a_frame_that_was_sent_twice_is_not_measured() -> None:
    one, patience = sending()
    one.offer(Channel.RAW, b"x")
    go(one, 0.0)
    one.on_timeout(0.1)
    go(one, 0.1)
    one.on_ack(1, 0, 8, 0.11)
    assert one.is_idle
    assert patience.round_trip is None
    assert patience.wait > 0.2


def test_the_wait_doubles_up_to_a_bound_and_chance_adds_to_it() -> None:
    _, patience = sending()
    waits = []
    for _ in range(8):
        waits.append(patience.wait)
        patience.failed()
    assert waits[0] == 0.1
    for doubled, wait in zip((0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0), waits[1:], strict=True):
        assert doubled <= wait <= doubled * 1.25
    assert len({round(wait / 2.0, 6) for wait in waits[5:]}) == 3


def test_noise_ends_the_doubling() -> None:
    world = World().opened()
    patience = world.host._patience
    for _ in range(8):
        patience.failed()
    long = patience.wait
    world.host.receive(b"\x05noise\0", world.bench.now)
    assert patience.wait < long / 10
