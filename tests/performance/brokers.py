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

from tests.performance import amqp, launch, wire
from tests.performance.measure import FaultError, tree
from tests.support.postgresql import find

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "bench"  # data and logs: on a real disk, as in the field

START_LIMIT = 60.0  # seconds until the first answer; RabbitMQ takes a dozen
STOP_LIMIT = 5.0
MAX_INFLIGHT = 100  # messages to one client
WIDE = 1000  # of one client of a queue without a narrow prefetch
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
max_inflight = {max_inflight}
backlog_messages = 10_000_000
backlog_bytes = "16 GiB"
"""

_HELIOGRAPH_MEMORY = """
[store]
level = "memory"
"""

# More waits than is usual; consumers of `wide` are given as much as they can take.
_WITH_QUEUES = f"""
[[queue]]
name = "work"
max_messages = 10_000_000
max_bytes = "16 GiB"

[[queue]]
name = "wide"
prefetch = {WIDE}
max_messages = 10_000_000
max_bytes = "16 GiB"

[[route]]
topic = "bench/work/+"
queue = "work"

[[route]]
topic = "bench/wide/+"
queue = "wide"
"""

_IN_POSTGRESQL = """
[store]
url = "{url}"
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
    speech: str = ""  # how one talks to its queues, if it has some: see load/speech.py


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
            _await_answer(process, port, _GREETINGS[kind.speech.startswith("amqp")], home / "log")
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


_GREETINGS = (  # what is said first, and how the answer begins: in MQTT and in AMQP
    (wire.connect("bench-start", wire.V311), bytes([wire.CONNACK])),
    (amqp.HEADER, bytes([amqp.METHOD])),
)


def _await_answer(
    process: subprocess.Popen[bytes], port: int, greeting: tuple[bytes, bytes], log: Path
) -> None:
    said, answered = greeting
    deadline = time.perf_counter() + START_LIMIT
    while time.perf_counter() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as peer:
            peer.sendall(said)
            if peer.recv(4)[:1] == answered:
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


def _heliograph(
    port: int, home: Path, more: str = "", max_inflight: int = MAX_INFLIGHT
) -> list[str]:
    settings = home / "heliograph.toml"
    text = _HELIOGRAPH.format(port=port, data=home / "data", max_inflight=max_inflight)
    settings.write_text(text + more)
    return [sys.executable, "-m", "broker", "run", "-c", str(settings)]


def _heliograph_in_postgresql(port: int, home: Path) -> list[str]:
    store = _IN_POSTGRESQL.format(url=launch.postgresql_url(home))
    broker = _heliograph(port, home, _WITH_QUEUES + store, WIDE)
    return _launch("postgresql", home, *broker)


def _rabbitmq(port: int, home: Path) -> list[str]:
    return _launch("rabbitmq", home, str(port))


def _launch(what: str, home: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", launch.__name__, what, str(home), *more]


def _rabbitmq_version() -> str:
    return _output("dpkg-query", "--show", "--showformat=${Version}", "rabbitmq-server")


def _postgresql_version() -> str:
    return f"heliograph with its store in {_output(find('postgres') or 'postgres', '--version')}"


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
            partial(_heliograph, more=_HELIOGRAPH_MEMORY),
        ),
        Kind(
            "heliograph-queues",
            BOTH,
            lambda: "heliograph with two queues and their routes",
            partial(_heliograph, more=_WITH_QUEUES, max_inflight=WIDE),
            speech="mqtt",
        ),
        Kind(
            "heliograph-postgresql",
            BOTH,
            _postgresql_version,
            _heliograph_in_postgresql,
            speech="mqtt",
        ),
        Kind(
            "rabbitmq",
            frozenset(),
            _rabbitmq_version,
            _rabbitmq,
            must_be_faultless=False,
            speech="amqp classic",
        ),
        Kind(
            "rabbitmq-quorum",
            frozenset(),
            lambda: "rabbitmq with a quorum queue of one member",
            _rabbitmq,
            must_be_faultless=False,
            speech="amqp quorum",
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
