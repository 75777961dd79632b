"""The end of a run against a broker: how long is waited for what is under way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from firmware_sim.fleet.real import LONGEST_DRAIN, RealRun
from firmware_sim.scenario.scenario import Kind, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

DRAIN, STEP = 10.0, 4.0  # seconds


class Clock:
    """A clock that goes on when somebody sleeps; then messages arrive, too."""

    def __init__(self) -> None:
        self.now = 0.0
        self.arrive: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    async def sleep(self, _: float) -> None:
        self.now += STEP
        self.arrive()


@pytest.mark.parametrize(
    ("messages", "waited"),
    [
        (0, 2 * STEP),  # a second look
        (100, 102 * STEP - STEP),  # for as long as they come
        (10**9, LONGEST_DRAIN * DRAIN),  # not for ever
    ],
)
async def test_a_run_waits_while_messages_arrive(
    monkeypatch: pytest.MonkeyPatch, messages: int, waited: float
) -> None:
    clock: Any = Clock()
    run = RealRun(Scenario("x", (Kind("a"),), drain=DRAIN))
    run._loop = clock
    ledger = run.fleet.books.ledger

    def arrive() -> None:
        ledger.arrived += ledger.arrived < messages

    clock.arrive = arrive
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    monkeypatch.setattr(run.fleet, "finish", lambda: None)
    monkeypatch.setattr(run.fleet, "is_settled", lambda: ledger.arrived == messages)
    await run._drain()
    assert ledger.arrived == min(messages, clock.now / STEP)
    assert clock.now == pytest.approx(min(waited, LONGEST_DRAIN * DRAIN), abs=STEP)


async def test_a_run_does_not_wait_longer_for_what_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock: Any = Clock()
    run = RealRun(Scenario("x", (Kind("a"),), drain=DRAIN))
    run._loop = clock
    monkeypatch.setattr(asyncio, "sleep", clock.sleep)
    monkeypatch.setattr(run.fleet, "finish", lambda: None)
    monkeypatch.setattr(run.fleet, "is_settled", lambda: False)
    await run._drain()
    assert clock.now == pytest.approx(DRAIN, abs=STEP)
