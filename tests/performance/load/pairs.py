"""Pairs: each publisher has one subscriber of its own; the window is 32 messages for each pair.

The publisher sends the next message when its subscriber has received one, and stays within twice
the window of messages whose handshake with the broker is unfinished. One function for each
direction and QoS reads all that has come, compares it with the tape and answers it with one send.
"""

import math
import socket
from functools import partial

from tests.performance import wire
from tests.performance.load.acks import PUBACKS, leading, match
from tests.performance.load.clients import Readers, open_clients, pull, push, subscribe_each
from tests.performance.load.inbox import Inbox
from tests.performance.measure import Departures, FaultError, Latencies, Tally

PAIRS = 8
WINDOW = 32
UNFINISHED = 2 * WINDOW

_PUBLISH_QOS2 = bytes([wire.PUBLISH | 2 << 1])
_PUBREL = bytes([wire.PUBREL])
_PUBRECS = wire.ack_tape(wire.PUBREC)
_PUBRELS = wire.ack_tape(wire.PUBREL)
_PUBCOMPS = wire.ack_tape(wire.PUBCOMP)


class Pair:
    """A publisher, its subscriber and how far each has come; all counts are of whole messages."""

    __slots__ = (
        *("name", "publisher", "inbox", "departures", "tape"),
        *("sent", "receipted", "finished", "sending"),
        *("publisher_tail", "pubrels_due"),
    )

    def __init__(
        self,
        topic: str,
        qos: int,
        version: int,
        publisher: socket.socket,
        subscriber: socket.socket,
        latencies: Latencies,
        tally: Tally,
    ) -> None:
        self.name, self.departures = topic, Departures(latencies)
        self.publisher = publisher
        self.inbox = Inbox(subscriber, tally, wire.received_tape(topic, qos, version), topic)
        self.tape = wire.sent_tape(topic, qos, version)
        self.sent = self.receipted = 0
        self.finished: float = 0 if qos else math.inf  # QoS 0 has no handshake to finish
        self.sending = True
        self.publisher_tail = b""
        self.pubrels_due = bytearray()  # in the order of our PUBRECs [MQTT-4.6.0-4]

    def refill(self) -> None:
        """Send what the window allows."""
        room = self.inbox.received + WINDOW - self.sent
        if room > 0 and self.sending:
            count = min(room, int(min(self.finished + UNFINISHED - self.sent, WINDOW)))
            if count > 0:
                push(self.publisher, self.tape.cut(self.sent, count))
                self.sent += count
                self.departures.sent(self.sent)

    def arrived(self, block: bytes | bytearray, count: int) -> None:
        """`count` messages have come, their packet ids zeroed: check them and note the time."""
        start = self.inbox.received
        self.inbox.arrived(block, count)
        self.departures.arrived(start, self.inbox.received)

    def settled(self) -> bool:
        whole = self.inbox.received == self.sent
        return whole and self.finished >= self.sent and not self.pubrels_due


class PairsLoad:
    """Eight pairs at one QoS and protocol version."""

    def __init__(self, port: int, qos: int, version: int) -> None:
        self.latencies, self.tally = Latencies(), Tally()
        topics = [f"bench/pair/{chr(ord('a') + n)}" for n in range(PAIRS)]
        subscribers = open_clients(port, [f"sub-{topic[-1]}" for topic in topics], version)
        subscribe_each(subscribers, topics, qos, version)
        publishers = open_clients(port, [f"pub-{topic[-1]}" for topic in topics], version)
        self.pairs = [
            Pair(topic, qos, version, publisher, subscriber, self.latencies, self.tally)
            for topic, publisher, subscriber in zip(topics, publishers, subscribers, strict=True)
        ]
        self.readers: Readers = {}
        for pair in self.pairs:
            self.readers[pair.inbox.socket] = partial(_AT_SUBSCRIBER[qos], pair)
            self.readers[pair.publisher] = partial(_AT_PUBLISHER[qos], pair)

    @property
    def delivered(self) -> int:
        return sum(pair.inbox.received for pair in self.pairs)

    def start(self) -> None:
        for pair in self.pairs:
            pair.refill()

    def stop(self) -> None:
        for pair in self.pairs:
            pair.sending = False

    def settled(self) -> bool:
        return all(pair.settled() for pair in self.pairs)

    def close(self) -> None:
        """Whatever has not come by now is lost."""
        for pair in self.pairs:
            pair.inbox.close(due=pair.sent)
            pair.publisher.close()


def _read_qos0(pair: Pair) -> None:
    pair.arrived(*pair.inbox.pull())
    pair.refill()


def _read_qos1(pair: Pair) -> None:
    data, count = pair.inbox.pull()
    block = bytearray(data)
    acks = pair.inbox.acknowledge(wire.PUBACK, block, count)
    pair.arrived(block, count)
    push(pair.inbox.socket, acks)
    pair.refill()


def _read_qos2(pair: Pair) -> None:
    """A read holds runs of PUBLISH and of PUBREL, in any mixture."""
    data, at = pair.inbox.tail + pull(pair.inbox.socket), 0
    answer = bytearray()
    while at < len(data):
        take = _TAKES.get(data[at : at + 1], _refuse)
        taken = take(pair, data, at, answer)
        if not taken:
            break
        at += taken
    pair.inbox.tail = data[at:]
    if answer:
        push(pair.inbox.socket, answer)
    pair.refill()


def _take_publishes(pair: Pair, data: bytes, at: int, answer: bytearray) -> int:
    """Bytes taken: the run of messages at `at`, each known by its type and its topic's length."""
    stride = pair.inbox.expected.stride
    count = min(
        leading(data[at::stride], _PUBLISH_QOS2),
        leading(data[at + 2 :: stride], b"\0"),
        (len(data) - at) // stride,
    )
    block = bytearray(data[at : at + count * stride])
    pubrecs = pair.inbox.acknowledge(wire.PUBREC, block, count)
    pair.arrived(block, count)
    answer += pubrecs
    pubrecs[0::4] = _PUBREL * count
    pair.pubrels_due += pubrecs
    return len(block)


def _take_pubrels(pair: Pair, data: bytes, at: int, answer: bytearray) -> int:
    count = min(leading(data[at::4], _PUBREL), (len(data) - at) // wire.ACK)
    size = count * wire.ACK
    block = bytearray(data[at : at + size])
    if block != pair.pubrels_due[:size]:
        raise FaultError(f"PUBREL out of order: {block.hex()}, due {pair.pubrels_due[:size].hex()}")
    del pair.pubrels_due[:size]
    block[0::4] = bytes([wire.PUBCOMP]) * count
    answer += block
    return size


def _refuse(pair: Pair, data: bytes, at: int, answer: bytearray) -> int:
    raise FaultError(f"{pair.name}: a subscriber got an unexpected packet {data[at:].hex()[:80]}")


_TAKES = {_PUBLISH_QOS2: _take_publishes, _PUBREL: _take_pubrels}


def _read_pubacks(pair: Pair) -> None:
    acks = _whole_acks(pair)
    pair.finished += match(acks, PUBACKS, int(pair.finished), "PUBACK")
    pair.refill()


def _read_pubrecs_and_pubcomps(pair: Pair) -> None:
    acks, releases = _whole_acks(pair), 0
    while acks:
        count = leading(acks[0::4], acks[:1])
        run, acks = acks[: count * wire.ACK], acks[count * wire.ACK :]
        if run[0] == wire.PUBREC:
            releases += match(run, _PUBRECS, pair.receipted + releases, "PUBREC")
        else:
            pair.finished += match(run, _PUBCOMPS, int(pair.finished), "PUBCOMP")
    if releases:
        push(pair.publisher, _PUBRELS.cut(pair.receipted, releases))
        pair.receipted += releases
    pair.refill()


def _read_nothing(pair: Pair) -> None:
    raise FaultError(f"{pair.name}: a publisher got {pull(pair.publisher).hex()[:80]}")


_AT_SUBSCRIBER = {0: _read_qos0, 1: _read_qos1, 2: _read_qos2}
_AT_PUBLISHER = {0: _read_nothing, 1: _read_pubacks, 2: _read_pubrecs_and_pubcomps}


def _whole_acks(pair: Pair) -> bytes:
    data = pair.publisher_tail + pull(pair.publisher)
    rest = len(data) % wire.ACK
    pair.publisher_tail = data[-rest:] if rest else b""
    return data[:-rest] if rest else data
