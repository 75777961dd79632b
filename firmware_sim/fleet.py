"""A fleet in real time: devices, subscribers that verify, incidents, and the books of it all.

The shell around the machines: one event loop, one timer for the whole agenda. `run` returns when
the duration is over, or `stop` was called, and what was under way has come or been given up.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from firmware_sim.agenda import Agenda
from firmware_sim.books import Books
from firmware_sim.client import Acknowledged, Arrived, Down, Failed
from firmware_sim.commanding import Commander
from firmware_sim.crew import chance, muster, topic_filter
from firmware_sim.endpoint import parse_endpoint
from firmware_sim.record import SAMPLES, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firmware_sim.client import Client, Message
    from firmware_sim.crew import Device
    from firmware_sim.endpoint import Endpoint
    from firmware_sim.ledger import Stream
    from firmware_sim.scenario import Incident, Kind, Scenario
    from firmware_sim.tcp import Switchboard, TcpClient

REACHED_WITHIN: Final = 10.0  # seconds, the broker at the start
SHORTEST_SAMPLE: Final = 0.5
LOOK: Final = 0.1  # how often the end looks whether all has come
INSTALL: Final = "devices over TCP need an MQTT library: pip install 'heliograph[sim]'"


class FleetError(Exception):
    """The fleet cannot run; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that is over. `lasted` in seconds; `started` on the wall's clock."""

    scenario: Scenario
    books: Books
    record: Record
    devices: list[Device]
    started: float
    lasted: float
    target: str


class Verifier:
    """A subscriber of its own, durable, that notes what comes out of the broker."""

    def __init__(self, fleet: Fleet, client: TcpClient) -> None:
        self.client = client
        self.why = "no answer"
        self._fleet = fleet
        self._commands: dict[int, tuple[Stream, int]] = {}
        self._token = 0

    def hear(self) -> None:
        """Take the client's events."""
        now, books = self._fleet.now(), self._fleet.books
        for event in self.client.take_events():
            if isinstance(event, Arrived) and not event.message.retain:
                books.arrived(event.message.topic, event.message.payload, now)
            elif isinstance(event, Acknowledged | Failed):
                self._settle(event, now)
            elif isinstance(event, Down):
                self.why = event.why
                self._fleet.record.note(now, f"the subscriber is down: {event.why}")

    def command(self, message: Message, stream: Stream, seq: int, now: float) -> bool:
        """Publish a command."""
        self._token += 1
        if not self.client.publish(message, self._token, now):
            return False
        self._commands[self._token] = (stream, seq)
        return True

    def _settle(self, event: Acknowledged | Failed, now: float) -> None:
        found = self._commands.pop(event.token, None)
        if found is None:
            return
        stream, seq = found
        if isinstance(event, Acknowledged):
            stream.acknowledged(seq, now)
        else:
            stream.refused(seq)


class Fleet:
    """One run. `authority` is a file with the certificates that are trusted."""

    def __init__(self, scenario: Scenario, authority: str = "") -> None:
        self.scenario = scenario
        self.started = time.time()
        self.books = Books(self.started)
        self.record = Record(max(scenario.duration / SAMPLES, SHORTEST_SAMPLE))
        self.devices: list[Device] = []
        self.phase = "connecting"
        self._authority = authority
        self._agenda = Agenda()
        self._zero = 0.0
        self._stopping = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._verifiers: list[Verifier] = []
        self._commanders: list[Commander] = []
        self._board: Switchboard

    # ---- from outside ----

    def now(self) -> float:
        """Seconds since the devices were switched on."""
        return self._loop.time() - self._zero

    def stop(self) -> None:
        """End it early; all the same it is wound up in order."""
        self._stopping.set()

    async def run(self) -> Outcome:
        """Run to the end. Raises FleetError when it cannot begin."""
        self._loop = asyncio.get_running_loop()
        self._zero = self._loop.time()
        self._board = load_tcp().Switchboard(self._loop)
        try:
            await self._verify()
            self._launch()
            await self._wait(self.scenario.duration)
            lasted = self.now()
            await self._wind_up()
        finally:
            await self._close()
        return Outcome(
            self.scenario,
            self.books,
            self.record,
            self.devices,
            self.started,
            lasted,
            self.scenario.broker,
        )

    # ---- the subscribers ----

    async def _verify(self) -> None:
        """Subscribers first: they have to hear the first message."""
        filters: dict[tuple[str, str], None] = {}  # in order, each once
        for kind in self.scenario.kinds:
            filters[kind.broker or self.scenario.broker, topic_filter(kind)] = None
        homes: dict[tuple[str, int], list[str]] = {}
        for number, (url, topics) in enumerate(filters):
            homes.setdefault((url, number % self.scenario.subscribers), []).append(topics)
        for (url, number), topics_of in homes.items():
            self._verifiers.append(self._verifier(url, number, topics_of))
        await self._subscribed()

    def _verifier(self, url: str, number: int, filters: list[str]) -> Verifier:
        tcp = load_tcp()
        client_id = f"verify-{self.scenario.name}-{self.started:.6f}-{len(self._verifiers)}"
        client = tcp.TcpClient(
            self._endpoint(url),
            tcp.TcpSettings(client_id, durable=True),
            self._board,
            chance(self.scenario, f"verify/{number}"),
            lambda: verifier.hear(),
        )
        verifier = Verifier(self, client)
        for topics in filters:
            client.subscribe(topics, self.scenario.subscriber_qos, 0.0)
        client.connect(0.0)
        return verifier

    async def _subscribed(self) -> None:
        until = self._loop.time() + REACHED_WITHIN
        while not all(verifier.client.is_subscribed for verifier in self._verifiers):
            if self._stopping.is_set() or self._loop.time() > until:
                raise FleetError(self._unreachable())
            await asyncio.sleep(LOOK)

    def _unreachable(self) -> str:
        why = next(v.why for v in self._verifiers if not v.client.is_subscribed)
        where = parse_endpoint(self.scenario.broker)
        return (
            f"cannot subscribe at {where}: {why}. Start a broker there (`heliograph run`), "
            "or name another one with --broker"
        )

    def _endpoint(self, url: str) -> Endpoint:
        return parse_endpoint(url, self._authority)

    # ---- the devices ----

    def _launch(self) -> None:
        self.phase = "running"
        self._zero = self._loop.time()
        self.started = self.books.epoch = time.time()
        self.devices = muster(self.scenario, self.books, self._way)
        rng = chance(self.scenario, "ramp")
        for device in self.devices:
            when = rng.uniform(0.0, self.scenario.ramp)
            self._agenda.call_at(when, partial(self._power_on, device))
        for incident in self.scenario.incidents:
            self._agenda.call_at(incident.at, partial(self._strike, incident))
        self._agenda.call_at(0.0, self._sample)
        for kind in self.scenario.kinds:
            if kind.commands is not None:
                self._command(kind)
        self._turn()

    def _way(self, device: Device) -> Client:
        return _WAYS[device.kind.way](self, device)

    def _way_mqtt(self, device: Device) -> Client:
        kind, tcp = device.kind, load_tcp()
        settings = tcp.TcpSettings(
            device.plan.client_id,
            kind.version,
            kind.keep_alive,
            kind.is_durable,
            "never_acks" not in kind.bugs,
        )
        url = kind.broker or self.scenario.broker
        heard = partial(self._hear, device)
        return tcp.TcpClient(
            self._endpoint(url), settings, self._board, device.rng, heard, device.evidence
        )

    def _hear(self, device: Device) -> None:
        device.application.hear(self.now())
        self._agenda.refresh(device.application)
        self._arm()

    def _power_on(self, device: Device, now: float) -> None:
        device.application.power_on(now)
        self._agenda.refresh(device.application)

    def _strike(self, incident: Incident, now: float) -> None:
        """The power of a building is gone."""
        met = [device for device in self.devices if incident.meets(device.kind.kind)]
        self.record.note(now, f"{incident.what}: {len(met)} devices of {incident.devices}")
        for device in met:
            device.application.power_off(now)
            cut(device.client)
        self._agenda.call_at(now + incident.lasts, partial(self._recover, met))
        if incident.every is not None and now + incident.every < self.scenario.duration:
            self._agenda.call_at(now + incident.every, partial(self._strike, incident))

    def _recover(self, devices: list[Device], now: float) -> None:
        if self.phase != "running":
            return
        for device in devices:
            self._power_on(device, now)

    def _command(self, kind: Kind) -> None:
        devices = [device for device in self.devices if device.kind is kind]
        url = kind.broker or self.scenario.broker
        speaker = next(v for v in self._verifiers if v.client.serves(self._endpoint(url)))
        commander = Commander(kind, devices, self.books.commands, speaker.command)
        commander.start(self.scenario.ramp)
        self._commanders.append(commander)
        self._agenda.refresh(commander)

    def _sample(self, now: float) -> None:
        self.record.take(now, self.books, self.devices, {})
        if self.phase == "running":
            self._agenda.call_at(now + self.record.every, self._sample)

    # ---- time ----

    def _turn(self) -> None:
        self._timer = None
        self._agenda.run_due(self.now())
        self._arm()

    def _arm(self) -> None:
        """One timer, for the earliest entry."""
        when = self._agenda.next_time()
        if when is None:
            return
        at = self._zero + when
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._turn)

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), max(seconds - self.now(), 0.0))
        except TimeoutError:
            return
        self.record.note(self.now(), "stopped early")

    # ---- the end ----

    async def _wind_up(self) -> None:
        """Nothing new; what is under way may come in, for as long as something does."""
        self.phase = "draining"
        now = self.now()
        for commander in self._commanders:
            commander.stop()
        for device in self.devices:
            device.application.finish(now)
            self._agenda.refresh(device.application)
        self._arm()
        until = now + self.scenario.drain
        while self.now() < until and not self._is_settled():
            await asyncio.sleep(LOOK)
        self._sample(self.now())

    def _is_settled(self) -> bool:
        if self.books.ledger.awaited:
            return False
        return all(device.application.is_settled for device in self.devices)

    async def _close(self) -> None:
        self.phase = "closing"
        if self._timer is not None:
            self._timer.cancel()
        for device in self.devices:
            forget(device.client)
            device.application.close(self.now())
        for verifier in self._verifiers:
            verifier.client.forget()
        await asyncio.sleep(LOOK)  # so that goodbyes go out
        await self._board.close()


_WAYS: Final[Mapping[str, Callable[[Fleet, Device], Client]]] = {"mqtt": Fleet._way_mqtt}


def cut(client: Client) -> None:
    """The power of a device is gone: its client knows nothing any more."""
    client.cut()  # type: ignore[attr-defined]


def forget(client: Client) -> None:
    """The run is over: the broker need not keep the session."""
    client.forget()  # type: ignore[attr-defined]


def load_tcp():  # type: ignore[no-untyped-def]
    """The module of devices over TCP. Raises FleetError if its library is missing."""
    try:
        from firmware_sim import tcp  # noqa: PLC0415 - only a run that needs it needs the library
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("paho"):
            raise
        raise FleetError(INSTALL) from None
    return tcp
