"""A device that sends MQTT-SN packets down the wire without frames: raw, as
`mqtt-sn-serial-bridge` does, or each in SLIP.

What is lost on such a wire is lost, and what is damaged may be taken for something else; only
MQTT-SN's own repetitions help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridges.serial.events import Received
from bridges.serial.frames import Channel
from bridges.serial.modes import PacketStream, Slip, Unframed
from firmware_sim.clients.sn import SnClient

if TYPE_CHECKING:
    from random import Random

    from bridges.serial.modes import Codec
    from firmware_sim.clients.sn import SnSettings


class UnframedClient:
    """A ClientMachine around a codec."""

    def __init__(self, settings: SnSettings, rng: Random, codec: Codec) -> None:
        self.sn = sn = SnClient(settings, rng)
        self._wire = Unframed(codec)
        self._now = 0.0
        self.connect = sn.connect
        self.publish = sn.publish
        self.subscribe = sn.subscribe
        self.sleep = sn.sleep
        self.wake = sn.wake
        self.disconnect = sn.disconnect
        self.take_events = sn.take_events

    @property
    def is_up(self) -> bool:
        """See Client."""
        return self.sn.is_up

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be said or answered."""
        return self.sn.is_idle

    def plugged(self, now: float) -> None:
        """See Machine."""
        self._now = now
        self._wire.plugged(now)

    def receive(self, data: bytes, now: float) -> None:
        """See Machine."""
        self._now = now
        self._take(self._wire.receive(data, now), now)

    def tick(self, now: float) -> None:
        """See Machine."""
        self._now = now
        self._take(self._wire.tick(now), now)
        deadline = self.sn.next_deadline()
        if deadline is not None and deadline <= now:
            self.sn.tick(now)

    def next_deadline(self) -> float | None:
        """See Machine."""
        times = (self.sn.next_deadline(), self._wire.next_deadline())
        return min((time for time in times if time is not None), default=None)

    def data_to_send(self) -> bytes:
        """See Machine."""
        now = max(self._now, self.sn.now)
        parts = [self._wire.data_to_send()]
        for datagram in self.sn.datagrams(now):
            self._wire.send(Channel.MQTT_SN, datagram, now)
            parts.append(self._wire.data_to_send())
        return b"".join(parts)

    def _take(self, events: list[Any], now: float) -> None:
        for event in events:
            if isinstance(event, Received):
                self.sn.receive_datagram(event.payload, now)


def raw_client(settings: SnSettings, rng: Random) -> UnframedClient:
    """Packets one after the other: their length alone says where they end."""
    return UnframedClient(settings, rng, PacketStream())


def slip_client(settings: SnSettings, rng: Random) -> UnframedClient:
    """Packets in SLIP (RFC 1055)."""
    return UnframedClient(settings, rng, Slip())
