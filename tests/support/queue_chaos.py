"""Chaos in queues: what each message is destined for, what its consumers do to it, and the book.

A message is `good` (to be acknowledged by exactly one), `poison` (whoever gets it fails) or `wrong`
(rejected at once). Good ones fail, too, but less often than kills them. All consumers of a test
live on one loop, so that the book knows when a lease is held: from its arrival until something is
said about it, the connection ends, or the lease does.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

GOOD, POISON, WRONG = "good", "poison", "wrong"
ACK, NACK, REJECT, STALL, CRASH, RELEASE = "ack", "nack", "reject", "stall", "crash", "release"
MOST_FAILURES = 4
SPARED = 2  # failures of a good message: no more, or it would die
LEASE = 10.0  # seconds: nobody is so slow by himself
STALLED_LEASE = 0.3  # of who will not come back in time
LAST_WORD = {GOOD: ACK, POISON: NACK, WRONG: REJECT}
DEAD_AFTER = {POISON: "failures", WRONG: "wrong"}


@dataclass(slots=True)
class Message:
    """One message as the book knows it."""

    name: int
    queue: str
    key: str
    destiny: str
    failures: int = 0
    number: int = 0  # of the broker
    holder: str = ""
    held_until: float = 0.0
    is_done: bool = False
    history: list[str] = field(default_factory=list)

    def tell(self, what: str) -> None:
        """For whoever has to find out what went wrong."""
        self.history.append(f"{time.time() % 1000:.3f} {what}")

    @property
    def can_fail(self) -> bool:
        """Once more, without becoming a dead letter that it must not be."""
        return self.destiny == POISON or self.failures < SPARED

    @property
    def payload(self) -> bytes:
        return json.dumps({"name": self.name}).encode()


class Book:
    """Consumers tell it everything; `faults` is what must not be."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.counts: Counter[str] = Counter()
        self.is_over = asyncio.Event()
        self.unseen = 0  # leases at most whose holders were gone before they knew of them
        self.delivered: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._messages: dict[int, Message] = {}
        self._left: set[int] = set()  # of the good to be acknowledged, of the others to be dead
        self._latest: dict[tuple[str, str], int] = {}

    def write(self, queue: str, key: str, destiny: str) -> Message:
        """A new message."""
        message = Message(len(self._messages) + 1, queue, key, destiny)
        self._messages[message.name] = message
        self._left.add(message.name)
        return message

    @property
    def left(self) -> list[Message]:
        return [self._messages[name] for name in sorted(self._left)]

    def arrive(self, who: str, number: int, payload: bytes, until: float | None) -> Message | None:
        """Somebody has got it; None: when he heard of it, his lease was over. `until`: by the
        clock on the wall; None: the end of the lease is not told.
        """
        message = self._messages[json.loads(payload)["name"]]
        now = time.time()
        message.tell(f"to {who}")
        self.counts[f"to {who}"] += 1
        if until is not None and until <= now:
            message.failures += 1
            return None
        self._check(who, message, number, now)
        message.number = number
        message.holder = who
        message.held_until = now + LEASE / 2 if until is None else until
        self.delivered.pop(number, asyncio.Event()).set()
        return message

    def acknowledge(self, message: Message) -> None:
        """Its holder says that it is done."""
        message.tell("ack")
        self._let_go(message)
        message.is_done = True
        if message.destiny != GOOD:
            self.fault(f"{message} was acknowledged")
        self._finish(message)

    def fail(self, message: Message) -> None:
        """Its holder says that it has failed, or will let the lease end."""
        message.tell("failed")
        self._let_go(message)
        message.failures += 1
        message.is_done = message.destiny == POISON and message.failures == MOST_FAILURES

    def reject(self, message: Message) -> None:
        message.tell("rejected")
        self._let_go(message)
        message.is_done = True

    def give_back(self, message: Message) -> None:
        """Its holder releases it, or has gone."""
        message.tell("given back")
        self._let_go(message)

    def bury(self, letter: dict[str, Any]) -> None:
        """A dead letter was found."""
        message = self._messages[json.loads(letter["payload"])["name"]]
        expected = DEAD_AFTER.get(message.destiny)
        if letter["dead_reason"] != expected or letter["dead_from"] != message.queue:
            self.fault(f"{message} is dead: {letter['dead_reason']}, {letter['failures']} failures")
        if letter["failures"] == message.failures + 1 and self.unseen:
            self.unseen -= 1
        elif letter["failures"] != message.failures:
            self.fault(f"{message} has {letter['failures']} failures as a dead letter")
        if message.name not in self._left:
            self.fault(f"{message} is dead twice")
        self._finish(message)

    def fault(self, text: str) -> None:
        self.faults.append(text)

    def stick(self, client_id: str, what: str) -> None:
        """For an MQTT client."""
        self.fault(f"{client_id}: {what}")

    def lose_session(self, client_id: str) -> None:
        """For an MQTT client."""
        self.fault(f"the session of {client_id} is lost")

    def _check(self, who: str, message: Message, number: int, now: float) -> None:
        if message.is_done:
            self.fault(f"{message} came to {who} when all was said")
        if message.holder and now < message.held_until:
            self.fault(f"{message} came to {who}, too")
        if message.number not in (0, number):
            self.fault(f"{message} came to {who} with the number {number}")
        if message.key:
            line = (message.queue, message.key)
            latest = self._latest.get(line, 0)
            if message.name < latest:
                self.fault(f"{message} came to {who} after {latest}")
            self._latest[line] = max(latest, message.name)

    def _let_go(self, message: Message) -> None:
        message.holder = ""

    def _finish(self, message: Message) -> None:
        self._left.discard(message.name)
        if not self._left:
            self.is_over.set()


def decide(chance: random.Random, message: Message) -> str:
    """What its consumer does with it."""
    draw = chance.random()
    if draw < 0.06:
        return CRASH
    if draw < 0.12:
        return RELEASE
    if message.can_fail and draw < 0.3:
        return STALL if draw < 0.2 else NACK
    return LAST_WORD[message.destiny]
