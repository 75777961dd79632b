"""How each broker is started: fresh, with its own configuration, on a free port, on its cores.

All are set up alike: anonymous clients, no limit on queues, 100 messages in flight to one client
(more than any window of the load that waits for deliveries). What is not set here is the broker's
default. A broker's data lies in a fresh folder on the disk of this tree, and is deleted after.
"""

import contextlib
import importlib.metadata
import os
import pwd
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tests.performance import wire
from tests.performance.measure import FaultError, tree

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "bench"  # data and logs: on a real disk, as in the field

START_LIMIT = 10.0  # seconds until the first CONNACK
STOP_LIMIT = 5.0
SAVE_LIMIT = 20.0  # seconds for a broker that saves its memory on demand

ALL_CORES = sorted(os.sched_getaffinity(0))
GENERATOR_CORE = ALL_CORES[-1:]
BROKER_CORES = ALL_CORES[:-1] or ALL_CORES  # of all its processes together

# `user`: it keeps the right to write into its folder when root runs the bench.
_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence {persistence}
persistence_location {data}/
user {user}
max_queued_messages 0
max_inflight_messages 100
log_type error
log_type warning
"""

_HELIOGRAPH = """\
[[listener]]
url = "tcp://127.0.0.1:{port}"

[broker]
data_dir = "{data}"

[limits]
max_inflight = 100
backlog_messages = 10_000_000
backlog_bytes = "16 GiB"
"""

_HELIOGRAPH_MEMORY = """
[store]
level = "memory"
"""

_AMQTT = """\
listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
    max_connections: 0
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A make of broker, or one of its settings.

    `command` gives the arguments for a port and a directory of its own, with a folder `data` in it.
    """

    name: str
    versions: frozenset[int]  # protocol levels it speaks
    version: Callable[[], str]
    command: Callable[[int, Path], list[str]]
    must_be_faultless: bool = True  # whether a fault of it fails the run
    slow: bool = False  # whether it gets the smaller counts
    save: Callable[["Running"], None] | None = None  # have it write what it only holds in memory


@dataclass(frozen=True, slots=True)
class Running:
    kind: Kind
    process: subprocess.Popen[bytes]
    port: int
    start_ms: float
    data: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def save(self) -> None:
        if self.kind.save:
            self.kind.save(self)


@contextlib.contextmanager
def running(
    kind: Kind, wrap: tuple[str, ...] = (), cores: Sequence[int] = BROKER_CORES
) -> Iterator[Running]:
    """A fresh broker that has answered a first CONNECT; ended on leaving.

    `wrap` is put behind the Python interpreter of the command (a profiler). Raises FaultError with
    the end of the broker's log if it does not start.
    """
    home = WORK / kind.name
    data = home / "data"
    shutil.rmtree(home, ignore_errors=True)
    data.mkdir(parents=True)
    port = _free_port()
    command = kind.command(port, home)
    command[1:1] = wrap
    with (home / "log").open("wb") as log:
        begun = time.perf_counter()
        process = _spawn(command, log, cores)
        try:
            _await_connack(process, port, home / "log")
            yield Running(kind, process, port, (time.perf_counter() - begun) * 1e3, data)
        finally:
            _stop(process)
            shutil.rmtree(data, ignore_errors=True)


def settle() -> None:
    """Give this process the last core, and it and the brokers all the open files they may have."""
    os.sched_setaffinity(0, GENERATOR_CORE)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _spawn(command: list[str], log: IO[bytes], cores: Sequence[int]) -> subprocess.Popen[bytes]:
    """A child inherits the cores of its parent, and so do its own."""
    os.sched_setaffinity(0, cores)
    try:
        # As installed: Python compiles a module once, not at every start.
        environment = {**os.environ}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment)
    finally:
        os.sched_setaffinity(0, GENERATOR_CORE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_connack(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.perf_counter() + START_LIMIT
    while time.perf_counter() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as peer:
            peer.sendall(wire.connect("bench-start", wire.V311))
            if peer.recv(4)[:1] == bytes([wire.CONNACK]):
                return
        time.sleep(0.002)
    raise FaultError(f"did not start: {_end_of(log)}")


def _end_of(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return " / ".join(lines[-3:]) or "it printed nothing"


def _stop(process: subprocess.Popen[bytes]) -> None:
    children = _children(process)
    process.send_signal(signal.SIGINT)  # amqtt ends cleanly only at this one
    try:
        process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for descriptor in children:
        _end(descriptor)


def _children(process: subprocess.Popen[bytes]) -> list[int]:
    """As descriptors, which, unlike numbers, never mean another process later."""
    found = []
    for pid in tree(process.pid)[1:]:
        with contextlib.suppress(ProcessLookupError):
            found.append(os.pidfd_open(pid))
    return found


def _end(descriptor: int) -> None:
    """A child that outlives the broker would disturb the next measurement."""
    ended, _, _ = select.select([descriptor], [], [], STOP_LIMIT)
    if not ended:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], STOP_LIMIT)
    os.close(descriptor)


def _heliograph(port: int, home: Path, store: str = "") -> list[str]:
    settings = home / "heliograph.toml"
    settings.write_text(_HELIOGRAPH.format(port=port, data=home / "data") + store)
    return [sys.executable, "-m", "broker", "run", "-c", str(settings)]


def _heliograph_version() -> str:
    commit = _output("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    uvloop = importlib.metadata.version("uvloop")
    return f"{_installed('heliograph')} commit {commit}, uvloop {uvloop}"


def _mosquitto(port: int, home: Path, persistence: str = "false") -> list[str]:
    settings = home / "mosquitto.conf"
    user = pwd.getpwuid(os.getuid()).pw_name
    text = _MOSQUITTO.format(port=port, persistence=persistence, data=home / "data", user=user)
    settings.write_text(text)
    return [_mosquitto_program(), "-c", str(settings)]


def _save_mosquitto(broker: Running) -> None:
    """It writes everything at this signal, as it does by itself every 30 minutes."""
    broker.process.send_signal(signal.SIGUSR1)
    deadline = time.perf_counter() + SAVE_LIMIT
    while not (broker.data / "mosquitto.db").exists():  # renamed to this when it is complete
        if time.perf_counter() > deadline:
            raise FaultError("it has not saved its memory")
        time.sleep(0.01)


def _mosquitto_version() -> str:
    found = re.search(r"version (\S+)", _output(_mosquitto_program(), "-h"))
    return found.group(1) if found else "unknown"


def _mosquitto_program() -> str:
    """Debian keeps it in /usr/sbin, which is not on everybody's path."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "mosquitto"


def _amqtt(port: int, home: Path) -> list[str]:
    settings = home / "amqtt.yaml"
    settings.write_text(_AMQTT.format(port=port))
    return [sys.executable, str(Path(sys.executable).with_name("amqtt")), "-c", str(settings)]


def _installed(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed"
    return done.stdout.strip() or "unknown"


BOTH = frozenset({wire.V311, wire.V5})

KINDS = {
    kind.name: kind
    for kind in (
        Kind("heliograph", BOTH, _heliograph_version, _heliograph),
        Kind(
            "heliograph-memory",
            BOTH,
            lambda: 'heliograph with [store] level = "memory"',
            partial(_heliograph, store=_HELIOGRAPH_MEMORY),
        ),
        Kind("mosquitto", BOTH, _mosquitto_version, _mosquitto),
        Kind(
            "mosquitto-persistent",
            BOTH,
            lambda: "mosquitto with persistence true, saved every 30 minutes (its default)",
            partial(_mosquitto, persistence="true"),
            save=_save_mosquitto,
        ),
        Kind(
            "amqtt",
            frozenset({wire.V311}),
            lambda: _installed("amqtt"),
            _amqtt,
            must_be_faultless=False,
            slow=True,
        ),
    )
}
