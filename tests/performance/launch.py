"""Starts what a broker needs beside itself and becomes that broker: so all of it is one tree.

    python -m tests.performance.launch postgresql HOME COMMAND...
    python -m tests.performance.launch rabbitmq HOME PORT

HOME is a directory of its own with a folder `data` in it. What is started beside ends with the
broker: the kernel sends it a signal when its parent dies. Settings that are not here are defaults.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.postgresql import USER, as_its_user, missing_postgresql, program

PATIENCE = 20.0  # seconds for a server to take connections
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on the path changes the user
_ENDS_WITH_US = ("setpriv", "--pdeathsig")


def main(arguments: list[str]) -> None:
    what, home, *rest = arguments
    if what == "postgresql":
        _beside_postgresql(Path(home), rest)
    else:
        _rabbitmq(Path(home), rest[0])


def postgresql_url(home: Path) -> str:
    return f"postgresql:///postgres?host={_socket_folder(home)}&user={USER}"


def _beside_postgresql(home: Path, command: list[str]) -> None:
    """A server with its own defaults (fsync and synchronous_commit are on), on a Unix socket."""
    if missing := missing_postgresql():
        sys.exit(missing)
    database, sockets = home / "data" / "postgresql", _socket_folder(home)
    for folder in (database, sockets):
        folder.mkdir()
        if os.getuid() == 0:
            shutil.chown(folder, USER, pwd.getpwnam(USER).pw_gid)
    initdb = (program("initdb"), "-D", str(database), "-U", USER, "-A", "trust", "--no-sync")
    subprocess.run(as_its_user(*initdb, "-E", "UTF8", "--no-locale"), check=True, cwd="/")
    server = (program("postgres"), "-D", str(database), "-k", str(sockets), "-h", "")
    as_user = as_its_user(*_ENDS_WITH_US, "INT", *server)
    subprocess.Popen(as_user, stdin=subprocess.DEVNULL, cwd="/")
    ready = (program("pg_isready"), "-q", "-h", str(sockets), "-U", USER)
    _wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, "PostgreSQL")
    os.execv(command[0], command)


def _socket_folder(home: Path) -> Path:
    return home / "data" / "socket"


def _rabbitmq(home: Path, port: str) -> None:
    """With a port mapper of its own, so that one that runs here already is not asked."""
    if not RABBITMQ.exists():
        sys.exit("RabbitMQ is missing: apt-get install rabbitmq-server")
    mapper, between = _free_ports(2)
    watched = (*_ENDS_WITH_US, "KILL", "epmd", "-port", str(mapper), "-address", "127.0.0.1")
    subprocess.Popen(watched, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _wait_until(lambda: _accepts(mapper), "epmd")
    plugins = home / "plugins"
    plugins.write_text("[].\n")
    environment = {
        "HOME": str(home),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": "bench@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": port,
        "RABBITMQ_DIST_PORT": str(between),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_LOG_BASE": str(home),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),  # there is none: its defaults
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
    }
    os.execve(RABBITMQ, [str(RABBITMQ)], {**os.environ, **environment})


def _free_ports(count: int) -> list[int]:
    """Different ones: each stays taken until all are known."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_until(is_ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_ready():
        if time.monotonic() > deadline:
            sys.exit(f"{what} does not start")
        time.sleep(0.02)


if __name__ == "__main__":
    main(sys.argv[1:])
