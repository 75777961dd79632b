"""What one device does, over a way that the test plays itself."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from firmware_sim.books.books import Books
from firmware_sim.books.ledger import Fate
from firmware_sim.clients.client import Acknowledged, Arrived, Asleep, Down, Failed, Message, Up
from firmware_sim.device.signals import Temperature
from firmware_sim.fleet.application import GIVE_UP, Application, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from firmware_sim.clients.client import ClientEvent


class PlayedClient:
    """Notes what it is asked; says what the test tells it to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.events: list[ClientEvent] = []
        self.has_room = True
        self.is_up = False

    def connect(self, now: float) -> None:
        self.asked.append(("connect",))

    def publish(self, message: Message, token: int, now: float) -> bool:
        if self.has_room:
            self.asked.append(("publish", message, token))
        return self.has_room

    def subscribe(self, topic_filter: str, qos: int, now: float) -> None:
        self.asked.append(("subscribe", topic_filter, qos))

    def sleep(self, duration: float, now: float) -> None:
        self.asked.append(("sleep", duration))

    def wake(self, now: float) -> None:
        raise AssertionError("this application connects instead")

    def disconnect(self, now: float) -> None:
        self.asked.append(("disconnect",))

    def take_events(self) -> Sequence[ClientEvent]:
        events, self.events = self.events, []
        return events


class Bench:
    """A device on the table, with a clock."""

    def __init__(self, **plan: Any) -> None:
        self.now = 0.0
        self.books = Books(1_000_000.0)
        settings = Plan(
            **{"name": "dev", "client_id": "dev", "topic": "a/dev", "interval": 10.0, **plan}
        )
        self.evidence = self.books.enrol("dev", "kind", "a/dev", settings.qos)
        self.client = PlayedClient()
        self.device = Application(
            settings,
            self.client,
            [Temperature(Random(1))],
            None,
            self.books,
            self.evidence,
            Random(2),
        )
        self.device.power_on(0.0)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (at := self.device.next_deadline()) is not None and at <= end:
            self.now = max(self.now, at)
            self.device.step(self.now)
        self.now = end

    def hear(self, *events: ClientEvent) -> None:
        self.client.events += events
        self.device.hear(self.now)

    def tokens(self) -> list[int]:
        return [ask[2] for ask in self.client.asked if ask[0] == "publish"]

    def seqs(self) -> list[int]:
        payloads = [ask[1].payload for ask in self.client.asked if ask[0] == "publish"]
        return [int(payload.split(b":")[1].split(b",")[0]) for payload in payloads]

    def fates(self) -> list[Fate]:
        return [line.fate for line in self.books.ledger.streams["a/dev"]]

    def verbs(self) -> list[str]:
        return [ask[0] for ask in self.client.asked]


def test_it_connects_measures_and_sends_in_order() -> None:
    bench = Bench(window=2)
    bench.run(35)
    assert bench.verbs() == ["connect"]
    bench.hear(Up())
    assert bench.seqs() == [0, 1]
    bench.hear(*(Acknowledged(token) for token in bench.tokens()))
    assert bench.seqs() == [0, 1, 2, 3][: len(bench.fates())]
    assert bench.fates()[:2] == [Fate.ACKNOWLEDGED] * 2


def test_after_a_brown_out_what_was_under_way_goes_first() -> None:
    bench = Bench(window=2)
    bench.run(35)
    bench.hear(Up())
    bench.device.power_off(bench.now)
    assert bench.books.online["kind"] == 0
    bench.device.power_on(bench.now)
    bench.hear(Up())
    assert bench.seqs() == [0, 1, 0, 1]
    assert bench.books.ledger.streams["a/dev"].line(0).handed == 2


def test_a_lost_session_counts_what_is_under_way_as_handed_over_again() -> None:
    bench = Bench(window=2)
    bench.run(35)
    bench.hear(Up())
    bench.hear(Down("gone"), Up(session_present=True))
    assert bench.books.ledger.streams["a/dev"].line(0).handed == 1
    bench.hear(Down("gone"), Up(session_present=False))
    assert bench.books.ledger.streams["a/dev"].line(0).handed == 2


def test_what_is_refused_is_gone_and_the_next_one_goes() -> None:
    bench = Bench()
    bench.run(25)
    bench.hear(Up())
    bench.hear(Failed(bench.tokens()[0], "not authorised"))
    assert bench.fates()[:2] == [Fate.REFUSED, Fate.IN_FLIGHT]
    assert bench.books.refusals == {"not authorised": 1}


def test_a_message_that_never_finds_room_does_not_hold_up_the_others_for_ever() -> None:
    bench = Bench(interval=1000.0)
    bench.run(1000)
    bench.client.has_room = False
    bench.hear(Up())
    bench.run(GIVE_UP / 2)
    assert bench.fates() == [Fate.KEPT]
    bench.run(GIVE_UP)
    assert bench.fates() == [Fate.REFUSED]


def test_room_that_is_scarce_only_for_a_moment_loses_nothing() -> None:
    bench = Bench(interval=1000.0)
    bench.run(1000)
    bench.client.has_room = False
    bench.hear(Up())
    for _ in range(50):  # being spoken to is no reason to give up earlier
        bench.hear(Arrived(Message("a/dev/command", b"{}")))
    bench.run(1)
    bench.client.has_room = True
    bench.run(1)
    assert bench.seqs() == [0]


def test_a_sleeper_connects_for_a_reading_and_sleeps_again() -> None:
    bench = Bench(sleeps=True, sleep_limit=20.0, listens=True)
    assert bench.verbs() == ["subscribe", "connect"]
    bench.hear(Up())
    bench.run(5)
    if not bench.seqs():
        bench.hear(Asleep())
        bench.run(5)
        bench.hear(Up())
    bench.hear(Acknowledged(bench.tokens()[-1]))
    bench.run(2)
    bench.hear(Asleep())
    assert bench.client.asked[-1] == ("sleep", 20.0)
    assert bench.books.online["kind"] == 0
    asked = len(bench.client.asked)
    bench.run(10)
    assert bench.verbs()[asked:] == ["connect"]


def test_a_sleeper_that_finds_nobody_does_not_stay_awake() -> None:
    bench = Bench(sleeps=True, interval=300.0)
    bench.run(60)
    assert "sleep" in bench.verbs()


def test_it_finishes_with_empty_hands() -> None:
    bench = Bench()
    bench.run(25)
    bench.device.finish(bench.now)
    bench.run(100)
    made = len(bench.fates())
    assert not bench.device.is_settled
    bench.hear(Up())
    for _ in range(made):
        bench.hear(Acknowledged(bench.tokens()[-1]))
    assert bench.device.is_settled
    assert bench.fates() == [Fate.ACKNOWLEDGED] * made
    bench.device.close(bench.now)
    assert bench.verbs()[-1] == "disconnect"


def test_a_device_between_two_readings_is_counted_as_asleep_and_one_without_power_is_not() -> None:
    bench = Bench(sleeps=True, interval=100.0)
    bench.run(40)  # nobody answers, so it sleeps on
    assert bench.books.asleep == 1
    assert 0.0 < bench.books.presence(bench.now).asleep < 40.0
    bench.device.power_off(bench.now)
    assert bench.books.asleep == 0


def test_how_long_devices_were_connected_is_summed_up() -> None:
    bench = Bench()
    bench.run(10)
    bench.hear(Up())
    bench.run(20)
    assert bench.books.presence(bench.now).connected == 20.0
    bench.hear(Down("gone"))
    bench.run(20)
    assert bench.books.presence(bench.now).connected == 20.0
