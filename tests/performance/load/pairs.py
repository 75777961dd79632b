"""Pairs: each publisher has one subscriber of its own; the window is 32 messages for each pair.

The publisher sends the next message when its subscriber has received one, and stays within twice
the window of messages whose handshake with the broker is unfinished. One function for each
direction and QoS reads all that has come, compares it with the tape and answers it with one send.
"""

import math
import socket
from functools import partial

from tests.performance import wire
from tests.performance.load.clients import Readers, open_clients, pull, push, subscribe_each
from tests.performance.measure import Departures, FaultError, Latencies, Tally

PAIRS = 8
WINDOW = 32
UNFINISHED = 2 * WINDOW

_PUBLISH_QOS2 = bytes([wire.PUBLISH | 2 << 1])
_PUBREL = bytes([wire.PUBREL])
_PUBACKS = wire.ack_tape(wire.PUBACK)
_PUBRECS = wire.ack_tape(wire.PUBREC)
_PUBRELS = wire.ack_tape(wire.PUBREL)
_PUBCOMPS = wire.ack_tape(wire.PUBCOMP)


class Pair:
    """A publisher, its subscriber and how far each has come; all counts are of whole messages."""

    __slots__ = (
        *("name", "publisher", "subscriber", "tally", "departures"),
        *("tape", "expected", "id_at"),
        *("sent", "received", "receipted", "finished", "sending"),
        *("publisher_tail", "subscriber_tail", "pubrels_due"),
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
        self.name, self.tally, self.departures = topic, tally, Departures(latencies)
        self.publisher, self.subscriber = publisher, subscriber
        self.tape = wire.sent_tape(topic, qos, version)
        self.expected = wire.received_tape(topic, qos, version)
        self.id_at = wire.publish_id_at(topic)
        self.sent = self.received = self.receipted = 0
        self.finished: float = 0 if qos else math.inf  # QoS 0 has no handshake to finish
        self.sending = True
        self.publisher_tail = self.subscriber_tail = b""
        self.pubrels_due = bytearray()  # in the order of our PUBRECs [MQTT-4.6.0-4]

    def refill(self) -> None:
        """Send what the window allows."""
        room = self.received + WINDOW - self.sent
        if room > 0 and self.sending:
            count = min(room, int(min(self.finished + UNFINISHED - self.sent, WINDOW)))
            if count > 0:
                push(self.publisher, self.tape.cut(self.sent, count))
                self.sent += count
                self.departures.sent(self.sent)

    def arrived(self, block: bytes | bytearray, count: int) -> None:
        """`count` messages have come, their packet ids zeroed: check them and note the time."""
        start = self.received
        if block == self.expected.cut(start, count):
            self.received = start + count
        else:
            self._examine(block)
        self.departures.arrived(start, self.received)

    def settled(self) -> bool:
        return self.received == self.sent and self.finished >= self.sent and not self.pubrels_due

    def _examine(self, block: bytes | bytearray) -> None:
        """The slow way, when a comparison has failed: name each message's fault."""
        stride = self.expected.stride
        for at in range(0, len(block), stride):
            self._examine_one(bytes(block[at : at + stride]))

    def _examine_one(self, message: bytes) -> None:
        if message[-8:] not in wire.NUMBERS:
            self.tally.spoilt += 1
            self.received += 1
            return
        ahead = (wire.number_of(message) - self.received) % wire.CYCLE
        if ahead >= wire.CYCLE // 2:
            self.tally.late(self.name, self.received + ahead - wire.CYCLE)
            return
        self.tally.skipped(self.name, range(self.received, self.received + ahead))
        self.received += ahead
        self.tally.spoilt += message != self.expected.cut(self.received, 1)
        self.received += 1


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
            self.readers[pair.subscriber] = partial(_AT_SUBSCRIBER[qos], pair)
            self.readers[pair.publisher] = partial(_AT_PUBLISHER[qos], pair)

    @property
    def delivered(self) -> int:
        return sum(pair.received for pair in self.pairs)

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
            self.tally.skipped(pair.name, range(pair.received, pair.sent))
            pair.publisher.close()
            pair.subscriber.close()


def _read_qos0(pair: Pair) -> None:
    data, count = _whole_messages(pair)
    pair.arrived(data, count)
    pair.refill()


def _read_qos1(pair: Pair) -> None:
    data, count = _whole_messages(pair)
    block = bytearray(data)
    acks = _acknowledge(wire.PUBACK, block, count, pair)
    pair.arrived(block, count)
    push(pair.subscriber, acks)
    pair.refill()


def _read_qos2(pair: Pair) -> None:
    """A read holds runs of PUBLISH and of PUBREL, in any mixture."""
    data, at = pair.subscriber_tail + pull(pair.subscriber), 0
    answer = bytearray()
    while at < len(data):
        take = _TAKES.get(data[at : at + 1], _refuse)
        taken = take(pair, data, at, answer)
        if not taken:
            break
        at += taken
    pair.subscriber_tail = data[at:]
    if answer:
        push(pair.subscriber, answer)
    pair.refill()


def _take_publishes(pair: Pair, data: bytes, at: int, answer: bytearray) -> int:
    """Bytes taken: the run of messages at `at`, each known by its type and its topic's length."""
    stride = pair.expected.stride
    count = min(
        _leading(data[at::stride], _PUBLISH_QOS2),
        _leading(data[at + 2 :: stride], b"\0"),
        (len(data) - at) // stride,
    )
    block = bytearray(data[at : at + count * stride])
    pubrecs = _acknowledge(wire.PUBREC, block, count, pair)
    pair.arrived(block, count)
    answer += pubrecs
    pubrecs[0::4] = _PUBREL * count
    pair.pubrels_due += pubrecs
    return len(block)


def _take_pubrels(pair: Pair, data: bytes, at: int, answer: bytearray) -> int:
    count = min(_leading(data[at::4], _PUBREL), (len(data) - at) // wire.ACK)
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
    pair.finished += _match(acks, _PUBACKS, int(pair.finished), "PUBACK")
    pair.refill()


def _read_pubrecs_and_pubcomps(pair: Pair) -> None:
    acks, releases = _whole_acks(pair), 0
    while acks:
        count = _leading(acks[0::4], acks[:1])
        run, acks = acks[: count * wire.ACK], acks[count * wire.ACK :]
        if run[0] == wire.PUBREC:
            releases += _match(run, _PUBRECS, pair.receipted + releases, "PUBREC")
        else:
            pair.finished += _match(run, _PUBCOMPS, int(pair.finished), "PUBCOMP")
    if releases:
        push(pair.publisher, _PUBRELS.cut(pair.receipted, releases))
        pair.receipted += releases
    pair.refill()


def _read_nothing(pair: Pair) -> None:
    raise FaultError(f"{pair.name}: a publisher got {pull(pair.publisher).hex()[:80]}")


_AT_SUBSCRIBER = {0: _read_qos0, 1: _read_qos1, 2: _read_qos2}
_AT_PUBLISHER = {0: _read_nothing, 1: _read_pubacks, 2: _read_pubrecs_and_pubcomps}


def _whole_messages(pair: Pair) -> tuple[bytes, int]:
    """All complete messages that have come, and how many; the rest is kept for the next read."""
    data = pull(pair.subscriber)
    if pair.subscriber_tail:
        data = pair.subscriber_tail + data
    count, rest = divmod(len(data), pair.expected.stride)
    pair.subscriber_tail = data[-rest:] if rest else b""
    return (data[:-rest] if rest else data), count


def _whole_acks(pair: Pair) -> bytes:
    data = pair.publisher_tail + pull(pair.publisher)
    rest = len(data) % wire.ACK
    pair.publisher_tail = data[-rest:] if rest else b""
    return data[:-rest] if rest else data


def _acknowledge(kind: int, block: bytearray, count: int, pair: Pair) -> bytearray:
    """The acks of a run of messages; the packet ids in `block` are moved out, leaving zeros."""
    at, stride = pair.id_at, pair.expected.stride
    acks = bytearray(bytes([kind, 2, 0, 0]) * count)
    acks[2::4], acks[3::4] = block[at::stride], block[at + 1 :: stride]
    block[at::stride] = block[at + 1 :: stride] = bytes(count)
    return acks


def _match(acks: bytes, tape: wire.Tape, start: int, what: str) -> int:
    """How many acks these are. Raises FaultError unless they are exactly the next ones due."""
    count = len(acks) // wire.ACK
    if acks != tape.cut(start, count):
        due = tape.cut(start, count)
        raise FaultError(f"{what} not as due: got {acks.hex()[:80]}, due {due.hex()[:80]}")
    return count


def _leading(values: bytes, wanted: bytes) -> int:
    """How many of the first bytes are all `wanted`."""
    return len(values) - len(values.lstrip(wanted))
