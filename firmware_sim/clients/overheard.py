"""A device whose firmware cannot be asked, as its wire tells of it: a listener at the device's end.

Rule kept here: what the device says is heard before any noise, what is said to it after all noise,
just as its UART gets it. So a message is handed over when it leaves the device, acknowledged when
a sound acknowledgement has reached it, and a command has arrived when the device says so itself.
Repetitions, of the link and of MQTT-SN, are none of these.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bridges.mqttsn.codes import ReturnCode
from bridges.mqttsn.decode import decode
from bridges.mqttsn.errors import UnreadableError
from bridges.mqttsn.packets import (
    Connack,
    Connect,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
)
from bridges.serial.frames import HEADER_SIZE, RELIABLE, Channel
from bridges.serial.overhearing import Check, Heard, Overhearing, Way
from firmware_sim.clients.client import (
    Acknowledged,
    Arrived,
    Asleep,
    ClientEvent,
    Down,
    Failed,
    Message,
    Up,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    _Handler = Callable[["Overheard", Any], None]

_REMEMBERED: Final = 16  # messages that are settled, and that may be repeated all the same
_PASSING: Final = frozenset({ReturnCode.CONGESTION, ReturnCode.INVALID_TOPIC_ID})  # it tries again


class Published(NamedTuple):
    """The device has handed over a message; Acknowledged or Failed has the same token."""

    token: int
    payload: bytes


OverheardEvent = Published | ClientEvent


class Overheard:
    """Both directions of one device's wire since it was switched on. Events as of a `Client`; in
    Arrived the topic is not known.
    """

    def __init__(self) -> None:
        self._ear = Overhearing()
        self._last: dict[Way, bytes] = {}  # the last frame that has a number, without its credit
        self._events: list[OverheardEvent] = []
        self._tokens = 0
        self._under_way: dict[int, int] = {}  # message id -> token
        self._settled: OrderedDict[int, None] = OrderedDict()  # message ids
        self._commands: dict[int, Publish] = {}  # that the device has not answered
        self._is_up = False
        self._is_clean = True
        self._is_dozing = False  # it has said that it will sleep

    def said(self, data: bytes) -> None:
        """The device has sent these bytes."""
        self._take(Way.FROM_DEVICE, data, _SAID)

    def heard(self, data: bytes) -> None:
        """These bytes have come to the device."""
        self._take(Way.TO_DEVICE, data, _HEARD)

    def take_events(self) -> list[OverheardEvent]:
        """Take what has happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    # ---- frames ----

    def _take(self, way: Way, data: bytes, handlers: Mapping[type, _Handler]) -> None:
        for frame in self._ear.receive(way, data):
            packet = self._packet(way, frame)
            handler = handlers.get(type(packet))
            if handler is not None:
                handler(self, packet)

    def _packet(self, way: Way, frame: Heard) -> object:
        """What a sound frame brings for the first time; None: nothing."""
        if frame.hello is not None:
            self._last.clear()
        body = frame.body
        if frame.check is not Check.SOUND or len(body) < HEADER_SIZE:
            return None
        if body[0] >> 5 != Channel.MQTT_SN or self._is_repeated(way, body):
            return None
        try:
            return decode(body[HEADER_SIZE:])
        except UnreadableError:
            return None

    def _is_repeated(self, way: Way, body: bytes) -> bool:
        """By the link: the same number, and the same packet."""
        if not body[0] & RELIABLE:
            return False
        frame = bytes((body[1] >> 4,)) + body[HEADER_SIZE:]
        is_same = self._last.get(way) == frame
        self._last[way] = frame
        return is_same

    # ---- what the device says ----

    def _on_connect(self, packet: Connect) -> None:
        self._is_clean, self._is_dozing = packet.flags.clean_session, False
        self._leave("the device connected anew")

    def _on_leaving(self, packet: Disconnect) -> None:
        self._is_dozing = bool(packet.duration)

    def _on_publish(self, packet: Publish) -> None:
        if packet.msg_id in self._under_way or (
            packet.flags.dup and packet.msg_id in self._settled
        ):
            return
        self._tokens += 1
        self._events.append(Published(self._tokens, packet.data))
        if packet.flags.qos > 0:
            self._under_way[packet.msg_id] = self._tokens
        else:
            self._events.append(Acknowledged(self._tokens))

    def _on_puback(self, packet: Puback) -> None:
        command = self._commands.pop(packet.msg_id, None)
        if command is not None and packet.return_code == ReturnCode.ACCEPTED:
            self._arrived(command)

    def _on_pubrec(self, packet: Pubrec) -> None:
        command = self._commands.pop(packet.msg_id, None)
        if command is not None:
            self._arrived(command)

    # ---- what it is told ----

    def _on_connack(self, packet: Connack) -> None:
        if packet.return_code != ReturnCode.ACCEPTED:
            self._events.append(Down("refused"))
        elif not self._is_up:
            self._is_up = True
            self._events.append(Up(session_present=not self._is_clean))

    def _on_acknowledged(self, packet: Puback | Pubcomp) -> None:
        code = packet.return_code if isinstance(packet, Puback) else ReturnCode.ACCEPTED
        if code in _PASSING or packet.msg_id not in self._under_way:
            return
        token = self._under_way.pop(packet.msg_id)
        self._settled[packet.msg_id] = None
        if len(self._settled) > _REMEMBERED:
            self._settled.popitem(last=False)
        is_taken = code == ReturnCode.ACCEPTED
        self._events.append(Acknowledged(token) if is_taken else Failed(token, "refused"))

    def _on_command(self, packet: Publish) -> None:
        if packet.flags.qos > 0:
            self._commands[packet.msg_id] = packet
        else:
            self._arrived(packet)

    def _on_goodbye(self, _: Disconnect) -> None:
        if self._is_dozing:
            self._is_dozing = self._is_up = False
            self._events.append(Asleep())
            return
        self._leave("the gateway had lost it")

    def _arrived(self, packet: Publish) -> None:
        self._events.append(Arrived(Message("", packet.data, packet.flags.qos)))

    def _leave(self, why: str) -> None:
        if self._is_up:
            self._is_up = False
            self._events.append(Down(why))


_SAID: Final[Mapping[type, _Handler]] = {
    Connect: Overheard._on_connect,
    Publish: Overheard._on_publish,
    Puback: Overheard._on_puback,
    Pubrec: Overheard._on_pubrec,
    Disconnect: Overheard._on_leaving,
}
_HEARD: Final[Mapping[type, _Handler]] = {
    Connack: Overheard._on_connack,
    Publish: Overheard._on_command,
    Puback: Overheard._on_acknowledged,
    Pubcomp: Overheard._on_acknowledged,
    Disconnect: Overheard._on_goodbye,
}
