"""A device that speaks MQTT-SN 1.2: a machine for datagrams, over UDP or whatever carries them.

It drives towards what its application wants (`Want`); a connection that is lost is set up again for
ever, and nothing that was taken is dropped for it. One question is open at a time, and as many
messages as the window allows.

    state        means                                            is left by
    off          nothing is wanted, or goodbye was said           `connect`, `sleep`
    connecting   CONNECT is out, perhaps the will is being asked  CONNACK
    resting      no gateway answers, or it is congested           its time
    active       connected                                        DISCONNECT, silence
    asleep       the gateway keeps what comes                     `wake`, `connect`, its time
    awake        PINGREQ is out, messages are coming              PINGRESP
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from bridges.mqttsn.codes import NO_CONNECTION, Flags, ReturnCode, TopicIdType
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
    WillMsg,
    WillMsgReq,
    WillTopic,
    WillTopicReq,
)
from firmware_sim.clients.client import (
    Acknowledged,
    Arrived,
    Asleep,
    ClientEvent,
    Collected,
    Down,
    Message,
    Up,
)
from firmware_sim.clients.publishing import Publishing
from firmware_sim.clients.topics import Ref, Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random

_PING_EARLY: Final = 0.9  # of the keep-alive
_MOST_ANSWERS: Final = 64  # that wait for the wire
_MOST_RECEIVED: Final = 64  # QoS 2, not released yet
_LAST_ID: Final = 0xFFFF
_PUBLISH_HEAD: Final = 9  # bytes, with the longer form of the length
_LONGEST: Final = 65_535  # bytes of a datagram


class Want(Enum):
    """What the application wants."""

    OFF = "off"
    UP = "up"
    SLEEP = "sleep"


class State(Enum):
    """Where the device stands; see above."""

    OFF = "off"
    CONNECTING = "connecting"
    RESTING = "resting"
    ACTIVE = "active"
    ASLEEP = "asleep"
    AWAKE = "awake"


_REACHED: Final = frozenset({State.ACTIVE, State.ASLEEP, State.AWAKE})


@dataclass(frozen=True, slots=True)
class SnSettings:
    """Who the device is and how patient; times in seconds (names of section 7.2)."""

    client_id: str
    clean_session: bool = True
    keep_alive: int = 60
    will: Message | None = None
    predefined: Mapping[str, int] = field(default_factory=dict)  # topic -> id
    t_retry: float = 10.0
    n_retry: int = 4
    t_wait: float = 300.0  # after "congestion", and the longest rest between two CONNECTs
    window: int = 1  # messages of QoS 1 and 2 that may be unanswered
    queue: int = 16  # messages that may wait
    topics: int = 64  # registered
    publish_asleep: bool = True  # sleeping devices publish without a CONNECT


class Question:
    """What the device wants to know, and until when it waits for the answer."""

    __slots__ = ("again_at", "kind", "msg_id", "packet", "topic", "tries")

    def __init__(self, packet: Packet, msg_id: int = 0, topic: str = "") -> None:
        self.packet = packet
        self.kind = type(packet)
        self.msg_id = msg_id
        self.topic = topic
        self.tries = 0
        self.again_at: float | None = None  # None: to be sent


class SnClient:
    """One device. `longest` is how long a datagram may be, and its carrier's to set."""

    def __init__(self, settings: SnSettings, rng: Random) -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter()
        self.state = State.OFF
        self.longest = _LONGEST
        self._rng = rng
        self._want = Want.OFF
        self._topics = Topics(settings.predefined, settings.topics)
        self.now = 0.0  # when something was last said to the device
        self._events: list[ClientEvent] = []
        self._publishing = Publishing(
            self._topics,
            self._events.append,
            most=settings.queue,
            window=settings.window,
            first_id=rng.randint(1, _LAST_ID),
        )
        self._answers: deque[Packet] = deque()
        self._question: Question | None = None
        self._subscriptions: dict[str, int] = {}  # topic filter -> QoS
        self._unsubscribed: dict[str, None] = {}  # those that the gateway is not told of yet
        self._received: dict[int, None] = {}  # QoS 2 that the gateway has not released yet
        self._last_id = rng.randint(1, _LAST_ID)
        self._duration = 0.0  # of the sleep
        self._heard_at = self._said_at = 0.0
        self._pings = 0  # without an answer
        self._ping_again_at = 0.0
        self._rest_until = 0.0
        self._failures = 0  # to connect, in a row
        self._sleep_until = 0.0
        self._must_wake = False
        self._is_kept = False  # the session sleeps, and the next CONNECT goes on with it

    # -- Client -----------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether the gateway has accepted the device, and it is awake."""
        return self.state is State.ACTIVE

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be said or answered."""
        return not (self._publishing or self._answers or self._question or self._unsubscribed)

    @property
    def repeats(self) -> int:
        """Messages that went again."""
        return self._publishing.repeats

    def connect(self, now: float) -> None:
        """See Client."""
        self.now = now
        self._want = Want.UP
        self._must_wake = False
        if self.state is State.OFF:
            self._begin(now)

    def publish(self, message: Message, token: int, now: float) -> bool:
        """See Client. QoS -1 needs a predefined topic, or one of two bytes."""
        self.now = now
        if not self._publishing.has_room or not self._fits(message):
            return False
        if message.qos == NO_CONNECTION:
            return self._publish_unconnected(message, token)
        self._publishing.add(message, token)
        return True

    def subscribe(self, topic_filter: str, qos: int, now: float) -> None:
        """See Client."""
        self.now = now
        if len(self._subscriptions) >= self.settings.topics:
            raise ValueError(f"more than {self.settings.topics} subscriptions")
        self._subscriptions[topic_filter] = qos
        self._unsubscribed[topic_filter] = None

    def sleep(self, duration: float, now: float) -> None:
        """See Client. What was published goes out and is answered before."""
        self.now = now
        self._want = Want.SLEEP
        self._duration = min(max(duration, 1.0), float(_LAST_ID))
        if self.state is State.OFF:
            self._begin(now)

    def wake(self, now: float) -> None:
        """See Client."""
        self.now = now
        self._must_wake = self._want is Want.SLEEP

    def disconnect(self, now: float) -> None:
        """See Client. What was published goes out and is answered before."""
        self.now = now
        self._want = Want.OFF
        if self.state not in _REACHED:
            self._go_off()

    def take_events(self) -> Sequence[ClientEvent]:
        """See Client."""
        events = self._events.copy()
        self._events.clear()
        return events

    # -- the machine's verbs ----------------------------------------------------------------------

    def receive_datagram(self, data: bytes, now: float) -> None:
        """A message of the gateway; what cannot be read is counted."""
        self.now = self._heard_at = now
        try:
            packet = decode(data)
        except UnreadableError as error:
            self.counts[f"unreadable: {error.what}"] += 1
            return
        handler = _HANDLERS.get(type(packet))
        if handler is None or (self.state not in _REACHED and type(packet) not in _ANY_TIME):
            self.counts["out of turn"] += 1
            return
        handler(self, packet, now)

    def datagrams(self, now: float, room: int = 1000) -> list[bytes]:
        """Take what goes out now, at most `room` datagrams."""
        taken: list[bytes] = []
        while len(taken) < room and (packet := self._next_packet(now)) is not None:
            taken.append(encode(packet))
            self._said_at = now
        return taken

    def next_deadline(self) -> float | None:
        """When to tick, if ever; what waits to be sent has none."""
        times = [self._question.again_at if self._question else None]
        if self._may_publish:
            times.append(self._publishing.next_deadline())
        if self.state is State.ACTIVE:
            times.append(self._ping_at())
        elif self.state is State.ASLEEP:
            times.append(self._sleep_until)
        elif self.state is State.RESTING:
            times.append(self._rest_until)
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float) -> None:
        """The deadline has come."""
        self.now = now
        question = self._question
        if question is not None and question.again_at is not None and now >= question.again_at:
            self._on_unanswered(question, now)
        elif self._publishing.most_tries() > self.settings.n_retry and self._is_late(now):
            self._lose("the gateway does not answer a message", now)
        elif self.state in _ON_TICK:
            _ON_TICK[self.state](self, now)

    def forget_gateway(self, why: str, now: float) -> None:
        """The carrier knows that the gateway has started anew, or is away: connect again."""
        if self.state in {State.RESTING, State.CONNECTING}:
            self._begin(now)
        elif self.state is not State.OFF:
            self._lose(why, now)
            self._begin(now)

    def be_patient(self, now: float) -> None:
        """Answers could not come until now, and still may: begin to wait anew."""
        until = now + self.settings.t_retry
        if self._question is not None and self._question.again_at is not None:
            self._question.again_at = max(self._question.again_at, until)
        self._publishing.be_patient(until)
        self._heard_at = self._said_at = now
        self._pings = 0

    def fit(self, longest: int) -> None:
        """A datagram may have so many bytes; what was taken and is longer fails."""
        self.longest = longest
        self._publishing.drop_larger(self._fits)

    # -- what goes out ----------------------------------------------------------------------------

    def _next_packet(self, now: float) -> Packet | None:
        if self._answers:
            return self._answers.popleft()
        if self._question is None:
            self._question = self._next_question()
        question = self._question
        if question is not None and (packet := self._ask(question, now)) is not None:
            return packet
        if self._may_publish:
            return self._publishing.next_packet(now, self.settings.t_retry)
        return None

    def _ask(self, question: Question, now: float) -> Packet | None:
        if question.again_at is not None:
            return None
        question.tries += 1
        question.again_at = now + self.settings.t_retry
        return question.packet

    @property
    def _may_publish(self) -> bool:
        is_asleep = self.state is State.ASLEEP and self.settings.publish_asleep
        return self.state is State.ACTIVE or is_asleep

    def _next_question(self) -> Question | None:
        """What must be settled before anything else is said."""
        if self.state is State.ACTIVE:
            return self._to_subscribe() or self._to_register() or self._to_leave()
        if self.state is not State.ASLEEP:
            return None
        if self._want is not Want.SLEEP:
            return self._to_rise()
        if self._publishing and self._may_publish:
            return self._to_register()
        if self._must_wake:
            self._must_wake = False
            self.state = State.AWAKE
            return Question(Pingreq(self.settings.client_id))
        return None

    def _to_rise(self) -> Question:
        if self._want is Want.OFF:
            return Question(Disconnect())
        self.state = State.CONNECTING
        return self._to_connect()

    def _to_connect(self) -> Question:
        settings = self.settings
        flags = Flags(will=settings.will is not None, clean_session=settings.clean_session)
        return Question(Connect(flags, settings.keep_alive, settings.client_id))

    def _to_subscribe(self) -> Question | None:
        if not self._unsubscribed:
            return None
        topic_filter = next(iter(self._unsubscribed))
        qos = self._subscriptions[topic_filter]
        msg_id = self._next_id()
        ref = self._topics.ref(topic_filter)
        if ref is not None and ref.kind == TopicIdType.PREDEFINED:
            packet = Subscribe(Flags(qos=qos, topic_id_type=ref.kind), msg_id, ref.topic_id)
        else:
            kind = TopicIdType.SHORT if ref and ref.kind == TopicIdType.SHORT else 0
            packet = Subscribe(Flags(qos=qos, topic_id_type=kind), msg_id, topic_filter)
        return Question(packet, msg_id, topic_filter)

    def _to_register(self) -> Question | None:
        topic = self._publishing.unnamed()
        if topic is None:
            return None
        msg_id = self._next_id()
        return Question(Register(0, msg_id, topic), msg_id, topic)

    def _to_leave(self) -> Question | None:
        if self._want is Want.UP or self._publishing:
            return None
        if self._want is Want.OFF:
            return Question(Disconnect())
        return Question(Disconnect(int(self._duration)))

    def _send(self, packet: Packet) -> None:
        if len(self._answers) >= _MOST_ANSWERS:
            self.counts["answer dropped"] += 1
        else:
            self._answers.append(packet)

    # -- coming and going -------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        self.state = State.CONNECTING
        self._question = self._to_connect()
        self._answers.clear()
        self._rest_until = now

    def _go_off(self) -> None:
        self.state = State.OFF
        self._question = None
        self._is_kept = False

    def _lose(self, why: str, now: float) -> None:
        """The gateway is gone, or has forgotten us."""
        self.counts[f"lost: {why}"] += 1
        self._is_kept = False
        if self._want is Want.OFF:
            self._go_off()
            return
        self._events.append(Down(why))
        self._begin(now)

    def _rest(self, now: float, seconds: float) -> None:
        """Try again later; by chance a little earlier than all the others."""
        self.state = State.RESTING
        self._question = None
        self._is_kept = False
        self._rest_until = now + seconds * (0.75 + 0.25 * self._rng.random())

    def _on_unanswered(self, question: Question, now: float) -> None:
        if question.tries <= self.settings.n_retry:
            question.again_at = None
            return
        if question.kind is not Connect:
            self._question = None
            self._lose(f"no answer to {question.kind.__name__.upper()}", now)
            return
        self._failures += 1
        settings = self.settings
        self._rest(now, min(settings.t_retry * 2.0 ** min(self._failures, 10), settings.t_wait))

    def _on_connack(self, packet: Connack, now: float) -> None:
        if self._question is None or self._question.kind is not Connect:
            return
        if packet.return_code != ReturnCode.ACCEPTED:
            self._events.append(Down(f"refused: {_words(packet.return_code)}"))
            self._rest(now, self.settings.t_wait)
            return
        self._question = None
        self._failures = self._pings = 0
        self.state = State.ACTIVE
        self._publishing.restart()
        if not self._is_kept:
            self._topics.clear()
            self._unsubscribed = dict.fromkeys(self._subscriptions)
        if self.settings.clean_session:
            self._received.clear()
        self._events.append(Up(self._is_kept))
        self._is_kept = False

    def _on_willtopicreq(self, _packet: WillTopicReq, now: float) -> None:
        will = self.settings.will
        if self._is_asked(Connect, now) and will is not None:
            self._send(WillTopic(Flags(qos=will.qos, retain=will.retain), will.topic))

    def _on_willmsgreq(self, _packet: WillMsgReq, now: float) -> None:
        will = self.settings.will
        if self._is_asked(Connect, now) and will is not None:
            self._send(WillMsg(will.payload))

    def _on_disconnect(self, _packet: Disconnect, now: float) -> None:
        question = self._question
        if question is None or question.kind is not Disconnect:
            if self.state in _REACHED:
                self._lose("the gateway has closed the connection", now)
            return
        self._question = None
        if isinstance(question.packet, Disconnect) and question.packet.duration:
            self._fall_asleep(now)
            self._events.append(Asleep())
        else:
            self._go_off()

    def _fall_asleep(self, now: float) -> None:
        self.state = State.ASLEEP
        self._is_kept = not self.settings.clean_session
        self._sleep_until = now + self._duration

    # -- signs of life ----------------------------------------------------------------------------

    def _ping_at(self) -> float | None:
        """When a sign of life is due: from us, or from a gateway that has long said nothing."""
        if self._pings:
            return self._ping_again_at
        keep_alive = self.settings.keep_alive
        return min(self._heard_at, self._said_at) + keep_alive * _PING_EARLY if keep_alive else None

    def _tick_active(self, now: float) -> None:
        ping_at = self._ping_at()
        if ping_at is None or now < ping_at:
            return
        if self._pings > self.settings.n_retry:
            self._lose("no answer to PINGREQ", now)
            return
        self._pings += 1
        self._ping_again_at = now + self.settings.t_retry
        self._send(Pingreq())

    def _tick_asleep(self, now: float) -> None:
        """Sleep is over, and nobody has woken the device: it must not be taken for lost."""
        if now >= self._sleep_until:
            self._sleep_until = now + self._duration
            self._must_wake = True

    def _tick_resting(self, now: float) -> None:
        if now >= self._rest_until:
            self._begin(now)

    def _on_pingreq(self, _packet: Pingreq, _now: float) -> None:
        self._send(Pingresp())

    def _on_pingresp(self, _packet: Pingresp, now: float) -> None:
        self._pings = 0
        if self.state is State.AWAKE:
            self._question = None
            self._fall_asleep(now)
            self._events.append(Collected())

    # -- topics -----------------------------------------------------------------------------------

    def _on_regack(self, packet: Regack, now: float) -> None:
        question = self._answered(Register, packet.msg_id)
        if question is None:
            return
        if packet.return_code == ReturnCode.ACCEPTED:
            if not self._topics.learn(packet.topic_id, question.topic):
                self._publishing.fail_topic(question.topic, "no room for another topic")
        elif packet.return_code == ReturnCode.CONGESTION:
            self._ask_later(question, now)
        else:
            self._publishing.fail_topic(question.topic, _words(packet.return_code))

    def _on_register(self, packet: Register, now: float) -> None:
        self._go_on_waiting(now)
        is_known = self._topics.learn(packet.topic_id, packet.topic)
        code = ReturnCode.ACCEPTED if is_known else ReturnCode.CONGESTION
        self._send(Regack(packet.topic_id, packet.msg_id, code))

    def _on_suback(self, packet: Suback, now: float) -> None:
        question = self._answered(Subscribe, packet.msg_id)
        if question is None:
            return
        if packet.return_code == ReturnCode.CONGESTION:
            self._ask_later(question, now)
            return
        self._unsubscribed.pop(question.topic, None)
        if packet.return_code != ReturnCode.ACCEPTED:
            self.counts["subscription refused"] += 1
        elif packet.topic_id:
            self._topics.learn(packet.topic_id, question.topic)

    # -- messages ---------------------------------------------------------------------------------

    def _on_puback(self, packet: Puback, now: float) -> None:
        code, msg_id = packet.return_code, packet.msg_id
        if code == ReturnCode.ACCEPTED:
            self._publishing.acknowledged(msg_id)
        elif code == ReturnCode.INVALID_TOPIC_ID:
            self._topics.forget(packet.topic_id)
            self._publishing.unknown_topic(msg_id)
        elif code == ReturnCode.CONGESTION:
            self._publishing.postponed(msg_id, now + self.settings.t_wait)
        else:
            self._publishing.refused(msg_id, f"refused: {_words(code)}")

    def _on_pubrec(self, packet: Pubrec, _now: float) -> None:
        self._publishing.received(packet.msg_id)

    def _on_pubcomp(self, packet: Pubcomp, _now: float) -> None:
        self._publishing.acknowledged(packet.msg_id)

    def _on_publish(self, packet: Publish, now: float) -> None:
        self._go_on_waiting(now)
        flags, msg_id = packet.flags, packet.msg_id
        topic = self._topics.name(Ref(TopicIdType(flags.topic_id_type), packet.topic_id))
        if topic is None:
            self._send(Puback(packet.topic_id, msg_id, ReturnCode.INVALID_TOPIC_ID))
        elif flags.qos < 2:
            self._arrived(topic, packet)
            if flags.qos == 1:
                self._send(Puback(packet.topic_id, msg_id, ReturnCode.ACCEPTED))
        elif self._is_held(topic, packet):
            self._send(Pubrec(msg_id))

    def _is_held(self, topic: str, packet: Publish) -> bool:
        """Take a QoS 2 message once; False: there is no room to remember it, so it comes again."""
        if packet.msg_id in self._received:
            return True
        if len(self._received) >= _MOST_RECEIVED:
            self.counts["QoS 2 put off"] += 1
            return False
        self._received[packet.msg_id] = None
        self._arrived(topic, packet)
        return True

    def _on_pubrel(self, packet: Pubrel, now: float) -> None:
        self._go_on_waiting(now)
        self._received.pop(packet.msg_id, None)
        self._send(Pubcomp(packet.msg_id))

    def _arrived(self, topic: str, packet: Publish) -> None:
        message = Message(topic, packet.data, packet.flags.qos, packet.flags.retain)
        self._events.append(Arrived(message))

    # -- helpers ----------------------------------------------------------------------------------

    def _publish_unconnected(self, message: Message, token: int) -> bool:
        ref = self._topics.ref(message.topic)
        if ref is None or ref.kind == TopicIdType.NORMAL or len(self._answers) >= _MOST_ANSWERS:
            return False
        flags = Flags(qos=NO_CONNECTION, retain=message.retain, topic_id_type=ref.kind)
        self._answers.append(Publish(flags, ref.topic_id, 0, message.payload))
        self._events.append(Acknowledged(token))
        return True

    def _fits(self, message: Message) -> bool:
        topic = len(message.topic.encode()) if self._topics.ref(message.topic) is None else 0
        return _PUBLISH_HEAD + max(len(message.payload), topic) <= self.longest

    def _answered(self, kind: type, msg_id: int) -> Question | None:
        question = self._question
        if question is None or question.kind is not kind or question.msg_id != msg_id:
            return None
        self._question = None
        return question

    def _ask_later(self, question: Question, now: float) -> None:
        question.tries = 0
        question.again_at = now + self.settings.t_wait
        self._question = question

    def _is_asked(self, kind: type, now: float) -> bool:
        """Whether such a question is open; then the gateway is at it."""
        if self._question is None or self._question.kind is not kind:
            return False
        self._question.again_at = now + self.settings.t_retry
        return True

    def _go_on_waiting(self, now: float) -> None:
        """Messages are coming: PINGRESP comes when they are through."""
        if self.state is State.AWAKE and self._is_asked(Pingreq, now):
            assert self._question is not None
            self._question.tries = 1

    def _is_late(self, now: float) -> bool:
        deadline = self._publishing.next_deadline()
        return self._may_publish and deadline is not None and now >= deadline

    def _next_id(self) -> int:
        self._last_id = self._last_id % _LAST_ID + 1
        return self._last_id


def _words(code: int) -> str:
    try:
        return ReturnCode(code).name.lower().replace("_", " ")
    except ValueError:
        return f"return code {code}"


_ON_TICK: Final[dict[State, Callable[[SnClient, float], None]]] = {
    State.ACTIVE: SnClient._tick_active,
    State.ASLEEP: SnClient._tick_asleep,
    State.RESTING: SnClient._tick_resting,
}
_ANY_TIME: Final[frozenset[type]] = frozenset({Connack, WillTopicReq, WillMsgReq})
_HANDLERS: Final[dict[type, Callable[[SnClient, Any, float], None]]] = {
    Connack: SnClient._on_connack,
    WillTopicReq: SnClient._on_willtopicreq,
    WillMsgReq: SnClient._on_willmsgreq,
    Register: SnClient._on_register,
    Regack: SnClient._on_regack,
    Publish: SnClient._on_publish,
    Puback: SnClient._on_puback,
    Pubcomp: SnClient._on_pubcomp,
    Pubrec: SnClient._on_pubrec,
    Pubrel: SnClient._on_pubrel,
    Suback: SnClient._on_suback,
    Pingreq: SnClient._on_pingreq,
    Pingresp: SnClient._on_pingresp,
    Disconnect: SnClient._on_disconnect,
}
