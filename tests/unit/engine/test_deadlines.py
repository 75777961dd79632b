"""Deadlines: everyone is asked in time, nobody is asked for ever in one round."""

import pytest

from broker.engine.deadlines import Deadlines


class Stubborn:
    """Due from an instant on, whatever is done about it."""

    def __init__(self, due: float) -> None:
        self.armed_for: int | None = None
        self.due: float | None = due
        self.asked: list[float] = []

    def next_deadline(self) -> float | None:
        return self.due

    def tick(self, now: float) -> None:
        self.asked.append(now)


@pytest.mark.parametrize("due", [0.0, 0.1, 9.76, 10.0])
def test_what_stays_due_is_asked_once_in_a_round_and_again_in_the_next(due: float) -> None:
    deadlines = Deadlines()
    stubborn, later = Stubborn(due), Stubborn(10.5)
    deadlines.arm(stubborn)
    deadlines.arm(later)
    deadlines.tick(10.25)
    assert stubborn.asked == [10.25]
    assert deadlines.next_deadline() == 10.5
    deadlines.tick(10.75)
    assert stubborn.asked == [10.25, 10.75]
    assert later.asked == [10.75]


def test_what_has_no_deadline_any_more_is_forgotten() -> None:
    deadlines = Deadlines()
    stubborn = Stubborn(1.0)
    deadlines.arm(stubborn)
    stubborn.due = None
    deadlines.tick(2.0)
    assert deadlines.next_deadline() is None


def test_a_deadline_that_moved_away_is_asked_about_but_not_before_it_is_due_again() -> None:
    deadlines = Deadlines()
    stubborn = Stubborn(1.0)
    deadlines.arm(stubborn)
    stubborn.due = 50.0
    deadlines.tick(2.0)
    deadlines.tick(49.0)
    assert stubborn.asked == [2.0]
    deadlines.tick(50.5)
    assert stubborn.asked == [2.0, 50.5]


def test_a_deadline_that_comes_nearer_is_kept() -> None:
    deadlines = Deadlines()
    stubborn = Stubborn(50.0)
    deadlines.arm(stubborn)
    stubborn.due = 1.0
    deadlines.arm(stubborn)
    deadlines.tick(1.5)
    assert stubborn.asked == [1.5]


def test_a_timer_calls_once_and_a_cancelled_one_never() -> None:
    deadlines = Deadlines()
    calls: list[str] = []
    deadlines.after(1.0, 0.0, lambda: calls.append("kept"))
    deadlines.after(1.0, 0.0, lambda: calls.append("cancelled")).cancel()
    for now in (0.5, 1.5, 2.5):
        deadlines.tick(now)
    assert calls == ["kept"]
