"""Sessions with any MQTT broker: the gateway's Broker port over MQTT packets, without I/O.

The shell brings pipes: in this process or over TCP. A session whose pipe breaks is resumed through
another one, and what was not answered is repeated, so a device notices nothing. With MQTT 5 a clean
session lives as long as the device is there: it has an expiry of `GRACE`, and is deleted when it is
closed. With 3.1.1 it ends with its pipe, and the device is told to connect anew.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from bridges.mqttsn.answers import REFUSED
from bridges.mqttsn.farewell import Farewell
from bridges.mqttsn.ports import Message
from bridges.mqttsn.suspicion import Suspicion, Suspicions
from bridges.mqttsn.unanswered import Fate, Unanswered
from bridges.mqttsn.versions import MOST_ATTEMPTS, REASONS, Versions, refuses
from broker.packets.codes import MQTT_5, PacketType, ReasonCode
from broker.packets.decode import decode
from broker.packets.encode import encode
from broker.packets.errors import ProtocolViolation
from broker.packets.properties import Property
from broker.packets.reader import Reader
from broker.packets.types import (
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
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from broker.packets.types import Will as MqttWill

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.mqttsn.ports import Identity, Opening, Receiver, Will

SENT_AT: Final = "sent-at"  # a user property: seconds since 1970
GRACE: Final = 300  # seconds that a clean session survives a broken pipe
_DEFAULT_WINDOW: Final = 65_535
_MOST_EARLY: Final = 100
_CONNACK: Final = PacketType.CONNACK << 4
_MOST_FENCES: Final = 64  # a device may ask again and again while the broker is away

# A broker that says so has not just gone for a moment.
_FINAL: Final = frozenset(
    {
        ReasonCode.NOT_AUTHORIZED,
        ReasonCode.SESSION_TAKEN_OVER,
        ReasonCode.ADMINISTRATIVE_ACTION,
        ReasonCode.USE_ANOTHER_SERVER,
        ReasonCode.SERVER_MOVED,
    }
)


class Pipe(Protocol):
    """A byte stream to the broker. Nothing comes out of it while something is put in."""

    def send(self, data: bytes) -> None:
        """Pass bytes on."""

    def hold(self, held: bool) -> None:
        """Read nothing for a while, or go on."""

    def has_more(self) -> bool:
        """Whether the broker is known, or likely, to have messages for the client that are on no
        way yet. It is asked behind a PINGRESP, which need not wait for them.
        """

    def was_closed(self) -> bool:
        """Whether the broker has closed it of its own accord; asked when it is lost."""

    def close(self) -> None:
        """Send what is left, then close; nothing is called any more."""


class MqttBroker:
    """A Broker. `dial` opens a pipe for a session and calls the session's `connected` when it is
    there, `lost` when it cannot be had or has gone (after a while, if it is to be patient).
    """

    def __init__(
        self,
        dial: Callable[[MqttSession], Pipe],
        expiry: int = 30 * 86_400,
        keep_alive: int = 0,
        will_delay: int = 10,
        stamp: Callable[[], str] | None = None,
        versions: Versions | None = None,
    ) -> None:
        self._dial = dial
        self._versions = versions or Versions(MQTT_5)
        self._suspicions = Suspicions()
        self._stamp = stamp  # when what is published now was sent; None: nobody wants to know
        self._expiry = expiry  # of durable sessions whose device is away, in seconds
        self._keep_alive = keep_alive  # the shell calls `ping` at least so often; 0: it need not
        self._will_delay = will_delay  # so long a pipe or the gateway may be gone, in seconds

    def open(self, opening: Opening, receiver: Receiver) -> MqttSession:
        """See Broker."""
        expiry = GRACE if opening.clean_session else self._expiry
        spans = Spans(expiry, self._keep_alive, self._will_delay)
        suspicion = self._suspicions.of(opening.identity.client_id)
        return MqttSession(
            *(opening, receiver, self._dial, spans, self._stamp), self._versions, suspicion
        )

    def end_session(self, identity: Identity) -> None:
        """See Broker. With MQTT 5 it ends by its expiry."""

        def told(version: int) -> None:
            if version < MQTT_5:
                Farewell(self, identity)

        self._versions.when_known(told)


class Spans(NamedTuple):
    """What a CONNECT says of times, in seconds."""

    expiry: int
    keep_alive: int
    will_delay: int


class MqttSession:
    """A Session, and the MQTT client behind it."""

    __slots__ = (
        *("_attempts", "_dial", "_early", "_fences", "_has_been_open", "_is_answered"),
        *("_is_connected", "_is_held", "_is_open", "_maximum_qos", "_opening", "_pipe"),
        *("_reader", "_receiver", "_silences", "_spans", "_stamp", "_unanswered", "_version"),
        *("_versions", "_waiting", "_will", "_window"),
    )

    def __init__(
        self,
        opening: Opening,
        receiver: Receiver,
        dial: Callable[[MqttSession], Pipe],
        spans: Spans,
        stamp: Callable[[], str] | None = None,
        versions: Versions | None = None,
        suspicion: Suspicion | None = None,
    ) -> None:
        self._opening = opening
        self._receiver: Receiver | None = receiver  # None: the session is over
        self._dial = dial
        self._spans = spans
        self._stamp = stamp
        self._versions = versions or Versions(MQTT_5)
        self._version = self._versions.current  # of this connection
        self._silences = 0  # of the broker, at this connection's CONNECT
        self._attempts = 1  # to be understood
        self._will = opening.will
        self._is_connected = False  # the pipe is there
        self._is_answered = False  # something has come out of it
        self._is_open = False  # the broker has accepted this connection
        self._has_been_open = False
        self._is_held = False
        self._window = _DEFAULT_WINDOW
        self._maximum_qos = 2
        self._reader = Reader()
        self._early: deque[Publish] = deque(maxlen=_MOST_EARLY)  # QoS 0 without a connection
        self._waiting: deque[Publish] = deque()  # beyond the broker's receive maximum
        self._unanswered = Unanswered(suspicion or Suspicion())
        self._fences: deque[Callable[[], None]] = deque()
        self._pipe: Pipe | None = dial(self)

    @property
    def opening(self) -> Opening:
        """What it was opened with: a shell may want to know where the device is."""
        return self._opening

    # -- Session ----------------------------------------------------------------------------------

    def publish(self, message: Message) -> None:
        """See Session."""
        packet = Publish(
            message.topic,
            message.payload,
            message.qos,
            message.retain,
            message.dup,
            message.msg_id,
        )
        if self._stamp is not None:
            packet.properties = {Property.USER_PROPERTY: [(SENT_AT, self._stamp())]}
        if packet.qos == 0 and self._is_open:
            self._put(packet)
        elif packet.qos == 0:
            self._early.append(packet)
        else:
            self._waiting.append(packet)
            self._publish_waiting()

    def pubrel(self, msg_id: int) -> None:
        """See Session."""
        self._unanswered.release(msg_id)
        self._send(Pubrel(msg_id))

    def puback(self, msg_id: int) -> None:
        """See Session."""
        self._send(Puback(msg_id))

    def pubrec(self, msg_id: int) -> None:
        """See Session."""
        self._send(Pubrec(msg_id))

    def pubcomp(self, msg_id: int) -> None:
        """See Session."""
        self._send(Pubcomp(msg_id))

    def subscribe(self, msg_id: int, topic_filter: str, qos: int) -> None:
        """See Session."""
        request = SubscriptionRequest(topic_filter, qos)
        self._ask(Subscribe(msg_id, [request]))

    def unsubscribe(self, msg_id: int, topic_filter: str) -> None:
        """See Session."""
        self._ask(Unsubscribe(msg_id, [topic_filter]))

    def change_will(self, will: Will | None) -> bool:
        """See Session. Another connection to the same session; the old will is not published."""
        if self._is_passing and self._has_been_open:
            return False
        self._will = will
        if self._pipe is None:
            return True
        if self._is_open:
            self._put(Disconnect())
        self._pipe.close()
        self._redial()
        return True

    def fence(self, done: Callable[[bool], None]) -> None:
        """See Session. One too many is never done: whoever waits for it has a timer."""
        if len(self._fences) < _MOST_FENCES:
            self._call_after(partial(self._fenced, done))

    def hold(self, held: bool) -> None:
        """See Session."""
        self._is_held = held
        if self._pipe is not None and self._is_connected:
            self._pipe.hold(held)

    def close(self, publish_will: bool) -> None:
        """See Session."""
        self._receiver = None
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        reason = ReasonCode.DISCONNECT_WITH_WILL_MESSAGE if publish_will else ReasonCode.SUCCESS
        properties: dict[int, Any] = {}
        if self._opening.clean_session:
            properties[Property.SESSION_EXPIRY_INTERVAL] = 0
        if self._is_open and not (publish_will and self._version < MQTT_5):  # it asks for no will
            pipe.send(encode(Disconnect(reason, properties), self._version))
        pipe.close()

    # -- the shell's side -------------------------------------------------------------------------

    def connected(self) -> None:
        """The pipe is there."""
        self._is_connected = True
        self._is_answered = False
        self._version = self._versions.current
        self._silences = self._versions.silences
        opening = self._opening
        identity = opening.identity
        properties: dict[int, Any] = {
            Property.SESSION_EXPIRY_INTERVAL: self._spans.expiry,
            Property.RECEIVE_MAXIMUM: opening.receive_maximum,
        }
        packet = Connect(
            identity.client_id,
            opening.clean_session and (self._is_passing or not self._has_been_open),
            self._spans.keep_alive,
            self._username(identity),
            identity.password,
            self._mqtt_will(),
            properties,
        )
        self._put(packet)
        self.hold(self._is_held)

    def receive(self, data: bytes) -> None:
        """Bytes of the broker."""
        self._is_answered = True
        buffer, packets = self._reader.cut(data)
        for first, start, end in packets:
            if self._receiver is None:
                return
            if (
                first == _CONNACK
                and not self._is_open
                and refuses(bytes(buffer[start:end]), self._version)
            ):
                self._misunderstood()
                return
            try:
                packet = decode(first, buffer, start, end, self._version)
            except ProtocolViolation:
                self._drop()
                return
            handler = _HANDLERS.get(type(packet))
            if handler is not None:
                handler(self, packet)
        if self._reader.violation is not None:
            self._drop()

    def lost(self) -> None:
        """The pipe is gone, or could not be had."""
        if self._receiver is None:
            return
        if self._is_open and self._version < MQTT_5 and self._pipe is not None:
            self._accuse(self._pipe)
        is_silent = self._is_connected and not self._is_answered
        if self._has_been_open or (is_silent and self._is_worth_another_attempt()):
            self._redial()
        else:
            self._end().on_refused(ReasonCode.SERVER_UNAVAILABLE)

    def ping(self) -> None:
        """Show the broker that the client is there."""
        if self._is_open:
            self._call_after(_nothing)

    # -- the broker's packets ---------------------------------------------------------------------

    def _on_connack(self, packet: Connack) -> None:
        self._versions.accepted(self._version)
        self._attempts = 1
        reason = packet.reason if self._version >= MQTT_5 else REASONS.get(packet.reason, 0)
        if reason >= REFUSED:
            self._refused(reason)
            return
        was_open, self._has_been_open = self._has_been_open, True
        if was_open and not packet.session_present:
            self._drop_and_close()
            return
        self._is_open = True
        self._window = packet.properties.get(Property.RECEIVE_MAXIMUM, _DEFAULT_WINDOW)
        self._maximum_qos = packet.properties.get(Property.MAXIMUM_QOS, 2)
        self._repeat()
        while self._early:
            self._put(self._early.popleft())
        self._publish_waiting()
        if not was_open and self._receiver is not None:
            self._receiver.on_opened(packet.session_present)

    def _on_publish(self, packet: Publish) -> None:
        self._listener.on_publish(
            Message(
                packet.topic,
                packet.payload,
                packet.qos,
                packet.retain,
                packet.packet_id,
                packet.dup,
            )
        )

    def _on_pubrel(self, packet: Pubrel) -> None:
        self._listener.on_pubrel(packet.packet_id)

    def _on_puback(self, packet: Puback) -> None:
        if self._take(Publish, packet.packet_id):
            self._publish_waiting()
            self._listener.on_puback(packet.packet_id, packet.reason)

    def _on_pubrec(self, packet: Pubrec) -> None:
        if not self._take(Publish, packet.packet_id):
            return
        if packet.reason >= REFUSED:
            self._publish_waiting()
        else:
            self._unanswered.release(packet.packet_id)
        self._listener.on_pubrec(packet.packet_id, packet.reason)

    def _on_pubcomp(self, packet: Pubcomp) -> None:
        self._unanswered.complete(packet.packet_id)
        self._publish_waiting()
        self._listener.on_pubcomp(packet.packet_id)

    def _on_suback(self, packet: Suback) -> None:
        if self._take(Subscribe, packet.packet_id):
            self._publish_waiting()
            self._listener.on_suback(packet.packet_id, packet.reasons[0])

    def _on_unsuback(self, packet: Unsuback) -> None:
        if self._take(Unsubscribe, packet.packet_id):
            self._publish_waiting()
            self._listener.on_unsuback(packet.packet_id)

    def _on_pingresp(self, _packet: Pingresp) -> None:
        if self._fences:
            self._fences.popleft()()

    def _on_disconnect(self, packet: Disconnect) -> None:
        if packet.reason in _FINAL:
            self._drop_and_close()

    # -- helpers ----------------------------------------------------------------------------------

    @property
    def _listener(self) -> Receiver:
        assert self._receiver is not None
        return self._receiver

    def _mqtt_will(self) -> MqttWill | None:
        will = self._will
        if will is None or (self._is_passing and self._has_been_open):  # it is not to last
            return None
        properties: dict[int, Any] = {Property.WILL_DELAY_INTERVAL: self._spans.will_delay}
        return MqttWill(will.topic, will.message, will.qos, will.retain, properties)

    def _put(self, packet: Packet) -> None:
        assert self._pipe is not None
        self._pipe.send(encode(packet, self._version))

    def _send(self, packet: Packet) -> None:
        """Answers to a connection that is gone are not kept: the broker asks again."""
        if self._is_open:
            self._put(packet)

    def _ask(self, packet: Publish | Subscribe | Unsubscribe) -> None:
        fate = self._unanswered.add(packet)
        if fate is Fate.SEND:
            self._send(packet)
        elif fate is Fate.REFUSE:
            self._call_after(partial(self._refuse, packet))

    def _take(self, kind: type, packet_id: int) -> bool:
        """Something is answered, and perhaps others have waited for that; False: it was not."""
        if self._unanswered.pop(kind, packet_id) is None:
            return False
        for packet in self._unanswered.freed():
            self._send(packet)
        return True

    def _call_after(self, done: Callable[[], None]) -> None:
        """Call `done` after all that the broker has sent by now."""
        self._fences.append(done)
        self._send(Pingreq())

    def _fenced(self, done: Callable[[bool], None]) -> None:
        done(self._pipe is not None and self._pipe.has_more())

    def _publish_waiting(self) -> None:
        """As many as the broker's receive maximum allows."""
        while self._is_open and self._waiting and not self._unanswered.is_blocked:
            if self._unanswered.messages >= self._window:
                return
            packet = self._waiting.popleft()
            if packet.qos > self._maximum_qos:  # [MQTT-3.2.2-11]
                self._call_after(partial(self._too_assured, packet.packet_id))
            else:
                self._ask(packet)

    def _too_assured(self, msg_id: int) -> None:
        """The broker would end the connection over this message: it is refused in its place."""
        self._listener.on_puback(msg_id, ReasonCode.QOS_NOT_SUPPORTED)

    def _repeat(self) -> None:
        """What the connection before has not seen the end of."""
        for fate, packet in self._unanswered.repeat():
            if fate is Fate.SEND:
                self._put(packet)
            elif fate is Fate.REFUSE:
                self._fences.append(partial(self._refuse, packet))
        for _ in range(len(self._fences)):
            self._put(Pingreq())

    def _accuse(self, pipe: Pipe) -> None:
        if pipe.was_closed():
            self._unanswered.broken()

    def _refuse(self, packet: Any) -> None:
        """A broker that has no word for it would have closed the connection."""
        if self._unanswered.has(packet):
            handler, answer = _REFUSALS[type(packet)]
            handler(self, answer(packet.packet_id))

    # -- the version ------------------------------------------------------------------------------

    @property
    def _is_passing(self) -> bool:
        """Whether the session ends with its connection."""
        return self._opening.clean_session and self._version < MQTT_5

    def _username(self, identity: Identity) -> str | None:
        """A password alone cannot be said in 3.1.1 [3.1.1:MQTT-3.1.2-22]."""
        if self._version < MQTT_5 and identity.password is not None:
            return identity.username or ""
        return identity.username

    def _misunderstood(self) -> None:
        """The broker does not speak this version."""
        if self._pipe is not None:
            self._pipe.close()
        if self._versions.refused(self._version) and self._attempts < MOST_ATTEMPTS:
            self._attempts += 1
            self._redial()
            return
        self._versions.give_up(self._version)
        if self._has_been_open:
            self._end().on_closed()
        else:
            self._end().on_refused(ReasonCode.SERVER_UNAVAILABLE)

    def _is_worth_another_attempt(self) -> bool:
        """The broker has said nothing to the CONNECT: perhaps it does not know the version."""
        self._attempts += 1
        again = self._versions.silent(self._version, self._silences)
        return again and self._attempts <= MOST_ATTEMPTS

    # -- connections ------------------------------------------------------------------------------

    def _redial(self) -> None:
        self._is_connected = self._is_open = False
        self._reader = Reader()
        self._pipe = self._dial(self)

    def _drop(self) -> None:
        """The broker has said something that cannot be."""
        if self._pipe is not None:
            self._pipe.close()
        self.lost()

    def _refused(self, reason: int) -> None:
        pipe, has_been_open = self._pipe, self._has_been_open
        receiver = self._end()
        if pipe is not None:
            pipe.close()
        if has_been_open:
            receiver.on_closed()
        else:
            receiver.on_refused(reason)

    def _drop_and_close(self) -> None:
        """The session is over."""
        pipe = self._pipe
        receiver = self._end()
        if pipe is not None:
            pipe.close()
        receiver.on_closed()

    def _end(self) -> Receiver:
        receiver = self._listener
        self._receiver = self._pipe = None
        self._is_open = False
        return receiver


def _nothing() -> None:
    """What a ping is to do when it comes back."""


_REFUSALS: Final[dict[type, tuple[Callable[[MqttSession, Any], None], Callable[[int], Packet]]]] = {
    Publish: (MqttSession._on_puback, lambda number: Puback(number, ReasonCode.NOT_AUTHORIZED)),
    Subscribe: (MqttSession._on_suback, lambda number: Suback(number, [ReasonCode.NOT_AUTHORIZED])),
    Unsubscribe: (MqttSession._on_unsuback, lambda number: Unsuback(number, [0])),
}

# In the order of the standard.
_HANDLERS: Final[dict[type, Callable[[MqttSession, Any], None]]] = {
    Connack: MqttSession._on_connack,
    Publish: MqttSession._on_publish,
    Puback: MqttSession._on_puback,
    Pubrec: MqttSession._on_pubrec,
    Pubrel: MqttSession._on_pubrel,
    Pubcomp: MqttSession._on_pubcomp,
    Suback: MqttSession._on_suback,
    Unsuback: MqttSession._on_unsuback,
    Pingresp: MqttSession._on_pingresp,
    Disconnect: MqttSession._on_disconnect,
}
