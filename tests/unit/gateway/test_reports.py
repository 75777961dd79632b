"""Rounds of figures: a piece in each turn of the loop, and what happens in between."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from bridges.gateway import figures, snapshots
from bridges.gateway.figures import DeviceFigures
from bridges.gateway.keeping import Waiting
from bridges.gateway.pieces import PIECE, at_once, in_pieces
from bridges.gateway.reports import Reports
from bridges.mqttsn.ports import Address, Note, Stage
from tests.unit.gateway.gateway_world import FakeLoop

if TYPE_CHECKING:
    from collections.abc import Generator

AWAY = "$SYS/broker/mqttsn/devices/away"


class Told:
    """A Told that remembers nothing."""

    def topics(self) -> list[str]:
        return []

    def add(self, topic: str) -> None:
        """It is known to the broker."""

    def discard(self, topic: str) -> None:
        """It is not any more."""


class Site:
    """Reports of so many devices that are away, and a broker that retains."""

    def __init__(self, away: int) -> None:
        self.loop = FakeLoop()
        self.retained: dict[str, bytes] = {}
        self.told = 0
        self.side = SimpleNamespace(tell=self._tell, prefix="$SYS/broker/", name="gw")
        self.notes = {f"dev{n}": self._note(f"dev{n}") for n in range(away)}
        notebook = SimpleNamespace(notes=lambda: list(self.notes.values()))
        gateway = SimpleNamespace(devices=[], notebook=notebook)
        self.keeping = SimpleNamespace(told=Told(), quarantine={})
        house = SimpleNamespace(rooms=[SimpleNamespace(name="udp", gateway=gateway)])
        parts: tuple[Any, ...] = (self.side, self.keeping, house, {})
        self.reports = Reports(*parts, "ha", 10.0, self.loop)  # type: ignore[arg-type]

    def _note(self, client_id: str) -> Note:
        return Note(client_id, Address("10.0.0.1:5"), Stage.AWAY, False, 60)

    def _tell(self, topic: str, payload: bytes, retain: bool) -> None:
        assert retain
        self.told += 1
        self.retained[topic] = payload
        if not payload:
            del self.retained[topic]

    def turn(self) -> None:
        """What is due now, and nothing that comes of it."""
        calls, self.loop.soon = self.loop.soon, []
        for call in calls:
            call()

    def next_round(self) -> None:
        """Begin it."""
        self.loop.now += 10
        (timer,) = self.loop.timers
        self.loop.timers = []
        timer.call()

    def count_turns(self, looks: list[Counted]) -> int:
        """Of the round that has begun; none of them may be more than a piece of anything."""
        turns, before = 1, [*(look.calls for look in looks), self.told]
        while self.loop.soon:
            self.turn()
            now = [*(look.calls for look in looks), self.told]
            assert all(each - last <= PIECE for each, last in zip(now, before, strict=True))
            before, turns = now, turns + 1
        return turns

    def finish(self) -> None:
        while self.loop.soon:
            self.turn()

    def devices(self) -> set[str]:
        return {each.split("/")[4] for each in self.retained if "/udp/" in each}


class Counted:
    """Counts the calls of a function that goes on as before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: Any, name: str) -> None:
        self.calls = 0
        self._function = getattr(place, name)
        monkeypatch.setattr(place, name, self)

    def __get__(self, instance: Any, _owner: Any) -> Any:
        return partial(self, instance)  # it may be a method

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        return self._function(*arguments, **named)


def test_many_devices_are_looked_at_and_told_of_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(away=3000)
    looks = [
        Counted(monkeypatch, snapshots, "DeviceFigures"),
        Counted(monkeypatch, snapshots, "replace"),
        Counted(monkeypatch, figures.Teller, "_remembered"),
        Counted(monkeypatch, figures, "text_of"),
    ]
    site.reports.start()
    assert site.count_turns(looks) > 3000 / PIECE
    assert site.retained[AWAY] == b"3000"
    assert len(site.devices()) == 1000
    for client_id in list(site.notes)[:2500]:
        del site.notes[client_id]
    site.next_round()
    assert site.count_turns(looks) > 3000 / PIECE
    assert site.retained[AWAY] == b"1500"  # the 500, and the last 1000 that have no note any more
    assert len(site.devices()) == 1000


def test_a_round_that_takes_longer_than_the_interval_is_the_only_one() -> None:
    site = Site(away=1000)
    site.reports.start()
    for _ in range(5):
        site.next_round()
        assert len(site.loop.soon) == 1
        site.turn()
    site.finish()
    assert site.retained[AWAY] == b"1000"


@pytest.mark.parametrize("turns", range(60))
def test_a_device_that_is_forgotten_during_a_round_is_not_told_of_by_it(turns: int) -> None:
    site = Site(away=300)
    site.reports.start()
    site.finish()
    site.next_round()
    for _ in range(turns):
        site.turn()
    del site.notes["dev7"]
    site.reports.forget("dev7")
    site.finish()
    assert site.devices() == site.notes.keys()
    site.loop.run(10.0)
    assert site.retained[AWAY] == b"299"


def test_nothing_is_told_after_the_end() -> None:
    site = Site(away=1000)
    site.reports.start()
    site.turn()
    site.reports.close()
    told = site.told
    site.loop.run()
    assert site.told == told
    assert site.retained["$SYS/broker/gateway/state"] == b"offline"


def test_a_round_that_fails_is_not_the_last_one() -> None:
    site = Site(away=2 * PIECE)
    site.keeping.quarantine = None
    site.reports.start()
    with pytest.raises(AttributeError):
        site.finish()
    site.keeping.quarantine = {"new": Waiting("new", "udp", "10.0.0.1:5", 1, 900.0)}
    site.loop.now += 10
    site.loop.run()
    assert site.retained["$SYS/broker/mqttsn/udp/new/state"] == b"quarantined"


def test_pieces_are_all_there_is_in_order() -> None:
    pieces = list(in_pieces(range(2 * PIECE + 1)))
    assert [len(piece) for piece in pieces] == [PIECE, PIECE, 1]
    assert [each for piece in pieces for each in piece] == list(range(2 * PIECE + 1))
    assert list(in_pieces([])) == []


def test_work_at_once_returns_what_it_returns_in_pieces() -> None:
    def work() -> Generator[None, None, DeviceFigures]:
        yield
        yield
        return DeviceFigures("dev", "udp")

    assert at_once(work()).client_id == "dev"
