"""Brokers that speak MQTT 3.1.1 only: amqtt, and a gate before any other that lets no MQTT 5 in."""

from __future__ import annotations

import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.support.process import HOST, LONGEST_WAIT, Endpoint, clean_environment, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

_AMQTT: Final = """\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
    max_connections: 0
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: false
"""
_LEVEL: Final = 8  # bytes of a short CONNECT before the protocol level


def _wait_for_the_end(client: socket.socket) -> None:
    while client.recv(4096):
        pass


# What a broker without MQTT 5 does with its CONNECT.
REFUSALS: Final[dict[str, Callable[[socket.socket], None]]] = {
    "the return code of 3.1.1": lambda client: client.sendall(bytes.fromhex("20020001")),
    "the reason of 5": lambda client: client.sendall(bytes.fromhex("2003008400")),
    "hanging up": lambda _client: None,
    "silence": _wait_for_the_end,
}


class Amqtt:
    """A process, for clients with a user name: of others it keeps no session. `endpoints` is as a
    BrokerProcess has it.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.endpoints = {"tcp": Endpoint("tcp", port=self.port)}
        self._log = directory / "amqtt.log"
        self._settings = directory / "amqtt.yaml"
        self._settings.write_text(_AMQTT.format(port=self.port))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = str(Path(sys.executable).with_name("amqtt"))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, program, "-c", str(self._settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
            )
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(LONGEST_WAIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + LONGEST_WAIT
        while True:
            try:
                self.endpoints["tcp"].open_socket().close()
            except OSError:
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.05)  # a process that starts tells nobody when it listens: ask again
            else:
                return


class Gate:
    """Before the broker at `port`. `tried` are the versions of the CONNECTs, in order."""

    def __init__(self, port: int, refusal: str) -> None:
        self.tried: list[int] = []
        self._behind = port
        self._refuse = REFUSALS[refusal]
        self._server = _Server((HOST, 0), self._handle)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, client: socket.socket, _address: object, _server: object) -> None:
        with client:
            head = client.recv(65_536)
            if len(head) <= _LEVEL:
                return
            self.tried.append(head[_LEVEL])
            if head[_LEVEL] == 5:
                self._refuse(client)
            else:
                self._pass_on(client, head)

    def _pass_on(self, client: socket.socket, head: bytes) -> None:
        with socket.create_connection((HOST, self._behind)) as broker:
            broker.sendall(head)
            ways = {client: broker, broker: client}
            while True:
                for ready in select.select(list(ways), [], [])[0]:
                    data = ready.recv(65_536)
                    if not data:
                        return
                    ways[ready].sendall(data)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
