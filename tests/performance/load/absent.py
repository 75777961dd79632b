"""Absent sessions: QoS 1 messages for clients that are away.

The broker acknowledges each message and keeps it for all of them; a copy is one message kept for
one session.
"""

import socket

from tests.performance import wire
from tests.performance.load.clients import Readers, open_clients, subscribe_each
from tests.performance.load.publisher import Publisher
from tests.performance.measure import FaultError, Latencies, Tally

SESSIONS = 100
WINDOW = 32

_FILTER = "a/#"
_DISCONNECT = wire.packet(wire.DISCONNECT, b"")


def topic_of(publisher: int) -> str:
    return f"a/{publisher}"


def name_sessions(count: int) -> list[str]:
    return [f"absent-{n:03d}" for n in range(count)]


def leave_sessions(port: int, count: int) -> None:
    """Clients that subscribe at QoS 1 and go, leaving their sessions."""
    clients = open_clients(port, name_sessions(count), wire.V311, clean_session=False)
    subscribe_each(clients, [_FILTER] * count, 1, wire.V311)
    for client in clients:
        client.sendall(_DISCONNECT)
    for client in clients:
        _await_end(client)


class AbsentLoad:
    """`delivered` counts the copies the broker has taken charge of."""

    def __init__(self, port: int, sessions: int, publishers: int, window: int) -> None:
        self.latencies, self.tally = Latencies(), Tally()
        self._sessions = sessions
        leave_sessions(port, sessions)
        clients = open_clients(port, [f"publisher-{n}" for n in range(publishers)], wire.V311)
        self._publishers = [
            Publisher(topic_of(n), client, window, self.latencies)
            for n, client in enumerate(clients)
        ]
        turns = [each.turn for each in self._publishers]
        self.readers: Readers = dict(zip(clients, turns, strict=True))

    @property
    def delivered(self) -> int:
        return sum(each.finished for each in self._publishers) * self._sessions

    @property
    def published(self) -> int:
        return sum(each.sent for each in self._publishers)

    def start(self) -> None:
        for publisher in self._publishers:
            publisher.refill()

    def stop(self) -> None:
        for publisher in self._publishers:
            publisher.sending = False

    def settled(self) -> bool:
        return all(each.settled() for each in self._publishers)

    def close(self) -> None:
        for each in self._publishers:
            self.tally.unacknowledged += each.sent - each.finished
            each.close()


def _await_end(client: socket.socket) -> None:
    """The broker closes the connection when it has dealt with the DISCONNECT."""
    with client:
        if client.recv(1):
            raise FaultError("a client that had left was written to")
