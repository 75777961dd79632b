"""A device on a framed wire (`docs/serial-protocol.md`): MQTT-SN, its log, the time, and files.

Rule kept here: what the link has not taken yet stays with the client, so little waits on the wire;
while the link is not open nobody's patience runs out, and when the gateway has started anew, the
device connects anew.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from bridges.serial.events import Opened, Received, Restarted
from bridges.serial.files import FileReceiver
from bridges.serial.frames import Capability, Channel
from bridges.serial.link import Link, LinkSettings
from bridges.serial.link import State as LinkState
from bridges.serial.times import TimeAsker
from firmware_sim.clients.sn import SnClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from bridges.serial.files import Shelf
    from firmware_sim.clients.sn import SnSettings

_LARGEST_FILE: Final = 1 << 20  # bytes of an image
_MOST_REPLIES: Final = 8  # about files, that wait for the link


@dataclass(frozen=True, slots=True)
class FramedSettings:
    """The device, its link, and what else it uses the wire for."""

    sn: SnSettings
    link: LinkSettings
    asks_time: bool = False
    largest_file: int = _LARGEST_FILE  # bytes


def sleeping(link: LinkSettings) -> LinkSettings:
    """The link of a device that is silent for long, and is not to be asked why."""
    return replace(link, capabilities=link.capabilities | Capability.SLEEPS, idle=0.0)


class FramedClient:
    """A ClientMachine. Files go to `shelf`, which may outlive a reset; None: they are refused."""

    def __init__(self, settings: FramedSettings, rng: Random, shelf: Shelf | None = None) -> None:
        self.settings = settings
        self.sn = sn = SnClient(settings.sn, rng)
        self.link = Link(_able(settings, shelf is not None), rng)
        self.log_dropped = 0
        self.files = FileReceiver(shelf, settings.largest_file) if shelf is not None else None
        self._time = TimeAsker()
        self._replies: deque[bytes] = deque()
        self._has_opened = False
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
        return self.sn.is_up and self._is_open

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be said, on the wire or for an answer."""
        return self.sn.is_idle and self.link.is_idle and not self._replies

    def log(self, text: str, now: float) -> None:
        """A line for the gateway's log; lost, and counted, if there is no room."""
        line = text.encode()[: self.link.payload_limit]
        if not self.link.writable(Channel.LOG) or not self.link.send(Channel.LOG, line, now):
            self.log_dropped += 1

    def wall(self, now: float) -> float | None:
        """Return the seconds since 1970, as the gateway has told; None: not yet."""
        return self._time.wall(now)

    # -- the machine's verbs ----------------------------------------------------------------------

    def plugged(self, now: float) -> None:
        """See Machine."""
        self._now = now
        self.link.plugged(now)

    def receive(self, data: bytes, now: float) -> None:
        """See Machine."""
        self._now = now
        self._take(self.link.receive(data, now), now)

    def tick(self, now: float) -> None:
        """See Machine."""
        self._now = now
        self._take(self.link.tick(now), now)
        if self._is_open and _has_come(self.sn.next_deadline(), now):
            self.sn.tick(now)

    def next_deadline(self) -> float | None:
        """See Machine. What waits for room on the link is woken by its acknowledgements."""
        times = [self.link.next_deadline()]
        if self._is_open:
            if self.link.writable(Channel.MQTT_SN):
                times.append(self.sn.next_deadline())
            if self.settings.asks_time:
                times.append(self._time.next_deadline())
        return min((time for time in times if time is not None), default=None)

    def data_to_send(self) -> bytes:
        """See Machine."""
        now = max(self._now, self.sn.now)
        if self._is_open:
            self._fill(now)
        return self.link.data_to_send()

    # -- helpers ----------------------------------------------------------------------------------

    @property
    def _is_open(self) -> bool:
        return self._has_opened and self.link.state is LinkState.OPEN

    def _fill(self, now: float) -> None:
        room = self.link.writable(Channel.MQTT_SN)
        for datagram in self.sn.datagrams(now, room):
            if len(datagram) <= self.link.payload_limit:
                self.link.send(Channel.MQTT_SN, datagram, now)
        while self._replies and self.link.writable(Channel.FILES):
            self.link.send(Channel.FILES, self._replies.popleft(), now)
        question = self._time.question(now) if self.settings.asks_time else None
        if question is not None:
            self.link.send_once(Channel.TIME, question, now)

    def _take(self, events: list[Any], now: float) -> None:
        for event in events:
            handler = _ON_EVENT.get(type(event))
            if handler is not None:
                handler(self, event, now)

    def _on_opened(self, event: Opened, now: float) -> None:
        self._has_opened = True
        self.sn.fit(event.peer.payload_limit)
        if event.is_resumed:
            self.sn.be_patient(now)
        else:
            self.sn.forget_gateway("the gateway has started anew", now)

    def _on_restarted(self, _event: Restarted, _now: float) -> None:
        """It is heard of again when the link has opened."""
        self._has_opened = False
        self._replies.clear()

    def _on_received(self, event: Received, now: float) -> None:
        _ON_CHANNEL.get(event.channel, FramedClient._ignore)(self, event.payload, now)

    def _on_sn(self, payload: bytes, now: float) -> None:
        self.sn.receive_datagram(payload, now)

    def _on_time(self, payload: bytes, now: float) -> None:
        self._time.receive(payload, now)

    def _on_file(self, payload: bytes, _now: float) -> None:
        if self.files is None:
            return
        reply = self.files.receive(payload)
        if reply is not None and len(self._replies) < _MOST_REPLIES:
            self._replies.append(reply)

    def _ignore(self, payload: bytes, now: float) -> None:
        """Nothing that this device knows."""


def _able(settings: FramedSettings, takes_files: bool) -> LinkSettings:
    """What the device says of itself in its HELLO."""
    able = settings.link.capabilities
    if takes_files:
        able |= Capability.FILES
    if settings.asks_time:
        able |= Capability.TIME
    return replace(settings.link, capabilities=able)


def _has_come(deadline: float | None, now: float) -> bool:
    return deadline is not None and deadline <= now


_ON_EVENT: Final[dict[type, Callable[[FramedClient, Any, float], None]]] = {
    Opened: FramedClient._on_opened,
    Restarted: FramedClient._on_restarted,
    Received: FramedClient._on_received,
}
_ON_CHANNEL: Final[dict[int, Callable[[FramedClient, bytes, float], None]]] = {
    Channel.MQTT_SN: FramedClient._on_sn,
    Channel.TIME: FramedClient._on_time,
    Channel.FILES: FramedClient._on_file,
}
