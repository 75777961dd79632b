"""The whole last metre with nothing replaced: a broker process with serial ports and a UDP socket,
ptys with the line-fault injector behind them, simulated devices, and a foreign MQTT client.

    async with Bench(folder, ["one", "two"]) as bench:
        device = bench.device("one", seed=7, faults=errors(0.01))
        device.publish("a/b", qos=1, count=100)
        await bench.until(lambda: device.is_done)

What devices and listeners sent, saw acknowledged and got is kept in a `Ledger`, outside the broker.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict, deque
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bridges.serial.frames import Capability
from bridges.serial.link import LinkSettings
from firmware_sim.clients.client import (
    Acknowledged,
    Arrived,
    Asleep,
    Collected,
    Down,
    Failed,
    Message,
    Up,
)
from firmware_sim.clients.framed import FramedClient, FramedSettings, sleeping
from firmware_sim.clients.sn import SnSettings
from firmware_sim.wire.faults import NONE, Faults, Spoiler
from firmware_sim.wire.pty import PtyWire
from firmware_sim.wire.uart import LaneSettings, VirtualUart
from firmware_sim.wire.worlds import RealWorld
from tests.crash.victim import family
from tests.support.process import HOST, BrokerProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firmware_sim.clients.client import ClientEvent
    from firmware_sim.wire.worlds import End

PATIENCE = 60.0  # seconds: only a hang reaches it
BAUD = 230_400
T_RETRY = 2.0
_RESTS = 1.0  # seconds between two tries of a listener to come back

Key = tuple[str, str]  # (receiver, topic)


class Ledger:
    """What was sent, acknowledged and received, by topic; `faults` says what must not be.

    A topic has one sender and one QoS, so its messages are numbered: payloads are unique in it.
    `unordered` are topics whose sender itself does not keep their order.
    """

    def __init__(self) -> None:
        self.sent: dict[str, list[bytes]] = defaultdict(list)
        self.qos: dict[str, int] = {}
        self.acknowledged: dict[str, set[bytes]] = defaultdict(set)
        self.failed: dict[str, set[bytes]] = defaultdict(set)
        self.wants: dict[str, set[str]] = defaultdict(set)  # receiver -> topics
        self.got: dict[Key, list[bytes]] = defaultdict(list)
        self.unordered: set[str] = set()

    def is_complete(self) -> bool:
        """Whether all that was acknowledged has arrived at everyone who wants it."""
        return not any(self._missing(*key) for key in self._keys())

    def open(self) -> int:
        """How many messages were sent, and neither acknowledged nor given up."""
        return sum(
            len(sent) - len(self.acknowledged[topic]) - len(self.failed[topic])
            for topic, sent in self.sent.items()
        )

    def arrived(self) -> int:
        """How many have arrived, everywhere."""
        return sum(map(len, self.got.values()))

    def faults(self) -> list[str]:
        """Everything that breaks the promise, in words."""
        found = []
        for receiver, topic in self._keys():
            who = f"{topic} at {receiver}"
            got, sent = self.got[receiver, topic], self.sent[topic]
            if missing := self._missing(receiver, topic):
                found.append(f"{who}: {len(missing)} lost, such as {min(missing)!r}")
            if strange := set(got) - set(sent):
                found.append(f"{who}: {len(strange)} never sent, such as {min(strange)!r}")
            firsts = list(dict.fromkeys(got))
            in_order = [each for each in sent if each in set(firsts)]
            if firsts != in_order and topic not in self.unordered:
                found.append(f"{who}: out of order: {firsts}")
            if self.qos[topic] == 2 and len(firsts) != len(got):
                found.append(f"{who}: {len(got) - len(firsts)} came twice at QoS 2")
        return found

    def _keys(self) -> list[Key]:
        return [
            (receiver, topic)
            for receiver, topics in self.wants.items()
            for topic in sorted(topics)
            if self.qos.get(topic, 0)
        ]

    def _missing(self, receiver: str, topic: str) -> set[bytes]:
        return self.acknowledged[topic] - set(self.got[receiver, topic])


class Device:
    """An application on a device: it publishes what it is told to, and keeps the ledger. An End."""

    def __init__(self, bench: Bench, client: FramedClient) -> None:
        self.name = client.settings.sn.client_id
        self.client = client
        self.wire: PtyWire
        self.events: list[ClientEvent] = []
        self.got: list[Message] = []
        self._bench = bench
        self._unsaid: deque[tuple[int, Message]] = deque()
        self._under_way: dict[int, Message] = {}
        self._token = 0
        self.next_deadline = client.next_deadline

    # -- the application --------------------------------------------------------------------------

    def publish(self, topic: str, qos: int, count: int = 1) -> None:
        """Say so many numbered messages, as there is room for them."""
        ledger = self._bench.ledger
        ledger.qos[topic] = qos
        sent = ledger.sent[topic]
        for _ in range(count):
            sent.append(b"%d" % len(sent))
            self._token += 1
            self._unsaid.append((self._token, Message(topic, sent[-1], qos)))
        self.wire.wake()

    def connect(self) -> None:
        self.client.connect(self.now)
        self.wire.wake()

    def subscribe(self, topic_filter: str, qos: int, *topics: str) -> None:
        """`topics` are those of the ledger that it will get by this."""
        self._bench.ledger.wants[self.name] |= set(topics)
        self.client.subscribe(topic_filter, qos, self.now)
        self.wire.wake()

    def sleep(self, seconds: float) -> None:
        self.client.sleep(seconds, self.now)
        self.wire.wake()

    def collect(self) -> None:
        self.client.wake(self.now)
        self.wire.wake()

    @property
    def now(self) -> float:
        return self._bench.world.now

    @property
    def is_done(self) -> bool:
        """Whether all that it was to say has been answered."""
        return not self._unsaid and not self._under_way

    def count(self, kind: type) -> int:
        """How many such events there were."""
        return sum(isinstance(each, kind) for each in self.events)

    # -- End --------------------------------------------------------------------------------------

    def plugged(self, now: float) -> None:
        self.client.plugged(now)

    def receive(self, data: bytes, now: float) -> None:
        self.client.receive(data, now)

    def tick(self, now: float) -> None:
        self.client.tick(now)

    def data_to_send(self) -> bytes:
        while self._unsaid:
            token, message = self._unsaid[0]
            if not self.client.publish(message, token, self.now):
                break
            self._under_way[token] = message
            self._unsaid.popleft()
        data = self.client.data_to_send()
        self._hear()
        return data

    def _hear(self) -> None:
        events = self.client.take_events()
        self.events += events
        ledger = self._bench.ledger
        for event in events:
            match event:
                case Acknowledged(token):
                    message = self._under_way.pop(token)
                    ledger.acknowledged[message.topic].add(message.payload)
                case Failed(token):
                    message = self._under_way.pop(token)
                    ledger.failed[message.topic].add(message.payload)
                case Arrived(message):
                    self.got.append(message)
                    ledger.got[self.name, message.topic].append(message.payload)
                case Up() | Down() | Asleep() | Collected():
                    pass
        self._bench.news.set()


class Listener:
    """paho with a durable session: it comes back by itself, and gets everything once.

    What it publishes is in order only as long as its connection stands: on a new one paho sends
    what is new before the CONNACK, and what it repeats behind it.
    """

    def __init__(self, bench: Bench, name: str, port: int) -> None:
        self.name = name
        self._bench = bench
        self._loop = asyncio.get_running_loop()
        self._filters: list[tuple[str, int]] = []
        self._answers: dict[int, tuple[str, bytes]] = {}
        self.said: set[str] = set()  # topics
        self.is_up = False
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, clean_session=False
        )
        client.reconnect_delay_set(_RESTS / 5, _RESTS)
        client.max_inflight_messages_set(16)
        client.on_connect = lambda *_: self._tell(self._connected)
        client.on_disconnect = lambda *_: self._tell(self._disconnected)
        client.on_subscribe = lambda *_: self._tell(self._subscribed)
        client.on_message = lambda _c, _u, got: self._tell(self._arrived, got)
        client.on_publish = lambda _c, _u, mid, *_: self._tell(self._acknowledged, mid)
        client.connect(HOST, port)
        client.loop_start()

    def subscribe(self, topic_filter: str, qos: int) -> None:
        self._filters.append((topic_filter, qos))
        self.is_up = False
        self._client.subscribe(topic_filter, qos)

    def expect(self, *topics: str) -> None:
        """It will get these of the ledger."""
        self._bench.ledger.wants[self.name] |= set(topics)

    def publish(self, topic: str, qos: int, count: int = 1) -> None:
        ledger = self._bench.ledger
        ledger.qos[topic] = qos
        self.said.add(topic)
        sent = ledger.sent[topic]
        for _ in range(count):
            sent.append(b"%d" % len(sent))
            told = self._client.publish(topic, sent[-1], qos)
            self._answers[told.mid] = (topic, sent[-1])

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _tell(self, call: Callable[..., None], *facts: Any) -> None:
        """From paho's thread to ours, in order."""
        self._loop.call_soon_threadsafe(call, *facts)
        self._loop.call_soon_threadsafe(self._bench.news.set)

    def _connected(self) -> None:
        self.is_up = not self._filters

        if self._filters:
            self._client.subscribe(self._filters)

    def _subscribed(self) -> None:
        self.is_up = True

    def _disconnected(self) -> None:
        self.is_up = False

    def _arrived(self, got: paho.MQTTMessage) -> None:
        self._bench.ledger.got[self.name, got.topic].append(got.payload)

    def _acknowledged(self, mid: int) -> None:
        topic, payload = self._answers.pop(mid)
        self._bench.ledger.acknowledged[topic].add(payload)


class Bench:
    """Everything together. `ports` are names of serial ports; each gets a pty in the folder."""

    def __init__(
        self,
        folder: Path,
        ports: list[str],
        *,
        settings: Mapping[str, Any] | None = None,
        **serial: Any,
    ) -> None:
        self.folder = folder
        self.udp_port = free_port()
        tables: dict[str, Any] = {
            "serial": [
                {"port": str(folder / name), "name": name, "log": "", **serial} for name in ports
            ],
            "mqttsn": {"listen": f"udp://{HOST}:{self.udp_port}", "t_retry": f"{T_RETRY} s"},
        }
        for name, table in (settings or {}).items():
            tables[name] = {**tables.get(name, {}), **table}
        self.broker = BrokerProcess(folder, settings=tables)
        self.ledger = Ledger()
        self.news = asyncio.Event()
        self.wires: list[PtyWire] = []
        self.listeners: list[Listener] = []
        self.closing: list[Callable[[], None]] = []
        self.world: RealWorld

    async def __aenter__(self) -> Self:
        self.world = RealWorld(asyncio.get_running_loop())
        await asyncio.to_thread(self.broker.start)
        return self

    async def __aexit__(self, failure: type[BaseException] | None, *_: object) -> None:
        for listener in self.listeners:
            await asyncio.to_thread(listener.close)
        for close in self.closing:
            close()
        for wire in self.wires:
            wire.close()
        self.world.close()
        await asyncio.to_thread(self.broker.kill if failure else self.broker.stop)

    async def kill(self) -> None:
        """Kill the broker with -9 and start it again."""
        await asyncio.to_thread(self.broker.kill)
        for listener in self.listeners:
            self.ledger.unordered |= listener.said
        await asyncio.to_thread(self.broker.start)

    def wire(
        self, port: str, end: End, *, seed: int, faults: Faults = NONE, baud: int = BAUD
    ) -> PtyWire:
        """Put something behind a port: `faults` for both directions."""
        rng = Random(f"{port} {seed}")
        lanes = (LaneSettings(baud=baud, faults=faults), LaneSettings(baud=baud, faults=faults))
        uart = VirtualUart(*lanes, rng)
        wire = PtyWire(self.world, self.folder / port, end, uart, rng=rng, faults=faults)
        self.wires.append(wire)
        wire.plug()
        return wire

    def device(
        self,
        port: str,
        *,
        seed: int,
        faults: Faults = NONE,
        baud: int = BAUD,
        name: str = "",
        able: Capability = Capability.CRC_32,
        sleeps: bool = False,
        **sn: Any,
    ) -> Device:
        """A framed device that connects by itself."""
        sn = {"clean_session": False, "t_retry": T_RETRY, "t_wait": T_RETRY, "window": 4, **sn}
        link = LinkSettings(uid=port.encode(), capabilities=able, payload_limit=256)
        link = sleeping(link) if sleeps else link
        settings = FramedSettings(SnSettings(client_id=name or port, **sn), link)
        device = Device(self, FramedClient(settings, Random(f"{port} device {seed}")))
        device.wire = self.wire(port, device, seed=seed, faults=faults, baud=baud)
        device.connect()
        return device

    async def listener(self, name: str, *filters: str, qos: int = 2) -> Listener:
        """A foreign client that has subscribed."""
        listener = Listener(self, name, self.broker.port)
        self.listeners.append(listener)
        for each in filters:
            listener.subscribe(each, qos)
        await self.until(lambda: listener.is_up)
        return listener

    def spoil(self, wire: PtyWire, faults: Faults, seed: int) -> None:
        """From now on the wire is like this."""
        for lane in wire.line.uart.lanes:
            lane._spoiler = Spoiler(faults, Random(seed))

    async def until(self, is_so: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait for it; raises TimeoutError with what is missing."""
        try:
            async with asyncio.timeout(seconds):
                while not is_so():
                    self.news.clear()
                    if not is_so():
                        await self.news.wait()
        except TimeoutError:
            told = f"{self.ledger.open()} unanswered, {self.ledger.faults()}"
            raise AssertionError(f"it did not come: {told}\n{self.log}") from None

    async def until_logged(self, pattern: str) -> None:
        """Wait for a line of the broker's log."""
        async with asyncio.timeout(PATIENCE):
            while not re.search(pattern, self.broker.log):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)

    async def settle(self, seconds: float = PATIENCE) -> None:
        """Wait until all is answered and has arrived, and judge."""
        await self.until(lambda: not self.ledger.open() and self.ledger.is_complete(), seconds)
        assert self.ledger.faults() == []

    @property
    def log(self) -> str:
        """The end of the broker's log."""
        return self.broker.log[-3000:]

    def descriptors(self) -> int:
        """How many the broker's family has open."""
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in family(self.broker.pid))

    def threads(self) -> int:
        return sum(
            len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in family(self.broker.pid)
        )
