"""The ledger: what was sent, acknowledged and received, kept outside the broker, and its judgement.

The rules, per receiver (a durable session, or a shared group as a whole):
- an acknowledged message that is addressed to it arrives; acknowledged means PUBACK, and for QoS 2
  PUBREC, for from then on the publisher must not send it again;
- QoS 2 arrives once, acknowledged or not; QoS 1 may be repeated;
- first arrivals keep the order of sending, for each publisher, topic and QoS;
- what arrives is what was sent, and addressed to the receiver.
A retained topic holds the last acknowledged message, or a later one whose fate is unknown.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field

EXAMPLES = 5  # of each kind of fault are told in words; all are counted

FAULTS = (
    "lost",
    "duplicates",
    "out_of_order",
    "damaged",
    "stray",
    "wrong_retained",
    "sessions_lost",
    "stuck",
    "came_back",
    "renumbered",
)
COUNTS = ("sent", "acknowledged", "refused", "given_up", "delivered", "repeated", "consumed")

Key = tuple[str, int]  # publisher, sequence


@dataclass(slots=True)
class Message:
    """One message as its publisher knows it."""

    publisher: str
    sequence: int
    topic: str
    qos: int
    retain: bool
    payload: bytes
    acknowledged: bool = False

    @property
    def key(self) -> Key:
        return self.publisher, self.sequence


@dataclass(slots=True, eq=False)
class Receiver:
    """A durable session or a shared group: what it wants and what it has seen since judged last."""

    name: str
    filters: dict[str, int]
    is_group: bool = False
    seen: set[Key] = field(default_factory=set)
    awaited: set[Key] = field(default_factory=set)

    def qos_for(self, topic: str, published: int) -> int | None:
        """What it gets such a message with; None when it did not subscribe to it."""
        for name, qos in self.filters.items():
            if matches(name, topic):
                return min(qos, published)
        return None


class Ledger:
    """Clients tell it everything; `judge` and `judge_retained` count what must not be."""

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self.examples: list[str] = []
        self.lost_by: Counter[str] = Counter()  # receiver -> messages it never got
        self.is_complete = asyncio.Event()  # nothing that `await_all` asked for is missing
        self._receivers: dict[str, Receiver] = {}
        self._messages: dict[Key, Message] = {}  # since judged last
        self._sequences: Counter[str] = Counter()
        self._judged: Counter[str] = Counter()  # publisher -> the last sequence judged
        self._latest: dict[tuple[str, str, str, int], int] = {}  # first arrivals, for their order
        self._retained: defaultdict[str, list[Message]] = defaultdict(list)

    # ---- what clients tell ----

    def add_receiver(self, session: str, filters: dict[str, int], group: str = "") -> None:
        """Sessions of one group share a receiver; their filters are without `$share/group/`."""
        name = group or session
        receiver = self._receivers.get(name) or Receiver(name, filters, bool(group))
        self._receivers[name] = self._receivers[session] = receiver

    def new_message(
        self, publisher: str, topic: str, qos: int, size: int, retain: bool = False
    ) -> Message:
        """A message that nobody has sent before; a retained one of size 0 clears its topic."""
        self._sequences[publisher] += 1
        sequence = self._sequences[publisher]
        payload = f"{publisher} {sequence} {qos} {topic} ".encode()
        payload = b"" if retain and not size else payload.ljust(size, b".")
        message = Message(publisher, sequence, topic, qos, retain, payload)
        self._messages[message.key] = message
        if retain:
            self._retained[topic].append(message)
        self.counts["sent"] += 1
        return message

    def acknowledge(self, message: Message) -> None:
        if not message.acknowledged:
            message.acknowledged = True
            self.counts["acknowledged"] += 1

    def refuse(self, message: Message) -> None:
        self.counts["refused"] += 1
        if message.retain:
            self._retained[message.topic].remove(message)

    def give_up(self, message: Message) -> None:
        """Its publisher's session is over: it may arrive or not."""
        self.counts["given_up"] += 1

    def arrive(self, session: str, topic: str, payload: bytes, retain: bool = False) -> None:
        """A delivery, after the client has removed the repetitions that QoS 2 lets it know."""
        self.counts["delivered"] += 1
        if not payload or retain:
            return  # who clears a topic has no name; a stored copy is no delivery in order
        receiver = self._receivers[session]
        key, published = read_key(payload)
        message = self._messages.get(key)
        if message is None:
            self._arrive_late(receiver, key, receiver.qos_for(topic, published))
        elif message.payload != payload or message.topic != topic:
            self.fault("damaged", f"{key} at {session}: not what was sent")
        elif (qos := receiver.qos_for(topic, message.qos)) is None:
            self.fault("stray", f"{key} at {session}: {topic} was not subscribed to")
        else:
            self._take(receiver, session, message, qos)

    def lose_session(self, client_id: str) -> None:
        self.fault("sessions_lost", f"the session of {client_id} was promised and is not there")

    def stick(self, client_id: str, what: str) -> None:
        self.fault("stuck", f"{client_id}: {what}")

    def fault(self, kind: str, text: str) -> None:
        """One more of a kind; the first few are told in words."""
        self.faults[kind] += 1
        if self.faults[kind] <= EXAMPLES:
            self.examples.append(f"{kind}: {text}")

    # ---- judgement ----

    def await_all(self) -> None:
        """From now on `is_complete` tells whether everything acknowledged has arrived."""
        for receiver in set(self._receivers.values()):
            receiver.awaited = self._due(receiver) - receiver.seen
        self._look()

    @property
    def missing(self) -> int:
        return sum(len(receiver.awaited) for receiver in set(self._receivers.values()))

    def judge(self) -> None:
        """Counts what `await_all` asked for and is missing.

        The acknowledged messages are history then; the others may still arrive, or never.
        """
        for receiver in set(self._receivers.values()):
            for key in sorted(receiver.awaited):
                topic = self._messages[key].topic
                self.lost_by[receiver.name] += 1
                self.fault("lost", f"{key} on {topic}, acknowledged, never came to {receiver.name}")
            receiver.awaited.clear()
        self._messages = {
            key: each for key, each in self._messages.items() if not each.acknowledged
        }
        for receiver in set(self._receivers.values()):
            receiver.seen &= self._messages.keys()
        self._judged = self._sequences.copy()

    def retained_expected(self) -> set[str]:
        """Topics that a fresh subscriber gets for certain."""
        return {
            topic for topic, messages in self._retained.items() if all(fates(messages).values())
        }

    def judge_retained(self, found: dict[str, bytes]) -> None:
        """`found`: what a fresh subscriber to everything retained has got."""
        for topic in sorted(found.keys() | self._retained.keys()):
            messages = self._retained[topic]
            payload = found.get(topic, b"")
            if payload not in fates(messages):
                known = [message.sequence for message in messages][-3:]
                shown = payload[:40] or b"nothing"
                self.fault("wrong_retained", f"{topic} holds {shown!r}; the last were {known}")
            self._retained[topic] = messages[max(last_acknowledged(messages), 0) :]

    # ---- inside ----

    def _take(self, receiver: Receiver, session: str, message: Message, qos: int) -> None:
        key = message.key
        if key in receiver.seen:
            self._repeat(receiver, key, qos)
            return
        receiver.seen.add(key)
        if not receiver.is_group:
            self._check_order(session, message)
        if receiver.awaited:
            receiver.awaited.discard(key)
            if not receiver.awaited:
                self._look()

    def _repeat(self, receiver: Receiver, key: Key, qos: int) -> None:
        if qos == 2:
            self.fault("duplicates", f"{key} of QoS 2 came again to {receiver.name}")
        else:
            self.counts["repeated"] += 1

    def _check_order(self, session: str, message: Message) -> None:
        place = (session, message.publisher, message.topic, message.qos)
        latest = self._latest.get(place, 0)
        if message.sequence < latest:
            self.fault("out_of_order", f"{message.key} came to {session} after {latest}")
        self._latest[place] = max(latest, message.sequence)

    def _arrive_late(self, receiver: Receiver, key: Key, qos: int | None) -> None:
        """Something judged before, or nothing of ours."""
        publisher, sequence = key
        if qos is None or not 0 < sequence <= self._judged[publisher]:
            self.fault("stray", f"{key} at {receiver.name}: nobody sent it that")
        else:
            self._repeat(receiver, key, qos)

    def _due(self, receiver: Receiver) -> set[Key]:
        return {
            key
            for key, message in self._messages.items()
            if message.acknowledged
            and message.payload
            and receiver.qos_for(message.topic, message.qos) is not None
        }

    def _look(self) -> None:
        if self.missing:
            self.is_complete.clear()
        else:
            self.is_complete.set()


def fates(messages: list[Message]) -> dict[bytes, bool]:
    """What a topic may hold (b"": nothing), each with whether that is something."""
    last = last_acknowledged(messages)
    before = {b"": False} if last < 0 else {}
    return before | {each.payload: bool(each.payload) for each in messages[max(last, 0) :]}


def last_acknowledged(messages: list[Message]) -> int:
    """Its place; -1 when there is none."""
    return max((at for at, each in enumerate(messages) if each.acknowledged), default=-1)


def read_key(payload: bytes) -> tuple[Key, int]:
    """Who sent it, and with which QoS."""
    try:
        publisher, sequence, qos, _ = payload.split(b" ", 3)
        return (publisher.decode(), int(sequence)), int(qos)
    except ValueError:
        return ("nobody", 0), 0


def matches(name: str, topic: str) -> bool:
    """MQTT filters, plainly; our topics never begin with `$`."""
    wanted, levels = name.split("/"), topic.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or level not in ("+", levels[at]):
            return False
    return len(wanted) == len(levels)
