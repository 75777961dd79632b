"""How a device comes in: CONNECT, and the exchange about its will (sections 6.2 to 6.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridges.mqttsn.packets import Connect, WillMsgReq, WillTopicReq
from bridges.mqttsn.ports import Will
from bridges.mqttsn.states import State

if TYPE_CHECKING:
    from bridges.mqttsn.packets import Packet, WillMsg, WillTopic
    from bridges.mqttsn.policy import Policy

_QUESTIONS: Final[dict[State, type[WillTopicReq | WillMsgReq]]] = {
    State.AWAITING_WILLTOPIC: WillTopicReq,
    State.AWAITING_WILLMSG: WillMsgReq,
}


class Joining:
    """What a device has said of itself, and the question about its will that is open."""

    __slots__ = ("_policy", "_repeat_at", "_tries", "_will_topic", "connect", "state", "will")

    def __init__(self, policy: Policy, connect: Connect, will: Will | None) -> None:
        self._policy = policy
        self._repeat_at: float | None = None
        self._tries = 0
        self._will_topic: WillTopic | None = None
        self.connect = connect
        self.will = will
        self.state = State.OPENING

    def begin(self, connect: Connect, now: float) -> Packet | None:
        """Take a CONNECT; returns the question to ask, None if there is none."""
        self.connect = connect
        if connect.flags.will:
            return self._ask(State.AWAITING_WILLTOPIC, now)
        if connect.flags.clean_session:  # else the one of the session before lasts (section 6.3)
            self.will = None
        self._done()
        return None

    def on_willtopic(self, packet: WillTopic, now: float) -> Packet | None:
        """Take the topic, or that there is to be no will; as `begin`."""
        if not packet.topic:
            self.will = None
            self._done()
            return None
        self._will_topic = packet
        return self._ask(State.AWAITING_WILLMSG, now)

    def on_willmsg(self, packet: WillMsg) -> None:
        """Take the message."""
        topic = self._will_topic
        assert topic is not None
        self.will = Will(topic.topic, packet.message, topic.flags.qos, topic.flags.retain)
        self._done()

    def next_deadline(self) -> float | None:
        """When the open question is to be repeated."""
        return self._repeat_at

    def repeat(self, now: float) -> Packet | None:
        """The question again; None when it has been repeated N_retry times."""
        if self._tries > self._policy.n_retry:
            return None
        self._tries += 1
        self._repeat_at = now + self._policy.t_retry
        return _QUESTIONS[self.state]()

    def _ask(self, state: State, now: float) -> Packet | None:
        self.state = state
        self._tries = 0
        return self.repeat(now)

    def _done(self) -> None:
        self.state = State.OPENING
        self._repeat_at = None
