"""What a device has to say: messages in order, and those of them that are not answered yet.

    a message is    until                             repeated
    waiting         it is sent                        -
    sent            PUBACK (QoS 1), PUBREC (QoS 2)    yes, with DUP
    released        PUBCOMP                           PUBREL

Rule kept here: messages go out in the order in which they were taken, and one that was sent again
does not overtake: after a loss of the connection all go again, the oldest first.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Final

from bridges.mqttsn.codes import Flags, TopicIdType
from bridges.mqttsn.packets import Packet, Publish, Pubrel
from firmware_sim.clients.client import Acknowledged, Failed

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_sim.clients.client import ClientEvent, Message
    from firmware_sim.clients.topics import Ref, Topics

_LAST_ID: Final = 0xFFFF
_MOST_REFUSALS: Final = 3  # of one message, for its topic id


class Step(Enum):
    """How far a message is; see above."""

    WAITING = "waiting"
    SENT = "sent"
    RELEASED = "released"


class Outgoing:
    """A message that the application has handed over."""

    __slots__ = ("again_at", "message", "msg_id", "ref", "refusals", "step", "token", "tries")

    def __init__(self, message: Message, token: int, msg_id: int) -> None:
        self.message = message
        self.token = token
        self.msg_id = msg_id
        self.ref: Ref | None = None  # as it was sent
        self.step = Step.WAITING
        self.tries = 0
        self.refusals = 0
        self.again_at: float | None = None  # when to repeat it; None: now, if it is its turn


class Publishing:
    """The queue; `tell` takes what becomes of a message."""

    __slots__ = ("_last_id", "_messages", "_most", "_tell", "_topics", "_window", "repeats")

    def __init__(
        self,
        topics: Topics,
        tell: Callable[[ClientEvent], None],
        *,
        most: int,
        window: int,
        first_id: int,
    ) -> None:
        self._topics = topics
        self._tell = tell
        self._most = most
        self._window = window
        self._last_id = first_id % _LAST_ID
        self._messages: deque[Outgoing] = deque()
        self.repeats = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def has_room(self) -> bool:
        """Whether another message can be taken."""
        return len(self._messages) < self._most

    def add(self, message: Message, token: int) -> None:
        """Take a message."""
        self._messages.append(Outgoing(message, token, self._next_id() if message.qos > 0 else 0))

    def unnamed(self) -> str | None:
        """Return the topic that must be registered before anything else can be said, if any."""
        for each in self._in_turn():
            if each.step is Step.WAITING and self._topics.ref(each.message.topic) is None:
                return each.message.topic
        return None

    def next_packet(self, now: float, t_retry: float) -> Packet | None:
        """Take what is to be sent now; None: nothing, or a topic must be registered."""
        is_blocked = False
        for each in self._in_turn():
            is_named = self._name(each)
            if each.step is Step.WAITING and (is_blocked or not is_named):
                is_blocked = True
            elif each.again_at is None or each.again_at <= now:
                return self._send(each, now + t_retry)
        return None

    def next_deadline(self) -> float | None:
        """When something is to be repeated."""
        times = (each.again_at for each in self._in_turn())
        return min((time for time in times if time is not None), default=None)

    def most_tries(self) -> int:
        """How often the most stubborn message was sent since something was heard of it."""
        return max((each.tries for each in self._in_turn()), default=0)

    def restart(self) -> None:
        """The connection is new: everything unanswered goes again, in order; topics may have
        other numbers now.
        """
        for each in self._messages:
            if each.step is Step.SENT:
                each.step = Step.WAITING
            each.again_at = None
            each.tries = min(each.tries, 1)  # it is a repetition all the same

    def be_patient(self, until: float) -> None:
        """The answers could not come until now."""
        for each in self._messages:
            if each.again_at is not None:
                each.again_at = max(each.again_at, until)

    def fail_topic(self, topic: str, why: str) -> None:
        """The topic cannot be registered."""
        for each in [each for each in self._messages if each.message.topic == topic]:
            self._finish(each, Failed(each.token, why))

    def drop_larger(self, fits: Callable[[Message], bool]) -> None:
        """The way has become narrower: what cannot pass fails."""
        for each in [each for each in self._messages if not fits(each.message)]:
            self._finish(each, Failed(each.token, "larger than the gateway takes"))

    # -- answers ----------------------------------------------------------------------------------

    def acknowledged(self, msg_id: int) -> None:
        """PUBACK or PUBCOMP."""
        each = self._find(msg_id)
        if each is not None and each.step is not Step.WAITING:
            self._finish(each, Acknowledged(each.token))

    def received(self, msg_id: int) -> None:
        """PUBREC."""
        each = self._find(msg_id)
        if each is not None and each.message.qos > 1 and each.step is Step.SENT:
            each.step = Step.RELEASED
            each.again_at = None
            each.tries = 0

    def refused(self, msg_id: int, why: str) -> None:
        """PUBACK with a reason that will not pass."""
        each = self._find(msg_id)
        if each is not None:
            self._finish(each, Failed(each.token, why))

    def unknown_topic(self, msg_id: int) -> None:
        """The gateway does not know the number: it is registered anew, a few times."""
        each = self._find(msg_id)
        if each is None:
            return
        each.refusals += 1
        if each.refusals > _MOST_REFUSALS or (each.ref and each.ref.kind != TopicIdType.NORMAL):
            self._finish(each, Failed(each.token, "the gateway does not know the topic"))
        else:
            each.step = Step.WAITING
            each.again_at = None

    def postponed(self, msg_id: int, until: float) -> None:
        """The gateway is congested."""
        each = self._find(msg_id)
        if each is not None:
            each.again_at = until
            each.tries = 0

    # -- helpers ----------------------------------------------------------------------------------

    def _in_turn(self) -> list[Outgoing]:
        """Those that may be under way: as many as the window has room for, from the oldest."""
        found: list[Outgoing] = []
        left = self._window
        for each in self._messages:
            if left <= 0:
                break
            found.append(each)
            left -= each.message.qos > 0
        return found

    def _name(self, each: Outgoing) -> bool:
        ref = self._topics.ref(each.message.topic)
        if ref is not None:
            each.ref = ref
        return ref is not None

    def _send(self, each: Outgoing, again_at: float) -> Packet:
        if each.tries and each.message.qos > 0:
            self.repeats += 1
        each.tries += 1
        each.again_at = again_at
        if each.step is Step.RELEASED:
            return Pubrel(each.msg_id)
        packet = _publish(each)
        each.step = Step.SENT
        if each.message.qos <= 0:
            self._finish(each, Acknowledged(each.token))
        return packet

    def _finish(self, each: Outgoing, event: ClientEvent) -> None:
        self._messages.remove(each)
        self._tell(event)

    def _find(self, msg_id: int) -> Outgoing | None:
        if not msg_id:
            return None
        return next((each for each in self._messages if each.msg_id == msg_id), None)

    def _next_id(self) -> int:
        taken = {each.msg_id for each in self._messages}
        while True:
            self._last_id = self._last_id % _LAST_ID + 1
            if self._last_id not in taken:
                return self._last_id


def _publish(each: Outgoing) -> Publish:
    message, ref = each.message, each.ref
    assert ref is not None
    is_again = each.tries > 1 and message.qos > 0
    flags = Flags(dup=is_again, qos=message.qos, retain=message.retain, topic_id_type=ref.kind)
    return Publish(flags, ref.topic_id, each.msg_id, message.payload)
