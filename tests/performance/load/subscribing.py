"""Subscribing: clients that add one filter after another, 32 SUBSCRIBE packets outstanding each.

Nothing repeats: every filter is new to the broker, so its tree grows all the while.
"""

import socket
from functools import partial

from tests.performance import wire
from tests.performance.load.clients import Readers, open_clients, pull, push
from tests.performance.measure import Departures, FaultError, Latencies, Tally

CLIENTS = 100
FILTERS = 1000  # of each client
WINDOW = 32


class _Client:
    __slots__ = ("asked", "asks", "departures", "done", "grants", "size", "socket", "tail")

    def __init__(self, name: str, client: socket.socket, latencies: Latencies) -> None:
        self.socket, self.departures = client, Departures(latencies)
        self.asks = [
            wire.subscribe(n + 1, f"bench/{name}/{n:04d}/state", 0, wire.V311)
            for n in range(FILTERS)
        ]
        grants = [wire.suback(n + 1, 0, wire.V311) for n in range(FILTERS)]
        self.size, self.grants = len(grants[0]), b"".join(grants)
        self.asked = self.done = 0
        self.tail = b""


class SubscribingLoad:
    """`delivered` counts SUBACKs."""

    def __init__(self, port: int, clients: int) -> None:
        self.latencies, self.tally = Latencies(), Tally()
        self.delivered = 0
        self._wanted, self._sending = clients * FILTERS, True
        names = [f"client-{n:03d}" for n in range(clients)]
        sockets = open_clients(port, names, wire.V311)
        self._clients = [
            _Client(name, client, self.latencies)
            for name, client in zip(names, sockets, strict=True)
        ]
        self.readers: Readers = {each.socket: partial(self._read, each) for each in self._clients}

    def start(self) -> None:
        for client in self._clients:
            self._refill(client)

    def stop(self) -> None:
        self._sending = False

    def complete(self) -> bool:
        return self.delivered == self._wanted

    def settled(self) -> bool:
        return all(client.done == client.asked for client in self._clients)

    def close(self) -> None:
        for client in self._clients:
            self.tally.skipped(str(client.socket.fileno()), range(client.done, client.asked))
            client.socket.close()

    def _refill(self, client: _Client) -> None:
        asks = client.asks[client.asked : client.done + WINDOW]
        if asks and self._sending:
            push(client.socket, b"".join(asks))
            client.asked += len(asks)
            client.departures.sent(client.asked)

    def _read(self, client: _Client) -> None:
        data = client.tail + pull(client.socket)
        count, rest = divmod(len(data), client.size)
        client.tail = data[len(data) - rest :]
        begin = client.done * client.size
        due = client.grants[begin : begin + len(data)]
        if data != due:
            raise FaultError(f"SUBACK not as due: got {data.hex()[:60]}, due {due.hex()[:60]}")
        client.departures.arrived(client.done, client.done + count)
        client.done += count
        self.delivered += count
        self._refill(client)
