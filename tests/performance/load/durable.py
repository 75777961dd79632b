"""Durable pairs: QoS 1, each subscriber online with a session that outlives its connection.

A publisher sends the next message when it has a PUBACK, that is the broker's word that none is
lost. A message counts when it has been both acknowledged and delivered.
"""

import socket

from tests.performance import wire
from tests.performance.load.clients import Readers, open_clients, subscribe_each
from tests.performance.load.inbox import Inbox
from tests.performance.load.publisher import Publisher
from tests.performance.measure import Latencies, Tally

PAIRS = 8
WINDOW = 32
AHEAD = wire.CYCLE // 2  # messages on the way to one subscriber: beyond, a fault has no name


class Pair:
    __slots__ = ("inbox", "publisher")

    def __init__(self, inbox: Inbox, publisher: Publisher) -> None:
        self.inbox, self.publisher = inbox, publisher

    @property
    def done(self) -> int:
        return min(self.inbox.received, self.publisher.finished)

    def read_messages(self) -> None:
        self.inbox.read_qos1()
        self.publisher.limit = self.inbox.received + AHEAD
        self.publisher.refill()


class DurableLoad:
    """Eight pairs."""

    def __init__(self, port: int) -> None:
        self.latencies, self.tally = Latencies(), Tally()
        topics = [f"bench/kept/{chr(ord('a') + n)}" for n in range(PAIRS)]
        names = [f"sub-{topic[-1]}" for topic in topics]
        subscribers = open_clients(port, names, wire.V311, clean_session=False)
        subscribe_each(subscribers, topics, 1, wire.V311)
        publishers = open_clients(port, [f"pub-{topic[-1]}" for topic in topics], wire.V311)
        self._pairs = [*map(self._pair, topics, subscribers, publishers)]
        self.readers: Readers = {}
        for pair, subscriber, publisher in zip(self._pairs, subscribers, publishers, strict=True):
            self.readers[subscriber] = pair.read_messages
            self.readers[publisher] = pair.publisher.turn

    @property
    def delivered(self) -> int:
        return sum(pair.done for pair in self._pairs)

    @property
    def published(self) -> int:
        return sum(pair.publisher.sent for pair in self._pairs)

    def start(self) -> None:
        for pair in self._pairs:
            pair.publisher.refill()

    def stop(self) -> None:
        for pair in self._pairs:
            pair.publisher.sending = False

    def settled(self) -> bool:
        return all(pair.done == pair.publisher.sent for pair in self._pairs)

    def close(self) -> None:
        for pair in self._pairs:
            self.tally.unacknowledged += pair.publisher.sent - pair.publisher.finished
            pair.inbox.close(due=pair.publisher.sent)
            pair.publisher.close()

    def _pair(self, topic: str, subscriber: socket.socket, publisher: socket.socket) -> Pair:
        expected = wire.received_tape(topic, 1, wire.V311)
        inbox = Inbox(subscriber, self.tally, expected, topic)
        return Pair(inbox, Publisher(topic, publisher, WINDOW, self.latencies))
