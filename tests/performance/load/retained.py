"""Retained replay: a new subscriber with a wildcard is given all retained messages at once.

Each replay is a fresh connection; replays follow one another until the time is over. The latency
of a message is the time since SUBSCRIBE was sent.
"""

import socket
import time
from collections.abc import Iterator

from tests.performance import wire
from tests.performance.brokers import Running
from tests.performance.driver import Budget, judged
from tests.performance.load.clients import open_clients, pull
from tests.performance.measure import (
    FaultError,
    Figures,
    Latencies,
    Snapshot,
    Tally,
    between,
    memory_into,
)

MESSAGES = 10_000
_ID_SPACE = 100  # messages published before their acks are awaited
_SUBSCRIBE = wire.subscribe(1, "bench/kept/#", 0, wire.V311)
_SUBACK = wire.suback(1, 0, wire.V311)


def measure_retained(broker: Running, budget: Budget) -> Figures:
    topics = [f"bench/kept/{n:05d}" for n in range(MESSAGES // budget.shrink)]
    _publish_all(broker.port, topics)
    due = {
        wire.publish(topic, wire.payload(n), 0, wire.V311, retain=True)
        for n, topic in enumerate(topics)
    }
    latencies, streams = Latencies(), []
    before = Snapshot.take(broker.pid, 0)
    while time.perf_counter() - before.at < budget.seconds:
        streams.append(_replay(broker.port, due, latencies))
    figures = between(before, Snapshot.take(broker.pid, len(due) * len(streams)))
    memory_into(figures, broker.pid)
    latencies.into(figures)
    tally = Tally()
    for stream in streams:
        _check(stream, due, tally)
    return judged(figures, tally)


def _publish_all(port: int, topics: list[str]) -> None:
    """At QoS 1, so that the broker has them all when this returns."""
    (publisher,) = open_clients(port, ["publisher"], wire.V311)
    for number, packet in enumerate(_packets(topics)):
        publisher.sendall(packet)
        acks = b""
        while len(acks) < wire.ACK * min(_ID_SPACE, len(topics) - number * _ID_SPACE):
            acks += pull(publisher)
    publisher.close()


def _packets(topics: list[str]) -> Iterator[bytes]:
    packets = [
        wire.publish(topic, wire.payload(n), 1, wire.V311, packet_id=n % _ID_SPACE + 1, retain=True)
        for n, topic in enumerate(topics)
    ]
    return wire.batches(packets, _ID_SPACE)


def _replay(port: int, due: set[bytes], latencies: Latencies) -> bytes:
    """One new subscriber; everything it was sent until all had to be there."""
    (client,) = open_clients(port, ["late"], wire.V311)
    stride = len(next(iter(due)))
    left = len(due) * stride + len(_SUBACK)
    chunks = []
    begun = time.perf_counter()
    client.sendall(_SUBSCRIBE)
    while left > 0:
        chunks.append(_pull_in_time(client, left // stride))
        left -= len(chunks[-1])
        latencies.note((time.perf_counter() - begun, len(chunks[-1]) // stride))
    client.close()
    return b"".join(chunks)


def _pull_in_time(client: socket.socket, missing: int) -> bytes:
    try:
        return pull(client)
    except TimeoutError:
        raise FaultError(f"lost: {missing} retained messages did not come") from None


def _check(stream: bytes, due: set[bytes], tally: Tally) -> None:
    """Every retained message exactly once, in any order, around the SUBACK."""
    stride = len(next(iter(due)))
    ends = range(0, len(stream), stride)  # of whole messages: where the SUBACK may stand
    at = next((end for end in ends if stream.startswith(_SUBACK, end)), None)
    if at is None:
        raise FaultError("no SUBACK among the retained messages")
    stream = stream[:at] + stream[at + len(_SUBACK) :]
    got = [stream[place : place + stride] for place in range(0, len(stream), stride)]
    tally.duplicates += len(got) - len(set(got))
    tally.spoilt += len(set(got) - due)
    tally.skipped("retained", range(len(due - set(got))))
