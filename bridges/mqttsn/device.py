"""The gateway's view of one device (section 6.14): active, asleep or awake, and how it comes in and
goes.

A device that is silent for longer than it has announced, or that does not answer, is lost: its will
is published. Its messages of QoS 1 and 2 stay in the broker's session whatever happens here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from bridges.mqttsn.answers import is_topic, return_code
from bridges.mqttsn.codes import Flags, ReturnCode, TopicIdType
from bridges.mqttsn.fence import Fence
from bridges.mqttsn.inbound import Inbound
from bridges.mqttsn.joining import Joining
from bridges.mqttsn.outbound import Outbound
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
    Subscribe,
    Unsubscribe,
    WillMsg,
    WillMsgResp,
    WillMsgUpd,
    WillTopic,
    WillTopicResp,
    WillTopicUpd,
)
from bridges.mqttsn.policy import tolerated
from bridges.mqttsn.ports import Message, Note, Opening, Stage, Will
from bridges.mqttsn.requests import Requests
from bridges.mqttsn.states import ASKED, CONNECTED, LISTENING, PERMITTED, SLEEPING, State
from bridges.mqttsn.taking_up import TakingUp
from bridges.mqttsn.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.mqttsn.policy import Policy
    from bridges.mqttsn.ports import Address, Broker, Identity, Notebook, Session

_REFUSALS: Final[dict[type, Packet]] = {
    WillTopicResp: WillTopicResp(ReturnCode.NOT_SUPPORTED),
    WillMsgResp: WillMsgResp(ReturnCode.NOT_SUPPORTED),
}
_STAGES: Final = {State.ASLEEP: Stage.ASLEEP, State.AWAKE: Stage.ASLEEP, State.GONE: Stage.AWAY}


class Host(Protocol):
    """The gateway, as a device sees it."""

    policy: Policy
    broker: Broker
    notebook: Notebook
    is_writable: bool
    longest_message: int

    def send(self, address: Address, packet: Packet) -> None:
        """Send an answer, before any message."""

    def ready(self, device: Device) -> None:
        """Ask the device's `next_packet` and `next_deadline` again."""

    def gone(self, device: Device) -> None:
        """The device is disconnected or lost."""

    def count(self, what: str) -> None:
        """Count what happened."""


class Device:
    """One device; a Receiver of its session."""

    __slots__ = (
        *("_fence", "_host", "_inbound", "_is_noted", "_joining", "_next_at", "_nights"),
        *("_outbound", "_requests", "_taking_up", "_topics"),
        *("address", "armed_for"),
        *("client_id", "identity", "is_durable", "last_seen", "sleep", "state"),
    )

    def __init__(
        self, host: Host, address: Address, client_id: str, identity: Identity, now: float
    ) -> None:
        note = host.notebook.read(client_id)
        self._host = host
        self.address = address
        self.client_id = client_id
        self.identity = identity
        self.state = State.GONE
        self.last_seen = now
        self.sleep = 0  # seconds that it has announced
        self.is_durable = False
        self.armed_for: float | None = None  # the gateway's
        self._is_noted = False  # the broker has accepted it: its note is its own
        self._nights = 0  # times that it has gone to sleep
        self._next_at = 0.0  # within the budget, the next message may go
        self._fence = Fence(host.policy)
        self._taking_up = TakingUp(host.policy, host.broker)
        self._topics = Topics(host.policy, host.notebook.topics(client_id))
        self._joining = Joining(
            host.policy, Connect(Flags(), 0, client_id), note.will if note is not None else None
        )
        self._outbound = Outbound(
            *(host.policy, self._topics, self._keep, host.count, self._changed, self._longest)
        )
        self._inbound = Inbound(host.policy, self._send, host.count)
        self._requests = Requests(host.policy, self._topics, self._keep, self._send, host.count)

    # -- what others may know ---------------------------------------------------------------------

    @property
    def is_newcomer(self) -> bool:
        """Whether nothing is known of it but its CONNECT, and it is asked for its will."""
        return not self._taking_up.has_begun and self.state in ASKED

    @property
    def held(self) -> int:
        """Bytes of messages that wait for the device here."""
        return self._outbound.size

    @property
    def repeats(self) -> int:
        """Messages that had to be sent again."""
        return self._outbound.repeats

    @property
    def round_trip(self) -> float:
        """Seconds from a question to its answer, smoothed; 0.0: not known yet."""
        return self._outbound.round_trip

    # -- the machine's verbs ----------------------------------------------------------------------

    def receive(self, packet: Packet, now: float) -> None:
        """A message of the device."""
        self.last_seen = now
        kind = type(packet)
        if kind not in PERMITTED[self.state]:
            self._host.count("out of turn")
            return
        if kind is not Connect:
            self._joining.heard()
            if self._taking_up.is_estranged:
                self._send(Disconnect())
                self._end(publish_will=False)
                return
        _HANDLERS[kind](self, packet, now)
        self._changed()

    def next_packet(self, now: float) -> Packet | None:
        """Take the next message for the device, if it listens."""
        self._taking_up.begin_pause(now)
        if self.state not in LISTENING or now < self._next_at:
            return None
        if self._has_enough():
            return self._sleep_on()
        packet = self._outbound.next_packet(now)
        if packet is not None:
            self._fence.lower()
        elif self.state is State.AWAKE and self._outbound.is_idle:
            return self._after_all(now)
        return packet

    def spent(self, size: int, now: float) -> None:
        """A message of so many bytes has gone out: the next one waits until it is paid for."""
        if self._host.policy.device_rate:
            self._next_at = max(self._next_at, now) + size / self._host.policy.device_rate

    def next_deadline(self) -> float | None:
        """When to tick."""
        if self.state in CONNECTED:
            times = (
                *(self._outbound.next_deadline(), self._fence.next_deadline(), self._budget_at()),
                self._taking_up.next_deadline(),
            )
            silence = self.last_seen + self._patience()
            return min(
                (when for when in times if when is not None and when < silence), default=silence
            )
        if self.state is State.OPENING:
            return self.last_seen + self._host.policy.open_timeout
        return self._joining.next_deadline()

    def tick(self, now: float) -> None:
        """The deadline may have come."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.state is State.OPENING:
            self._turn_away(ReturnCode.CONGESTION, "the broker does not answer")
        elif self.state not in CONNECTED:
            self._ask_again(now)
        elif now >= self.last_seen + self._patience():
            self.lose("lost: silent for too long")
        else:
            self._tick_connected(now)

    def _tick_connected(self, now: float) -> None:
        again_at = self._taking_up.next_deadline()
        if again_at is not None and now >= again_at:
            self._begin(self._taking_up.resume(self._opening(), self))
        elif not self._outbound.tick(now):
            self._unanswered()
        elif self._next_at and now >= self._next_at:
            self._next_at = 0.0
            self._changed()
        elif self._fence.tick(now):
            self._changed()

    def lose(self, why: str) -> None:
        """The device is no longer there: its will is published."""
        self._host.count(why)
        self._end(publish_will=True)

    def give_way(self, why: str) -> None:
        """The device is somewhere else now, where its session goes on."""
        self._host.count(why)
        self._end(publish_will=False)

    def leave(self) -> None:
        """The gateway stops. A durable session is taken up again after its start; the others are
        over, and the device is told.
        """
        if self.is_durable and self._is_noted:
            self._taking_up.close(publish_will=False)
            self._host.gone(self)
            return
        if self.state in LISTENING:
            self._send(Disconnect())
        self._end(publish_will=False)

    def resume(self, note: Note) -> None:
        """Go on where a gateway before this one has ended."""
        flags = Flags(clean_session=note.clean_session)
        self._joining.connect = Connect(flags, note.keep_alive, self.client_id)
        self.sleep = note.sleep
        self.state = State.ASLEEP if note.stage is Stage.ASLEEP else State.ACTIVE
        self._topics.announced.update(self._host.notebook.topics(self.client_id))
        self._is_noted = True
        self._begin(self._taking_up.resume(self._opening(), self))

    # -- Receiver ---------------------------------------------------------------------------------

    def on_opened(self, session_present: bool) -> None:
        """See Receiver."""
        self._taking_up.on_opened(session_present)
        if self.state is State.OPENING:
            self._activate()
        elif self._taking_up.is_estranged:
            self._estrange()
        self._changed()  # one that is awake waits for it

    def on_refused(self, reason: int) -> None:
        """See Receiver."""
        code = return_code(reason)
        is_put_off = self._taking_up.on_refused(code)  # the broker starts later than we do
        if self.state is State.OPENING:
            self._turn_away(code, "refused by the broker")
        elif is_put_off:
            self._changed()
        else:
            self.on_closed()

    def on_closed(self) -> None:
        """See Receiver."""
        self._taking_up.on_closed()
        if self.state in LISTENING:
            self._send(Disconnect())
        elif self.state is State.OPENING:
            self._send(Connack(ReturnCode.CONGESTION))
        self._end(publish_will=False)

    def on_publish(self, message: Message) -> None:
        """See Receiver."""
        is_shut = self.state not in LISTENING or not self._host.is_writable
        self._outbound.add(message, coalesce=is_shut)
        self._fence.lower()
        self._changed()

    def on_pubrel(self, msg_id: int) -> None:
        """See Receiver."""
        self._outbound.release(msg_id)
        self._fence.lower()
        self._changed()

    def on_puback(self, msg_id: int, reason: int) -> None:
        """See Receiver."""
        self._inbound.on_puback(msg_id, reason)

    def on_pubrec(self, msg_id: int, reason: int) -> None:
        """See Receiver."""
        self._inbound.on_pubrec(msg_id, reason)

    def on_pubcomp(self, msg_id: int) -> None:
        """See Receiver."""
        self._inbound.on_pubcomp(msg_id)

    def on_suback(self, msg_id: int, reason: int) -> None:
        """See Receiver."""
        self._requests.on_suback(msg_id, reason)

    def on_unsuback(self, msg_id: int) -> None:
        """See Receiver."""
        self._requests.on_unsuback(msg_id)

    # -- coming in --------------------------------------------------------------------------------

    def _on_connect(self, packet: Connect, now: float) -> None:
        if self._joining.is_repeated(packet):
            if self.state is State.ACTIVE:
                self._send(Connack(ReturnCode.ACCEPTED))
            if self.state in (State.ACTIVE, State.OPENING):
                return
        self._taking_up.connect()
        self._proceed(self._joining.begin(packet, self.state, now))

    def _on_willtopic(self, packet: WillTopic, now: float) -> None:
        if packet.topic and not is_topic(packet.topic, self._host.policy.max_topic_levels):
            self._turn_away(ReturnCode.NOT_SUPPORTED, "will refused")
            return
        self._proceed(self._joining.on_willtopic(packet, now))

    def _on_willmsg(self, packet: WillMsg, _now: float) -> None:
        self._joining.on_willmsg(packet)
        self._proceed(None)

    def _proceed(self, question: Packet | None) -> None:
        """Ask the question, or open the session when all is known."""
        self.state = self._joining.state
        if question is not None:
            self._send(question)
            return
        clean = self._joining.connect.flags.clean_session
        if self._taking_up.open_session is not None and self.is_durable and not clean:
            self._taking_up.change_will(self._joining.will)
            self._activate()
            return
        if clean:
            self._topics = Topics(self._host.policy, {})
        self._begin(self._taking_up.ask(self._opening(), self))

    def _opening(self) -> Opening:
        clean = self._joining.connect.flags.clean_session
        most = self._host.policy.receive_maximum
        return Opening(self.identity, clean, self._joining.will, most, self.address)

    def _begin(self, session: Session) -> None:
        """All that is under way belongs to this session."""
        self.is_durable = not self._joining.connect.flags.clean_session
        self._outbound.begin(session, self._topics)
        self._inbound.begin(session)
        self._requests.begin(session, self._topics)
        self._fence.lower()

    def _activate(self) -> None:
        if not self._joining.finish():
            self._topics.announced.clear()
        if not self.is_durable:
            self._host.notebook.forget(self.client_id)
        self._is_noted = True
        self._outbound.restart()
        self._fence.lower()
        self.sleep = 0
        self.state = State.ACTIVE
        self._send(Connack(ReturnCode.ACCEPTED))
        self._write_note()
        self._changed()

    def _estrange(self) -> None:
        """Its subscriptions are gone, so it has to connect anew; its will stands until it does, or
        is lost.
        """
        self._host.count("not resumed: the broker has no session")
        if self.state in LISTENING:
            self._send(Disconnect())
        if not self._taking_up.has_will:
            self._end(publish_will=False)

    def _ask_again(self, now: float) -> None:
        question = self._joining.repeat(now)
        if question is None:
            self.lose("lost: it does not send its will")
        else:
            self._send(question)
            self._changed()

    def _turn_away(self, code: ReturnCode, why: str) -> None:
        self._host.count(why)
        self._send(Connack(code))
        self._end(publish_will=False)

    # -- going ------------------------------------------------------------------------------------

    def _on_disconnect(self, packet: Disconnect, _now: float) -> None:
        if packet.duration and self.state in CONNECTED:
            self.sleep = packet.duration
            self._fall_asleep()
            self._write_note()
            self._host.notebook.when_kept(self._good_night())
        else:
            self._send(Disconnect())
            self._end(publish_will=False)

    def _good_night(self) -> Callable[[], None]:
        """What says that it may sleep, once: a gateway after this one has to know that it does."""
        self._nights += 1
        night = self._nights

        def kept() -> None:
            if self._nights == night and self.state is State.ASLEEP:
                self._send(Disconnect())

        return kept

    def _end(self, publish_will: bool) -> None:
        self.state = State.GONE
        self._taking_up.close(publish_will)
        if self._is_noted and self.is_durable:
            self._write_note()
        elif self._is_noted:
            self._host.notebook.forget(self.client_id)
        self._host.gone(self)

    def _unanswered(self) -> None:
        """One that only wanted to fetch its messages sleeps again, perhaps."""
        if self.state is State.AWAKE:
            self._host.count("asleep before it had all")
            self._fall_asleep()
        else:
            self.lose("lost: it does not answer")

    # -- sleeping ---------------------------------------------------------------------------------

    def _on_pingreq(self, _packet: Pingreq, _now: float) -> None:
        if self.state is State.ACTIVE:
            self._send(Pingresp())
        elif self.state is State.ASLEEP:
            self.state = State.AWAKE
            self._outbound.collected = 0
            self._fence.lower()

    def _has_enough(self) -> bool:
        """One that is never done fetching would never sleep."""
        if self.state is not State.AWAKE or self._outbound.is_open:
            return False
        return self._outbound.collected >= self._host.policy.collect_most

    def _after_all(self, now: float) -> Packet | None:
        """Nothing is here; when the broker has nothing more either, PINGRESP says so."""
        fence, session = self._fence, self._taking_up.open_session
        if fence.is_passed:
            return self._sleep_on()
        fence.begin(now)
        if session is not None and fence.may_ask:
            session.fence(fence.ask(now, self._changed))
        return None

    def _sleep_on(self) -> Packet:
        self._fall_asleep()
        return Pingresp()

    def _fall_asleep(self) -> None:
        self._outbound.restart()
        self._fence.lower()
        self.state = State.ASLEEP

    # -- messages ---------------------------------------------------------------------------------

    def _on_publish(self, packet: Publish, _now: float) -> None:
        flags = packet.flags
        topic = self._topics.name(flags.topic_id_type, packet.topic_id)
        if topic is None or not is_topic(topic, self._host.policy.max_topic_levels):
            self._refuse_publish(packet, ReturnCode.INVALID_TOPIC_ID)
        elif flags.qos > 0 and packet.msg_id == 0:
            self._refuse_publish(packet, ReturnCode.NOT_SUPPORTED)
        else:
            if flags.topic_id_type == TopicIdType.NORMAL:
                self._topics.announced.add(packet.topic_id)
            self._inbound.publish(packet, topic)

    def _refuse_publish(self, packet: Publish, code: ReturnCode) -> None:
        self._host.count("publish refused")
        if packet.flags.qos >= 0:
            self._send(Puback(packet.topic_id, packet.msg_id, code))

    def _on_pubrel(self, packet: Pubrel, _now: float) -> None:
        if packet.msg_id:
            self._inbound.pubrel(packet.msg_id)

    def _on_regack(self, packet: Regack, now: float) -> None:
        self._outbound.on_regack(packet, now)

    def _on_puback(self, packet: Puback, now: float) -> None:
        self._outbound.on_puback(packet, now)

    def _on_pubrec(self, packet: Pubrec, now: float) -> None:
        self._outbound.on_pubrec(packet.msg_id, now)

    def _on_pubcomp(self, packet: Pubcomp, now: float) -> None:
        self._outbound.on_pubcomp(packet.msg_id, now)

    def _on_register(self, packet: Register, _now: float) -> None:
        self._requests.register(packet)

    def _on_subscribe(self, packet: Subscribe, _now: float) -> None:
        self._requests.subscribe(packet)

    def _on_unsubscribe(self, packet: Unsubscribe, _now: float) -> None:
        self._requests.unsubscribe(packet)

    def _on_pingresp(self, _packet: Pingresp, _now: float) -> None:
        """A sign of life, which has been noted."""

    # -- the will ---------------------------------------------------------------------------------

    def _on_willtopicupd(self, packet: WillTopicUpd, _now: float) -> None:
        accepted = WillTopicResp(ReturnCode.ACCEPTED)
        old = self._joining.will
        if not packet.topic:
            self._update_will(None, accepted)
        elif is_topic(packet.topic, self._host.policy.max_topic_levels):
            message = old.message if old is not None else b""
            flags = packet.flags
            self._update_will(Will(packet.topic, message, flags.qos, flags.retain), accepted)
        else:
            self._host.count("will refused")
            self._send(WillTopicResp(ReturnCode.INVALID_TOPIC_ID))

    def _on_willmsgupd(self, packet: WillMsgUpd, _now: float) -> None:
        will = self._joining.will
        if will is None:
            self._host.count("will refused")
            self._send(WillMsgResp(ReturnCode.NOT_SUPPORTED))
            return
        self._update_will(replace(will, message=packet.message), WillMsgResp(ReturnCode.ACCEPTED))

    def _update_will(self, will: Will | None, answer: Packet) -> None:
        """Answered when it is kept."""
        if not self._taking_up.change_will(will):
            self._host.count("will refused")
            self._send(_REFUSALS[type(answer)])
            return
        self._joining.will = will
        self._write_note()

        def kept() -> None:
            if self.state in CONNECTED:
                self._send(answer)

        self._host.notebook.when_kept(kept)

    # -- helpers ----------------------------------------------------------------------------------

    def _send(self, packet: Packet) -> None:
        self._host.send(self.address, packet)

    def _changed(self) -> None:
        if self.state is not State.GONE:
            self._host.ready(self)

    def _longest(self) -> int:
        """The largest payload: the link's, without what the header of a forwarder takes."""
        node = self.address.node
        return self._host.longest_message - (len(node) + 3 if node is not None else 0)

    def _budget_at(self) -> float | None:
        """When the budget allows another message, if one waits."""
        if not self._next_at or self._outbound.is_idle:
            return None
        return self._next_at

    def _patience(self) -> float:
        if self.state in SLEEPING:
            return tolerated(self.sleep)
        keep_alive = self._joining.connect.duration
        return tolerated(keep_alive) if keep_alive else self._host.policy.longest_silence

    def _keep(self, topic_id: int, topic: str, done: Callable[[], None]) -> None:
        self._host.notebook.add_topic(self.client_id, topic_id, topic, done)

    def _write_note(self) -> None:
        self._host.notebook.write(
            Note(
                self.client_id,
                self.address,
                _STAGES.get(self.state, Stage.ACTIVE),
                not self.is_durable,
                self._joining.connect.duration,
                self.sleep,
                self._joining.will,
            )
        )


# In the order of the standard.
_HANDLERS: Final[dict[type, Callable[[Device, Any, float], None]]] = {
    Connect: Device._on_connect,
    WillTopic: Device._on_willtopic,
    WillMsg: Device._on_willmsg,
    Register: Device._on_register,
    Regack: Device._on_regack,
    Publish: Device._on_publish,
    Puback: Device._on_puback,
    Pubcomp: Device._on_pubcomp,
    Pubrec: Device._on_pubrec,
    Pubrel: Device._on_pubrel,
    Subscribe: Device._on_subscribe,
    Unsubscribe: Device._on_unsubscribe,
    Pingreq: Device._on_pingreq,
    Pingresp: Device._on_pingresp,
    Disconnect: Device._on_disconnect,
    WillTopicUpd: Device._on_willtopicupd,
    WillMsgUpd: Device._on_willmsgupd,
}
