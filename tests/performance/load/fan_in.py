"""Fan-in: many publishers with one message outstanding each, one subscriber with a wildcard.

Every packet that is under way is a key of one dictionary, so a single look-up checks topic,
payload, number, order (there is only one per publisher) and duplication, and finds whose turn is
next.
"""

import socket
import struct
import time

from tests.performance import wire
from tests.performance.load.clients import Readers, open_clients, pull, push, subscribe_each
from tests.performance.measure import Latencies, Tally

PUBLISHERS = 1000


class _Publisher:
    __slots__ = ("head", "name", "number", "sent_at", "socket")

    def __init__(self, name: str, client: socket.socket) -> None:
        self.name, self.socket = name, client
        self.number, self.sent_at = 0, 0.0
        self.head = wire.publish(name, wire.payload(0), 0, wire.V311)[:-8]


class FanInLoad:
    def __init__(self, port: int, publishers: int) -> None:
        self.latencies, self.tally = Latencies(), Tally()
        self.delivered = 0
        self._sending, self._tail = True, b""
        (self._subscriber,) = open_clients(port, ["subscriber"], wire.V311)
        subscribe_each([self._subscriber], ["bench/in/+"], 0, wire.V311)
        names = [f"bench/in/{n:05d}" for n in range(publishers)]
        clients = open_clients(port, [name.replace("/", "-") for name in names], wire.V311)
        self._publishers = [_Publisher(*each) for each in zip(names, clients, strict=True)]
        for client in clients:
            client.setblocking(False)
        self._under_way: dict[bytes, _Publisher] = {}
        self._message = struct.Struct(f"{len(self._publishers[0].head) + 8}s")
        self.readers: Readers = {self._subscriber: self._read}

    def start(self) -> None:
        for publisher in self._publishers:
            self._send_next(publisher)

    def stop(self) -> None:
        self._sending = False

    def settled(self) -> bool:
        return not self._under_way

    def close(self) -> None:
        for publisher in self._under_way.values():
            self.tally.skipped(publisher.name, range(publisher.number, publisher.number + 1))
        for client in (self._subscriber, *(each.socket for each in self._publishers)):
            client.close()

    def _send_next(self, publisher: _Publisher) -> None:
        number = publisher.number = (publisher.number + 1) % wire.CYCLE
        packet = publisher.head + wire.NUMBERS[number]
        self._under_way[packet] = publisher
        publisher.sent_at = time.perf_counter()
        push(publisher.socket, packet)

    def _read(self) -> None:
        data = self._tail + pull(self._subscriber)
        rest = len(data) % self._message.size
        self._tail = data[len(data) - rest :]
        now, under_way, note = time.perf_counter(), self._under_way, self.latencies.note
        for (packet,) in self._message.iter_unpack(data[: len(data) - rest]):
            publisher = under_way.pop(packet, None)
            if publisher is None:
                self._stray(packet)
                continue
            note((now - publisher.sent_at, 1))
            self.delivered += 1
            if self._sending:
                self._send_next(publisher)

    def _stray(self, packet: bytes) -> None:
        """A packet nobody waits for: a copy if it is well formed."""
        sane = any(packet.startswith(each.head) for each in self._publishers)
        if sane and packet[-8:] in wire.NUMBERS:
            self.tally.duplicates += 1
        else:
            self.tally.spoilt += 1
