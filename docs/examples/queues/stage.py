"""What the examples stand on: a broker of their own, sensors that publish, and figures.

.venv/bin/pip install paho-mqtt
.venv/bin/python docs/examples/queues/decoupling.py
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Self

import paho.mqtt.client as paho

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_ONCE = 200  # messages that a sensor has sent and the broker has not acknowledged


class Broker:
    """`heliograph run` with these settings, on ports of its own and in a temporary folder."""

    def __init__(self, settings: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.port, http_port = _free_port(), _free_port()
        self.url = f"http://127.0.0.1:{http_port}"
        self._settings = Path(self._folder.name, "heliograph.toml")
        self._settings.write_text(
            f'listener = [{{ url = "tcp://127.0.0.1:{self.port}" }}]\n'
            f'http = {{ listen = "127.0.0.1:{http_port}" }}\n'
            f'broker = {{ data_dir = "{self._folder.name}/data" }}\n{settings}'
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        self._folder.cleanup()

    def start(self) -> None:
        """Returns when it can be talked to."""
        command = [sys.executable, "-m", "broker", "run", "-c", str(self._settings)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not _answers(f"{self.url}/api/v1/openapi.json"):
            if self.process.poll() is not None:
                sys.exit(f"the broker has ended; try: {' '.join(command)}")
            time.sleep(0.05)

    def kill(self) -> None:
        """As the kernel does when there is no memory left."""
        self.process.kill()
        self.process.wait()

    @property
    def token(self) -> str:
        """The administrator's."""
        return Path(self._folder.name, "data", "http.token").read_text().strip()

    @property
    def memory(self) -> float:
        """MiB in use by the broker and its store process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        pids = [str(self.process.pid), *children.split()]
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
        lines = [line for status in statuses for line in status.splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


class Sensors:
    """A client that publishes with QoS 1, and waits until the broker has acknowledged."""

    def __init__(self, broker: Broker) -> None:
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.max_inflight_messages_set(AT_ONCE)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def publish(self, messages: Iterable[tuple[str, str]], a_second: float = inf) -> float:
        """Topics and payloads; returns, when all are acknowledged, how many seconds that took."""
        began = time.monotonic()
        for number, (topic, payload) in enumerate(messages):
            time.sleep(max(0.0, began + number / a_second - time.monotonic()))
            info = self._client.publish(topic, payload, qos=1)
        info.wait_for_publish()
        return time.monotonic() - began

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def count(default: int) -> int:
    """How many messages: the first argument of the command line."""
    return int(sys.argv[1]) if len(sys.argv) > 1 else default


def tell(**figures: object) -> None:
    """A line for each figure."""
    for name, value in figures.items():
        shown = f"{value:,.2f}" if isinstance(value, float) else f"{value}"
        print(f"{name.replace('_', ' '):36}{shown}", flush=True)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except OSError:
        return False
    return True
