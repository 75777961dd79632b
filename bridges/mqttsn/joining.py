"""How a device comes in: CONNECT, and the exchange about its will (sections 6.2 to 6.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridges.mqttsn.packets import Connect, WillMsgReq, WillTopicReq
from bridges.mqttsn.ports import Will
from bridges.mqttsn.states import CONNECTED, SLEEPING, State

if TYPE_CHECKING:
    from bridges.mqttsn.packets import Packet, WillMsg, WillTopic
    from bridges.mqttsn.policy import Policy

_QUESTIONS: Final[dict[State, type[WillTopicReq | WillMsgReq]]] = {
    State.AWAITING_WILLTOPIC: WillTopicReq,
    State.AWAITING_WILLMSG: WillMsgReq,
}


class Joining:
    """What a device has said of itself, and the question about its will that is open."""

    __slots__ = (
        *("_is_fresh", "_keeps_topics", "_policy", "_repeat_at", "_tries", "_will_topic"),
        *("connect", "state", "will"),
    )

    def __init__(self, policy: Policy, connect: Connect, will: Will | None) -> None:
        self._policy = policy
        self._repeat_at: float | None = None
        self._tries = 0
        self._will_topic: WillTopic | None = None
        self._is_fresh = False  # nothing has come since the CONNECT, and what belongs to it
        self._keeps_topics = False  # it has not started anew
        self.connect = connect
        self.will = will
        self.state = State.OPENING

    def is_repeated(self, connect: Connect) -> bool:
        """Whether the answer to this CONNECT was lost, or is to come."""
        return self._is_fresh and connect == self.connect

    def heard(self) -> None:
        """Something else than a CONNECT has come."""
        self._is_fresh = False

    def begin(self, connect: Connect, before: State, now: float) -> Packet | None:
        """Take a CONNECT; returns the question to ask, None if there is none. `before`: where the
        device stood; one that slept remembers its topic ids.
        """
        if before in CONNECTED:
            self._keeps_topics = before in SLEEPING
        self._is_fresh = True
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

    def finish(self) -> bool:
        """The device is in; whether it still knows its topic ids."""
        keeps_topics, self._keeps_topics = self._keeps_topics, False
        return keeps_topics

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
        self._is_fresh = True
        self.state = State.OPENING
        self._repeat_at = None
