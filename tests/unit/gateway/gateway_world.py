"""A wire without a port and a broker side without a broker: what is asked of them is kept."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from bridges.gateway.wire import Wire
from bridges.mqttsn.admission import Rules
from bridges.mqttsn.gateway import Gateway
from bridges.mqttsn.notebook import MemoryNotebook
from bridges.mqttsn.policy import Policy
from bridges.mqttsn.ports import Identity, Note
from bridges.serial.carrier import PortFigures, PortInfo
from bridges.serial.events import Event, Received
from bridges.serial.frames import Capability, Channel
from bridges.serial.link import Link, LinkSettings
from broker.settings import SerialSettings
from tests.unit.mqttsn.world import ScriptedBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


class FakeTimer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeLoop:
    """A loop whose time the test turns; `run` does what is due."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[Callable[[], None]] = []
        self.timers: list[FakeTimer] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self.soon.append(lambda: call(*arguments))

    def call_later(self, delay: float, call: Callable[..., None], *arguments: Any) -> FakeTimer:
        return self.call_at(self.now + delay, call, *arguments)

    def call_at(self, when: float, call: Callable[..., None], *arguments: Any) -> FakeTimer:
        self.timers.append(FakeTimer(when, lambda: call(*arguments)))
        return self.timers[-1]

    def run(self, seconds: float = 0.0) -> None:
        self.now += seconds
        while True:
            due = [each for each in self.timers if each.when <= self.now]
            self.timers = [each for each in self.timers if each.when > self.now]
            calls = [each.call for each in due if not each.is_cancelled] + self.soon
            self.soon = []
            if not calls:
                return
            for call in calls:
                call()


class FakeStream:
    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        self.on_data = on_data
        self.sent = b""
        self.is_held = False
        self.is_closed = False

    def send(self, data: bytes) -> None:
        self.sent += data

    def hold(self, held: bool) -> None:
        self.is_held = held

    def close(self) -> None:
        self.is_closed = True


class FakeSide:
    """A BrokerSide with a scripted broker."""

    name = "here"
    client_id = ""
    prefix = "here/"

    def __init__(self) -> None:
        self.broker = ScriptedBroker()
        self.streams: list[FakeStream] = []
        self.on_forgotten: Callable[[], None] = lambda: None

    def sessions(self, name: str, stamp: object = None) -> ScriptedBroker:
        return self.broker

    def stream(self, name: str, on_data: Callable[[bytes], None]) -> FakeStream:
        self.streams.append(FakeStream(on_data))
        return self.streams[-1]

    def tell(self, topic: str, payload: bytes, retain: bool) -> None:
        raise AssertionError("nobody tells figures here")

    def close(self) -> None:
        pass


class FakeCarrier:
    """Carries nothing by itself: WireWorld does."""

    def __init__(self) -> None:
        self.is_held = False
        self.wakes = 0
        self.figures = PortFigures(baud=115_200)

    def start(self) -> None:
        pass

    def wake(self) -> None:
        self.wakes += 1

    def hold(self, held: bool) -> None:
        self.is_held = held

    def reset_device(self) -> bool:
        return True

    async def close(self) -> None:
        pass


class WireWorld:
    """A wire in `mode`, plugged in. `device_link`: the device's end when it is framed."""

    def __init__(
        self,
        folder: Path,
        mode: str = "framed",
        path: str = "/dev/pts/0",
        payload_limit: int = 1024,
        notes: Sequence[Note] = (),
        **keys: Any,
    ) -> None:
        self.loop = FakeLoop()
        self.side = FakeSide()
        self.carrier = FakeCarrier()
        port = SerialSettings("/dev/x", name="bench", mode=mode, **keys)
        notebook = MemoryNotebook()
        for note in notes:
            notebook.write(note)
        gateway = Gateway(self.side.broker, notebook, Rules(), Policy(t_adv=0))
        rng: Any = Random(1)
        self.wire = Wire(port, gateway, self.side, Identity("serial-bench"), folder, self.loop, rng)
        self.wire.start(self.carrier)
        able = Capability.FILES | Capability.TIME | Capability.LOG
        settings = LinkSettings(uid=b"dev", capabilities=able, payload_limit=payload_limit)
        self.device_link = Link(settings, Random(2))
        self.heard: list[Event] = []
        self.wire.machine.plugged(self.loop.now)
        self.wire.on_plugged(PortInfo(path, "key", 115_200))
        if mode == "framed":
            self.device_link.plugged(self.loop.now)
            self.exchange()

    def say(self, data: bytes) -> bytes:
        """Bytes from the device; what comes back."""
        events = self.wire.machine.receive(data, self.loop.now)
        self.wire.on_events(events, self.loop.now)
        return self.hear()

    def hear(self) -> bytes:
        """What goes to the device now."""
        self.loop.run()
        sent = b""
        while data := self.wire.machine.data_to_send():
            sent += data
            self.wire.on_events((), self.loop.now)
        return sent

    def exchange(self) -> None:
        """Let both ends of a framed wire talk until they are silent."""
        while True:
            up, down = self.device_link.data_to_send(), self.hear()
            if not up and not down:
                return
            if down:
                self.heard += self.device_link.receive(down, self.loop.now)
            if up:
                self.wire.on_events(self.wire.machine.receive(up, self.loop.now), self.loop.now)

    def send(self, channel: Channel, payload: bytes) -> list[bytes]:
        """A message from the device over its link; what came on that channel."""
        assert self.device_link.send(channel, payload, self.loop.now)
        self.exchange()
        return self.take(channel)

    def take(self, channel: Channel) -> list[bytes]:
        """What has come to the device on a channel since the last time."""
        got = [
            each.payload
            for each in self.heard
            if isinstance(each, Received) and each.channel == channel
        ]
        self.heard.clear()
        return got
