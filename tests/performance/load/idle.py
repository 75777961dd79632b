"""Idle connections: what a client costs that is connected, subscribed to its own filter and silent.

Afterwards some of the filters are published to, and exactly their clients must be told.
"""

import select
import socket
import time

from tests.performance import wire
from tests.performance.brokers import Running
from tests.performance.driver import Budget
from tests.performance.load.clients import open_clients, pull, subscribe_each
from tests.performance.measure import (
    FaultError,
    Figures,
    Snapshot,
    between,
    memory_into,
    tree_rss_kib,
)

CLIENTS = 10_000
SETTLE = 0.5  # seconds for the broker to come to rest
ALIVE_EVERY = 100  # one client in so many is written to afterwards


def measure_idle(broker: Running, budget: Budget) -> Figures:
    """The rate is connections per second, each with its CONNECT and SUBSCRIBE."""
    count = CLIENTS // budget.shrink
    names = [f"idle-{n:05d}" for n in range(count)]
    topics = [f"bench/idle/{n:05d}" for n in range(count)]
    time.sleep(SETTLE)
    rss, before = tree_rss_kib(broker.pid), Snapshot.take(broker.pid, 0)
    clients = open_clients(broker.port, names, wire.V311)
    try:
        subscribe_each(clients, topics, 0, wire.V311)
        figures = between(before, Snapshot.take(broker.pid, count))
        time.sleep(SETTLE)
        figures.client_kib = (tree_rss_kib(broker.pid) - rss) / count
        memory_into(figures, broker.pid)
        _check_alive(clients, topics)
    finally:
        for client in clients:
            client.close()
    return figures


def _check_alive(clients: list[socket.socket], topics: list[str]) -> None:
    """The last client publishes: 10,000 connections are as many as a default may allow."""
    chosen = range(0, len(clients), ALIVE_EVERY)
    packets = [wire.publish(topics[n], wire.payload(n), 0, wire.V311) for n in chosen]
    clients[-1].sendall(b"".join(packets))
    for n, packet in zip(chosen, packets, strict=True):
        if (got := pull(clients[n])) != packet:
            raise FaultError(f"idle client {n} got {got!r} instead of {packet!r}")
    if spoken := _readable(clients):
        raise FaultError(f"{spoken} idle clients got what was not for them")


def _readable(clients: list[socket.socket]) -> int:
    with select.epoll() as poll:
        for client in clients:
            poll.register(client, select.EPOLLIN)
        return len(poll.poll(0.1))
