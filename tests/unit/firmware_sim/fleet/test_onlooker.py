"""The books of a device that cannot be asked, from what its wire tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmware_sim.books.books import Books
from firmware_sim.books.ledger import Fate
from firmware_sim.clients.client import Acknowledged, Arrived, Asleep, Down, Failed, Message, Up
from firmware_sim.clients.overheard import Published
from firmware_sim.fleet.application import Plan
from firmware_sim.fleet.onlooker import LINGER, MOST_PASSED_OVER, Onlooker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmware_sim.clients.overheard import OverheardEvent


class PlayedBoard:
    """Says what the test tells it to."""

    def __init__(self) -> None:
        self.events: list[OverheardEvent] = []
        self.is_on = False

    def power_on(self, now: float) -> None:
        self.is_on = True

    def cut(self, now: float) -> None:
        self.is_on = False

    def take_events(self) -> Sequence[OverheardEvent]:
        events, self.events = self.events, []
        return events

    def forget(self, now: float) -> None: ...
    def unplug(self, now: float) -> None: ...
    def plug(self, now: float) -> None: ...
    def close(self, now: float) -> None: ...
    def quality(self) -> float | None: ...


class Bench:
    """A board that is switched on, and whoever looks on."""

    def __init__(self, qos: int = 1) -> None:
        self.books, self.board = Books(), PlayedBoard()
        evidence = self.books.enrol("a", "kind", "t", qos)
        self.commands = self.books.commands.open("t/command", "a", "kind", 1)
        self.onlooker = Onlooker(Plan("a", "a", "t", qos), self.board, self.books, evidence)
        self.onlooker.power_on(0.0)

    def hear(self, *events: OverheardEvent) -> None:
        self.board.events += events
        self.onlooker.hear(1.0)

    def finish(self) -> None:
        """At the end, when it has lingered."""
        self.onlooker.finish(2.0)
        assert self.onlooker.next_deadline() == 2.0 + LINGER
        self.onlooker.step(2.0 + LINGER)

    def fates(self) -> list[Fate]:
        return [line.fate for line in self.books.ledger.streams["t"]]

    def handed(self, seq: int) -> int:
        return self.books.ledger.streams["t"].line(seq).handed


def reading(token: int, seq: int) -> Published:
    return Published(token, b'{"seq":%d,"temperature":21.4}' % seq)


def test_a_reading_is_booked_as_it_goes_by() -> None:
    bench = Bench()
    bench.hear(reading(1, 0))
    assert bench.fates() == [Fate.IN_FLIGHT]
    bench.hear(Acknowledged(1), reading(2, 1), Failed(2, "refused"))
    assert bench.fates() == [Fate.ACKNOWLEDGED, Fate.REFUSED]
    assert bench.books.refusals == {"refused": 1}


def test_numbers_that_were_passed_over_are_readings_that_it_dropped() -> None:
    bench = Bench()
    bench.hear(reading(1, 2))
    assert bench.fates() == [Fate.DROPPED, Fate.DROPPED, Fate.IN_FLIGHT]


@pytest.mark.parametrize("payload", [b"", b'{"seq":x}', b'{"seq":%d}' % MOST_PASSED_OVER])
def test_what_has_no_number_of_ours_was_never_made(payload: bytes) -> None:
    bench = Bench()
    bench.hear(Published(1, payload), Acknowledged(1))
    assert bench.fates() == []
    assert bench.books.ledger.acknowledged == 0


def test_what_the_wire_tells_twice_at_quality_0_was_handed_over_once() -> None:
    bench = Bench(qos=0)
    bench.hear(reading(1, 0), Acknowledged(1), reading(2, 0), Acknowledged(2))
    assert bench.handed(0) == 1


@pytest.mark.parametrize(("is_kept", "times"), [(True, 1), (False, 2)])
def test_in_a_new_session_what_was_under_way_is_handed_over_again(
    is_kept: bool, times: int
) -> None:
    bench = Bench(qos=2)
    bench.hear(reading(1, 0), Up(session_present=is_kept))
    assert bench.handed(0) == times


def test_commands_and_connections_are_counted() -> None:
    bench = Bench()
    seq = bench.commands.made()
    bench.commands.handed(seq, 0.5)
    bench.hear(Up(), Arrived(Message("", b'{"seq":0,"do":"report"}', 1)))
    assert bench.books.online == {"kind": 1}
    assert bench.commands.line(0).copies == 1
    bench.hear(Down("the device connected anew"))
    assert bench.books.online == {"kind": 0}
    assert bench.books.downs == {"the device connected anew": 1}


def test_who_sleeps_is_counted_until_it_wakes_or_has_no_power() -> None:
    bench = Bench()
    bench.hear(Up(), Asleep())
    assert (bench.books.asleep, bench.books.online) == (1, {"kind": 0})
    bench.hear(Up())
    assert (bench.books.asleep, bench.books.online) == (0, {"kind": 1})
    bench.hear(Asleep())
    bench.onlooker.power_off(2.0)
    assert bench.books.asleep == 0


def test_at_the_end_its_power_is_taken_when_nothing_is_under_way() -> None:
    bench = Bench()
    bench.hear(Up(), reading(1, 0))
    bench.finish()
    assert bench.board.is_on
    assert not bench.onlooker.is_settled
    bench.hear(Acknowledged(1))
    assert not bench.board.is_on
    assert bench.onlooker.is_settled
    assert bench.books.online == {"kind": 0}


def test_one_that_waits_for_nothing_is_switched_off_when_what_is_on_its_way_has_come() -> None:
    bench = Bench()
    bench.onlooker.finish(2.0)
    bench.hear(Up())
    assert bench.board.is_on
    bench.finish()
    assert not bench.board.is_on
    assert bench.onlooker.next_deadline() is None


def test_without_power_it_has_forgotten_what_was_under_way() -> None:
    bench = Bench()
    bench.hear(reading(1, 0))
    bench.onlooker.power_off(2.0)
    bench.board.events = [Acknowledged(1)]
    bench.onlooker.hear(2.0)
    bench.onlooker.power_on(3.0)
    bench.hear(Up())
    assert bench.fates() == [Fate.IN_FLIGHT]
    assert bench.handed(0) == 1
