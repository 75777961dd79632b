"""What a device asks about topics: REGISTER, SUBSCRIBE, UNSUBSCRIBE (sections 6.5, 6.9).

Rule kept here: an id goes to the device when it is kept, a SUBACK when the broker has answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridges.mqttsn.answers import REFUSED, is_filter, is_open, is_topic, return_code
from bridges.mqttsn.codes import Flags, ReturnCode, TopicIdType
from bridges.mqttsn.packets import Regack, Register, Suback, Subscribe, Unsuback, Unsubscribe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridges.mqttsn.outbound import Keep
    from bridges.mqttsn.packets import Packet
    from bridges.mqttsn.policy import Policy
    from bridges.mqttsn.ports import Session
    from bridges.mqttsn.topics import Topics


class Requests:
    """The requests of one device that the broker has not answered yet."""

    __slots__ = (
        *("_count", "_keep", "_policy", "_send", "_session", "_subscribing", "_topics"),
        "_unsubscribing",
    )

    def __init__(
        self,
        policy: Policy,
        topics: Topics,
        keep: Keep,
        send: Callable[[Packet], None],
        count: Callable[[str], None],
    ) -> None:
        self._policy = policy
        self._topics = topics
        self._keep = keep
        self._send = send
        self._count = count
        self._session: Session | None = None
        self._subscribing: dict[int, tuple[Subscribe, str]] = {}
        self._unsubscribing: dict[int, str] = {}

    def begin(self, session: Session, topics: Topics) -> None:
        """Another session: no answers will come for what went to the one before."""
        self._session = session
        self._topics = topics
        self._subscribing.clear()
        self._unsubscribing.clear()

    def register(self, packet: Register) -> None:
        """Give a topic its id."""
        if not is_topic(packet.topic, self._policy.max_topic_levels):
            self._refuse_registration(packet, ReturnCode.INVALID_TOPIC_ID)
            return
        topic_id = self._topics.register(packet.topic)
        if topic_id == 0:
            self._refuse_registration(packet, ReturnCode.CONGESTION)
            return
        self._announce(topic_id, packet.topic, Regack(topic_id, packet.msg_id, 0))

    def subscribe(self, packet: Subscribe) -> None:
        """Pass on a subscription whose filter is valid and, if it is a name, has an id or room."""
        topic_filter = self._filter(packet)
        code = self._objection(topic_filter, packet.msg_id)
        if code:
            self._count("subscription refused")
            self._send(Suback(packet.flags._replace(dup=False), 0, packet.msg_id, code))
        elif self._is_new(packet.msg_id, self._subscribing) and topic_filter is not None:
            self._subscribing[packet.msg_id] = (packet, topic_filter)
            self._broker.subscribe(packet.msg_id, topic_filter, packet.flags.qos)

    def unsubscribe(self, packet: Unsubscribe) -> None:
        """Pass it on; what cannot have been subscribed to is gone already."""
        topic_filter = self._filter(packet)
        if packet.msg_id == 0 or not is_filter(topic_filter, self._policy.max_topic_levels):
            self._send(Unsuback(packet.msg_id))
        elif self._is_new(packet.msg_id, self._unsubscribing) and topic_filter is not None:
            self._unsubscribing[packet.msg_id] = topic_filter
            self._broker.unsubscribe(packet.msg_id, topic_filter)

    # -- the broker's answers ---------------------------------------------------------------------

    def on_suback(self, msg_id: int, reason: int) -> None:
        """See Receiver."""
        packet, topic_filter = self._subscribing.pop(msg_id, (None, ""))
        if packet is None:
            return
        if reason >= REFUSED:
            self._count("subscription refused by the broker")
            self._send(Suback(Flags(), 0, msg_id, return_code(reason)))
            return
        granted = Flags(qos=min(reason, 2))
        if packet.flags.topic_id_type != TopicIdType.NORMAL:
            topic_id = packet.topic if isinstance(packet.topic, int) else 0
            self._send(Suback(granted, topic_id, msg_id, 0))
        elif is_open(topic_filter):
            self._send(Suback(granted, 0, msg_id, 0))
        else:
            topic_id = self._topics.register(topic_filter)
            self._announce(topic_id, topic_filter, Suback(granted, topic_id, msg_id, 0))

    def on_unsuback(self, msg_id: int) -> None:
        """See Receiver."""
        if self._unsubscribing.pop(msg_id, None) is not None:
            self._send(Unsuback(msg_id))

    # -- helpers ----------------------------------------------------------------------------------

    @property
    def _broker(self) -> Session:
        assert self._session is not None
        return self._session

    def _filter(self, packet: Subscribe | Unsubscribe) -> str | None:
        """The filter in full; None for a predefined id that nobody knows."""
        if isinstance(packet.topic, int):
            return self._topics.name(TopicIdType.PREDEFINED, packet.topic)
        return packet.topic

    def _objection(self, topic_filter: str | None, msg_id: int) -> int:
        """Why there can be no such subscription; 0 if there can."""
        if msg_id == 0:
            return ReturnCode.NOT_SUPPORTED
        if topic_filter is None or not is_filter(topic_filter, self._policy.max_topic_levels):
            return ReturnCode.INVALID_TOPIC_ID
        if not is_open(topic_filter) and not self._topics.has_room(topic_filter):
            return ReturnCode.CONGESTION
        return 0

    def _is_new(self, msg_id: int, waiting: Mapping[int, object]) -> bool:
        if msg_id in waiting:
            self._count("repeated by the device")
            return False
        if len(waiting) >= self._policy.max_requests:  # it will repeat it
            self._count("too many requests at once")
            return False
        return True

    def _announce(self, topic_id: int, topic: str, answer: Packet) -> None:
        """Answer with an id as soon as it is kept. A device that has started anew meanwhile may use
        the message id for another question.
        """
        topics, session = self._topics, self._session

        def kept() -> None:
            if self._session is not session:
                return
            if topic_id:
                topics.announced.add(topic_id)
            self._send(answer)

        if topic_id:
            self._keep(topic_id, topic, kept)
        else:  # others have taken the room meanwhile: it may be registered later, or never
            kept()

    def _refuse_registration(self, packet: Register, code: ReturnCode) -> None:
        self._count("registration refused")
        self._send(Regack(0, packet.msg_id, code))
