"""Two links on a wire, and the ledger of what was sent and what arrived."""

from __future__ import annotations

from random import Random

from bridges.serial.events import Opened, Received, Restarted
from bridges.serial.frames import Capability, Channel
from bridges.serial.link import Link, LinkSettings
from tests.support.wire import Bench, Faults, Wire

HOST = LinkSettings(uid=b"host", firmware="1.0")
DEVICE = LinkSettings(uid=b"\x01\x02\x03\x04", firmware="0.9")
TINY = LinkSettings(  # what an 8-bit controller with 512 bytes of memory does
    uid=b"tiny",
    firmware="1",
    capabilities=Capability.NONE,
    window=1,
    payload_limit=48,
    buffer=64,
    queue=1,
)


class World:
    """`ends` 0 is the host, 1 the device; messages are numbered per end."""

    def __init__(
        self,
        seed: int = 1,
        faults: Faults = Faults(),  # noqa: B008 - a frozen value
        host: LinkSettings = HOST,
        device: LinkSettings = DEVICE,
        rate: float = 11_520.0,
    ) -> None:
        self.rng = Random(f"wire {seed}")
        self.settings = (host, device)
        wires = Wire(self.rng, faults, rate), Wire(self.rng, faults, rate)
        self.bench = Bench(self.link(0), self.link(1), *wires)
        self.sent: tuple[list[bytes], list[bytes]] = ([], [])

    def link(self, at: int) -> Link:
        return Link(self.settings[at], Random(self.rng.random()))

    @property
    def host(self) -> Link:
        return self.bench.ends[0]  # type: ignore[return-value]

    @property
    def device(self) -> Link:
        return self.bench.ends[1]  # type: ignore[return-value]

    def opened(self) -> World:
        """Plugged in, and both open."""
        self.bench.plug()
        self.bench.run(self.bench.now + 600, lambda: self.is_open)
        assert self.is_open
        return self

    @property
    def is_open(self) -> bool:
        return self.host.state.value == self.device.state.value == "open"

    def send(self, at: int, payload: bytes, channel: Channel = Channel.MQTT_SN) -> bool:
        link = (self.host, self.device)[at]
        taken = link.send(channel, payload, self.bench.now)
        if taken:
            self.sent[at].append(payload)
        return taken

    def number(self, at: int, size: int = 20) -> bool:
        """Send the next numbered message."""
        return self.send(at, len(self.sent[at]).to_bytes(4, "big") + bytes(size - 4))

    def arrived(self, at: int) -> list[bytes]:
        """What end `at` has received."""
        return [event.payload for event in self.bench.events[at] if isinstance(event, Received)]

    def all_is_there(self) -> bool:
        return self.arrived(1) == self.sent[0] and self.arrived(0) == self.sent[1]

    def opens(self, at: int) -> list[bool]:
        """For each time the link opened, whether a session was resumed."""
        return [event.is_resumed for event in self.bench.events[at] if isinstance(event, Opened)]

    def restarts(self, at: int) -> list[Restarted]:
        return [event for event in self.bench.events[at] if isinstance(event, Restarted)]

    def stream(self, at: int, count: int, until: float, size: int = 20) -> None:
        """Send so many messages as fast as the link takes them."""
        want = len(self.sent[at]) + count
        while len(self.sent[at]) < want and self.bench.now < until:
            while len(self.sent[at]) < want and self.number(at, size):
                pass
            self.bench.pump()
            self.bench.run(until, (self.host_has_room, self.device_has_room)[at])

    def host_has_room(self) -> bool:
        return self.host.writable(Channel.MQTT_SN) > 0

    def device_has_room(self) -> bool:
        return self.device.writable(Channel.MQTT_SN) > 0

    def settle(self, seconds: float) -> None:
        """Let time pass until both are idle."""
        self.bench.pump()
        self.bench.run(self.bench.now + seconds, lambda: self.host.is_idle and self.device.is_idle)
