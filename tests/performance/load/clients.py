"""Opening many connections at once, in lockstep, with blocking sockets.

Everything here happens outside the time measured, except in the scenario of idle connections.
"""

import socket
import struct
from collections.abc import Callable, Sequence

from tests.performance import wire
from tests.performance.measure import FaultError

Readers = dict[socket.socket, Callable[[], None]]  # what to call when a socket is readable

READ = 16384  # bytes asked for in one read of the timed loops
PATIENCE = 20.0  # seconds until a silent broker counts as hung

_AT_ONCE = 100  # connections opened together: within every broker's listen backlog
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # no TIME_WAIT: 10,000 ports are soon used again


def open_clients(
    port: int, names: Sequence[str], version: int, *, clean_session: bool = True
) -> list[socket.socket]:
    """One connected client for each name, in that order."""
    clients: list[socket.socket] = []
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        fresh = [dial(port) for _ in some]
        clients += fresh
        for client, name in zip(fresh, some, strict=True):
            client.sendall(wire.connect(name, version, clean_session=clean_session))
        for client in fresh:
            _expect(client, wire.CONNACK)
    return clients


def subscribe_each(
    clients: Sequence[socket.socket], filters: Sequence[str], qos: int, version: int
) -> None:
    """Each client subscribes to the filter at its own place."""
    for start in range(0, len(clients), _AT_ONCE):
        some = clients[start : start + _AT_ONCE]
        for client, topic_filter in zip(some, filters[start : start + _AT_ONCE], strict=True):
            client.sendall(wire.subscribe(1, topic_filter, qos, version))
        for client in some:
            _expect(client, wire.SUBACK)


def dial(port: int) -> socket.socket:
    client = socket.socket()
    client.settimeout(PATIENCE)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.connect(("127.0.0.1", port))
    return client


def push(client: socket.socket, data: bytes | bytearray) -> None:
    """Send all or fail: the windows keep what is under way far below a socket's buffer."""
    if client.send(data) != len(data):
        raise FaultError("the broker has stopped reading")


def pull(client: socket.socket) -> bytes:
    """What has arrived. Raises FaultError when the broker has closed the connection."""
    try:
        data = client.recv(READ)
    except ConnectionError:
        data = b""
    if not data:
        raise FaultError("the broker closed a connection")
    return data


def _expect(client: socket.socket, kind: int) -> None:
    """Read one CONNACK or SUBACK and check that it says yes."""
    try:
        got = list(wire.split(pull(client)))
    except TimeoutError:
        raise FaultError(f"no answer in {PATIENCE:.0f} s") from None
    code_at = 1 if kind == wire.CONNACK else -1
    if [first for first, _ in got] != [kind] or got[0][1][code_at] > 2:
        raise FaultError(f"expected a packet {kind:#04x} of success, got {got}")
