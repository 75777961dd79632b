"""The Unix socket: its permissions, what an earlier run left behind, and what is not ours."""

from __future__ import annotations

import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.peer import Peer, is_served
from tests.support.process import HELIOGRAPH, BrokerProcess, clean_environment

if TYPE_CHECKING:
    from tests.integration.conftest import StartBroker


def path_of(broker: BrokerProcess) -> Path:
    return Path(broker.endpoints["unix"].path)


def test_clients_are_served(broker: BrokerProcess) -> None:
    assert is_served(Peer(broker.endpoints["unix"].open_socket()), "unix/client")


@pytest.mark.parametrize("mode", ["0600", "0666"])
def test_the_socket_has_the_mode_asked_for(start_broker: StartBroker, mode: str) -> None:
    broker = start_broker("unix", listener={"mode": mode})
    assert stat.S_IMODE(path_of(broker).stat().st_mode) == int(mode, 8)


def test_the_socket_is_removed_at_the_end(start_broker: StartBroker) -> None:
    broker = start_broker("unix")
    broker.stop()
    assert not path_of(broker).exists()


def test_a_socket_that_a_killed_broker_left_is_replaced(start_broker: StartBroker) -> None:
    broker = start_broker("unix")
    broker.kill()
    assert path_of(broker).exists()
    broker.start()
    assert is_served(Peer(broker.endpoints["unix"].open_socket()), "again")


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious.sock"
    path.write_text("precious")
    refusal(path)
    assert path.read_text() == "precious"


def test_a_socket_that_somebody_serves_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        refusal(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def refusal(path: Path) -> str:
    """What the broker says when it cannot listen there."""
    tried = subprocess.run(
        [*HELIOGRAPH, "run", "--listen", f"unix://{path}"],
        capture_output=True,
        text=True,
        timeout=10,
        env=clean_environment(),
        check=False,
    )
    assert tried.returncode == 1
    assert f"cannot listen on unix://{path}" in tried.stderr
    assert "choose another path or remove what is there" in tried.stderr
    assert "Traceback" not in tried.stderr
    return tried.stderr
