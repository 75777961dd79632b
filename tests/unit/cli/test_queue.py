"""`heliograph queue` against a real HTTP door over a fake engine: its words and exit codes."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from bridges.queues.command import main as command
from bridges.queues.command_api import CommandError, checked_url
from bridges.queues.command_text import age, plain, shortened
from broker.cli import run_command
from tests.support.fake_queues import READY, FakeQueues
from tests.unit.bridges.http_door import Door, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path


@pytest.fixture
def queues() -> FakeQueues:
    return FakeQueues("work", "other", max_failures=1)


@pytest.fixture
async def door(queues: FakeQueues, tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(queues, tmp_path / "data") as door:
        yield door


@pytest.fixture
def settings_file(door: Door, tmp_path: Path) -> Path:
    """The settings that the broker of this door would have been started with."""
    file = tmp_path / "heliograph.toml"
    listen = door.server.url.partition("://")[2]
    file.write_text(f'[broker]\ndata_dir = "data"\n[http]\nlisten = "{listen}"\n')
    return file


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HELIOGRAPH_TOKEN", "HELIOGRAPH_QUEUES_URL"):
        monkeypatch.delenv(name, raising=False)


async def run(*arguments: str | Path) -> int:
    """The command, beside the server it talks to."""
    return await asyncio.to_thread(run_command, ["queue", *map(str, arguments)])


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    found = capsys.readouterr()
    return found.out, found.err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# ---- looking ----


async def test_ls_lists_the_queues(
    queues: FakeQueues, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queues.add("work")
    queues.advance(200)
    assert await run("ls", "-c", settings_file) == 0
    heading, work, other = said(capsys)[0].splitlines()
    assert heading.split()[:3] == ["QUEUE", "MODE", "READY"]
    assert work.split() == ["work", "running", "1", "0", "0", "0", "0", "3", "min", "20", "s", "0"]
    assert other.split()[0] == "other"


async def test_json_is_what_the_broker_answers(
    settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("ls", "--json", "-c", settings_file) == 0
    found = json.loads(said(capsys)[0])
    assert [each["name"] for each in found["queues"]] == ["work", "other"]


async def test_stats_tells_the_policy(
    settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("stats", "work", "-c", settings_file) == 0
    assert "max_failures       1\n" in said(capsys)[0]


async def test_peek_shows_messages_and_nothing_that_moves_the_cursor(
    queues: FakeQueues, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queues.add("work", b"\x1b[2Jboo\r\n" + b"x" * 100, topic="a\x9bb", key="\u202ek")
    queues.add("work", b"\xff\x00")
    assert await run("peek", "work", "-n", "2", "-c", settings_file) == 0
    heading, first, second = said(capsys)[0].splitlines()
    assert heading.startswith("ID")
    assert r"\x1b[2Jboo\r\nxxx" in first
    assert first.isprintable()
    assert first.endswith("…")
    assert "0xff00 (2 bytes)" in second


# ---- changing ----


async def test_purge_asks_first(
    queues: FakeQueues,
    settings_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queues.add("work")
    monkeypatch.setattr(sys, "stdin", Terminal("no\n"))
    assert await run("purge", "work", "-c", settings_file) == 1
    assert len(queues.of("work")) == 1
    assert "Delete 1 messages of work? Type yes: " in said(capsys)[1]
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    assert await run("purge", "work", "-c", settings_file) == 0
    assert queues.of("work") == []
    assert "1 messages deleted." in said(capsys)[0]


async def test_purge_without_a_terminal_wants_yes(
    queues: FakeQueues,
    settings_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queues.add("work")
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    assert await run("purge", "work", "-c", settings_file) == 1
    assert "say --yes" in said(capsys)[1]
    assert len(queues.of("work")) == 1
    assert await run("purge", "work", "--yes", "-c", settings_file) == 0
    assert queues.of("work") == []


async def test_dead_letters_are_sent_back(
    queues: FakeQueues, settings_file: Path, capsys: pytest.CaptureFixture[str], door: Door
) -> None:
    number = queues.add("work")
    (message,) = await door.server.backend.receive("work", "c")
    await door.server.backend.nack([message.receipt])
    assert await run("redrive", "work", "-c", settings_file) == 0
    assert "are in work.dlq" in said(capsys)[0]
    arguments = ("redrive", "work.dlq", "--id", str(number), "-m", "better")
    assert await run(*arguments, "-c", settings_file) == 0
    assert (queues.of("work")[0].payload, said(capsys)[0]) == (b"better", "1 messages moved.\n")


async def test_a_queue_is_dropped_if_the_person_means_it(
    queues: FakeQueues,
    settings_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queues.add("work")
    monkeypatch.setattr(sys, "stdin", Terminal("no\n"))
    assert await run("drop", "work", "-c", settings_file) == 1
    assert "work" in queues.names
    assert await run("drop", "work", "--yes", "-c", settings_file) == 0
    assert "work" not in queues.names
    assert "work is deleted, with 1 messages." in said(capsys)[0]


async def test_what_a_client_has_bound_is_shown_and_unbound(
    queues: FakeQueues, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queues.bindings["work"] = ["site/+/a b", "x/\x9bc"]
    assert await run("stats", "work", "-c", settings_file) == 0
    assert "site/+/a b, x/\\x9bc" in said(capsys)[0]
    assert await run("unbind", "work", "x/\x9bc", "-c", settings_file) == 0
    assert said(capsys)[0] == "work is no longer bound to x/\\x9bc, but to site/+/a b.\n"
    assert queues.bindings["work"] == ["site/+/a b"]
    assert await run("unbind", "work", "nothing/#", "-c", settings_file) == 1
    assert "no client has bound" in said(capsys)[1]


async def test_pause_drain_and_resume(queues: FakeQueues, settings_file: Path) -> None:
    for verb, mode in (("pause", "paused"), ("drain", "draining"), ("resume", "running")):
        assert await run(verb, "work", "-c", settings_file) == 0
        assert queues.modes["work"] == mode


async def test_publish_and_receive(
    queues: FakeQueues, settings_file: Path, tmp_path: Path, capfdbinary: Any
) -> None:
    file = tmp_path / "payload"
    file.write_bytes(b"\x00\xff")
    more = ("--key", "k", "--priority", "9", "--ttl", "60", "-c", settings_file)
    assert await run("publish", "work", "-f", file, *more) == 0
    (message,) = queues.of("work")
    assert (message.payload, message.key, message.rank) == (b"\x00\xff", "k", 0)
    capfdbinary.readouterr()
    assert await run("receive", "work", "-c", settings_file) == 0
    assert capfdbinary.readouterr().out == b"\x00\xff\n"
    assert queues.of("work") == []


async def test_what_was_printed_but_not_acknowledged_is_told(
    queues: FakeQueues,
    settings_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queues.add("work")
    monkeypatch.setattr(queues, "_ack", lambda *_: "lost")
    assert await run("receive", "work", "-c", settings_file) == 0
    assert "1 of them were not acknowledged" in said(capsys)[1]
    assert queues.of("work")[0].state != READY


# ---- the way to the broker ----


async def test_the_address_and_the_token_can_come_from_the_environment(
    door: Door, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HELIOGRAPH_QUEUES_URL", f"{door.server.url}/api/v1/")
    assert await run("ls") == 1
    assert "HELIOGRAPH_TOKEN" in said(capsys)[1]
    monkeypatch.setenv("HELIOGRAPH_TOKEN", door.token)
    assert await run("ls") == 0
    assert await run("ls", "--token", "wrong") == 1
    assert "the token is not known" in said(capsys)[1]


async def test_a_proxy_is_not_asked(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await run("ls", "-c", settings_file) == 0


async def test_the_brokers_own_certificate_is_trusted_and_no_other(
    queues: FakeQueues, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = trustme.CA()
    for name in ("mine", "other"):
        certificate = authority.issue_cert("broker.example")
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    pair = {"tls_cert": tmp_path / "mine.pem", "tls_key": tmp_path / "mine.key"}
    async with opened(queues, tmp_path / "data", **pair) as door:
        listen = door.server.url.partition("://")[2]
        for name, code in (("mine", 0), ("other", 1)):
            file = tmp_path / f"{name}.toml"
            file.write_text(
                f'[broker]\ndata_dir = "data"\n[http]\nlisten = "{listen}"\n'
                f'tls_cert = "{name}.pem"\ntls_key = "{name}.key"\n'
            )
            assert await run("ls", "-c", file) == code
    assert "TLS fails" in said(capsys)[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "HTTP interface is off"),
        (("--url", "http://127.0.0.1:9", "--token", "x"), "does the broker run"),
        (("--url", "127.0.0.1:9"), "--url: write one such as"),
        (("--url", "http://127.0.0.1:9", "--token", "x\ny"), "cannot be a token"),
        (("--url", "http://127.0.0.1:9", "--data", "nowhere"), "there is no token in nowhere"),
        (("-c", "/nowhere.toml"), "cannot be read"),
    ],
)
def test_without_a_broker_it_says_what_to_do(
    arguments: Sequence[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["queue", "ls", *arguments]) == 1
    out, err = said(capsys)
    assert out == ""
    assert told in err


async def test_something_else_that_listens_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 301 Go\r\nLocation: http://127.0.0.1:9/\r\n\r\n<html>")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await run("ls", "--url", f"http://127.0.0.1:{port}", "--token", "x") == 1
    assert "does not answer like Heliograph" in said(capsys)[1]


async def test_the_brokers_words_reach_the_person(
    settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run("stats", "none", "-c", settings_file) == 1
    assert "heliograph queue: there is no queue 'none'" in said(capsys)[1]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["stats"],
        ["stats", "a b"],
        ["peek", "work", "-n", "0"],
        ["top", "--interval", "0"],
        ["top", "--count", "-1"],
        ["publish", "work"],
        ["publish", "work", "-m", "x", "-f", "y"],
    ],
)
def test_what_is_not_understood_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://h:1/api/v1", "http://h:1"),
        ("https://[::1]:1/x/", "https://[::1]:1/x"),
        ("ftp://h", None),
        ("http://", None),
        ("http://h:x", None),
        ("http://u:p@h", None),
        ("http://h/\n", None),
    ],
)
def test_a_url_is_checked(url: str, good: str | None) -> None:
    if good is not None:
        assert checked_url(url) == good
        return
    with pytest.raises(CommandError):
        checked_url(url)


def test_the_command_loads_no_server() -> None:
    code = "import sys, bridges.queues.command; print('aiohttp' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


# ---- words ----


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0.4, "0 s"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_an_age_is_told_in_two_units(seconds: float | None, words: str) -> None:
    assert age(seconds) == words


def test_texts_are_made_harmless_and_short() -> None:
    assert plain("a\x1b\u2028ü") == r"a\x1b\u2028ü"
    assert shortened("abcdef", 4) == "abc…"
