"""A device on a wire, the gateway at its other end, and a small broker behind it: in virtual or in
real time, whatever the device is made of.

A *conversation* is a generator: it does something, and yields what it then waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from hashlib import sha256
from random import Random
from typing import Any

from bridges.mqttsn.admission import Rules
from bridges.mqttsn.gateway import Gateway
from bridges.mqttsn.notebook import MemoryNotebook
from bridges.mqttsn.policy import Policy
from bridges.mqttsn.ports import Identity, Message
from bridges.serial import times
from bridges.serial.events import Event, Received
from bridges.serial.files import FileSender, Outcome
from bridges.serial.frames import Capability, Channel
from bridges.serial.link import Link, LinkSettings, State
from firmware_sim.wire.uart import HOST, LaneSettings, VirtualUart
from firmware_sim.wire.worlds import End, Line
from tests.support.small_broker import SmallBroker

Condition = Callable[[], bool]
Conversation = Callable[["Site"], Generator[Condition]]

WIRE = LaneSettings()
EPOCH = 1_893_456_000.0  # seconds since 1970 at the world's 0


class Image:
    """A file to be sent."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


class GatewayEnd:
    """The gateway's end of the wire: link, MQTT-SN, and a file on its way to the device."""

    def __init__(self, broker: SmallBroker, notebook: MemoryNotebook, rng: Random) -> None:
        everything = Capability.CRC_32 | Capability.TIME | Capability.FILES | Capability.LOG
        settings = LinkSettings(uid=b"host", firmware="1.0", capabilities=everything, rate=11_520.0)
        self.link = Link(settings, rng)
        self.gateway = Gateway(
            broker, notebook, Rules(unconnected=Identity("gateway")), Policy(t_adv=0, t_retry=1.0)
        )
        self.file: FileSender | None = None
        self.log: list[bytes] = []
        self.changed: Callable[[], None] = lambda: None
        self._broker = broker
        self._now = 0.0

    # -- End

    def plugged(self, now: float) -> None:
        self._now = now
        self.link.plugged(now)

    def receive(self, data: bytes, now: float) -> None:
        self._now = now
        self._hear(self.link.receive(data, now))

    def tick(self, now: float) -> None:
        self._now = now
        self.gateway.tick(now)
        self._hear(self.link.tick(now))

    def next_deadline(self) -> float | None:
        times = (self.link.next_deadline(), self.gateway.next_deadline())
        return min((time for time in times if time is not None), default=None)

    def data_to_send(self) -> bytes:
        self._pump()
        return self.link.data_to_send()

    # -- helpers

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Received):
                self._on_message(event.channel, event.payload)
            elif type(event).__name__ == "Restarted" and self.file is not None:
                self.file.restart()
        self._pump()
        self.changed()

    def _on_message(self, channel: int, payload: bytes) -> None:
        if channel == Channel.MQTT_SN:
            self.gateway.receive(payload, self._now)
        elif channel == Channel.FILES and self.file is not None:
            self.file.receive(payload)
        elif channel == Channel.LOG:
            self.log.append(payload)
        elif channel == Channel.TIME:
            told = times.answer(payload, EPOCH + self._now)
            assert told is not None
            self.link.send_once(Channel.TIME, told, self._now)

    def _pump(self) -> None:
        is_more = True
        while is_more:
            is_more = self._broker.turn()
            while self.link.writable(Channel.MQTT_SN):
                datagrams = self.gateway.data_to_send(self._now, 1)
                if not datagrams:
                    break
                for datagram in datagrams:
                    assert self.link.send(Channel.MQTT_SN, datagram.data, self._now)
        self._send_file()

    def _send_file(self) -> None:
        while self.file is not None and self.link.state is State.OPEN:
            if not self.link.writable(Channel.FILES):
                return
            payload = self.file.payload(self.link.payload_limit)
            if payload is None:
                return
            self.link.send(Channel.FILES, payload, self._now)


class Site:
    """`name` is the device's; `world` a VirtualWorld or a RealWorld; `shelf` the largest image
    that it takes, `image_size` of those that are sent.
    """

    def __init__(
        self,
        world: Any,
        device: End,
        name: str,
        shelf: int = 0,
        image_size: int = 0,
        lanes: tuple[LaneSettings, LaneSettings] = (WIRE, WIRE),
        seed: int = 1,
    ) -> None:
        self.world = world
        self.name = name
        self.shelf = shelf
        self.image_size = image_size or shelf
        self.rng = Random(seed)
        self.files = 0
        self.broker = SmallBroker()
        self.notebook = MemoryNotebook()
        self.changed: Callable[[], None] = lambda: None
        self.host = self._gateway()
        self.uart = VirtualUart(*lanes, self.rng)
        self.line = Line(self.uart, self.host, device, reset=lambda _now: device)
        self.broker.wake = self.wake

    # -- what a conversation does

    def begin(self) -> None:
        """Plug in, and switch the device on."""
        self.line.plug(self.world.now)
        self.line.power_on(self.world.now)
        self.world.add(self.line)
        self.wake()

    def wake(self) -> None:
        self.world.wake(self.line)
        self.world.at(self.world.now, lambda: self.line.pump(self.world.now))

    def tell(self, command: str, qos: int = 1) -> None:
        """Publish a command for the device."""
        self.broker.publish(f"plant/{self.name}/do", command.encode(), qos)
        self.wake()

    def offer(self, data: bytes, digest: bytes | None = None) -> FileSender:
        """Send a file to the device."""
        digest = digest or sha256(data).digest()
        self.files += 1
        self.host.file = FileSender(self.files, "image.bin", len(data), digest, Image(data))
        self.wake()
        return self.host.file

    def restart_gateway(self) -> None:
        """The gateway's process dies; another one begins with what was noted."""
        self.broker.forget_connections()
        self.host = self._gateway()
        self.host.gateway.resume(self.world.now)
        self.line.ends[HOST] = self.host
        self.host.plugged(self.world.now)
        self.wake()

    def reset_device(self) -> None:
        self.line.reset(self.world.now)
        self.wake()

    def unplug(self) -> None:
        self.line.unplug(self.world.now)
        self.wake()

    def replug(self) -> None:
        self.line.plug(self.world.now)
        self.wake()

    # -- what it looks at

    def messages(self, what: str) -> list[Message]:
        """What the device has published there."""
        return [m for m in self.broker.arrived if m.topic == f"plant/{self.name}/{what}"]

    def said(self) -> list[str]:
        return [m.payload.decode() for m in self.messages("said")]

    def has_said(self, text: str) -> bool:
        """It is said, and no exchange of QoS 2 is open: the device listens to the next command."""
        return text in self.said() and not self.broker.accounts[self.name].received

    def ups(self) -> list[str]:
        """One for each time the device came up, with the number of its start."""
        return [text for text in self.said() if text.startswith("up ")]

    def numbers(self, boot: int = -1) -> list[int]:
        """The numbers of the readings since the last start, in the order in which they came."""
        readings = [m.payload.split()[0].split(b".") for m in self.messages("reading")]
        last = readings[boot][0] if readings else b""
        return [int(number) for start, number in readings if start == last]

    def unanswered(self) -> int:
        account = self.broker.accounts.get(self.name)
        return account.unanswered if account else 0

    def is_asleep(self) -> bool:
        return [device.state.value for device in self.host.gateway.devices] == ["asleep"]

    def progress(self) -> list[str]:
        return [m.payload.decode() for m in self.messages("update")]

    def outcome(self) -> Outcome:
        assert self.host.file is not None
        return self.host.file.outcome

    def _changed(self) -> None:
        self.changed()

    def _gateway(self) -> GatewayEnd:
        end = GatewayEnd(self.broker, self.notebook, Random(self.rng.random()))
        end.changed = self._changed
        return end
