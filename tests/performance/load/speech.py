"""The two protocols of queues: what a publisher and a consumer say, and what they are told.

`encode` makes messages, `confirmed` counts what the broker has taken charge of, `take` gives the
payloads that have come and what acknowledges them. Halves of packets wait for the other half.
"""

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from tests.performance import amqp, wire
from tests.performance.load.acks import PUBACKS, match
from tests.performance.load.clients import dial, open_clients, pull
from tests.performance.load.ledger import DIGITS, Source
from tests.performance.measure import FaultError

_PUBLISH_QOS1 = wire.PUBLISH | 1 << 1
_SUBACK = wire.suback(1, 1, wire.V311)
_ONE_BYTE = 0x7F  # the largest remaining length in one byte
_END = bytes([amqp.END])


class MqttPublishing:
    """QoS 1, MQTT 3.1.1; the topic is routed to the queue."""

    __slots__ = ("_confirmed", "_heads", "_tail")

    def __init__(self, source: Source, queue: str) -> None:
        whole = source.prefix + b"0" * DIGITS
        topic = f"bench/{queue}/{source.name}"
        packets = (
            wire.publish(topic, whole, 1, wire.V311, packet_id=n + 1) for n in range(wire.CYCLE)
        )
        self._heads = [packet[:-DIGITS] for packet in packets]
        self._tail, self._confirmed = b"", 0

    def encode(self, start: int, count: int) -> bytes:
        heads, cycle = self._heads, wire.CYCLE
        return b"".join([heads[n % cycle] + b"%08d" % n for n in range(start, start + count)])

    def confirmed(self, data: bytes) -> int:
        data = self._tail + data
        whole = len(data) - len(data) % wire.ACK
        data, self._tail = data[:whole], data[whole:]
        count = match(data, PUBACKS, self._confirmed, "PUBACK")
        self._confirmed += count
        return count


class MqttConsuming:
    """Topics are `$queue/NAME/NUMBER/TOPIC`, so that a packet's size grows with the number.

    The SUBACK may come after the first messages.
    """

    __slots__ = ("_tail", "_topic")

    def __init__(self, queue: str) -> None:
        self._tail, self._topic = b"", f"$queue/{queue}/".encode()

    def take(self, data: bytes) -> tuple[list[bytes], bytes]:
        data, at, topic = self._tail + data, 0, self._topic
        end, bodies, acks = len(data) - 1, [], bytearray()
        while at < end:
            length = data[at + 1]
            after = at + 2 + length
            if after > end + 1:
                break
            if data[at:after] == _SUBACK:
                at = after
                continue
            if (
                data[at] != _PUBLISH_QOS1
                or length > _ONE_BYTE
                or not data.startswith(topic, at + 4)
            ):
                raise FaultError(f"a consumer got an unexpected packet {data[at:].hex()[:80]}")
            id_at = at + 4 + data[at + 3]
            acks += b"\x40\x02" + data[id_at : id_at + 2]
            bodies.append(data[id_at + 2 : after])
            at = after
        self._tail = data[at:]
        return bodies, bytes(acks)


class AmqpPublishing:
    """Persistent messages with publisher confirms, straight to the queue by its name."""

    __slots__ = ("_early", "_head", "_low", "_tail")

    def __init__(self, source: Source, queue: str) -> None:
        self._head = amqp.publish_head(queue, wire.PAYLOAD) + source.prefix
        self._tail, self._low = b"", 0
        self._early: set[int] = set()  # confirmed before one that was sent earlier

    def encode(self, start: int, count: int) -> bytes:
        head = self._head
        return b"".join([head + b"%08d" % n + _END for n in range(start, start + count)])

    def confirmed(self, data: bytes) -> int:
        data, size, before = self._tail + data, amqp.ACK_FRAME, self._low
        whole = len(data) - len(data) % size
        for at in range(0, whole, size):
            tag, bits = struct.unpack_from(">QB", data, at + amqp.FRAME_HEAD + 4)
            if data[at : at + size] != amqp.ack(tag, bits):
                raise FaultError(f"a publisher got {data[at:].hex()[:80]}")
            self._note(tag, bits)
        self._tail = data[whole:]
        return self._low - before

    def _note(self, tag: int, bits: int) -> None:
        if bits & amqp.MULTIPLE:
            self._low = max(self._low, tag)
            self._early = {each for each in self._early if each > self._low}
        else:
            self._early.add(tag)
        while self._low + 1 in self._early:
            self._low += 1
            self._early.remove(self._low)


class AmqpConsuming:
    """All that one read has brought is acknowledged at once, which is cheapest for both sides."""

    __slots__ = ("_got", "_pieces", "_stride", "_tag_at", "_tail")

    def __init__(self, queue: str) -> None:
        body = bytes(wire.PAYLOAD)
        whole = amqp.delivery(queue, CONSUMER, 0, body)
        self._stride = len(whole)
        self._tag_at = amqp.FRAME_HEAD + 4 + len(amqp.short(CONSUMER))
        after, body_at = self._tag_at + 8, len(whole) - 1 - wire.PAYLOAD
        self._pieces = (whole[: self._tag_at], whole[after:body_at])
        self._tail, self._got = b"", 0

    def take(self, data: bytes) -> tuple[list[bytes], bytes]:
        data, stride = self._tail + data, self._stride
        whole = len(data) - len(data) % stride
        bodies = [self._body(data[at : at + stride]) for at in range(0, whole, stride)]
        self._tail = data[whole:]
        return bodies, amqp.ack(self._got, amqp.MULTIPLE) if bodies else b""

    def _body(self, frames: bytes) -> bytes:
        (head, middle), at = self._pieces, self._tag_at
        self._got += 1
        tag = self._got.to_bytes(8, "big")
        if not frames.startswith(head + tag + middle):
            raise FaultError(f"a consumer got unexpected frames {frames.hex()[:160]}")
        return frames[at + 8 + len(middle) : -1]


CONSUMER = "worker"  # AMQP's consumer tag, which every delivery repeats


@dataclass(frozen=True, slots=True)
class Speech:
    """`open_publishers` and `open_consumers` give so many connected sockets, outside the time."""

    publishing: Callable[[Source, str], MqttPublishing | AmqpPublishing]
    consuming: Callable[[str], MqttConsuming | AmqpConsuming]
    open_publishers: Callable[[int, int, str], list[socket.socket]]  # port, how many, queue
    open_consumers: Callable[[int, int, str, int], list[socket.socket]]  # and the prefetch


def _mqtt_publishers(port: int, count: int, queue: str) -> list[socket.socket]:
    return open_clients(port, [f"publisher-{n}" for n in range(count)], wire.V311)


def _mqtt_consumers(port: int, count: int, queue: str, prefetch: int) -> list[socket.socket]:
    """The prefetch is a setting of the queue."""
    clients = open_clients(port, [f"worker-{n}" for n in range(count)], wire.V311)
    for client in clients:
        client.sendall(wire.subscribe(1, f"$queue/{queue}", 1, wire.V311))
    return clients


def _amqp_publishers(kind: str) -> Callable[[int, int, str], list[socket.socket]]:
    def open_publishers(port: int, count: int, queue: str) -> list[socket.socket]:
        clients = [_open_channel(port) for _ in range(count)]
        for client in clients:
            _ask(client, amqp.declare(queue, kind), amqp.DECLARE_OK)
            _ask(client, amqp.method(amqp.SELECT, b"\0"), amqp.SELECT_OK)
        return clients

    return open_publishers


def _amqp_consumers(port: int, count: int, queue: str, prefetch: int) -> list[socket.socket]:
    clients = [_open_channel(port) for _ in range(count)]
    for client in clients:
        _ask(client, amqp.qos(prefetch), amqp.QOS_OK)
        client.sendall(amqp.consume(queue, CONSUMER))
        _expect(client, amqp.method(amqp.CONSUME_OK, amqp.short(CONSUMER)))
    return clients


def _open_channel(port: int) -> socket.socket:
    client = dial(port)
    _ask(client, amqp.HEADER, amqp.START)
    offered = _ask(client, amqp.start_ok(), amqp.TUNE)
    _ask(client, amqp.tune_ok(offered) + amqp.open_host(), amqp.OPEN_OK)
    _ask(client, amqp.method(amqp.CHANNEL_OPEN, amqp.short("")), amqp.CHANNEL_OPEN_OK)
    return client


def _ask(client: socket.socket, request: bytes, wanted: amqp.Method) -> bytes:
    """The arguments of the one method that answers it."""
    client.sendall(request)
    got = list(amqp.split(pull(client)))
    if [which for which, _ in got] != [wanted]:
        raise FaultError(f"expected the method {wanted}, got {got}")
    return got[0][1]


def _expect(client: socket.socket, answer: bytes) -> None:
    """Nothing beyond it is read: messages may follow it at once."""
    data = b""
    while len(data) < len(answer):
        data += client.recv(len(answer) - len(data)) or b"closed".ljust(len(answer))
    if data != answer:
        raise FaultError(f"expected {answer.hex()}, got {data.hex()}")


def _amqp(kind: str) -> Speech:
    return Speech(AmqpPublishing, AmqpConsuming, _amqp_publishers(kind), _amqp_consumers)


SPEECHES = {
    "mqtt": Speech(MqttPublishing, MqttConsuming, _mqtt_publishers, _mqtt_consumers),
    "amqp classic": _amqp("classic"),
    "amqp quorum": _amqp("quorum"),
}
