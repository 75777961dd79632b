"""What a device does: it measures, keeps, hands over, listens, sleeps, and has its bugs.

A machine over any `Client`: it asks and hears; it neither waits nor reads a clock. Readings go
through the flash alone, oldest first, so their order is the order of their numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmware_sim.books.books import COMMAND
from firmware_sim.clients.client import Acknowledged, Arrived, Asleep, Down, Failed, Message, Up
from firmware_sim.device.bugs import STORM_PAUSE, TWICE_EVERY, WRONG_CLOCK, Bug, spoil
from firmware_sim.device.flash import Flash, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

    from firmware_sim.books.books import Books
    from firmware_sim.books.evidence import Evidence
    from firmware_sim.clients.client import Client, ClientEvent
    from firmware_sim.device.battery import Battery
    from firmware_sim.device.signals import Signal, Value

LINGER: Final = 0.5  # seconds a sleeping device stays to hear what waits for it
AWAKE_AT_MOST: Final = 30.0  # then it sleeps, whatever is left to send
TRY_AGAIN: Final = 0.5  # when the client had no room
GIVE_UP: Final = 10.0  # with nothing under way, a message that is not taken is given up
OVERHEAD: Final = 60  # bytes on the air around a payload


@dataclass(frozen=True, slots=True)
class Plan:
    """What one device is to do. Times in seconds."""

    name: str
    client_id: str
    topic: str
    qos: int = 1
    interval: float | None = 60.0  # None: its signals' events alone
    sleeps: bool = False
    sleep_limit: float = 3600.0  # the longest it says it will sleep
    listens: bool = False  # to commands
    flash: int = 256  # readings
    window: int = 1
    volatile: bool = False
    drift: float = 0.0  # of its clock, seconds per second
    bugs: frozenset[Bug] = frozenset()


class Application:
    """One device's firmware. `day` is the time since midnight at 0.0, for its signals."""

    def __init__(
        self,
        plan: Plan,
        client: Client,
        signals: Sequence[Signal],
        battery: Battery | None,
        books: Books,
        evidence: Evidence,
        rng: Random,
        day: float = 0.0,
    ) -> None:
        self.plan = plan
        self.client = client
        self.battery = battery
        self.flash = Flash(plan.flash, plan.window, volatile=plan.volatile)
        self.evidence = evidence
        self._signals, self._books, self._rng, self._day = signals, books, rng, day
        self._powered = False
        self._producing = True
        self._is_up = False
        self._is_asleep = False
        self._asking = False  # connect was asked for, and is not answered
        self._read_at: float | None = None
        self._push_at: float | None = None
        self._sleep_at: float | None = None
        self._storm_at: float | None = None
        self._stuck_since: float | None = None

    # ---- from outside ----

    def power_on(self, now: float) -> None:
        """It boots; the first reading comes at some time within the interval."""
        if self._powered or (self.battery is not None and self.battery.is_empty):
            return
        self._powered = True
        self._doze(False, now)
        for signal in self._signals:
            if signal.next_event() is None:
                signal.read(self._day + now)  # it finds out when its first event comes
        if self._producing:
            self._read_at = now + self._rng.random() * (self.plan.interval or 1.0)
        if self.plan.listens:
            self.client.subscribe(self.plan.topic + COMMAND, 1, now)
        self._connect(now)

    def power_off(self, now: float) -> None:
        """The power is gone, without a word; the shell takes the client away."""
        if not self._powered:
            return
        self._powered = False
        self._leave(now)
        self._doze(False, now)
        if self.battery is not None:
            self.battery.off(now)
        self._asking = False
        self._read_at = self._push_at = self._sleep_at = self._storm_at = None
        for reading in self.flash.reset():
            self._books.dropped(reading)

    def finish(self, now: float) -> None:
        """Measure no more; hand over what there is, if need be awake for it."""
        self._producing = False
        self._read_at = self._storm_at = None
        if self._powered and not self.flash.is_empty:
            self._connect(now)

    def close(self, now: float) -> None:
        """Say goodbye."""
        if self._powered:
            self.client.disconnect(now)
            self.power_off(now)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left that it could hand over."""
        return not self._powered or self.flash.is_empty

    # ---- the machine ----

    def next_deadline(self) -> float | None:
        """When it wants to do something."""
        times = (self._read_at, self._push_at, self._sleep_at, self._storm_at, self._signal_at())
        return min((at for at in times if at is not None), default=None)

    def step(self, now: float) -> None:
        """Do what is due."""
        if not self._powered:
            return
        if self._is_due(self._read_at, now) or self._is_due(self._signal_at(), now):
            self._measure(now)
        if self._is_due(self._storm_at, now):
            self._storm_at = None
            self._reconnect(now)
        if self._is_due(self._sleep_at, now):
            self._sleep(now)
        if self._powered:
            self._push(now)

    def hear(self, now: float) -> None:
        """Take the client's events."""
        for event in self.client.take_events():
            if self._powered:
                _HEARS.get(type(event), _nothing)(self, event, now)
        if self._powered:
            self._push(now)

    # ---- measuring ----

    def _signal_at(self) -> float | None:
        if not self._powered or not self._producing:
            return None
        times = [at for signal in self._signals if (at := signal.next_event()) is not None]
        return min(times) - self._day if times else None

    def _measure(self, now: float) -> None:
        if self._is_due(self._read_at, now):
            interval = self.plan.interval
            self._read_at = None if interval is None else now + interval * (1 - self.plan.drift)
        values: dict[str, Value] = {}
        for signal in self._signals:
            values.update(signal.read(self._day + now))
        if self.battery is not None and not self._check_battery(values, now):
            return
        self._keep(self._encode(values, now))
        if self.plan.sleeps:
            self._connect(now)

    def _check_battery(self, values: dict[str, Value], now: float) -> bool:
        """Whether there is power left."""
        assert self.battery is not None
        self.battery.advance(now)
        values["battery"] = round(self.battery.volts, 3)
        if not self.battery.is_empty:
            return True
        self._books.exhausted.append(self.plan.name)
        self.client.disconnect(now)
        self.power_off(now)
        return False

    def _encode(self, values: Mapping[str, Value], now: float) -> Reading:
        plan = self.plan
        seq = self._books.made(plan.topic)
        if Bug.STUCK_SENSOR in plan.bugs:
            values = {"value": 21.37}
        told = {"seq": seq, "t": round(self._wall(now), 1), **values}
        payload = json.dumps(told, separators=(",", ":")).encode()
        return Reading(plan.topic, seq, spoil(payload, seq, plan.bugs, self._rng))

    def _wall(self, now: float) -> float:
        wrong = WRONG_CLOCK if Bug.CLOCK_WRONG in self.plan.bugs else 0.0
        return self._books.epoch + now * (1 + self.plan.drift) + wrong

    def _keep(self, reading: Reading) -> None:
        lost = self.flash.store(reading)
        if lost is not None:
            self._books.dropped(lost)

    # ---- handing over ----

    def _push(self, now: float) -> None:
        """Hand over as much as the client and the window take."""
        self._push_at = None
        while self._is_up and (offered := self.flash.offer()) is not None:
            token, reading = offered
            if not self.client.publish(self._message(reading), token, now):
                self._no_room(reading, now)
                return
            self._stuck_since = None
            self.flash.handed_over()
            self._books.handed(reading, now)
            if self.battery is not None:
                self.battery.send(len(reading.payload) + OVERHEAD)
        self._consider_sleep(now)

    def _message(self, reading: Reading) -> Message:
        return Message(reading.topic, reading.payload, self.plan.qos)

    def _no_room(self, reading: Reading, now: float) -> None:
        """Later; and not for ever, or one message that cannot go would hold up all others."""
        self._push_at = now + TRY_AGAIN
        if self._stuck_since is None or self.flash.under_way():
            self._stuck_since = now
        if now - self._stuck_since < GIVE_UP:
            return
        self._stuck_since = None
        self.flash.give_up()
        self._books.given_up(reading, now, "the way to the broker does not take it")

    # ---- sleeping and connecting ----

    def _connect(self, now: float) -> None:
        self._sleep_at = None
        if self._is_up or self._asking:
            return
        self._asking = True
        self._doze(False, now)
        if self.plan.sleeps:
            self._sleep_at = now + AWAKE_AT_MOST
        self.client.connect(now)

    def _reconnect(self, now: float) -> None:
        self.client.disconnect(now)
        self._leave(now)
        self._asking = True
        self.client.connect(now)

    def _consider_sleep(self, now: float) -> None:
        if self.plan.sleeps and self._is_up and self.flash.is_empty and self._producing:
            self._sleep_at = now + LINGER if self._sleep_at is None else self._sleep_at
            self._sleep_at = min(self._sleep_at, now + LINGER)

    def _sleep(self, now: float) -> None:
        self._sleep_at = None
        self._leave(now)
        self._asking = False
        self._doze(True, now)
        self.client.sleep(self.plan.sleep_limit, now)

    def _doze(self, asleep: bool, now: float) -> None:
        if self.battery is not None:
            self.battery.asleep(asleep, now)
        if asleep is not self._is_asleep:
            self._is_asleep = asleep
            self._books.dozes(asleep, now)

    def _leave(self, now: float) -> None:
        if self._is_up:
            self._is_up = False
            self._books.left(self.evidence, now)

    @staticmethod
    def _is_due(at: float | None, now: float) -> bool:
        return at is not None and at <= now

    # ---- hearing ----

    def _on_up(self, event: ClientEvent, now: float) -> None:
        assert isinstance(event, Up)
        self._asking = False
        if not event.session_present:  # so the client says again what was on its way, as if new
            for reading in self.flash.under_way():
                self._books.handed(reading, now)
        if not self._is_up:
            self._is_up = True
            self._books.up(self.evidence, self.plan.client_id, now)
        if self.plan.sleeps:
            self._sleep_at = now + AWAKE_AT_MOST
        if Bug.RECONNECT_STORM in self.plan.bugs and self._producing:
            self._storm_at = now + STORM_PAUSE

    def _on_down(self, event: ClientEvent, now: float) -> None:
        assert isinstance(event, Down)
        self._leave(now)
        self._asking = True  # the client tries again by itself
        self._storm_at = None
        self._books.down(self.evidence, event.why)

    def _on_acknowledged(self, event: ClientEvent, now: float) -> None:
        assert isinstance(event, Acknowledged)
        reading = self.flash.settle(event.token)
        if reading is None:
            return
        self._books.acknowledged(reading, now)
        if Bug.SENDS_TWICE in self.plan.bugs and reading.seq % TWICE_EVERY == 0:
            self._say_again(reading, now)

    def _say_again(self, reading: Reading, now: float) -> None:
        if self.client.publish(self._message(reading), 0, now):  # nobody waits for token 0
            self._books.handed(reading, now)

    def _on_failed(self, event: ClientEvent, _: float) -> None:
        assert isinstance(event, Failed)
        reading = self.flash.settle(event.token)
        if reading is not None:
            self._books.refused(reading, event.why)

    def _on_arrived(self, event: ClientEvent, now: float) -> None:
        assert isinstance(event, Arrived)
        self._books.command_arrived(event.message.topic, event.message.payload, now)

    def _on_asleep(self, _: ClientEvent, now: float) -> None:
        self._leave(now)


_HEARS: Final[Mapping[type, Callable[[Application, ClientEvent, float], None]]] = {
    Up: Application._on_up,
    Down: Application._on_down,
    Acknowledged: Application._on_acknowledged,
    Failed: Application._on_failed,
    Arrived: Application._on_arrived,
    Asleep: Application._on_asleep,
}


def _nothing(_: Application, __: ClientEvent, ___: float) -> None:
    """An event that says nothing to this application."""
