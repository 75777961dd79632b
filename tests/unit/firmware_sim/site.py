"""A broker, gateways and simulated devices on virtual wires, all in virtual time.

    site = Site(seed=1, faults=errors(0.01))
    station = site.station("dev", clean_session=False)
    station.client.connect(site.now)
    site.run(60)

Each device has a wire and a gateway of its own. `heard` is what a subscriber of everything got.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING, Any

from bridges.mqttsn.admission import Rules
from bridges.mqttsn.gateway import Gateway
from bridges.mqttsn.mqtt import MqttBroker
from bridges.mqttsn.notebook import MemoryNotebook
from bridges.mqttsn.policy import Policy
from bridges.serial.events import Received
from bridges.serial.frames import Channel
from bridges.serial.link import Link, LinkSettings
from bridges.serial.modes import PacketStream, Slip, Unframed
from firmware_sim.clients.client import Acknowledged, Arrived, Failed, Message
from firmware_sim.clients.framed import FramedClient, FramedSettings, sleeping
from firmware_sim.clients.sn import SnSettings
from firmware_sim.clients.unframed import raw_client, slip_client
from firmware_sim.wire.faults import NONE, Faults
from firmware_sim.wire.uart import LaneSettings, VirtualUart
from firmware_sim.wire.worlds import Line, VirtualWorld
from tests.support.broker import MemoryBroker
from tests.unit.mqttsn.engine_world import EnginePipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.serial.modes import SerialMachine
    from firmware_sim.clients.client import ClientEvent

T_RETRY = 5.0
WIRES: dict[str, Callable[[], SerialMachine]] = {
    "raw": lambda: Unframed(PacketStream()),
    "slip": lambda: Unframed(Slip()),
}


class Site:
    """The broker is a part; a station's line is another."""

    def __init__(
        self, seed: int = 1, faults: Faults = NONE, baud: int = 115_200, **policy: Any
    ) -> None:
        self.rng = Random(f"site {seed}")
        self.world = VirtualWorld(1000.0)
        self.faults = faults
        self.baud = baud
        self.policy = Policy(**{"t_adv": 0, "t_retry": T_RETRY, **policy})
        self.broker = MemoryBroker(now=self.now)
        self.pipes: list[EnginePipe] = []
        self.stations: list[Station] = []
        self.heard: list[tuple[str, bytes]] = []
        self._turns: deque[Callable[[], None]] = deque()
        self.mqtt = MqttBroker(lambda session: EnginePipe(self, session))  # type: ignore[arg-type]
        self.observer = self.broker.connect("observer")
        self.observer.subscribe("#", qos=2)
        self.world.add(self)

    @property
    def now(self) -> float:
        return self.world.now

    def later(self, call: Callable[[], None]) -> None:
        self._turns.append(call)
        self.world.wake(self)

    def station(self, name: str, mode: str = "framed", **sn: Any) -> Station:
        """A device that is plugged in and switched on; mode "sleeper": framed, and silent."""
        station = Station(self, name, mode, sn)
        self.stations.append(station)
        station.start()
        return station

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        """Somebody else says something."""
        self.observer.publish(topic, payload, qos, retain=retain)
        self.world.wake(self)

    def run(self, seconds: float, is_done: Callable[[], bool] = lambda: False) -> bool:
        return self.world.run(seconds, is_done)

    # -- Part -------------------------------------------------------------------------------------

    def step(self, now: float) -> None:
        self.broker.now = self.broker.engine.clock.now = now
        if (when := self.broker.engine.next_deadline()) is not None and when <= now:
            self.broker.engine.tick(now)
        while self._turns:
            self._turns.popleft()()
        self.broker.flush()
        for message in self.observer.drain():
            self.heard.append((message.topic, message.payload))
        for station in self.stations:
            self.world.wake(station.line)
        if self._turns:
            self.world.wake(self)

    def next_deadline(self) -> float | None:
        return self.broker.engine.next_deadline()


class HostEnd:
    """The gateway's end of a wire: a serial machine and the MQTT-SN gateway behind it."""

    def __init__(self, site: Site, machine: SerialMachine, notebook: MemoryNotebook) -> None:
        self.machine = machine
        self._site = site
        self.gateway = Gateway(site.mqtt, notebook, Rules(), site.policy)
        self.gateway.resume(site.now)

    def plugged(self, now: float) -> None:
        self.machine.plugged(now)

    def receive(self, data: bytes, now: float) -> None:
        self._take(self.machine.receive(data, now), now)

    def tick(self, now: float) -> None:
        self._take(self.machine.tick(now), now)
        if (when := self.gateway.next_deadline()) is not None and when <= now:
            self.gateway.tick(now)

    def next_deadline(self) -> float | None:
        times = (self.machine.next_deadline(), self.gateway.next_deadline())
        return min((time for time in times if time is not None), default=None)

    def data_to_send(self) -> bytes:
        parts = []
        while self.machine.writable(Channel.MQTT_SN):
            datagrams = self.gateway.data_to_send(self._site.now, 1)
            if not datagrams:
                break
            for datagram in datagrams:
                assert self.machine.send(Channel.MQTT_SN, datagram.data, self._site.now)
            parts.append(self.machine.data_to_send())
        return b"".join((*parts, self.machine.data_to_send()))

    def _take(self, events: list[Any], now: float) -> None:
        for event in events:
            if isinstance(event, Received) and event.channel == Channel.MQTT_SN:
                self.gateway.receive(event.payload, now)


class Station:
    """A device, its wire and its gateway; `sent` is by token."""

    def __init__(self, site: Site, name: str, mode: str, sn: dict[str, Any]) -> None:
        self.site = site
        self.mode = mode
        self.sn = SnSettings(name, **{"t_retry": T_RETRY, "t_wait": 60.0, **sn})
        self.notebook = MemoryNotebook()
        self.client = self.new_client(0.0)
        self.host = self.new_host()
        lane = LaneSettings(site.baud, faults=site.faults)
        uart = VirtualUart(lane, lane, site.rng)
        self.line = Line.with_faults(
            uart,
            self.host,
            self.client,
            site.faults,
            rng=site.rng,
            reset=self.new_client,
            now=site.now,
        )
        self.sent: dict[int, Message] = {}
        self.events: list[ClientEvent] = []
        self._token = 0

    def start(self) -> None:
        self.line.plug(self.site.now)
        self.line.power_on(self.site.now)
        self.site.world.add(self.line)

    def new_client(self, _now: float) -> Any:
        rng = Random(self.site.rng.random())
        if self.mode in {"framed", "sleeper"}:
            link = LinkSettings(uid=self.sn.client_id.encode()[:16])
            link = sleeping(link) if self.mode == "sleeper" else link
            self.client = FramedClient(FramedSettings(self.sn, link), rng)
        else:
            self.client = {"raw": raw_client, "slip": slip_client}[self.mode](self.sn, rng)
        return self.client

    def new_host(self) -> HostEnd:
        if self.mode in {"framed", "sleeper"}:
            machine: SerialMachine = Link(
                LinkSettings(uid=b"gw", rate=self.site.baud / 10), Random(self.site.rng.random())
            )
        else:
            machine = WIRES[self.mode]()
        return HostEnd(self.site, machine, self.notebook)

    def restart_gateway(self) -> None:
        """The gateway's process dies, and another one starts."""
        for device in list(self.host.gateway.devices):
            session = device._taking_up._session
            if session is not None:
                session._pipe.close()
        self.host = self.line.ends[0] = self.new_host()  # type: ignore[list-item]
        self.host.plugged(self.site.now)
        self.site.world.wake(self.line)

    def ask(self, verb: str, *args: Any) -> Any:
        """Ask the client for something, now."""
        answer = getattr(self.client, verb)(*args, self.site.now)
        self.site.world.wake(self.line)
        return answer

    def publish(self, topic: str, payload: bytes, qos: int = 1) -> int:
        """Publish as soon as there is room."""
        self._token += 1
        message = Message(topic, payload, qos)
        while not self.ask("publish", message, self._token):
            assert self.site.run(3600, self.has_room), "no room for an hour"
        self.sent[self._token] = message
        return self._token

    def has_room(self) -> bool:
        return bool(self.client.sn._publishing.has_room)

    def settle(self, seconds: float = 3600.0) -> None:
        """Until nothing waits for an answer."""
        assert self.site.run(seconds, lambda: self.client.is_idle), self.client.sn.state
        self.site.run(30.0)

    def take(self, kind: type) -> list[Any]:
        """All events of a kind so far."""
        self.events += self.client.take_events()
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def acknowledged(self) -> list[int]:
        assert not self.take(Failed)
        return [event.token for event in self.take(Acknowledged)]

    @property
    def arrived(self) -> list[Message]:
        return [event.message for event in self.take(Arrived)]

    def connected(self) -> Station:
        self.ask("connect")
        assert self.site.run(3600, lambda: self.client.is_up)
        return self
