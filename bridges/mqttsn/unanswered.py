"""What one client has asked and the broker has not answered, to be repeated after a broken pipe.

Rule kept here: while a suspect (suspicion.py) has no answer, it is alone on its way.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from broker.packets.types import Publish, Pubrel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridges.mqttsn.suspicion import Suspicion
    from broker.packets.types import Packet, Subscribe, Unsubscribe

    Request = Publish | Subscribe | Unsubscribe


class Fate(Enum):
    """What is to be done with a request now."""

    SEND = "send"
    WAIT = "wait"  # for the suspect's answer
    REFUSE = "refuse"  # the broker would close the connection over it


class Unanswered:
    """Of one session."""

    __slots__ = ("_held_back", "_published", "_released", "_requested", "_suspicion")

    def __init__(self, suspicion: Suspicion) -> None:
        self._suspicion = suspicion
        self._published: dict[int, Publish] = {}
        self._released: dict[int, None] = {}
        self._requested: dict[tuple[type, int], Subscribe | Unsubscribe] = {}
        self._held_back: list[Request] = []

    def __iter__(self) -> Iterator[Request]:
        yield from self._published.values()
        yield from self._requested.values()

    @property
    def messages(self) -> int:
        """How many of QoS 1 and 2 are under way."""
        return len(self._published) + len(self._released)

    @property
    def is_blocked(self) -> bool:
        """Whether a suspect is on its way."""
        return self._suspicion.suspect is not None and any(map(self._suspicion.is_about, self))

    def add(self, packet: Request) -> Fate:
        """Something is asked."""
        is_blocked = self.is_blocked
        if isinstance(packet, Publish):
            self._published[packet.packet_id] = packet
        else:
            self._requested[type(packet), packet.packet_id] = packet
        if self._suspicion.suspect is None:  # nearly always
            return Fate.SEND
        return self._fate(packet, is_blocked)

    def release(self, packet_id: int) -> None:
        """QoS 2, second step."""
        self._released[packet_id] = None

    def pop(self, kind: type, packet_id: int) -> Request | None:
        """It is answered; None: nobody has asked."""
        if kind is Publish:
            packet: Request | None = self._published.pop(packet_id, None)
        else:
            packet = self._requested.pop((kind, packet_id), None)
        if packet is not None and self._suspicion.suspect is not None:
            self._suspicion.clear(packet)
        return packet

    def complete(self, packet_id: int) -> None:
        """QoS 2 is done with."""
        self._released.pop(packet_id, None)

    def freed(self) -> list[Request]:
        """Those that need not wait any longer."""
        if not self._held_back or self.is_blocked:
            return []
        held, self._held_back = self._held_back, []
        return [packet for packet in held if self.has(packet)]

    def has(self, packet: Request) -> bool:
        """Whether it still has no answer."""
        return any(packet is each for each in self)

    def broken(self) -> None:
        """The broker has closed the connection, and had no other word."""
        self._suspicion.broken(self)

    def repeat(self) -> Iterator[tuple[Fate, Packet]]:
        """What another connection begins with, in order [MQTT-4.4.0-1]."""
        self._held_back.clear()
        is_blocked = self.is_blocked
        for published in self._published.values():
            published.dup = True
            yield self._fate(published, is_blocked), published
        for packet_id in self._released:
            yield Fate.SEND, Pubrel(packet_id)
        for request in self._requested.values():
            yield self._fate(request, is_blocked), request

    def _fate(self, packet: Request, is_blocked: bool) -> Fate:
        if is_blocked and not self._suspicion.is_about(packet):
            self._held_back.append(packet)
            return Fate.WAIT
        return Fate.REFUSE if self._suspicion.is_certain(packet) else Fate.SEND
