"""A queue between eight publishers and eight consumers, who share its messages.

A publisher sends the next message when it has a confirmation, and when as many have been taken as
were sent, but for a few: so what waits in the queue stays as much as it was. Counted are messages
that a consumer has taken and acknowledged.
"""

import contextlib
import dataclasses
import math
import socket
import time
from collections.abc import Callable

from tests.performance.brokers import WIDE, Running
from tests.performance.driver import Budget, Loop, drive
from tests.performance.load.clients import Readers, pull, push
from tests.performance.load.ledger import Ledger, Source
from tests.performance.load.speech import (
    SPEECHES,
    AmqpConsuming,
    AmqpPublishing,
    MqttConsuming,
    MqttPublishing,
)
from tests.performance.measure import FaultError, Figures, Latencies, Tally

PUBLISHERS = CONSUMERS = 8
WINDOW = 32  # messages of one publisher that are not confirmed
AHEAD = 64  # messages of one publisher that nobody has taken, beside those that wait
FILLING = 512  # as WINDOW, while the queue is filled
FILL_LIMIT = 240.0  # seconds
REST = 1.0  # seconds between the filling and the load
DRAINED = 10_000  # a queue with more than these is not emptied to see whether all are there
PAUSE = 0.01  # seconds between two messages when the queue is idle
LONGER = 5  # times the usual time for as many samples as a p99 needs
NARROW_QUEUE, WIDE_QUEUE = ("work", 16), ("wide", WIDE)  # queue and prefetch


class Publisher:
    __slots__ = ("_socket", "_source", "_speech", "finished", "limit", "sending", "window")

    def __init__(
        self, client: socket.socket, source: Source, speech: MqttPublishing | AmqpPublishing
    ) -> None:
        self._socket, self._source, self._speech = client, source, speech
        self.finished, self.window = 0, WINDOW
        self.limit: float = math.inf  # never more messages than this in all
        self.sending = True

    @property
    def settled(self) -> bool:
        return self.finished == self._source.sent

    def turn(self) -> None:
        self.finished += self._speech.confirmed(pull(self._socket))
        self.refill()

    def refill(self) -> None:
        """Send what the window and the limit allow."""
        start = self._source.sent
        count = int(min(self.finished + self.window, self.limit)) - start
        if count > 0 and self.sending:
            push(self._socket, self._speech.encode(start, count))
            self._source.note_sent(count)


class Consumer:
    __slots__ = ("_last", "_ledger", "_socket", "_speech", "acknowledging", "held")

    def __init__(
        self, client: socket.socket, ledger: Ledger, speech: MqttConsuming | AmqpConsuming
    ) -> None:
        self._socket, self._ledger, self._speech = client, ledger, speech
        self._last: dict[str, int] = {}
        self.acknowledging = True
        self.held = 0  # messages taken while it acknowledges nothing

    def turn(self) -> None:
        bodies, acks = self._speech.take(pull(self._socket))
        self._ledger.take(bodies, self._last)
        if self.acknowledging and acks:
            push(self._socket, acks)
        else:
            self.held += len(bodies)


class WorkLoad:
    """`waiting` messages are in the queue before the first consumer comes."""

    def __init__(
        self,
        broker: Running,
        queue: tuple[str, int] = NARROW_QUEUE,
        waiting: int = 0,
        publishers: int = PUBLISHERS,
        ahead: int = AHEAD,
    ) -> None:
        self.latencies, self.tally = Latencies(), Tally()
        speech, (name, self._prefetch) = SPEECHES[broker.kind.speech], queue
        self.ledger = Ledger([*"abcdefgh"[:publishers]], self.latencies, self.tally)
        clients = speech.open_publishers(broker.port, publishers, name)
        self.publishers = [
            Publisher(client, source, speech.publishing(source, name))
            for client, source in zip(clients, self.ledger.sources, strict=True)
        ]
        self.readers: Readers = {
            client: publisher.turn
            for client, publisher in zip(clients, self.publishers, strict=True)
        }
        self._waiting, self._ahead = waiting // publishers, ahead
        self._fill()
        clients = speech.open_consumers(broker.port, CONSUMERS, name, self._prefetch)
        self._consumers = [Consumer(each, self.ledger, speech.consuming(name)) for each in clients]
        for client, consumer in zip(clients, self._consumers, strict=True):
            self.readers[client] = self._turn_of(consumer)

    @property
    def delivered(self) -> int:
        return self.ledger.taken

    @property
    def _is_deep(self) -> bool:
        return self._waiting > DRAINED

    def start(self) -> None:
        """Where some shall wait, a window must not keep the publishers behind the consumers: those
        would empty the queue, and then nothing waits.
        """
        window = min(self._waiting + self._ahead, FILLING) if self._waiting else WINDOW
        for publisher in self.publishers:
            publisher.window = window
        self._allow()

    def send_one(self) -> None:
        for publisher, source in zip(self.publishers, self.ledger.sources, strict=True):
            publisher.limit = source.sent + 1
            publisher.refill()

    def stop(self) -> None:
        """Consumers of a deep queue take what their prefetch allows and acknowledge it no more."""
        for publisher in self.publishers:
            publisher.sending = False
        for consumer in self._consumers:
            consumer.acknowledging = not self._is_deep

    def settled(self) -> bool:
        confirmed = all(publisher.settled for publisher in self.publishers)
        if self._is_deep:
            return confirmed and all(each.held >= self._prefetch for each in self._consumers)
        return confirmed and self.ledger.taken == self.ledger.sent

    def close(self) -> None:
        for source, publisher in zip(self.ledger.sources, self.publishers, strict=True):
            self.tally.unacknowledged += source.sent - publisher.finished
        self.ledger.close(whole=not self._is_deep)
        for client in self.readers:
            client.close()

    def _turn_of(self, consumer: Consumer) -> Callable[[], None]:
        def turn() -> None:
            consumer.turn()
            self._allow()

        return turn

    def _allow(self) -> None:
        share = self.ledger.taken // len(self.publishers) + self._waiting + self._ahead
        for publisher in self.publishers:
            publisher.limit = share
            publisher.refill()

    def _fill(self) -> None:
        if not self._waiting:
            return
        for publisher in self.publishers:
            publisher.window, publisher.limit = FILLING, self._waiting
            publisher.refill()
        with contextlib.closing(Loop(self.readers)) as loop:
            loop.run(FILL_LIMIT, until=self._is_filled)
        if not self._is_filled():
            raise FaultError(f"only {self.ledger.sent:,} messages waited after {FILL_LIMIT:.0f} s")
        time.sleep(REST)

    def _is_filled(self) -> bool:
        return all(publisher.finished >= self._waiting for publisher in self.publishers)


def measure_idle_queue(broker: Running, budget: Budget) -> Figures:
    """One message after the other, with pauses in which nothing happens."""
    load = WorkLoad(broker, publishers=1, ahead=0)

    def pace(loop: Loop, seconds: float) -> None:
        loop.pace(seconds, PAUSE, load.send_one)

    longer = dataclasses.replace(budget, seconds=budget.seconds * LONGER)
    return drive(load, broker, longer, pace)
