"""A port's own client at the broker: it publishes what a device without MQTT says, and hears the
commands for it.

Rule kept here: a reading is let go when the broker has acknowledged it, and not before; what waits
is bounded, and the oldest gives way. A broker that refuses is asked again, more and more rarely.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from bridges.mqttsn.ports import Message, Opening

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from random import Random

    from bridges.mqttsn.ports import Broker, Identity, Session

MOST_WAITING: Final = 1000  # messages
MOST_UNANSWERED: Final = 64
MOST_COMMANDS: Final = 64  # that wait for the device; more wait in the broker
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a refused client comes again
_NOT_LET_IN: Final = (0x86, 0x87)  # bad user name or password, not authorized
_UNAVAILABLE: Final = 0x88
_SUBSCRIBE: Final = 1
_LAST_MSG_ID: Final = 0xFFFF

log = logging.getLogger("heliograph")


class Speaker:
    """A Receiver. `commands` is a topic filter or ""; `on_work` is called when there is one to
    `take_command`. The session is opened when it is needed first.
    """

    def __init__(
        self,
        broker: Broker,
        identity: Identity,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        commands: str,
        on_work: Callable[[], None],
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._broker = broker
        self._identity = identity
        self._loop = loop
        self._rng = rng
        self._filter = commands
        self._on_work = on_work
        self._most_waiting = most_waiting
        self._session: Session | None = None
        self._is_open = False
        self._waiting: deque[Message] = deque()
        self._unanswered: dict[int, Message] = {}
        self._commands: deque[Message] = deque()
        self._last_id = 0
        self._pause = FIRST_PAUSE
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0
        self.on_open: Callable[[], None] = _nothing

    def start(self) -> None:
        """Listen for commands, if there are any to be heard."""
        if self._filter:
            self._open()

    def say(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Publish, now or when it can be."""
        if len(self._waiting) >= self._most_waiting:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(Message(topic, payload, qos, retain))
        if self._is_open:
            self._publish()
        elif self._session is None and self._timer is None:
            self._open()

    def take_command(self) -> bytes | None:
        """The next command for the device, which then counts as delivered."""
        if not self._commands:
            return None
        message = self._commands.popleft()
        if self._session is not None:
            if message.qos == 1:
                self._session.puback(message.msg_id)
            if len(self._commands) == MOST_COMMANDS // 2:
                self._session.hold(False)
        return message.payload

    def close(self) -> None:
        """Say no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._session is not None:
            self._session.close(publish_will=False)
            self._session = None

    # -- Receiver ---------------------------------------------------------------------------------

    def on_opened(self, session_present: bool) -> None:
        """See Receiver."""
        del session_present  # a clean session has nothing before it
        self._is_open = True
        self._pause = FIRST_PAUSE
        if self._filter and self._session is not None:
            self._session.subscribe(_SUBSCRIBE, self._filter, 1)
        self.on_open()
        self._publish()

    def on_refused(self, reason: int) -> None:
        """See Receiver."""
        if reason in _NOT_LET_IN:
            log.warning(
                "the broker refuses the client %a: check username and password in its [[serial]]; "
                "it comes again in %d s",
                *(self._identity.client_id, self._pause),
            )
        elif reason != _UNAVAILABLE:  # that a broker is not there, the way to it says
            log.warning(
                "the broker refuses the client %a (reason 0x%02x); it comes again in %d s",
                *(self._identity.client_id, reason, self._pause),
            )
        self.on_closed()

    def on_closed(self) -> None:
        """See Receiver. What has no answer is said again."""
        self._session = None
        self._is_open = False
        self._waiting.extendleft(reversed(self._unanswered.values()))
        self._unanswered.clear()
        self._commands.clear()  # the broker has them, or gives them to nobody
        delay = self._pause * (0.75 + self._rng.random() / 2)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._timer = self._loop.call_later(delay, self._open)

    def on_publish(self, message: Message) -> None:
        """See Receiver: a command."""
        self._commands.append(message)
        if len(self._commands) == MOST_COMMANDS and self._session is not None:
            self._session.hold(True)
        self._on_work()

    def on_pubrel(self, msg_id: int) -> None:
        """See Receiver: the subscription is of QoS 1."""

    def on_puback(self, msg_id: int, reason: int) -> None:
        """See Receiver. A refusal is for good: it would be the same again."""
        del reason
        self._unanswered.pop(msg_id, None)
        self._publish()

    def on_pubrec(self, msg_id: int, reason: int) -> None:
        """See Receiver."""
        if reason >= 0x80 or self._session is None:
            self.on_puback(msg_id, reason)
        else:
            self._session.pubrel(msg_id)

    def on_pubcomp(self, msg_id: int) -> None:
        """See Receiver."""
        self.on_puback(msg_id, 0)

    def on_suback(self, msg_id: int, reason: int) -> None:
        """See Receiver."""
        del msg_id
        if reason >= 0x80:
            log.warning(
                "%a may not subscribe to its commands %a: allow it, or change commands in "
                "[[serial]]",
                *(self._identity.client_id, self._filter),
            )

    def on_unsuback(self, msg_id: int) -> None:
        """See Receiver: nothing is ever unsubscribed."""

    # -- helpers ----------------------------------------------------------------------------------

    def _open(self) -> None:
        self._timer = None
        self._session = self._broker.open(Opening(self._identity, receive_maximum=16), self)

    def _publish(self) -> None:
        session = self._session
        while self._waiting and self._is_open and session is not None:
            if len(self._unanswered) >= MOST_UNANSWERED:
                return
            message = self._waiting.popleft()
            if message.qos:
                message.msg_id = self._free_id()
                self._unanswered[message.msg_id] = message
            session.publish(message)

    def _free_id(self) -> int:
        self._last_id = self._last_id % _LAST_MSG_ID + 1
        while self._last_id in self._unanswered or (self._filter and self._last_id == _SUBSCRIBE):
            self._last_id = self._last_id % _LAST_MSG_ID + 1
        return self._last_id


def _nothing() -> None:
    """Nobody wants to know."""
