"""From the broker to one device: what is held, and the one exchange that may be open (sections 6.10
and 6.13).

Nothing is sent from here: `next_packet` is asked when the link has room, so what is not asked for
waits here, and what does not fit here waits in the broker. QoS 1 and 2 stay unanswered towards the
broker until the device has answered; QoS 0 is kept last value per topic while the link is shut.

    exchange   opened by             closed by            repeated until answered
    REGISTER   a name without an id  REGACK               yes
    PUBLISH    QoS 1 or 2            PUBACK, or PUBREC    yes, with DUP
    RELEASING  PUBREC                the broker's PUBREL  no: the broker's turn
    PUBREL     the broker's PUBREL   PUBCOMP              yes
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from bridges.mqttsn.codes import Flags, ReturnCode
from bridges.mqttsn.packets import Publish, Pubrel, Register

if TYPE_CHECKING:
    from bridges.mqttsn.packets import Packet, Puback, Regack
    from bridges.mqttsn.policy import Policy
    from bridges.mqttsn.ports import Message, Session
    from bridges.mqttsn.topics import TopicRef, Topics

_OVERHEAD = 100  # bytes that a message costs apart from its own
_MOST_REFUSALS = 2  # of one message, for its topic id
_LAST_MSG_ID = 0xFFFF
_SMOOTHING = 0.125  # what a new round trip weighs

# (topic id, topic, what to do when the registration is kept)
Keep = Callable[[int, str, Callable[[], None]], None]


class Kind(Enum):
    """What an exchange is about; see above."""

    REGISTER = "REGISTER"
    PUBLISH = "PUBLISH"
    RELEASING = "RELEASING"
    PUBREL = "PUBREL"


class Exchange:
    """One question to the device. `due` says that it is to be sent (again)."""

    __slots__ = ("due", "kind", "msg_id", "packet", "repeat_at", "sent_at", "topic", "tries")

    def __init__(self, kind: Kind, msg_id: int, packet: Packet | None, topic: str = "") -> None:
        self.kind = kind
        self.msg_id = msg_id
        self.packet = packet
        self.topic = topic
        self.due = packet is not None
        self.tries = 0
        self.sent_at = 0.0
        self.repeat_at: float | None = None


class Outbound:
    """The messages held for one device. `count` takes the name of what happened, `changed` is
    called when `next_packet` may have something that it had not.
    """

    __slots__ = (
        *(
            "_abandoned",
            "_assured",
            "_assured_ids",
            "_changed",
            "_count",
            "_exchange",
            "_is_holding",
            "_keep",
        ),
        *("_last_register", "_latest", "_policy", "_refusals", "_releases", "_serial", "_serials"),
        *("_longest", "_session", "_topics", "collected", "repeats", "round_trip", "size"),
    )

    def __init__(
        self,
        policy: Policy,
        topics: Topics,
        keep: Keep,
        count: Callable[[str], None],
        changed: Callable[[], None],
        longest: Callable[[], int],
    ) -> None:
        self._policy = policy
        self._longest = longest  # payload that the link takes now, in bytes
        self._topics = topics
        self._keep = keep
        self._count = count
        self._changed = changed
        self._session: Session | None = None
        self._exchange: Exchange | None = None
        self._assured: deque[Message] = deque()  # QoS 1 and 2; the first may be in the exchange
        self._assured_ids: set[int] = set()  # theirs: a 3.1.1 broker may send very many at once
        self._releases: dict[int, None] = {}
        self._abandoned: set[int] = set()  # QoS 2, never delivered, the broker's PUBREL to come
        self._latest: dict[int, Message] = {}  # QoS 0 by serial number
        self._serials: dict[str, int] = {}  # the newest of each topic
        self._serial = 0
        self._refusals = 0  # of the first of the assured
        self._last_register = 0
        self._is_holding = False
        self.size = 0  # bytes held, with what keeping them costs
        self.collected = 0  # messages since the device woke
        self.repeats = 0
        self.round_trip = 0.0  # seconds, smoothed

    # -- from the broker --------------------------------------------------------------------------

    def begin(self, session: Session, topics: Topics) -> None:
        """Another session: what the one before had sent is the broker's to send again."""
        self._session = session
        self._topics = topics
        self._exchange = None
        self._is_holding = False
        self._refusals = self.size = 0
        for _ in self._latest:
            self._count("QoS 0 lost with the session")
        for held in (self._assured, self._assured_ids, self._releases, self._latest):
            held.clear()
        self._serials.clear()
        self._abandoned.clear()

    def restart(self) -> None:
        """The device has started anew, or sleeps: what is open is asked again when it listens."""
        exchange = self._exchange
        self._exchange = None
        if exchange is None:
            return
        if exchange.kind is Kind.PUBREL:
            self._releases = {exchange.msg_id: None} | self._releases
        elif exchange.kind is Kind.PUBLISH:
            self._assured[0].dup = exchange.tries > 0 or self._assured[0].dup

    def add(self, message: Message, coalesce: bool) -> None:
        """Hold a message; `coalesce`: of QoS 0, the last of each topic is enough."""
        if message.qos:
            self._add_assured(message)
        else:
            self._add_latest(message, coalesce)

    def release(self, msg_id: int) -> None:
        """The broker's PUBREL."""
        exchange = self._exchange
        if msg_id in self._abandoned:
            self._abandoned.discard(msg_id)
            self._broker.pubcomp(msg_id)
        elif exchange is not None and exchange.kind is Kind.RELEASING:
            if exchange.msg_id == msg_id:
                self._exchange = Exchange(Kind.PUBREL, msg_id, Pubrel(msg_id))
            else:
                self._releases[msg_id] = None
        elif exchange is None or (exchange.kind, exchange.msg_id) != (Kind.PUBREL, msg_id):
            self._releases[msg_id] = None

    # -- towards the device -----------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the device is expected to answer, or the broker to go on."""
        return self._exchange is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is open and nothing waits."""
        return self._exchange is None and not (self._assured or self._releases or self._latest)

    def next_packet(self, now: float) -> Packet | None:
        """Take what is to be sent next."""
        if self._exchange is None:
            self._open()
        exchange = self._exchange
        if exchange is not None and exchange.due:
            return self._send(exchange, now)
        return self._next_latest()

    def next_deadline(self) -> float | None:
        """When the open exchange is to be repeated."""
        return self._exchange.repeat_at if self._exchange is not None else None

    def tick(self, now: float) -> bool:
        """Repeat what has no answer; False when it has been repeated N_retry times."""
        exchange = self._exchange
        if exchange is None or exchange.repeat_at is None or now < exchange.repeat_at:
            return True
        if exchange.tries > self._policy.n_retry:
            return False
        exchange.repeat_at = None
        exchange.due = True
        self._changed()
        return True

    # -- the device's answers ---------------------------------------------------------------------

    def on_regack(self, packet: Regack, now: float) -> None:
        """The device knows the name, or does not want to."""
        exchange = self._answered(Kind.REGISTER, packet.msg_id, now)
        if exchange is None:
            return
        if packet.return_code == ReturnCode.CONGESTION:
            self._wait(exchange, now)
            return
        self._exchange = None
        if packet.return_code == ReturnCode.ACCEPTED:
            self._topics.announced.add(self._topics.registered_id(exchange.topic))
        else:
            self._drop_topic(exchange.topic, "registration refused by the device")

    def on_puback(self, packet: Puback, now: float) -> None:
        """The device owns a message of QoS 1, or refuses one of any QoS."""
        if packet.return_code == ReturnCode.INVALID_TOPIC_ID:
            self._topics.announced.discard(packet.topic_id)
        if packet.msg_id == 0:  # of QoS 0, and gone
            self._count("refused by the device")
            return
        exchange = self._answered(Kind.PUBLISH, packet.msg_id, now)
        if exchange is None:
            return
        if packet.return_code == ReturnCode.CONGESTION:
            self._wait(exchange, now)
            return
        self._exchange = None
        self._settle(packet.return_code)

    def on_pubrec(self, msg_id: int, now: float) -> None:
        """The device owns a message of QoS 2."""
        exchange = self._exchange
        if exchange is not None and (exchange.kind, exchange.msg_id) == (Kind.PUBREL, msg_id):
            exchange.due = True  # it has not heard our answer
        elif self._assured and self._assured[0].qos == 2:
            if self._answered(Kind.PUBLISH, msg_id, now) is not None:
                self._take_assured()
                self._exchange = Exchange(Kind.RELEASING, msg_id, None)
                self._broker.pubrec(msg_id)
        else:
            self._count("stray answer")

    def on_pubcomp(self, msg_id: int, now: float) -> None:
        """The exchange of a QoS 2 message is complete."""
        if self._answered(Kind.PUBREL, msg_id, now) is not None:
            self._exchange = None
            self._broker.pubcomp(msg_id)

    # -- holding ----------------------------------------------------------------------------------

    @property
    def _broker(self) -> Session:
        assert self._session is not None
        return self._session

    def _add_assured(self, message: Message) -> None:
        """A broker that resumes a session repeats what has no answer yet."""
        exchange = self._exchange
        if message.msg_id in self._assured_ids:
            return
        if exchange is not None and (exchange.kind, exchange.msg_id) == (
            Kind.RELEASING,
            message.msg_id,
        ):
            self._broker.pubrec(message.msg_id)
            return
        self._assured.append(message)
        self._assured_ids.add(message.msg_id)
        self._grow(_cost(message))

    def _add_latest(self, message: Message, coalesce: bool) -> None:
        serial = self._serials.get(message.topic)
        if coalesce and serial is not None:
            self._count("QoS 0 replaced by a newer value")
            self.size -= _cost(self._latest[serial])
        else:
            self._serial += 1
            serial = self._serials[message.topic] = self._serial
        self._latest[serial] = message
        self._grow(_cost(message))
        while self.size > self._policy.device_bytes and self._latest:
            self._count("QoS 0 dropped: the device is too slow")
            self._pop_latest(next(iter(self._latest)))

    def _grow(self, size: int) -> None:
        """Beyond the budget, messages wait in the broker."""
        self.size += size
        if self.size > self._policy.device_bytes and not self._is_holding:
            self._is_holding = True
            self._broker.hold(True)

    def _shrink(self, size: int) -> None:
        self.size -= size
        if self._is_holding and self.size <= self._policy.device_bytes // 2:
            self._is_holding = False
            self._broker.hold(False)

    def _take_assured(self) -> Message:
        message = self._assured.popleft()
        self._assured_ids.discard(message.msg_id)
        self._refusals = 0
        self._shrink(_cost(message))
        return message

    def _pop_latest(self, serial: int) -> Message:
        message = self._latest.pop(serial)
        if self._serials.get(message.topic) == serial:
            del self._serials[message.topic]
        self._shrink(_cost(message))
        return message

    # -- sending ----------------------------------------------------------------------------------

    def _open(self) -> None:
        """Ask the next question, if there is one to ask."""
        if self._releases:
            msg_id = next(iter(self._releases))
            del self._releases[msg_id]
            self._exchange = Exchange(Kind.PUBREL, msg_id, Pubrel(msg_id))
        while self._exchange is None and (message := self._first()) is not None:
            ref = self._topics.ref(message.topic)
            if ref is None:
                self._register(message.topic)
            elif message.qos:
                packet = _publish(message, ref)
                self._exchange = Exchange(Kind.PUBLISH, message.msg_id, packet)
            else:
                return

    def _first(self) -> Message | None:
        """What the device cannot take is done with here: who it is, is known only now."""
        longest = self._longest()
        while self._assured and len(self._assured[0].payload) > longest:
            self._count("too large for the device")
            self._abandon(self._take_assured())
        if self._assured:
            return self._assured[0]
        return self._first_latest()

    def _first_latest(self) -> Message | None:
        longest = self._longest()
        while self._latest:
            serial, message = next(iter(self._latest.items()))
            if len(message.payload) <= longest:
                return message
            self._count("too large for the device")
            self._pop_latest(serial)
        return None

    def _register(self, topic: str) -> None:
        if len(topic.encode()) > self._longest():  # a REGISTER is a byte shorter than a PUBLISH
            self._drop_topic(topic, "topic too long for the device")
            return
        topic_id = self._topics.register(topic)
        if topic_id == 0:
            self._drop_topic(topic, "no room for another topic id")
            return
        self._last_register = msg_id = self._last_register % _LAST_MSG_ID + 1
        exchange = Exchange(Kind.REGISTER, msg_id, Register(topic_id, msg_id, topic), topic)
        exchange.due = False
        self._exchange = exchange

        def kept() -> None:
            exchange.due = True
            self._changed()

        self._keep(topic_id, topic, kept)

    def _send(self, exchange: Exchange, now: float) -> Packet | None:
        packet = exchange.packet
        exchange.due = False
        exchange.tries += 1
        exchange.sent_at = now
        exchange.repeat_at = now + self._policy.t_retry
        if exchange.tries > 1:
            self.repeats += 1
            if isinstance(packet, Publish):
                packet.flags = packet.flags._replace(dup=True)
        elif exchange.kind is Kind.PUBLISH:
            self.collected += 1
        return packet

    def _next_latest(self) -> Packet | None:
        """QoS 0 needs no exchange if its topic needs none."""
        message = self._first_latest()
        ref = self._topics.ref(message.topic) if message is not None else None
        if ref is None:
            return None
        self.collected += 1
        return _publish(self._pop_latest(next(iter(self._latest))), ref)

    # -- answers ----------------------------------------------------------------------------------

    def _answered(self, kind: Kind, msg_id: int, now: float) -> Exchange | None:
        """The open exchange, if this answers it."""
        exchange = self._exchange
        if (
            exchange is None
            or (exchange.kind, exchange.msg_id) != (kind, msg_id)
            or exchange.tries == 0
        ):
            self._count("stray answer")
            return None
        if exchange.tries == 1:  # else nobody knows which of them was answered
            trip = now - exchange.sent_at
            self.round_trip += (trip - self.round_trip) * (_SMOOTHING if self.round_trip else 1)
        return exchange

    def _wait(self, exchange: Exchange, now: float) -> None:
        """The device asks for time."""
        self._count("congestion in the device")
        exchange.due = False
        exchange.tries = 1
        exchange.repeat_at = now + self._policy.t_retry

    def _settle(self, code: int) -> None:
        """The device has answered the first of the assured with PUBACK."""
        if code == ReturnCode.INVALID_TOPIC_ID and self._refusals < _MOST_REFUSALS:
            self._refusals += 1  # it has forgotten the id
            return
        message = self._take_assured()
        if code != ReturnCode.ACCEPTED:
            self._count("refused by the device")
        self._abandon(message)

    def _abandon(self, message: Message) -> None:
        """Tell the broker that the message is done with."""
        if message.qos == 1:
            self._broker.puback(message.msg_id)
        elif message.qos == 2:
            self._abandoned.add(message.msg_id)
            self._broker.pubrec(message.msg_id)

    def _drop_topic(self, topic: str, why: str) -> None:
        """Nothing of this topic can be delivered."""
        if self._assured and self._assured[0].topic == topic:
            self._count(why)
            self._abandon(self._take_assured())
        for serial in [key for key, held in self._latest.items() if held.topic == topic]:
            self._count(why)
            self._pop_latest(serial)


def _cost(message: Message) -> int:
    return len(message.payload) + len(message.topic) + _OVERHEAD


def _publish(message: Message, ref: TopicRef) -> Publish:
    flags = Flags(message.dup, message.qos, message.retain, topic_id_type=ref.kind)
    return Publish(flags, ref.topic_id, message.msg_id, message.payload)
