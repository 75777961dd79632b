"""Throws spoilt bytes at a whole wire as the gateway assembles it, in every mode, with the real
broker behind it: framing, detection, link, MQTT-SN, text, plain MQTT, files and time together.

What must hold: no exception escapes; nobody asks to be called for ever; what waits for the wire is
bounded; the broker sees no violation of the gateway's own; after it, a sound device that is plugged
in is served.
"""

from __future__ import annotations

import atexit
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bridges.gateway.wire import Wire
from bridges.mqttsn.admission import Rules
from bridges.mqttsn.gateway import Gateway
from bridges.mqttsn.mqtt import MqttBroker
from bridges.mqttsn.notebook import MemoryNotebook
from bridges.mqttsn.policy import Policy
from bridges.mqttsn.ports import Identity
from bridges.serial.carrier import PortInfo
from bridges.serial.frames import Channel
from bridges.serial.link import Link, LinkSettings
from bridges.serial.modes import slip, unslip
from broker.engine.notices import FaultSeen, ViolationSeen
from broker.packets.encode import encode as encode_mqtt
from broker.packets.types import Connect, Publish, Subscribe, SubscriptionRequest
from broker.settings import SerialSettings
from tests.fuzz.conversations import split, spoil
from tests.fuzz.fuzzer import FoundError
from tests.support.broker import MemoryBroker
from tests.support.mqttsn_client import SnClient
from tests.unit.gateway.gateway_world import FakeCarrier, FakeLoop
from tests.unit.mqttsn.engine_world import BrokerEnd, EnginePipe
from tests.unit.mqttsn.vectors import VECTORS

if TYPE_CHECKING:
    from collections.abc import Callable

MODES = ("auto", "auto", "auto", "framed", "mqtt-sn", "slip", "mqtt", "text")
ROUNDS_PER_WIRE = 10
LONGEST_ROUND = 6_000  # bytes
MOST_WAITING = 300_000  # bytes that come out at once: answers and held messages
MOST_TURNS = 2_000  # of the loop, without time passing
LATER = 10_000.0  # seconds, twenty times: whoever was there is gone
FILE_SETTINGS = {"take_files": True, "largest_file": 1000, "files_bytes": 3000}
PACKETS = [vector.frame for vector in VECTORS if len(vector.frame) < 300]
LINES = (b"temp/1 21.5\r\n", b"Hello\n", b"a/b c\n", b"\xff\xfe\n", b"x" * 600 + b"\n", b"/ 1\n")
MQTT = [
    encode_mqtt(each, 4)
    for each in (
        Connect("plain", True, 60, version=4),
        Publish("t/1", b"x", 1, packet_id=1),
        Subscribe(1, [SubscriptionRequest("#", 1)]),
    )
]


class Side:
    """A BrokerSide with the real engine, and the world that pipes want."""

    name, prefix = "here", "here/"

    def __init__(self, loop: FakeLoop) -> None:
        self._loop = loop
        self.broker = MemoryBroker(now=loop.now)
        self.pipes: list[Any] = []
        self._mqtt = MqttBroker(lambda session: EnginePipe(self, session))  # type: ignore[arg-type]

    @property
    def now(self) -> float:
        return self._loop.now

    def later(self, call: Callable[[], None]) -> None:
        self._loop.call_soon(call)

    def sessions(self, _name: str, _stamp: object = None) -> MqttBroker:
        return self._mqtt

    def stream(self, _name: str, on_data: Callable[[bytes], None]) -> Stream:
        return Stream(self, on_data)

    def close(self) -> None: ...


class Stream:
    """What plain MQTT says, on its way to the engine."""

    def __init__(self, side: Side, on_data: Callable[[bytes], None]) -> None:
        self._side = side
        self._on_data = on_data
        self.is_closed = False
        self._end = BrokerEnd(side, self)  # type: ignore[arg-type]

    def send(self, data: bytes) -> None:
        self._side.later(lambda: self._end.take(data))

    def hold(self, held: bool) -> None:
        self._end.hold(held)

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._side.later(lambda: self._end.take(b""))

    def arrive(self, data: bytes) -> None:
        if not self.is_closed:
            self._on_data(data)

    def break_off(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._on_data(b"")


class LastMetreFuzzer:
    """Rounds of bytes; `seed` and the number of the round repeat each of them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rounds = 0
        self.packets = 0
        self._folder = TemporaryDirectory()
        atexit.register(self._folder.cleanup)
        self.begin()

    def begin(self) -> None:
        """A new wire and a new broker."""
        self.rng = rng = Random(f"last metre {self.seed}/{self.rounds}")
        self.loop = FakeLoop()
        self.side = Side(self.loop)
        self.mode = rng.choice(MODES)
        port = SerialSettings(
            "/dev/x", name="bench", mode=self.mode, commands="down/#", **FILE_SETTINGS
        )
        policy = Policy(t_adv=0, n_retry=2, t_retry=1.0, max_devices=4, device_bytes=2000)
        gateway = Gateway(self.side.sessions(""), MemoryNotebook(), Rules(), policy)
        folder = Path(self._folder.name) / str(self.rounds)
        identity = Identity("serial-bench")
        wire_rng: Any = Random(rng.random())
        self.wire = Wire(port, gateway, self.side, identity, folder, self.loop, wire_rng)
        self.wire.start(FakeCarrier())
        self.client = self.side.broker.connect("client")
        self.client.subscribe("up/#", qos=2)
        self._plug()
        self.device = Link(LinkSettings(uid=b"fuzzed"), Random(rng.random()))
        self.device.plugged(self.loop.now)

    def round(self) -> None:
        """One conversation; raises FoundError."""
        if self.rounds % ROUNDS_PER_WIRE == 0:
            self.begin()
        self.rounds += 1
        try:
            self._talk()
            if self.rounds % ROUNDS_PER_WIRE == 0:
                self._serve()
            self._check()
        except Exception as fault:
            where = f"seed {self.seed}, round {self.rounds}, {self.mode}"
            raise FoundError(f"{where}: {fault!r}") from fault

    def _talk(self) -> None:
        rng = self.rng
        made = [rng.choice(_MAKERS)(self) for _ in range(rng.randint(1, 20))]
        pieces = [each for each in made if each]
        self.packets += len(pieces)
        if pieces and rng.random() < 0.7:
            pieces = spoil(rng, pieces)
        for read in split(rng, [b"".join(pieces)[:LONGEST_ROUND]]):
            self._say(read)
            if rng.random() < 0.2:
                self.client.publish(
                    rng.choice(("down/1", "t/1", "ab")),
                    bytes(rng.choice((1, 300))),
                    rng.randrange(3),
                )
            self._pass(rng.choice((0.0, 0.0, 0.001, 0.3, 3.0, 100.0)))
        if rng.random() < 0.1:
            self._unplug()
            self._pass(1.0)
            self._plug()

    def _say(self, data: bytes) -> None:
        now = self.loop.now
        self.wire.on_events(self.wire.machine.receive(data, now), now)

    def _pass(self, seconds: float) -> bytes:
        """Let time pass; what has come out."""
        self.loop.now += seconds
        broker = self.side.broker
        broker.now = broker.engine.clock.now = now = self.loop.now
        if (when := broker.engine.next_deadline()) is not None and when <= now:
            broker.engine.tick(now)
        said = b""
        for _ in range(MOST_TURNS):
            deadline = self.wire.machine.next_deadline()
            if deadline is not None and deadline <= now:
                self.wire.on_events(self.wire.machine.tick(now), now)
            self.loop.run()
            broker.flush()
            data = self.wire.machine.data_to_send()
            said += data
            assert len(said) < MOST_WAITING, "too much is said at once"
            self.device.receive(data or b"\0", now)
            if not data and not self.loop.soon and not broker.touched:
                return said
            self.wire.on_events((), now)
        raise AssertionError("it does not come to rest")

    def _plug(self) -> None:
        self.wire.machine.plugged(self.loop.now)
        self.wire.on_plugged(PortInfo("/dev/pts/0", "key", 115_200))

    def _unplug(self) -> None:
        self.wire.on_events(self.wire.machine.receive(b"", self.loop.now), self.loop.now)
        self.wire.on_unplugged("the fuzzer pulled it")

    # -- what must hold ---------------------------------------------------------------------------

    def _check(self) -> None:
        broker = self.side.broker
        for notice in broker.notices:
            assert not isinstance(notice, FaultSeen), notice
            if isinstance(notice, ViolationSeen):
                assert self.mode in {"auto", "mqtt"}, notice  # plain MQTT: the device's own fault
        broker.notices.clear()
        self.client.received.clear()
        assert len(list(self.wire.gateway.devices)) <= 4

    def _serve(self) -> None:
        """All go, and a sound device comes; it must be served, if it speaks as the port does."""
        self._unplug()
        for _ in range(20):
            self._pass(LATER)
        assert list(self.wire.gateway.devices) == []
        self._plug()
        if self.mode not in {"mqtt-sn", "slip"}:
            return
        device = SnClient("sound")
        device.connect()
        device.publish("up/sound", b"sound", 2)
        stream = b""
        for _ in range(100):
            for datagram in device.datagrams(self.loop.now):
                self._say(slip(datagram) if self.mode == "slip" else datagram)
            stream += self._pass(0.1)
            packets, stream = _cut(stream, self.mode)
            for packet in packets:
                device.receive(packet, self.loop.now)
            device.tick(self.loop.now)
        assert device.is_idle, device.done


def _cut(stream: bytes, mode: str) -> tuple[list[bytes], bytes]:
    """The packets that are whole, and the rest."""
    packets = []
    if mode == "slip":
        *parts, rest = stream.split(b"\xc0")
        return [packet for part in parts if part and (packet := unslip(part))], rest
    while stream and len(stream) >= stream[0]:
        packets.append(stream[: stream[0]])
        stream = stream[stream[0] :]
    return packets, stream


# -- what is thrown -------------------------------------------------------------------------------


def _packet(fuzzer: LastMetreFuzzer) -> bytes:
    packet = fuzzer.rng.choice(PACKETS)
    return slip(packet) if fuzzer.rng.random() < 0.4 else packet


def _framed(fuzzer: LastMetreFuzzer) -> bytes:
    """What the device's link has to say: sound frames, of any channel."""
    rng, now = fuzzer.rng, fuzzer.loop.now
    channel = rng.choice((Channel.MQTT_SN, *list(Channel)[1:]))
    payload = (
        rng.choice(PACKETS) if channel == Channel.MQTT_SN else rng.randbytes(rng.randrange(60))
    )
    if len(payload) <= fuzzer.device.payload_limit:
        fuzzer.device.send(channel, payload, now)
    if (when := fuzzer.device.next_deadline()) is not None and when <= now:
        fuzzer.device.tick(now)
    return fuzzer.device.data_to_send()


def _reset(fuzzer: LastMetreFuzzer) -> bytes:
    fuzzer.device = Link(LinkSettings(uid=b"fuzzed"), Random(fuzzer.rng.random()))
    fuzzer.device.plugged(fuzzer.loop.now)
    return fuzzer.device.data_to_send()


def _line(fuzzer: LastMetreFuzzer) -> bytes:
    return fuzzer.rng.choice(LINES)


def _mqtt(fuzzer: LastMetreFuzzer) -> bytes:
    return fuzzer.rng.choice(MQTT)


def _noise(fuzzer: LastMetreFuzzer) -> bytes:
    return fuzzer.rng.randbytes(fuzzer.rng.choice((1, 10, 1000)))


_MAKERS: tuple[Callable[[LastMetreFuzzer], bytes], ...] = (
    *(_packet, _packet, _packet, _framed, _framed, _framed, _reset),
    *(_line, _mqtt, _noise),
)
