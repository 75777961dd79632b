"""The fixture itself: `BrokerProcess` must not let a sick broker pass."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import process
from tests.support.process import DIALECTS, BrokerProcess, Dialect

if TYPE_CHECKING:
    from pathlib import Path

ACCEPT = """
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: {on_term})
listener = socket.create_server(("127.0.0.1", int(open(sys.argv[1]).read())))
{at_start}
while True:
    signal.pause()
"""


def stub(monkeypatch: pytest.MonkeyPatch, on_term: str = "sys.exit(0)", at_start: str = "") -> str:
    """A dialect for a process that only listens."""
    program = ACCEPT.format(on_term=on_term, at_start=at_start)
    made = Dialect(
        missing=lambda: None,
        render=lambda endpoints, *_: str(endpoints[0].port),
        command=lambda path: [sys.executable, "-c", program, str(path)],
        add_password=lambda *_: [],
    )
    monkeypatch.setitem(DIALECTS, "stub", made)
    return "stub"


def test_a_broker_that_ends_well_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with BrokerProcess(tmp_path, dialect=stub(monkeypatch)) as broker:
        broker.endpoints["tcp"].open_socket().close()


def test_an_exit_code_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = BrokerProcess(tmp_path, dialect=stub(monkeypatch, on_term="sys.exit(3)"))
    broker.start()
    with pytest.raises(AssertionError, match="exit code 3"):
        broker.stop()


def test_a_traceback_in_the_log_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cry = "sys.exit(print('Traceback (most recent call last):'))"
    broker = BrokerProcess(tmp_path, dialect=stub(monkeypatch, on_term=cry))
    broker.start()
    with pytest.raises(AssertionError, match="Traceback"):
        broker.stop()


def test_deafness_to_sigterm_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = BrokerProcess(tmp_path, dialect=stub(monkeypatch, on_term="None"))
    broker.start()
    monkeypatch.setattr(process, "LONGEST_WAIT", 0.2)
    with pytest.raises(AssertionError, match="SIGTERM did not end"):
        broker.stop()


def test_a_broker_that_ends_at_once_shows_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = stub(monkeypatch, at_start="sys.exit('the port is taken')")
    monkeypatch.setattr(process.Endpoint, "open_socket", refuse)
    with pytest.raises(AssertionError, match=r"(?s)exit code 1.*the port is taken"):
        BrokerProcess(tmp_path, dialect=dialect).start()


def refuse(_: process.Endpoint) -> None:
    raise ConnectionRefusedError


def test_a_missing_program_is_a_skip_at_home_and_a_failure_under_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get"):
        process.explain_missing("apt-get install it")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get"):
        process.explain_missing("apt-get install it")
