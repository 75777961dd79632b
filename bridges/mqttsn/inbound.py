"""From one device to the broker: its messages of QoS 1 and 2 that are under way (section 6.6).

The device's message ids are those of the session, so a message repeated after a restart of the
gateway is known to the broker. Rule kept here: the device hears PUBACK or PUBREC when the broker
has said so, never before. A device that has started anew may use an id again for another
message: it is told apart by its content, and its answer is not that of the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridges.mqttsn.answers import REFUSED, return_code
from bridges.mqttsn.codes import ReturnCode
from bridges.mqttsn.packets import Puback, Pubcomp, Pubrec
from bridges.mqttsn.ports import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.mqttsn.packets import Packet, Publish
    from bridges.mqttsn.policy import Policy
    from bridges.mqttsn.ports import Session


class UnderWay:
    """A message that the broker has not answered. `is_wanted`: nor has the device moved on."""

    __slots__ = ("content", "is_wanted", "topic_id")

    def __init__(self, packet: Publish) -> None:
        self.topic_id = packet.topic_id
        self.content = _content(packet)
        self.is_wanted = True


class Inbound:
    """What the broker has not answered yet, and QoS 2 messages that are not released yet."""

    __slots__ = ("_count", "_policy", "_publishing", "_received", "_releasing", "_send", "_session")

    def __init__(
        self, policy: Policy, send: Callable[[Packet], None], count: Callable[[str], None]
    ) -> None:
        self._policy = policy
        self._send = send
        self._count = count
        self._session: Session | None = None
        self._publishing: dict[int, UnderWay] = {}
        self._received: dict[int, int] = {}  # content by msg_id
        self._releasing: dict[int, bool] = {}  # whether the device has asked for it

    def begin(self, session: Session) -> None:
        """Another session: no answers will come for what went to the one before."""
        self._session = session
        self._publishing.clear()
        self._received.clear()
        self._releasing.clear()

    def publish(self, packet: Publish, topic: str) -> None:
        """Pass on a message whose topic is valid; of QoS -1 as QoS 0."""
        flags = packet.flags
        if flags.qos <= 0:  # [MQTT-3.3.1-2]: never DUP
            self._broker.publish(Message(topic, packet.data, 0, flags.retain))
        elif self._is_new(packet):
            self._broker.publish(
                Message(topic, packet.data, flags.qos, flags.retain, packet.msg_id, flags.dup)
            )

    def pubrel(self, msg_id: int) -> None:
        """The device lets go of a QoS 2 message."""
        if msg_id in self._releasing:
            self._count("repeated by the device")
            self._releasing[msg_id] = True
            return
        self._release(msg_id, asked=True)

    # -- the broker's answers ---------------------------------------------------------------------

    def on_puback(self, msg_id: int, reason: int) -> None:
        """See Receiver."""
        sent = self._publishing.pop(msg_id, None)
        if sent is not None and sent.is_wanted:
            self._answer(msg_id, sent.topic_id, return_code(reason))

    def on_pubrec(self, msg_id: int, reason: int) -> None:
        """See Receiver."""
        sent = self._publishing.pop(msg_id, None)
        if sent is None:
            return
        if reason >= REFUSED:
            if sent.is_wanted:
                self._answer(msg_id, sent.topic_id, return_code(reason))
        elif sent.is_wanted:
            self._received[msg_id] = sent.content
            self._send(Pubrec(msg_id))
        else:
            self._release(msg_id)

    def on_pubcomp(self, msg_id: int) -> None:
        """See Receiver."""
        if self._releasing.pop(msg_id, False):
            self._send(Pubcomp(msg_id))

    # -- helpers ----------------------------------------------------------------------------------

    @property
    def _broker(self) -> Session:
        assert self._session is not None
        return self._session

    def _is_new(self, packet: Publish) -> bool:
        """Whether the message is to go to the broker; notes that it is under way."""
        if packet.msg_id in self._publishing:
            self._repeated(packet, self._publishing[packet.msg_id])
            return False
        if packet.flags.qos == 2 and packet.msg_id in self._received:
            if self._received[packet.msg_id] == _content(packet):
                self._count("repeated by the device")
                self._send(Pubrec(packet.msg_id))
                return False
            self._release(packet.msg_id)  # it was of the device's life before
        if len(self._publishing) >= self._policy.max_requests:  # it will repeat it
            self._count("too many messages at once")
            return False
        self._publishing[packet.msg_id] = UnderWay(packet)
        self._make_room()
        return True

    def _repeated(self, packet: Publish, sent: UnderWay) -> None:
        """The answer will come; if it is not for this message, it is for nobody."""
        self._count("repeated by the device")
        if sent.content != _content(packet):
            sent.is_wanted = False

    def _make_room(self) -> None:
        """A device with so many new messages has given up on the old ones: the broker has them."""
        while len(self._received) >= self._policy.max_requests:
            self._release(next(iter(self._received)))

    def _release(self, msg_id: int, asked: bool = False) -> None:
        self._received.pop(msg_id, None)
        if len(self._releasing) >= 2 * self._policy.max_requests:  # the device will repeat it
            self._count("too many messages at once")
        elif msg_id not in self._releasing:
            self._releasing[msg_id] = asked
            self._broker.pubrel(msg_id)

    def _answer(self, msg_id: int, topic_id: int, code: ReturnCode) -> None:
        if code != ReturnCode.ACCEPTED:
            self._count("refused by the broker")
        self._send(Puback(topic_id, msg_id, code))


def _content(packet: Publish) -> int:
    return hash((packet.topic_id, packet.flags.topic_id_type, packet.flags.qos, packet.data))
