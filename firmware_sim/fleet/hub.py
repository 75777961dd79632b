"""A broker's place in virtual time: a tiny model in memory, for runs that need no broker.

It keeps sessions, takes readings and notes them in the books, and passes commands on, also to
devices that sleep. It is no broker: there are no filters, no retained messages and no wills. What a
real broker does with a fleet is seen in real time.
"""

# ruff: noqa: ARG002 - a `Way` is told the time

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from firmware_sim.clients.client import (
    Acknowledged,
    Arrived,
    Asleep,
    Collected,
    Down,
    Message,
    Up,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firmware_sim.books.books import Books
    from firmware_sim.books.ledger import Stream
    from firmware_sim.clients.client import ClientEvent
    from firmware_sim.fleet.crew import Device
    from firmware_sim.wire.worlds import World

LATENCY: Final = 0.02  # seconds one way, on average
MOST_WAITING: Final = 1000  # commands for one session
RETRY: Final = (0.5, 15.0)  # the first and the last pause before a client connects again


class Member(Protocol):
    """Somebody who is connected to the hub."""

    def deliver(self, message: Message, now: float) -> None:
        """A command for it."""

    def taken_over(self, now: float) -> None:
        """Another one has come with its client id."""


class Session:
    """What the hub keeps of a client id."""

    __slots__ = ("is_durable", "member", "seen", "topics", "waiting")

    def __init__(self) -> None:
        self.member: Member | None = None
        self.is_durable = False
        self.topics: set[str] = set()
        self.seen: set[tuple[str, bytes]] = set()  # QoS 2, not completed
        self.waiting: deque[Message] = deque(maxlen=MOST_WAITING)


class Hub:
    """All sessions of a run."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._sessions: dict[str, Session] = {}

    def join(self, client_id: str, member: Member, now: float, *, durable: bool) -> bool:
        """A client connects; returns whether its session was there."""
        present = client_id in self._sessions
        session = self._sessions.setdefault(client_id, Session())
        if session.member is not None and session.member is not member:
            session.member.taken_over(now)
        if not (durable and present and session.is_durable):
            session = self._sessions[client_id] = Session()
            present = False
        session.member, session.is_durable = member, durable
        while session.waiting:
            member.deliver(session.waiting.popleft(), now)
        return present

    def leave(self, client_id: str, member: Member) -> None:
        """A client is gone, with or without a word; a durable session stays."""
        session = self._sessions.get(client_id)
        if session is None or session.member is not member:
            return
        session.member = None
        if not session.is_durable:
            del self._sessions[client_id]

    def subscribe(self, client_id: str, topic: str) -> None:
        """Commands on this topic are for this client."""
        if client_id in self._sessions:
            self._sessions[client_id].topics.add(topic)

    def take(self, client_id: str, message: Message, now: float) -> None:
        """A reading has come."""
        session = self._sessions.get(client_id)
        if message.qos == 2 and session is not None:
            key = (message.topic, message.payload)
            if key in session.seen:
                return
            session.seen.add(key)
        self._books.arrived(message.topic, message.payload, now)

    def complete(self, client_id: str, message: Message) -> None:
        """A reading of QoS 2 will not come again."""
        session = self._sessions.get(client_id)
        if session is not None:
            session.seen.discard((message.topic, message.payload))

    def command(self, message: Message, stream: Stream, seq: int, now: float) -> bool:
        """Somebody commands a device."""
        stream.acknowledged(seq, now)
        for session in self._sessions.values():
            if message.topic not in session.topics:
                continue
            if session.member is not None:
                session.member.deliver(message, now)
            elif session.is_durable:
                session.waiting.append(message)
        return True


class HubClient:
    """A device's way to the hub, as TCP would be: in order, late, and cut when the power is."""

    def __init__(
        self, device: Device, hub: Hub, world: World, heard: Callable[[], None], *, acks: bool
    ) -> None:
        self._device, self._hub, self._world, self._heard = device, hub, world, heard
        self._acks = acks
        self._events: list[ClientEvent] = []
        self._unanswered: dict[int, Message] = {}
        self._topics: list[str] = []
        self._wanted = self._up = False
        self._era = 0  # of the connection: what belongs to an old one is not heard any more
        self._free_at = [0.0, 0.0]  # there and back: nothing overtakes
        self._failures = 0
        self._collecting = False
        self._plugged = True

    # ---- Way ----

    @property
    def is_up(self) -> bool:
        """See Client."""
        return self._up

    def connect(self, now: float) -> None:
        """See Client."""
        self._collecting = False
        if not self._wanted:
            self._wanted = True
            self._open()

    def publish(self, message: Message, token: int, now: float) -> bool:
        """See Client."""
        if not self._up:
            return False
        if message.qos > 0:
            self._unanswered[token] = message
        else:
            self._tell(Acknowledged(token))
        self._send(message, token)
        return True

    def subscribe(self, topic_filter: str, qos: int, now: float) -> None:
        """See Client."""
        if topic_filter not in self._topics:
            self._topics.append(topic_filter)
        if self._up:
            self._hub.subscribe(self._client_id, topic_filter)

    def sleep(self, duration: float, now: float) -> None:
        """See Client."""
        self.disconnect(now)
        self._tell(Asleep())

    def wake(self, now: float) -> None:
        """See Client."""
        self.connect(now)
        self._collecting = True

    def disconnect(self, now: float) -> None:
        """See Client."""
        self._wanted = self._up = False
        self._era += 1
        self._hub.leave(self._client_id, self)

    def take_events(self) -> Sequence[ClientEvent]:
        """See Client."""
        events, self._events = self._events, []
        return events

    def cut(self, now: float) -> None:
        """See Way."""
        self.disconnect(now)
        self._events.clear()
        self._unanswered.clear()

    def forget(self, now: float) -> None:
        """See Way."""
        self.disconnect(now)

    def unplug(self, now: float) -> None:
        """See Way."""
        self._plugged = False
        if self._up:
            self._up = False
            self._tell(Down("unplugged"))
        self._era += 1
        self._hub.leave(self._client_id, self)

    def plug(self, now: float) -> None:
        """See Way."""
        self._plugged = True
        if self._wanted:
            self._open()

    def quality(self) -> None:
        """See Way."""

    def close(self, now: float) -> None:
        """See Way."""

    # ---- Member ----

    def deliver(self, message: Message, now: float) -> None:
        """See Member."""
        self._later(1, lambda: self._arrive(message))

    def taken_over(self, now: float) -> None:
        """See Member."""
        self._up = False
        self._era += 1
        self._tell(Down("session taken over"))
        first, last = RETRY
        pause = min(first * 2**self._failures, last) * self._device.rng.uniform(0.5, 1.0)
        self._failures = min(self._failures + 1, 10)
        self._at(now + pause, self._open)

    # ---- what takes time ----

    @property
    def _client_id(self) -> str:
        return self._device.plan.client_id

    def _open(self) -> None:
        if not self._plugged:
            return
        self._later(0, lambda: self._later(1, self._opened))

    def _opened(self) -> None:
        now = self._world.now
        self._up = True
        present = self._hub.join(self._client_id, self, now, durable=self._device.kind.is_durable)
        for topic in self._topics:
            self._hub.subscribe(self._client_id, topic)
        self._tell(Up(present))
        for token, message in self._unanswered.items():
            self._send(message, token)
        if self._collecting:
            self._later(1, self._collected)

    def _collected(self) -> None:
        self.disconnect(self._world.now)
        self._tell(Collected())

    def _send(self, message: Message, token: int) -> None:
        self._later(0, lambda: self._reach(message, token))

    def _reach(self, message: Message, token: int) -> None:
        self._hub.take(self._client_id, message, self._world.now)
        if message.qos > 0:
            self._later(1, lambda: self._answered(message, token))

    def _answered(self, message: Message, token: int) -> None:
        self._failures = 0
        if self._unanswered.pop(token, None) is not None:
            self._hub.complete(self._client_id, message)
            self._tell(Acknowledged(token))

    def _arrive(self, message: Message) -> None:
        evidence = self._device.evidence
        evidence.taken += 1
        evidence.confirmed += self._acks
        self._tell(Arrived(message))

    def _later(self, direction: int, call: Callable[[], None]) -> None:
        """After a latency, and behind what went before; never, if the connection ends."""
        lateness = LATENCY * self._device.rng.uniform(0.5, 1.5)
        when = max(self._world.now + lateness, self._free_at[direction])
        self._free_at[direction] = when
        self._at(when, call)

    def _at(self, when: float, call: Callable[[], None]) -> None:
        era = self._era

        def due() -> None:
            if era == self._era:
                call()

        self._world.at(when, due)

    def _tell(self, event: ClientEvent) -> None:
        self._events.append(event)
        self._world.at(self._world.now, self._heard)
