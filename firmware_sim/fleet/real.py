"""A fleet in real time, against a broker: subscribers that verify first, then the devices.

The books are outside the broker: what a device hands over is noted here, and what comes out of the
broker is noted here, by durable subscribers of their own.
"""

from __future__ import annotations

import asyncio
import resource
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmware_sim.clients.client import Acknowledged, Arrived, Down, Failed
from firmware_sim.firmware.emulator import EmulatedEnd
from firmware_sim.fleet.board import BoardWay
from firmware_sim.fleet.boards import Boards
from firmware_sim.fleet.crew import chance, topic_filter
from firmware_sim.fleet.fleet import Fleet, FleetError, Outcome
from firmware_sim.fleet.wired import WiredWay
from firmware_sim.network.endpoint import parse_endpoint
from firmware_sim.scenario.scenario import COMPILED
from firmware_sim.scenario.wires import uart_of
from firmware_sim.wire.pty import PtyWire
from firmware_sim.wire.worlds import RealWorld

if TYPE_CHECKING:
    from types import ModuleType

    from firmware_sim.books.ledger import Stream
    from firmware_sim.clients.client import Message
    from firmware_sim.fleet.crew import Device
    from firmware_sim.fleet.ways import Way
    from firmware_sim.network.endpoint import Endpoint
    from firmware_sim.network.tcp import Switchboard, TcpClient
    from firmware_sim.scenario.scenario import Scenario

REACHED_WITHIN: Final = 10.0  # seconds, the broker at the start
LOOK: Final = 0.1  # how often the end looks whether all has come
QUIET: Final = 0.4  # without an arrival, then no more are on their way
VERIFIED_AT_ONCE: Final = 200  # reads of a subscriber, which hears all devices
LONGEST_DRAIN: Final = 30  # times `drain`, while things arrive
FILES: Final = 2  # that a device on a wire has open; over TCP it is one
SPARE_FILES: Final = 200
INSTALL: Final = "devices over TCP need an MQTT library: pip install 'heliograph[sim]'"


class Verifier:
    """A subscriber that notes what comes out of a broker; commands go in by it."""

    def __init__(self, fleet: Fleet, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.client: TcpClient
        self.why = "no answer"
        self._fleet = fleet
        self._commands: dict[int, tuple[Stream, int]] = {}
        self._token = 0

    def hear(self) -> None:
        """Take the client's events."""
        now = self._fleet.now()
        for event in self.client.take_events():
            if isinstance(event, Arrived):
                self._note(event.message, now)
            elif isinstance(event, Acknowledged | Failed):
                self._settle(event, now)
            elif isinstance(event, Down):
                self.why = event.why
                self._fleet.record.note(now, f"a verifying subscriber is down: {event.why}")

    def command(self, message: Message, stream: Stream, seq: int, now: float) -> bool:
        """Publish a command."""
        self._token += 1
        if not self.client.publish(message, self._token, now):
            return False
        self._commands[self._token] = (stream, seq)
        return True

    def _note(self, message: Message, now: float) -> None:
        if not message.retain:  # else it is from another run
            self._fleet.books.arrived(message.topic, message.payload, now)

    def _settle(self, event: Acknowledged | Failed, now: float) -> None:
        found = self._commands.pop(event.token, None)
        if found is None:
            return
        stream, seq = found
        if isinstance(event, Acknowledged):
            stream.acknowledged(seq, now)
        else:
            stream.refused(seq)


class RealRun:
    """One run. `authority` is a file with the certificates that are trusted."""

    def __init__(self, scenario: Scenario, authority: str = "") -> None:
        self.started = time.time()
        self._loop = asyncio.get_running_loop()
        self._world: RealWorld
        self.fleet = Fleet(scenario)
        self._scenario = scenario
        self._authority = authority
        self._stopping = asyncio.Event()
        self._is_hurried = False
        self._verifiers: list[Verifier] = []
        self._ports: list[PtyWire] = []
        self._board: Switchboard | None = None
        self._boards = Boards(scenario, f"{self.started}")

    def stop(self) -> None:
        """End it early; all the same it is wound up in order, unless this is said once more."""
        self._is_hurried = self._stopping.is_set()
        self._stopping.set()

    async def run(self) -> Outcome:
        """Run to the end. Raises FleetError when it cannot begin."""
        make_room(self._scenario.devices)
        try:
            await asyncio.to_thread(self._boards.prepare)
            await self._verify()
            self._make_folder()
            self._world, self.started = RealWorld(self._loop), time.time()
            self.fleet.launch(self._world, self, self.started)
            await self._wait()
            lasted = self._world.now
            await self._drain()
        finally:
            await self._close()
            self._boards.close()
        fleet = self.fleet
        return Outcome(
            self._scenario,
            fleet.books,
            fleet.record,
            fleet.devices,
            self.started,
            lasted,
            str(parse_endpoint(self._scenario.broker)),
        )

    # ---- Ways ----

    def way_of(self, device: Device) -> Way:
        """See Ways."""
        kind = device.kind
        return self._mqtt(device) if kind.way == "mqtt" else self._wired(device)

    def board_of(self, device: Device) -> BoardWay:
        """See Ways."""
        is_compiled = device.kind.level == COMPILED
        name = device.plan.name
        board = self._boards.compiled(name) if is_compiled else self._emulated(device)
        way = BoardWay(board, self._world, partial(self.fleet.heard, device))
        wired = self._plug(device, way)
        if isinstance(board, EmulatedEnd):
            board.wake = wired.wake
        return way

    def command(self, message: Message, stream: Stream, seq: int, now: float) -> bool:
        """See Ways."""
        kind = next(kind for kind in self._scenario.kinds if kind.kind == stream.kind)
        endpoint = self._endpoint(kind.broker or self._scenario.broker)
        speaker = next(one for one in self._verifiers if one.endpoint == endpoint)
        return speaker.command(message, stream, seq, now)

    def _mqtt(self, device: Device) -> Way:
        tcp = load_tcp()
        kind = device.kind
        settings = tcp.TcpSettings(
            device.plan.client_id,
            kind.version,
            kind.keep_alive,
            kind.is_durable,
            "never_acks" not in kind.bugs,
        )
        client: Way = tcp.TcpClient(
            self._endpoint(kind.broker or self._scenario.broker),
            settings,
            self._board,
            device.rng,
            partial(self.fleet.heard, device),
            device.evidence,
        )
        return client

    def _wired(self, device: Device) -> Way:
        """Its port is a pty, which a gateway opens like any other."""
        # another run is another session: its nonces are not those of the last one
        fresh = chance(self._scenario, f"{device.plan.name}/{self.started}")
        way = WiredWay(device, self._world, fresh, partial(self.fleet.heard, device))
        self._plug(device, way)
        return way

    def _plug(self, device: Device, way: WiredWay | BoardWay) -> PtyWire:
        """Let the port appear, with a device that is switched off."""
        wire, name, now = device.kind.wire, device.plan.name, self._world.now
        rng = chance(self._scenario, f"{name}/wire")
        path = Path(self._scenario.ports) / name
        wired = PtyWire(self._world, path, way, uart_of(wire, rng), rng=rng, faults=wire.faults)
        way.line = wired.line
        wired.line.power_off(now)
        wired.line.plug(now)
        self._world.add(wired.line)
        self._ports.append(wired)
        return wired

    def _emulated(self, device: Device) -> EmulatedEnd:
        board = self._boards.emulated(device.plan.name, self._loop)
        board.gone = partial(self.fleet.broken, device)
        return board

    def _make_folder(self) -> None:
        """Where the ports are to be found."""
        if any(kind.way != "mqtt" for kind in self._scenario.kinds):
            try:
                Path(self._scenario.ports).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise FleetError(
                    f"{self._scenario.ports}: no folder for ports: {error.strerror}. "
                    "Name another one with --ports"
                ) from None

    # ---- the subscribers ----

    async def _verify(self) -> None:
        """Subscribers first: they have to hear the first message."""
        self._board = load_tcp().Switchboard(self._loop)
        filters = {  # in order, each once
            (kind.broker or self._scenario.broker, topic_filter(kind)): None
            for kind in self._scenario.kinds
        }
        homes: dict[tuple[str, int], list[str]] = {}
        for number, (url, topics) in enumerate(filters):
            homes.setdefault((url, number % self._scenario.subscribers), []).append(topics)
        for (url, _), topics_of in homes.items():
            self._verifiers.append(self._verifier(url, topics_of))
        await self._subscribed()

    def _verifier(self, url: str, filters: list[str]) -> Verifier:
        tcp = load_tcp()
        number = len(self._verifiers)
        client_id = f"verify-{self._scenario.name}-{self.started:.6f}-{number}"
        verifier = Verifier(self.fleet, self._endpoint(url))
        verifier.client = tcp.TcpClient(
            verifier.endpoint,
            tcp.TcpSettings(client_id, durable=True, at_once=VERIFIED_AT_ONCE),
            self._board,
            chance(self._scenario, f"verify/{number}"),
            verifier.hear,
        )
        for topics in filters:
            verifier.client.subscribe(topics, self._scenario.subscriber_qos, 0.0)
        verifier.client.connect(0.0)
        return verifier

    async def _subscribed(self) -> None:
        until = self._loop.time() + REACHED_WITHIN
        while missing := [one for one in self._verifiers if not one.client.is_subscribed]:
            if self._stopping.is_set() or self._loop.time() > until:
                raise FleetError(
                    f"cannot subscribe at {missing[0].endpoint}: {missing[0].why}. Start a broker "
                    "there (`heliograph run`), or name another one with --broker"
                )
            await asyncio.sleep(LOOK)

    def _endpoint(self, url: str) -> Endpoint:
        return parse_endpoint(url, self._authority)

    # ---- time ----

    async def _wait(self) -> None:
        left = max(self._scenario.duration - self._world.now, 0.0)
        try:
            await asyncio.wait_for(self._stopping.wait(), left)
        except TimeoutError:
            return
        self.fleet.record.note(self._world.now, "stopped early")

    async def _drain(self) -> None:
        self.fleet.finish()
        drain, ledger = self._scenario.drain, self.fleet.books.ledger
        began = latest = self._loop.time()
        arrived = -1  # what has no acknowledgement is waited for as long as something comes
        while latest + drain > self._loop.time() < began + drain * LONGEST_DRAIN:
            if self._is_hurried or (self.fleet.is_settled() and arrived == ledger.arrived):
                return
            if arrived != ledger.arrived:
                arrived, latest = ledger.arrived, self._loop.time()
            await asyncio.sleep(QUIET)

    async def _close(self) -> None:
        self.fleet.leave()
        for verifier in self._verifiers:
            verifier.client.forget(0.0)
        await asyncio.sleep(LOOK)  # so that goodbyes go out
        self._close_ports()
        if self._board is not None:
            await self._board.close()

    def _close_ports(self) -> None:
        if self.fleet.phase == "connecting":
            return
        self.fleet.close()
        for wired in self._ports:
            wired.close()
        self._world.close()


def make_room(devices: int) -> None:
    """Let this process have as many files as it needs. Raises FleetError if it may not."""
    wanted = devices * FILES + SPARE_FILES
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now >= wanted or now == resource.RLIM_INFINITY:
        return
    if wanted > most != resource.RLIM_INFINITY:
        raise FleetError(
            f"{devices} devices need {wanted} open files, and {most} are allowed here: raise it "
            f"(`ulimit -Hn {wanted}`, as root), or take fewer with --devices"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def load_tcp() -> ModuleType:
    """The module of devices over TCP. Raises FleetError if its library is missing."""
    try:
        from firmware_sim.network import tcp  # noqa: PLC0415 - only a run that needs it needs the library
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("paho"):
            raise
        raise FleetError(INSTALL) from None
    return tcp
