"""Ways for foreign MQTT-SN clients (`SnClient`, written from the standard alone) to a gateway: UDP,
a raw serial wire, and a radio, which has many of them behind one wire.

    raw     packets one after the other, their length byte is all that separates them
    radio   each packet with a forwarder's header (length, FE, radius, node), in frames or raw
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from bridges.serial.events import Received
from bridges.serial.frames import Channel
from bridges.serial.link import State
from tests.support.mqttsn_client import PUBLISH, SnClient
from tests.support.process import HOST

if TYPE_CHECKING:
    from bridges.serial.link import Link
    from tests.support.serial_bench import Bench, Ledger

FORWARDED = 0xFE
T_RETRY, T_WAIT = 2.0, 1.0  # seconds


class Foreign:
    """One foreign device and its entries in the ledger."""

    def __init__(self, ledger: Ledger, name: str, **options: Any) -> None:
        self.name = name
        self.sn = SnClient(name, **options)
        self.sn.T_RETRY, self.sn.T_WAIT = T_RETRY, T_WAIT  # type: ignore[misc]
        self._ledger = ledger
        self._published: deque[tuple[str, bytes]] = deque()
        self._heard = self._done = 0

    def publish(self, topic: str, qos: int, count: int = 1) -> None:
        """Say so many numbered messages."""
        self._ledger.qos[topic] = qos
        sent = self._ledger.sent[topic]
        for _ in range(count):
            sent.append(b"%d" % len(sent))
            self._published.append((topic, sent[-1]))
            self.sn.publish(topic, sent[-1], qos)

    def subscribe(self, topic_filter: str, qos: int, *topics: str) -> None:
        """`topics` are those of the ledger that it will get by this."""
        self._ledger.wants[self.name] |= set(topics)
        self.sn.subscribe(topic_filter, qos)

    def note(self) -> None:
        """Write down what has happened."""
        for got in self.sn.received[self._heard :]:
            self._ledger.got[self.name, got.topic].append(got.payload)
        self._heard = len(self.sn.received)
        for kind, result in self.sn.done[self._done :]:
            if kind == PUBLISH:
                topic, payload = self._published.popleft()
                answers = self._ledger.acknowledged if result == 0 else self._ledger.failed
                answers[topic].add(payload)
        self._done = len(self.sn.done)


class UdpCarrier(asyncio.DatagramProtocol):
    """A foreign device with a socket of its own."""

    def __init__(self, bench: Bench, device: Foreign) -> None:
        self.device = device
        self._bench = bench
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.DatagramTransport

    @classmethod
    async def open(cls, bench: Bench, device: Foreign, host: str = HOST) -> UdpCarrier:
        """From a port of its own."""
        carrier = cls(bench, device)
        loop = asyncio.get_running_loop()
        gateway = (HOST, bench.udp_port)
        await loop.create_datagram_endpoint(
            lambda: carrier, remote_addr=gateway, local_addr=(host, 0)
        )
        bench.closing.append(carrier.close)
        carrier.pump()
        return carrier

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, _addr: Any) -> None:
        self.device.sn.receive(data, self._loop.time())
        self.pump()

    def error_received(self, exc: OSError) -> None:
        """Nobody listens there now: it asks again."""

    def pump(self) -> None:
        """Send what there is to say."""
        now = self._loop.time()
        deadline = self.device.sn.next_deadline()
        if deadline is not None and deadline <= now:
            self.device.sn.tick(now)
        for datagram in self.device.sn.datagrams(now):
            self._transport.sendto(datagram)
        self.device.note()
        self._bench.news.set()
        self._arm()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.device.sn.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(max(deadline, self._loop.time() + 0.01), self.pump)


class RawEnd:
    """Foreign devices on a wire without frames: one, or several by node. An End."""

    def __init__(self, bench: Bench, *devices: Foreign, forwarded: bool = False) -> None:
        self._bench = bench
        self._devices = devices
        self._forwarded = forwarded
        self._by_node = dict(enumerate(devices, 1))
        self._held = b""
        self._now = 0.0

    def plugged(self, now: float) -> None:
        self._now = now

    def receive(self, data: bytes, now: float) -> None:
        self._now = now
        self._held += data
        while self._held and len(self._held) >= (size := _size(self._held)):
            packet, self._held = self._held[:size], self._held[size:]
            self.hear(packet, now)

    def hear(self, packet: bytes, now: float) -> None:
        """A whole packet, with or without the forwarder's header."""
        device = self._devices[0]
        if self._forwarded:
            assert packet[1] == FORWARDED, packet
            size = packet[0]
            device, packet = self._by_node[packet[3]], packet[size:]
        device.sn.receive(packet, now)

    def tick(self, now: float) -> None:
        self._now = now
        for device in self._devices:
            deadline = device.sn.next_deadline()
            if deadline is not None and deadline <= now:
                device.sn.tick(now)

    def next_deadline(self) -> float | None:
        times = (device.sn.next_deadline() for device in self._devices)
        return min((time for time in times if time is not None), default=None)

    def data_to_send(self) -> bytes:
        return b"".join(self.packets())

    def packets(self) -> list[bytes]:
        """What all have to say."""
        now = max(self._now, self._bench.world.now)
        taken = [
            self._header(node) + datagram
            for node, device in self._by_node.items()
            for datagram in device.sn.datagrams(now)
        ]
        for device in self._devices:
            device.note()
        self._bench.news.set()
        return taken

    def _header(self, node: int) -> bytes:
        return bytes((4, FORWARDED, 1, node)) if self._forwarded else b""


class RadioEnd:
    """Many foreign devices behind a co-processor that speaks in frames. An End."""

    def __init__(self, bench: Bench, link: Link, *devices: Foreign) -> None:
        self.link = link
        self._nodes = RawEnd(bench, *devices, forwarded=True)
        self._waiting: deque[bytes] = deque()
        self._now = 0.0

    def plugged(self, now: float) -> None:
        self._now = now
        self._nodes.plugged(now)
        self.link.plugged(now)

    def receive(self, data: bytes, now: float) -> None:
        self._now = now
        self._take(self.link.receive(data, now), now)

    def tick(self, now: float) -> None:
        self._now = now
        self._take(self.link.tick(now), now)
        self._nodes.tick(now)

    def next_deadline(self) -> float | None:
        times = (self.link.next_deadline(), self._nodes.next_deadline())
        return min((time for time in times if time is not None), default=None)

    def data_to_send(self) -> bytes:
        if self.link.state is State.OPEN:
            self._waiting += self._nodes.packets()
        while self._waiting and self.link.writable(Channel.MQTT_SN):
            self.link.send(Channel.MQTT_SN, self._waiting.popleft(), self._now)
        return self.link.data_to_send()

    def _take(self, events: list[Any], now: float) -> None:
        for event in events:
            if isinstance(event, Received) and event.channel == Channel.MQTT_SN:
                self._nodes.hear(event.payload, now)


def _size(data: bytes) -> int:
    """Of the packet that begins there, with the one that a forwarder's header announces."""
    if data[0] == 1:
        return int.from_bytes(data[1:3], "big") if len(data) > 2 else 3
    size = data[0]
    if len(data) > 1 and data[1] == FORWARDED:
        return size + (_size(data[size:]) if len(data) > size else 1)
    return size
