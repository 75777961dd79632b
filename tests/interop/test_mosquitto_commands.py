"""Debian's mosquitto_pub, mosquitto_sub and mosquitto_rr, in the ways that scripts use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.adapters.mosquitto_client import (
    connection_arguments,
    missing_mosquitto_clients,
    start,
)
from tests.interop.clients import for_clients
from tests.interop.foreign import V5, V311, Options, patiently
from tests.support.process import explain_missing

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from tests.interop.clients import Case
    from tests.interop.conftest import Foreigners
    from tests.support.process import BrokerProcess

TIMED_OUT = 27  # mosquitto_sub's and mosquitto_rr's exit code for -W
TRANSPORTS = ("tcp", "tls", "unix")

both_versions = pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])


class Commands:
    """Runs the programs against the shared broker."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker = broker

    async def start(self, program: str, version: int, *arguments: str) -> Process:
        options = Options(self._broker.endpoints["tcp"], "unused", version)
        return await start(program, *connection_arguments(options), *arguments)

    async def run(self, program: str, version: int, *arguments: str, said: bytes = b"") -> bytes:
        process = await self.start(program, version, *arguments)
        return await finish(process, said)


async def finish(process: Process, said: bytes = b"") -> bytes:
    """Its standard output, once it has ended well."""
    heard, _ = await patiently(process.communicate(said or None), "end of the program")
    assert process.returncode == 0, heard
    return heard


async def wait_for_line(process: Process, part: str) -> None:
    """For a program started with -d: returns when its log shows this."""
    assert process.stdout is not None
    line = b""
    while part.encode() not in line:
        line = await patiently(process.stdout.readline(), f"line with {part!r}")
        assert line, f"it ended without a line with {part!r}"


@pytest.fixture
def commands(shared_broker: BrokerProcess) -> Commands:
    explain_missing(missing_mosquitto_clients())
    return Commands(shared_broker)


@both_versions
async def test_lines_from_a_pipe_become_messages(
    commands: Commands, version: int, name: str
) -> None:
    listening = await commands.start(
        "mosquitto_sub", version, "-t", name, "-q", "2", "-C", "3", "-d", "-F", "got %p"
    )
    await wait_for_line(listening, "Subscribed")
    await commands.run("mosquitto_pub", version, "-t", name, "-q", "2", "-l", said=b"a\nb\nc\n")
    heard = await finish(listening)
    assert [line for line in heard.split(b"\n") if line.startswith(b"got")] == [
        b"got a",
        b"got b",
        b"got c",
    ]


@for_clients(versions=(V5,), transports=TRANSPORTS)
async def test_mosquitto_rr_gets_its_answer_from_any_client(
    commands: Commands, clients: Foreigners, case: Case, name: str
) -> None:
    answering = await clients.connect(case)
    await answering.subscribe(f"{name}/ask", 1)
    asking = await commands.start(
        "mosquitto_rr",
        V5,
        "-t",
        f"{name}/ask",
        "-e",
        f"{name}/tell",
        "-m",
        "time?",
        "-q",
        "1",
        "-W",
        "8",
    )
    asked = await answering.next_message()
    assert asked.payload == b"time?"
    assert asked.properties["response_topic"] == f"{name}/tell"
    await answering.publish(f"{name}/tell", b"noon", 1)
    assert await finish(asking) == b"noon\n"


@both_versions
async def test_a_session_kept_with_c_gets_what_it_missed(
    commands: Commands, version: int, name: str
) -> None:
    subscription = ("-c", "-i", name, "-t", name, "-q", "1")
    await commands.run("mosquitto_sub", version, *subscription, "-E")
    await commands.run("mosquitto_pub", version, "-t", name, "-q", "1", "-m", "missed")
    heard = await commands.run("mosquitto_sub", version, *subscription, "-C", "1", "-W", "8")
    assert heard == b"missed\n"


@both_versions
async def test_remove_retained_clears_a_branch(
    commands: Commands, clients: Foreigners, version: int, name: str
) -> None:
    for leaf in ("a", "b"):
        await commands.run(
            "mosquitto_pub", version, "-r", "-q", "1", "-t", f"{name}/{leaf}", "-m", leaf
        )
    branch = ("-t", f"{name}/#", "-q", "1", "-d", "--remove-retained")
    sweeping = await commands.start("mosquitto_sub", version, *branch)
    await wait_for_line(
        sweeping, "received PUBACK (Mid: 3"
    )  # the SUBSCRIBE was 1: both are cleared
    sweeping.kill()  # it has done its work; its own end after --remove-retained may take for ever
    await patiently(sweeping.wait(), "end of mosquitto_sub")
    later = await clients.connect("paho-5-tcp")
    await later.subscribe(f"{name}/#", 1)
    await later.publish(f"{name}/marker", b"marker", 1)
    assert (await later.next_message()).payload == b"marker"


@both_versions
async def test_the_system_topics_answer(commands: Commands, version: int) -> None:
    heard = await commands.run(
        "mosquitto_sub", version, "-t", "$SYS/broker/version", "-C", "1", "-W", "8"
    )
    assert heard.strip()


@both_versions
async def test_a_plus_filter_and_v_print_topic_and_payload(
    commands: Commands, version: int, name: str
) -> None:
    await commands.run(
        "mosquitto_pub", version, "-r", "-q", "1", "-t", f"{name}/load", "-m", "0.25"
    )
    heard = await commands.run(
        "mosquitto_sub", version, "-t", f"{name}/+", "-v", "-C", "1", "-W", "8"
    )
    assert heard == f"{name}/load 0.25\n".encode()
