"""Fan-out: one publisher, many subscribers of its topic, QoS 0.

The publisher sends the next message when the last subscriber has received one; `window` says how
many may be outstanding.
"""

import socket
import time
from functools import partial

from tests.performance import wire
from tests.performance.load.clients import Readers, open_clients, pull, push, subscribe_each
from tests.performance.measure import FaultError, Latencies, Tally

SUBSCRIBERS = 500
_TOPIC = "bench/out"


class _Subscriber:
    __slots__ = ("name", "received", "socket", "tail")

    def __init__(self, name: str, client: socket.socket) -> None:
        self.name, self.socket = name, client
        self.received, self.tail = 0, b""


class FanOutLoad:
    def __init__(self, port: int, subscribers: int, window: int) -> None:
        self.latencies, self.tally = Latencies(), Tally()
        self.delivered = 0
        self._window, self._sending = window, True
        self._sent = self._complete = 0
        self._missing = [0] * wire.CYCLE  # by number: how many subscribers still lack it
        self._sent_at = [0.0] * wire.CYCLE
        self._tape = wire.sent_tape(_TOPIC, 0, wire.V311)
        names = [f"subscriber-{n}" for n in range(subscribers)]
        clients = open_clients(port, names, wire.V311)
        subscribe_each(clients, [_TOPIC] * subscribers, 0, wire.V311)
        (self._publisher,) = open_clients(port, ["publisher"], wire.V311)
        self._subscribers = [_Subscriber(*each) for each in zip(names, clients, strict=True)]
        self.readers: Readers = {
            each.socket: partial(self._read, each) for each in self._subscribers
        }
        self.readers[self._publisher] = self._refuse

    def start(self) -> None:
        self._refill()

    def stop(self) -> None:
        self._sending = False

    def settled(self) -> bool:
        return self._complete == self._sent

    def close(self) -> None:
        for each in self._subscribers:
            self.tally.skipped(each.name, range(each.received, self._sent))
            each.socket.close()
        self._publisher.close()

    def _refill(self) -> None:
        count = self._complete + self._window - self._sent
        if count > 0 and self._sending:
            now = time.perf_counter()
            for number in range(self._sent, self._sent + count):
                self._missing[number % wire.CYCLE] = len(self._subscribers)
                self._sent_at[number % wire.CYCLE] = now
            push(self._publisher, self._tape.cut(self._sent, count))
            self._sent += count

    def _read(self, subscriber: _Subscriber) -> None:
        data = pull(subscriber.socket)
        if subscriber.tail:
            data = subscriber.tail + data
        count, rest = divmod(len(data), self._tape.stride)
        if rest:
            data, subscriber.tail = data[:-rest], data[-rest:]
        else:
            subscriber.tail = b""
        start = subscriber.received
        if data != self._tape.cut(start, count):
            self._examine(subscriber, data)
        self._arrived(subscriber, start, count)

    def _arrived(self, subscriber: _Subscriber, start: int, count: int) -> None:
        now, note = time.perf_counter(), self.latencies.note
        subscriber.received = start + count
        self.delivered += count
        for number in range(start, start + count):
            place = number % wire.CYCLE
            note((now - self._sent_at[place], 1))
            self._missing[place] -= 1
            if not self._missing[place]:
                self._complete = number + 1
        self._refill()

    def _examine(self, subscriber: _Subscriber, data: bytes) -> None:
        """A stream that is not the tape ends the scenario: the window could not go on."""
        due = self._tape.cut(subscriber.received, 1)
        stride = self._tape.stride
        got = [data[at : at + stride] for at in range(0, len(data), stride)]
        raise FaultError(f"{subscriber.name}: got {got[0]!r} (of {len(got)}), due {due!r}")

    def _refuse(self) -> None:
        raise FaultError(f"the publisher got {pull(self._publisher).hex()[:80]}")
