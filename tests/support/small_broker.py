"""A small broker in memory for the gateway of MQTT-SN: it answers by itself, and keeps what comes
for a session whose device is away.

Nobody calls back while being called: what the broker has to say waits for `turn`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from bridges.mqttsn.ports import Message, Opening, Receiver, Will

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.mqttsn.ports import Identity


class Account:
    """What the broker knows of one client id."""

    def __init__(self) -> None:
        self.subscriptions: dict[str, int] = {}
        self.waiting: deque[Message] = deque()
        self.in_flight: dict[int, Message] = {}
        self.released: set[int] = set()  # of QoS 2: PUBREC is there
        self.received: set[int] = set()  # of QoS 2 from the client, not released
        self.last_id = 0
        self.session: SmallSession | None = None

    @property
    def unanswered(self) -> int:
        """Messages that the device does not have for sure."""
        return len(self.waiting) + len(self.in_flight)


class SmallBroker:
    """`arrived` is all that was published by devices, in order; `wake`: `turn` has something."""

    def __init__(self) -> None:
        self.arrived: list[Message] = []
        self.accounts: dict[str, Account] = {}
        self.wills: list[Will] = []
        self.wake: Callable[[], None] = lambda: None
        self._later: deque[Callable[[], None]] = deque()

    def open(self, opening: Opening, receiver: Receiver) -> SmallSession:
        """See Broker."""
        name = opening.identity.client_id
        before = self.accounts.get(name)
        is_present = before is not None and not opening.clean_session
        account = before if before is not None and is_present else Account()
        self.accounts[name] = account
        session = account.session = SmallSession(self, account, opening, receiver)
        self.later(lambda: receiver.on_opened(is_present))
        session.resume()
        return session

    def end_session(self, identity: Identity) -> None:
        """See Broker."""
        self.accounts.pop(identity.client_id, None)

    def publish(self, topic: str, payload: bytes, qos: int) -> None:
        """Somebody else publishes."""
        for account in self.accounts.values():
            granted = account.subscriptions.get(topic)
            if granted is not None:
                account.waiting.append(Message(topic, payload, min(qos, granted)))
                if account.session is not None:
                    account.session.pump()

    def later(self, call: Callable[[], None]) -> None:
        """Do it in the next turn."""
        self._later.append(call)
        self.wake()

    def turn(self) -> bool:
        """Say what waits; whether there was something."""
        waited = bool(self._later)
        while self._later:
            self._later.popleft()()
        return waited

    def forget_connections(self) -> None:
        """The gateway has died."""
        self._later.clear()
        for account in self.accounts.values():
            account.session = None


class SmallSession:
    """See Session."""

    def __init__(
        self, broker: SmallBroker, account: Account, opening: Opening, receiver: Receiver
    ) -> None:
        self.opening = opening
        self._broker = broker
        self._account = account
        self._receiver = receiver
        self._will = opening.will

    def resume(self) -> None:
        """Repeat what was not answered."""
        for msg_id, message in self._account.in_flight.items():
            if msg_id in self._account.released:
                self._later(lambda msg_id=msg_id: self._receiver.on_pubrel(msg_id))
            else:
                self._deliver(message, dup=True)
        self.pump()

    def pump(self) -> None:
        """Deliver what there is room for."""
        account = self._account
        while account.waiting and len(account.in_flight) < self.opening.receive_maximum:
            message = account.waiting.popleft()
            if message.qos:
                account.last_id = account.last_id % 0xFFFF + 1
                message.msg_id = account.last_id
                account.in_flight[message.msg_id] = message
            self._deliver(message)

    def publish(self, message: Message) -> None:
        """See Session."""
        is_known = message.qos == 2 and message.msg_id in self._account.received
        if not is_known:
            self._broker.arrived.append(message)
        if message.qos == 1:
            self._later(lambda: self._receiver.on_puback(message.msg_id, 0))
        elif message.qos == 2:
            self._account.received.add(message.msg_id)
            self._later(lambda: self._receiver.on_pubrec(message.msg_id, 0))

    def pubrel(self, msg_id: int) -> None:
        """See Session."""
        self._account.received.discard(msg_id)
        self._later(lambda: self._receiver.on_pubcomp(msg_id))

    def puback(self, msg_id: int) -> None:
        """See Session."""
        self._finish(msg_id)

    def pubrec(self, msg_id: int) -> None:
        """See Session."""
        self._account.released.add(msg_id)
        self._later(lambda: self._receiver.on_pubrel(msg_id))

    def pubcomp(self, msg_id: int) -> None:
        """See Session."""
        self._account.released.discard(msg_id)
        self._finish(msg_id)

    def subscribe(self, msg_id: int, topic_filter: str, qos: int) -> None:
        """See Session."""
        self._account.subscriptions[topic_filter] = qos
        self._later(lambda: self._receiver.on_suback(msg_id, qos))

    def unsubscribe(self, msg_id: int, topic_filter: str) -> None:
        """See Session."""
        self._account.subscriptions.pop(topic_filter, None)
        self._later(lambda: self._receiver.on_unsuback(msg_id))

    def change_will(self, will: Will | None) -> bool:
        """See Session."""
        self._will = will
        return True

    def fence(self, done: Callable[[bool], None]) -> None:
        """See Session."""
        self._later(lambda: done(False))

    def hold(self, held: bool) -> None:
        """See Session."""

    def close(self, publish_will: bool) -> None:
        """See Session."""
        if self._account.session is self:
            self._account.session = None
        if publish_will and self._will is not None:
            self._broker.wills.append(self._will)

    def _finish(self, msg_id: int) -> None:
        self._account.in_flight.pop(msg_id, None)
        self.pump()

    def _deliver(self, message: Message, dup: bool = False) -> None:
        copy = Message(message.topic, message.payload, message.qos, False, message.msg_id, dup)
        self._later(lambda: self._receiver.on_publish(copy))

    def _later(self, call: Callable[[], None]) -> None:
        def still_open() -> None:
            if self._account.session is self:
                call()

        self._broker.later(still_open)
