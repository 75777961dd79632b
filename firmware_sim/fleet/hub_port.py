"""The hub's end of a wire, in virtual time: as much of a gateway as one device needs.

MQTT-SN 1.2 in any of the serial modes, or lines of text. It grants everything; the gateway with its
rules and its patience is the one in `bridges`, and has tests of its own.
"""

# ruff: noqa: ARG002 - one signature for all packets

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from bridges.mqttsn.codes import Flags, ReturnCode, TopicIdType
from bridges.mqttsn.decode import decode
from bridges.mqttsn.encode import encode
from bridges.mqttsn.errors import UnreadableError
from bridges.mqttsn.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Regack,
    Register,
    Suback,
    Subscribe,
)
from bridges.serial.events import Reading, Received
from bridges.serial.frames import Channel
from bridges.serial.link import Link, LinkSettings
from bridges.serial.modes import PacketStream, Slip, TextLines, Unframed
from firmware_sim.clients.client import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from bridges.serial.modes import SerialMachine
    from firmware_sim.fleet.hub import Hub

T_RETRY: Final = 5.0
_LAST_ID: Final = 0xFFFF
_MOST: Final = 1000  # messages for the device that wait


class HubPort:
    """An `End`: one device's port at the hub."""

    def __init__(self, hub: Hub, way: str, baud: int, rng: Random) -> None:
        self.wake: Callable[[], None] = lambda: None  # there is something to send
        self._hub = hub
        self._serial = _SERIALS[way](baud, rng)
        self._client_id = ""
        self._is_awake = False
        self._names: dict[int, str] = {}  # topic id -> name
        self._answers: deque[Packet] = deque()
        self._received: dict[int, Message] = {}  # QoS 2, not released
        self._waiting: deque[Message] = deque(maxlen=_MOST)
        self._asked: Publish | None = None  # a command that is not acknowledged
        self._again_at: float | None = None
        self._last_id = 0
        self._now = 0.0

    # ---- End ----

    def plugged(self, now: float) -> None:
        """See Machine."""
        self._serial.plugged(now)

    def receive(self, data: bytes, now: float) -> None:
        """See Machine."""
        self._take(self._serial.receive(data, now), now)

    def tick(self, now: float) -> None:
        """See Machine."""
        self._take(self._serial.tick(now), now)
        if self._again_at is not None and self._again_at <= now:
            self._ask_again(now)

    def next_deadline(self) -> float | None:
        """See Machine."""
        times = (self._serial.next_deadline(), self._again_at)
        return min((time for time in times if time is not None), default=None)

    def data_to_send(self) -> bytes:
        """See Machine."""
        parts = [self._serial.data_to_send()]
        while self._answers and self._serial.writable(Channel.MQTT_SN):
            packet = encode(self._answers.popleft())
            self._serial.send(Channel.MQTT_SN, packet, self._now)
            parts.append(self._serial.data_to_send())
        return b"".join(parts)

    # ---- Member ----

    def deliver(self, message: Message, now: float) -> None:
        """See Member."""
        self._waiting.append(message)
        self._offer(now)
        self.wake()

    def taken_over(self, now: float) -> None:
        """See Member."""
        self._is_awake = False
        self._answers.append(Disconnect())
        self.wake()

    # ---- from the device ----

    def _take(self, events: list[Any], now: float) -> None:
        self._now = now
        for event in events:
            if isinstance(event, Reading):
                self._hub.take("", Message(event.topic, event.value), now)
            elif isinstance(event, Received) and event.channel == Channel.MQTT_SN:
                self._packet(event.payload, now)

    def _packet(self, data: bytes, now: float) -> None:
        try:
            packet = decode(data)
        except UnreadableError:
            return
        _HANDLERS.get(type(packet), HubPort._ignore)(self, packet, now)

    def _ignore(self, packet: Any, now: float) -> None:
        """Nothing that has to be answered here."""

    def _on_connect(self, packet: Connect, now: float) -> None:
        self._client_id = packet.client_id
        self._is_awake = True
        self._asked = self._again_at = None
        if packet.flags.clean_session:
            self._names.clear()
        durable = not packet.flags.clean_session
        self._answers.append(Connack(ReturnCode.ACCEPTED))
        self._hub.join(packet.client_id, self, now, durable=durable)
        self._offer(now)

    def _on_register(self, packet: Register, _now: float) -> None:
        topic_id = self._number(packet.topic)
        self._answers.append(Regack(topic_id, packet.msg_id, ReturnCode.ACCEPTED))

    def _on_publish(self, packet: Publish, now: float) -> None:
        name = self._name(packet)
        if name is None:
            refusal = Puback(packet.topic_id, packet.msg_id, ReturnCode.INVALID_TOPIC_ID)
            self._answers.append(refusal)
            return
        qos = packet.flags.qos
        message = Message(name, packet.data, max(qos, 0))
        if qos == 2:
            self._on_publish_2(packet, message, now)
            return
        self._hub.take(self._client_id, message, now)
        if qos == 1:
            self._answers.append(Puback(packet.topic_id, packet.msg_id, ReturnCode.ACCEPTED))

    def _on_publish_2(self, packet: Publish, message: Message, now: float) -> None:
        if packet.msg_id not in self._received:
            self._received[packet.msg_id] = message
            self._hub.take(self._client_id, message, now)
        self._answers.append(Pubrec(packet.msg_id))

    def _on_pubrel(self, packet: Pubrel, _now: float) -> None:
        message = self._received.pop(packet.msg_id, None)
        if message is not None:
            self._hub.complete(self._client_id, message)
        self._answers.append(Pubcomp(packet.msg_id))

    def _on_subscribe(self, packet: Subscribe, _now: float) -> None:
        if not isinstance(packet.topic, str):
            return
        self._hub.subscribe(self._client_id, packet.topic)
        topic_id = self._number(packet.topic)
        self._answers.append(Suback(Flags(qos=1), topic_id, packet.msg_id, ReturnCode.ACCEPTED))

    def _on_puback(self, packet: Puback, now: float) -> None:
        if self._asked is not None and packet.msg_id == self._asked.msg_id:
            self._asked = self._again_at = None
            self._offer(now)

    def _on_pingreq(self, packet: Pingreq, now: float) -> None:
        if packet.client_id and self._waiting:
            self._is_awake = True
            self._offer(now)
            self._is_awake = False
        self._answers.append(Pingresp())

    def _on_disconnect(self, packet: Disconnect, _now: float) -> None:
        self._is_awake = False
        self._again_at = None
        if packet.duration is None:
            self._hub.leave(self._client_id, self)
        self._answers.append(Disconnect())

    # ---- to the device ----

    def _offer(self, now: float) -> None:
        if self._asked is not None or not self._waiting or not self._is_awake:
            return
        message = self._waiting.popleft()
        self._last_id = self._last_id % _LAST_ID + 1
        flags = Flags(qos=1)
        self._asked = Publish(flags, self._number(message.topic), self._last_id, message.payload)
        self._answers.append(self._asked)
        self._again_at = now + T_RETRY

    def _ask_again(self, now: float) -> None:
        self._again_at = None
        if self._asked is not None and self._is_awake:
            self._asked.flags = self._asked.flags._replace(dup=True)
            self._answers.append(self._asked)
            self._again_at = now + T_RETRY

    def _number(self, topic: str) -> int:
        for topic_id, name in self._names.items():
            if name == topic:
                return topic_id
        self._names[len(self._names) + 1] = topic
        return len(self._names)

    def _name(self, packet: Publish) -> str | None:
        if packet.flags.topic_id_type == TopicIdType.SHORT:
            return packet.topic_id.to_bytes(2, "big").decode("ascii", "replace")
        return self._names.get(packet.topic_id)


def _framed(baud: int, rng: Random) -> SerialMachine:
    return Link(LinkSettings(uid=b"hub", rate=baud / 10), rng)


_SERIALS: Final[Mapping[str, Callable[[int, Random], SerialMachine]]] = {
    "framed": _framed,
    "raw": lambda _baud, _rng: Unframed(PacketStream()),
    "slip": lambda _baud, _rng: Unframed(Slip()),
    "text": lambda _baud, _rng: Unframed(TextLines()),
}
_HANDLERS: Final[Mapping[type, Callable[[HubPort, Any, float], None]]] = {
    Connect: HubPort._on_connect,
    Register: HubPort._on_register,
    Publish: HubPort._on_publish,
    Pubrel: HubPort._on_pubrel,
    Subscribe: HubPort._on_subscribe,
    Puback: HubPort._on_puback,
    Pingreq: HubPort._on_pingreq,
    Disconnect: HubPort._on_disconnect,
}
