"""The return of the absent: what was kept for them must come, whole, once and in order."""

import contextlib
import socket

from tests.performance import wire
from tests.performance.brokers import Running
from tests.performance.driver import STRAY_TIME, Budget, Loop, judged
from tests.performance.load.absent import (
    SESSIONS,
    WINDOW,
    leave_sessions,
    name_sessions,
    topic_of,
)
from tests.performance.load.clients import Readers, dial, open_clients
from tests.performance.load.inbox import Inbox
from tests.performance.load.publisher import Publisher
from tests.performance.measure import (
    FaultError,
    Figures,
    Latencies,
    Snapshot,
    Tally,
    between,
    memory_into,
)

MESSAGES = 5_000  # kept for each session before it returns
TIME_LIMIT = 60.0  # seconds to keep them all, and again to give them out

_TOPIC = topic_of(0)
_SESSION_PRESENT = bytes([wire.CONNACK, 2, 1, 0])  # [MQTT-3.2.2-2]


def measure_drain(broker: Running, budget: Budget) -> Figures:
    """The time runs from the first CONNECT to the last message of the last session."""
    messages = MESSAGES // budget.shrink
    leave_sessions(broker.port, SESSIONS)
    _publish(broker.port, messages)
    before = Snapshot.take(broker.pid, 0)
    load = DrainLoad(return_clients(broker.port, name_sessions(SESSIONS)), messages)
    with contextlib.closing(load), contextlib.closing(Loop(load.readers)) as loop:
        loop.run(TIME_LIMIT, until=load.complete)
        figures = between(before, Snapshot.take(broker.pid, load.delivered))
        memory_into(figures, broker.pid)
        loop.run(STRAY_TIME)
    return judged(figures, load.tally)


def return_clients(port: int, names: list[str]) -> list[socket.socket]:
    """They have read their CONNACK, which knows their session, and nothing of what follows."""
    clients = [dial(port) for _ in names]
    for client, name in zip(clients, names, strict=True):
        client.sendall(wire.connect(name, wire.V311, clean_session=False))
    for client in clients:
        if (got := client.recv(len(_SESSION_PRESENT))) != _SESSION_PRESENT:
            raise FaultError(f"the session was lost: CONNACK {got.hex()}")
    return clients


class DrainLoad:
    """One inbox for each session that has returned; `messages` are due in each."""

    def __init__(self, clients: list[socket.socket], messages: int) -> None:
        self.tally, self._messages = Tally(), messages
        expected = wire.received_tape(_TOPIC, 1, wire.V311)
        self._inboxes = [
            Inbox(client, self.tally, expected, _TOPIC, name=f"session {n}")
            for n, client in enumerate(clients)
        ]
        self.readers: Readers = {each.socket: each.read_qos1 for each in self._inboxes}

    @property
    def delivered(self) -> int:
        return sum(each.received for each in self._inboxes)

    def complete(self) -> bool:
        return self.delivered >= self._messages * len(self._inboxes)

    def close(self) -> None:
        for each in self._inboxes:
            each.close(due=self._messages)


def _publish(port: int, messages: int) -> None:
    """So many; when this returns, all are acknowledged."""
    (client,) = open_clients(port, ["publisher"], wire.V311)
    publisher = Publisher(_TOPIC, client, WINDOW, Latencies())
    publisher.limit = messages
    with client, contextlib.closing(Loop({client: publisher.turn})) as loop:
        publisher.refill()
        loop.run(TIME_LIMIT, until=lambda: publisher.finished == messages)
    if publisher.finished < messages:
        raise FaultError(f"{messages - publisher.finished} messages were not acknowledged")
