"""The ledger of queues: what was put into them, handed out and settled, kept outside the broker.

The rules, for each queue:
- an acknowledged message that is addressed to it is handed out, and at the end nothing is left;
- a message published with QoS 2 stands in it once, whatever happened;
- of one key (in the queue of a single consumer: of all messages) first arrivals keep the order of
  sending, for each publisher;
- what was confirmed as done never comes again: an answered ack over HTTP, a PUBREL; and what a
  QoS 2 session has been given is never given to anybody else;
- a number means one message for ever.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tests.crash.ledger import read_key

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tests.crash.ledger import Key, Ledger, Message

FREE, BY_KEY, SINGLE = "free", "key", "single"  # which order a queue keeps
KEY_LEVEL = 2  # of a topic

Place = tuple[str, int]  # queue and number


class QueueLedger:
    """Workers tell it everything; faults are counted in the ledger of all."""

    def __init__(self, ledger: Ledger, orders: Mapping[str, str]) -> None:
        self._ledger = ledger
        self._orders = orders
        self._messages: dict[Key, Message] = {}
        self._queues: dict[Key, Collection[str]] = {}  # which ones a message is for
        self._unjudged: dict[Key, Message] = {}
        self._numbers: defaultdict[tuple[str, Key], set[int]] = defaultdict(set)
        self._known: dict[Place, Key] = {}
        self._confirmed: set[Place] = set()
        self._owners: dict[Place, str] = {}  # QoS 2 sessions
        self._latest: dict[tuple[str, ...], int] = {}

    def expect(self, message: Message, queues: Collection[str]) -> Message:
        """It is for these queues."""
        self._messages[message.key] = self._unjudged[message.key] = message
        self._queues[message.key] = queues
        return message

    def arrive(
        self, queue: str, number: int, topic: str, payload: bytes, *, only_for: str = ""
    ) -> None:
        """Handed out; `only_for`: to a session that from now on is the only one to have it."""
        self._ledger.counts["consumed"] += 1
        key, _ = read_key(payload)
        message = self._messages.get(key)
        if message is None or queue not in self._queues[key]:
            self._ledger.fault("stray", f"{key} in {queue}: nobody sent it that")
        elif message.payload != payload or message.topic != topic:
            self._ledger.fault("damaged", f"{key} in {queue}: not what was sent")
        else:
            self._take((queue, number), message, only_for)

    def confirm(self, queue: str, number: int) -> None:
        """The broker has said that it is done."""
        self._confirmed.add((queue, number))

    def judge(self) -> None:
        """All publishers have finished and the queues are empty: what never came is lost."""
        for key, message in self._unjudged.items():
            for queue in self._queues[key]:
                if message.acknowledged and not self._numbers[queue, key]:
                    self._ledger.lost_by[queue] += 1
                    self._ledger.fault("lost", f"{key}, acknowledged, never came out of {queue}")
        self._unjudged.clear()

    def _take(self, place: Place, message: Message, only_for: str) -> None:
        queue, number = place
        self._check_number(place, message.key)
        if place in self._confirmed:
            self._ledger.fault("came_back", f"{message.key}, {place}: it had been confirmed")
        elif place in self._owners:
            self._ledger.fault("came_back", f"{message.key}, {place}: {self._owners[place]} has it")
        if only_for:
            self._owners[place] = only_for
        numbers = self._numbers[queue, message.key]
        if not numbers:
            self._check_order(queue, message)
        numbers.add(number)
        if message.qos == 2 and len(numbers) > 1:
            self._ledger.fault("duplicates", f"{message.key} is in {queue} as {sorted(numbers)}")

    def _check_number(self, place: Place, key: Key) -> None:
        known = self._known.setdefault(place, key)
        if known != key:
            self._ledger.fault("renumbered", f"{place} was {known} and is {key}")
            self._known[place] = key

    def _check_order(self, queue: str, message: Message) -> None:
        order = self._orders[queue]
        if order == FREE:
            return
        line = message.topic.split("/")[KEY_LEVEL] if order == BY_KEY else ""
        place = (queue, line, message.publisher)
        latest = self._latest.get(place, 0)
        if message.sequence < latest:
            self._ledger.fault("out_of_order", f"{message.key} came out of {queue} after {latest}")
        self._latest[place] = max(latest, message.sequence)
