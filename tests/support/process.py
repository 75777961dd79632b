"""A broker in a process of its own, as a user runs it: started, waited for, watched and stopped.

`BrokerProcess` gives every wanted transport a free port, writes a settings file, starts the
command, and returns when every listener accepts. Stopping it is itself a check: SIGTERM must end it
with exit code 0, and nothing in its log may speak of a fault of its own.

The settings are Heliograph's. `DIALECTS` also renders the few of them that the tests use for
Debian's mosquitto, to try the tests on a broker we did not write:
`pytest tests/interop --broker mosquitto`.
"""

from __future__ import annotations

import getpass
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

import pytest
import trustme

from tests.support import orphans

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Section = dict[str, Any]
Tables = Section | list[Section]  # one [table], or several [[tables]] of one name

HOST = "127.0.0.1"
WEBSOCKET_PATH = "/mqtt"
TRANSPORTS = ("tcp", "tls", "ws", "wss", "unix")
ENCRYPTED = ("tls", "wss")
LONGEST_WAIT = (
    30.0  # seconds for a start or a stop: far more than needed, so that only a hang reaches it
)
CLIENT_NAME = "sensor-7"  # the common name in the client certificate
OUTSIDE_EPHEMERAL = (
    20_000,
    32_000,
)  # Linux takes the ports of outgoing connections from 32,768 upwards

# What a log must never say, whatever the clients did.
FAULTS = ("Traceback", "was never retrieved", "was never awaited", "ResourceWarning")


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files made for one test run: the authority, one server and one client."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    @classmethod
    def create(cls, directory: Path) -> Certificates:
        made = cls(
            *(
                directory / name
                for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")
            )
        )
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(made.authority))
        server = authority.issue_cert(HOST, "localhost", "::1")
        client = authority.issue_cert(f"{CLIENT_NAME}@example.org", common_name=CLIENT_NAME)
        for issued, chain, key in (
            (server, made.server, made.server_key),
            (client, made.client, made.client_key),
        ):
            chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
            issued.private_key_pem.write_to_path(str(key))
        return made


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a listener is reached. `path` is a Unix socket's file or a WebSocket URL's path."""

    transport: str
    host: str = HOST
    port: int = 0
    path: str = ""
    certificates: Certificates | None = None

    @property
    def url(self) -> str:
        """As Heliograph writes it: `tls://127.0.0.1:23456`, `unix:///run/x.sock`."""
        if self.transport == "unix":
            return f"unix://{self.path}"
        return f"{self.transport}://{self.host}:{self.port}{self.path}"

    @property
    def encrypted(self) -> bool:
        return self.transport in ENCRYPTED

    def open_socket(self) -> socket.socket:
        """A plain connection to the listener, before any TLS or WebSocket talk."""
        if self.transport == "unix":
            plain = socket.socket(socket.AF_UNIX)
            plain.settimeout(1.0)
            try:
                plain.connect(self.path)
            except OSError:
                plain.close()
                raise
            return plain
        return socket.create_connection((self.host, self.port), timeout=1.0)


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one broker is told what it shall be, and how it is started."""

    missing: Callable[[], str | None]
    render: Callable[[Sequence[Endpoint], Mapping[str, Tables], Path], str]
    command: Callable[[Path], list[str]]
    add_password: Callable[[Path, str, str], list[str]]


class BrokerProcess:
    """One broker process with one listener for each wanted transport.

    `settings` are Heliograph's tables, for example `{"limits": {"max_packet_size": 4096}}`, or
    a list of tables: `{"durability": [{"filter": "noise/#", "level": "memory"}]}`;
    `listener` holds further keys for every listener, for example `{"client_ca": "ca.pem"}`;
    `environment` is added to that of the process, for example `{"LD_PRELOAD": "shim.so"}`.
    The process keeps its ports and its data through `stop`/`kill` and a later `start`.
    """

    def __init__(
        self,
        directory: Path,
        transports: Sequence[str] = ("tcp",),
        *,
        certificates: Certificates | None = None,
        settings: Mapping[str, Tables] | None = None,
        listener: Section | None = None,
        environment: Mapping[str, str] | None = None,
        dialect: str = "heliograph",
    ) -> None:
        self.directory = directory
        self.endpoints = {name: make_endpoint(name, directory, certificates) for name in transports}
        self.settings = settings or {}
        self.environment = environment or {}
        self.listener = listener or {}
        self.dialect = dialect
        self._log_path = directory / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is None:
            self.stop()
        else:
            self.kill()

    @property
    def port(self) -> int:
        """The port of the plain TCP listener."""
        return self.endpoints["tcp"].port

    @property
    def urls(self) -> dict[str, str]:
        return {name: endpoint.url for name, endpoint in self.endpoints.items()}

    @property
    def pid(self) -> int:
        assert self._process is not None, "the broker has not been started"
        return self._process.pid

    @property
    def log(self) -> str:
        """All that this broker has written to its standard output and error, in all its starts."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def start(self) -> None:
        """Returns when every listener accepts.

        Raises:
            AssertionError: it ended or did not accept in time; the text carries its log.
        """
        assert self._process is None, "the broker is already running"
        rules = DIALECTS[self.dialect]
        explain_missing(rules.missing())
        settings_path = self._write_settings(rules)
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                rules.command(settings_path),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**clean_environment(), **self.environment},
            )
        orphans.enlist(self.pid)
        deadline = time.monotonic() + LONGEST_WAIT
        for endpoint in self.endpoints.values():
            self._wait_until_it_accepts(endpoint, deadline)

    def stop(self) -> None:
        """SIGTERM.

        Raises:
            AssertionError: it hung, ended with another code than 0, or its log tells of a fault.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(LONGEST_WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"SIGTERM did not end the broker\n{self.log}") from None
        finally:
            orphans.strike_off(process.pid)
        assert code == 0, f"the broker ended with exit code {code}\n{self.log}"
        faults = [fault for fault in FAULTS if fault in self.log]
        assert not faults, f"the broker's log speaks of {faults}\n{self.log}"

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out. Nothing is checked."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            orphans.strike_off(process.pid)

    def _write_settings(self, rules: Dialect) -> Path:
        tables = {**self.settings, "listener": self.listener}
        path = self.directory / "broker.conf"
        path.write_text(rules.render(list(self.endpoints.values()), tables, self.directory))
        return path

    def _wait_until_it_accepts(self, endpoint: Endpoint, deadline: float) -> None:
        assert self._process is not None
        while True:
            try:
                endpoint.open_socket().close()
            except OSError:
                if self._process.poll() is not None:
                    self._give_up(f"it ended with exit code {self._process.returncode}")
                if time.monotonic() > deadline:
                    self._give_up(f"{endpoint.url} does not accept")
                time.sleep(0.01)  # a process that starts tells nobody when it listens: ask again
            else:
                return

    def _give_up(self, reason: str) -> NoReturn:
        self.kill()
        raise AssertionError(f"the broker did not start: {reason}\n{self.log}")


def make_endpoint(transport: str, directory: Path, certificates: Certificates | None) -> Endpoint:
    """A place to listen at that nobody uses now."""
    if transport == "unix":
        return Endpoint("unix", path=str(directory / "broker.sock"))
    if transport in ENCRYPTED:
        assert certificates is not None, f"{transport} needs certificates"
    return Endpoint(
        transport,
        port=free_port(),
        path=WEBSOCKET_PATH if transport.startswith("ws") else "",
        certificates=certificates if transport in ENCRYPTED else None,
    )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on and that no outgoing connection will be given."""
    for _ in range(1000):
        port = random.randint(*OUTSIDE_EPHEMERAL)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free TCP port within {OUTSIDE_EPHEMERAL}")


def explain_missing(what_to_install: str | None) -> None:
    """Skips the test with that text; under CI it fails, for there everything has to be present."""
    if what_to_install is None:
        return
    if os.environ.get("CI"):
        pytest.fail(what_to_install, pytrace=False)
    pytest.skip(what_to_install)


def clean_environment() -> dict[str, str]:
    """Ours without the settings that a developer may have in his shell."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HELIOGRAPH_")}


def render_heliograph(
    endpoints: Sequence[Endpoint], tables: Mapping[str, Tables], directory: Path
) -> str:
    lines: list[str] = []
    for endpoint in endpoints:
        lines += ["[[listener]]", f"url = {toml(endpoint.url)}"]
        if endpoint.certificates is not None:
            lines += [
                f"certificate = {toml(endpoint.certificates.server)}",
                f"key = {toml(endpoint.certificates.server_key)}",
            ]
        lines += [f"{key} = {toml(value)}" for key, value in tables["listener"].items()]
    sections = {name: table for name, table in tables.items() if name != "listener"}
    sections["broker"] = {"data_dir": directory / "data", **sections.get("broker", {})}
    for name, content in sections.items():
        several = isinstance(content, list)
        for table in content if several else [content]:
            lines.append(f"[[{name}]]" if several else f"[{name}]")
            lines += [f"{key} = {toml(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def toml(value: object) -> str:
    # For texts, numbers, booleans and lists of them, JSON's spelling is TOML's.
    return json.dumps(str(value) if isinstance(value, Path) else value)


def render_mosquitto(
    endpoints: Sequence[Endpoint], tables: Mapping[str, Tables], directory: Path
) -> str:
    anonymous = tables.get("auth", {}).get("allow_anonymous", "loopback")
    # Started by root it would become `mosquitto`, who may not read the certificates.
    lines = [f"user {getpass.getuser()}"]
    lines.append("max_inflight_messages 1024")  # Heliograph's default
    lines.append(f"allow_anonymous {'false' if anonymous == 'never' else 'true'}")
    for endpoint in endpoints:
        place = f"0 {endpoint.path}" if endpoint.transport == "unix" else f"{endpoint.port} {HOST}"
        lines.append(f"listener {place}")
        if endpoint.transport.startswith("ws"):
            lines.append("protocol websockets")
        if endpoint.certificates is not None:
            lines.append(f"certfile {endpoint.certificates.server}")
            lines.append(f"keyfile {endpoint.certificates.server_key}")
        lines += [MOSQUITTO_LISTENER[key](value) for key, value in tables["listener"].items()]
    for name, table in tables.items():
        if name != "listener":
            lines += [MOSQUITTO_KEYS[f"{name}.{key}"](value) for key, value in table.items()]
    return "\n".join(line for line in lines if line) + "\n"


def add_password(dialect: str, path: Path, user: str, password: str) -> None:
    """Writes the password file's entry with the broker's own command."""
    subprocess.run(
        DIALECTS[dialect].add_password(path, user, password),
        check=True,
        capture_output=True,
        env=clean_environment(),
        timeout=LONGEST_WAIT,
    )


MOSQUITTO_KEYS: dict[str, Callable[[Any], str]] = {
    "auth.allow_anonymous": lambda _: "",  # it comes first in the file
    "auth.password_file": lambda path: f"password_file {path}",
    "limits.max_packet_size": lambda size: f"max_packet_size {size}",
}
MOSQUITTO_LISTENER: dict[str, Callable[[Any], str]] = {
    "client_ca": lambda path: f"cafile {path}",
    "require_client_certificate": lambda wanted: f"require_certificate {str(wanted).lower()}",
}


def missing_mosquitto() -> str | None:
    found = shutil.which("mosquitto", path=SERVER_PATH)
    return None if found else "Debian's mosquitto is missing: apt-get install mosquitto"


SERVER_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])

HELIOGRAPH = (sys.executable, "-m", "broker")

DIALECTS = {
    "heliograph": Dialect(
        missing=lambda: None,
        render=render_heliograph,
        command=lambda path: [*HELIOGRAPH, "run", "-c", str(path)],
        add_password=lambda path, user, password: [
            *(*HELIOGRAPH, "passwd", str(path), user, "-b", password)
        ],
    ),
    "mosquitto": Dialect(
        missing=missing_mosquitto,
        render=render_mosquitto,
        command=lambda path: [
            shutil.which("mosquitto", path=SERVER_PATH) or "mosquitto",
            *("-c", str(path)),
        ],
        add_password=lambda path, user, password: [
            *("mosquitto_passwd", "-c", "-b", str(path), user, password)
        ],
    ),
}
