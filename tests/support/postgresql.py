"""A PostgreSQL server of our own: in a temporary folder, on a Unix socket, with its syncs on.

It can be stopped, killed and started again under the tests' feet; its folder stays the same.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.support import orphans
from tests.support.process import LONGEST_WAIT, explain_missing

USER = "postgres"  # who runs the server when we are root, which the server refuses to be
SETTINGS = {
    "listen_addresses": "",
    "fsync": "on",
    "shared_buffers": "16MB",
    "max_connections": "20",
    "autovacuum_naptime": "1s",
}


class PostgreSQL:
    """One server. `with PostgreSQL() as server: ... server.new_database()`."""

    def __init__(self) -> None:
        explain_missing(missing_postgresql())
        self._process: subprocess.Popen[bytes] | None = None
        self._names = map("heliograph_{}".format, itertools.count(1))
        # Short, for a socket's path has 107 bytes; and in reach of another user, unlike tmp_path.
        self.directory = Path(tempfile.mkdtemp(prefix="heliograph-postgresql-"))
        self.url = f"postgresql:///{USER}?host={self.directory}&user={USER}"

    def __enter__(self) -> Self:
        try:
            self._create()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def new_database(self) -> str:
        """An empty database; its URL."""
        name = next(self._names)
        self.execute(f"CREATE DATABASE {name}")
        return self.url.replace(f"///{USER}?", f"///{name}?")

    def execute(self, sql: str, url: str = "") -> list[tuple[object, ...]]:
        """One statement on a connection of its own; its rows."""
        import psycopg

        with psycopg.connect(url or self.url, autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def psql(self, script: str, url: str = "") -> str:
        """What the command psql prints: unaligned rows, nothing else; errors, too."""
        done = subprocess.run(
            [program("psql"), "-X", "-A", "-t", "-q", "-d", url or self.url],
            input=script,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=3 * LONGEST_WAIT,
        )
        return done.stdout

    def start(self) -> None:
        """Returns when the server takes connections."""
        assert self._process is None, "the server is already running"
        deadline = time.monotonic() + 3 * LONGEST_WAIT
        while not self._started(deadline):
            assert time.monotonic() < deadline, f"PostgreSQL does not start\n{self.log}"

    def stop(self) -> None:
        """Properly: every session is ended, everything is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the server and all its processes. Harmless when it is not running."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _create(self) -> None:
        if os.getuid() == 0:
            shutil.chown(self.directory, USER, pwd.getpwnam(USER).pw_gid)
        subprocess.run(
            [
                *as_its_user(program("initdb")),
                *("-D", str(self.directory / "data"), "-U", USER, "-A", "trust"),
                *("-E", "UTF8", "--no-locale", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd=self.directory,
            timeout=6 * LONGEST_WAIT,
        )

    def _started(self, deadline: float) -> bool:
        """Just after a kill it may refuse: the memory of the killed one is still in use."""
        settings = [f"--{key}={value}" for key, value in SETTINGS.items()]
        command = [program("postgres"), "-D", str(self.directory / "data"), *settings]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                as_its_user(*command, "-k", str(self.directory)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,  # a group of its own, so that a kill reaches all of it
            )
        orphans.enlist(-self._process.pid)
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._is_ready():
                return True
            time.sleep(0.02)  # a server that starts tells nobody when it listens: ask again
        self.kill()
        return False

    def _is_ready(self) -> bool:
        asked = [program("pg_isready"), "-q", "-h", str(self.directory), "-U", USER]
        return subprocess.run(asked, check=False, timeout=LONGEST_WAIT).returncode == 0

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if how == signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        process.wait(3 * LONGEST_WAIT)
        orphans.strike_off(-process.pid)


def as_its_user(*command: str) -> list[str]:
    if os.getuid() != 0:
        return list(command)
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]


def program(name: str) -> str:
    found = find(name)
    assert found is not None, name
    return found


def find(name: str) -> str | None:
    """Debian keeps the server's programs out of the way, one folder for each version."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])
    return shutil.which(name, path=path)


def missing_postgresql() -> str | None:
    if all(find(name) for name in ("initdb", "postgres", "pg_isready", "psql")):
        return None
    return "a PostgreSQL server is missing: apt-get install postgresql"
