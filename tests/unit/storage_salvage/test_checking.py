"""A store is looked at while it is in use: what is wrong with it, and what is in it."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from broker.storage import checking
from tests.unit.storage_salvage.building import PAGE, build, owner_of_pages, rows_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "heliograph.db"
    build(path)
    return path


def found(path: Path) -> list[str]:
    with checking.looking_at("", path) as connection:
        return checking.check(connection)


def figures(path: Path) -> dict[str, Any]:
    with checking.looking_at("", path) as connection:
        return checking.stats(connection, path)


def test_a_good_store_has_no_problems(path: Path) -> None:
    assert found(path) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM session WHERE id = 7", "2 rows of subscription belong to a session"),
        ("DELETE FROM session WHERE id = 7", "2 rows of member belong"),
        ("DELETE FROM session WHERE id = 7", "3 rows of inflight belong"),
        ("DELETE FROM session WHERE id = 7", "2 rows of received belong"),
        ("DELETE FROM member WHERE audience = 5", "messages are for an audience without members"),
        ("DELETE FROM message WHERE number = 12", "1 deliveries under way have lost"),
        ("DELETE FROM inflight WHERE number = 12", "1 messages of one session are not under way"),
        ("UPDATE received SET packet_id = 65536 WHERE packet_id = 3", "1 packet ids are out"),
        ("DELETE FROM meta", "1 rows of counters are missing"),
        ("DELETE FROM queue WHERE name = 'work-7'", "20 messages in queues belong to a queue"),
        ("DELETE FROM queue_payload WHERE id = 11", "2 messages in queues have lost"),
        ("UPDATE queued SET state = 2, key = 'x' WHERE number = 3", "1 messages in queues wait"),
        ("UPDATE queued SET token = NULL WHERE number = 7", "1 leases of messages in queues"),
        ("DELETE FROM queued WHERE number = 3", "1 sums of queues are wrong"),
        ("UPDATE meta SET next_number = 900", "1 counters (next_number) are not above"),
        ("UPDATE meta SET next_session = 300", "1 counters (next_session) are not above"),
        ("UPDATE meta SET next_audience = 100", "1 counters (next_audience) are not above"),
    ],
)
def test_each_broken_rule_is_found_and_counted(path: Path, change: str, said: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(change)
    assert any(said in line for line in found(path)), found(path)


@pytest.mark.parametrize("table", ["message", "message_audience", "sqlite_schema"])
def test_a_damaged_page_is_found(path: Path, table: str) -> None:
    page = min(page for page, owner in owner_of_pages(path).items() if owner == table)
    image = bytearray(path.read_bytes())
    image[(page - 1) * PAGE + 100 : page * PAGE] = b"\x55" * (PAGE - 100)
    path.write_bytes(image)
    assert found(path)


def test_the_figures_are_those_of_the_rows(path: Path) -> None:
    rows, seen = rows_of(path), figures(path)
    assert seen["rows"] == {table: len(rows[table]) for table in rows}
    assert seen["position"] == 77
    assert seen["message_bytes"] == 100 * len(rows["message"])
    assert seen["retained_bytes"] == 180 * len(rows["retained"])
    assert seen["bytes"]["file"] == path.stat().st_size
    assert seen["oldest_message"]["number"] == 1
    assert len(seen["queues"]) == len(rows["queue"])
    assert seen["queues"][0] == {
        "name": "work-0",
        "mode": "paused",
        "messages": 20,
        "bytes": 3_000,
    }


def test_the_sessions_with_most_waiting_are_named_with_what_waits(path: Path) -> None:
    """As plain counting finds it: messages of its audiences above its cursor."""
    rows = rows_of(path)
    numbers: dict[object, list[int]] = defaultdict(list)
    for number, audience, *_ in rows["message"]:
        numbers[audience].append(number)
    sessions = {session: (client, cursor) for session, client, _, _, _, cursor in rows["session"]}
    waiting: Counter[str] = Counter()
    for audience, session, *_ in rows["member"]:
        client, cursor = sessions[session]
        waiting[client] += sum(number > cursor for number in numbers[audience])
    expected = sorted(waiting.items(), key=lambda each: (-each[1], each[0]))[:10]
    most = figures(path)["most_waiting"]
    assert [(each["client_id"], each["messages"]) for each in most] == expected
    assert all(each["bytes"] == 100 * each["messages"] for each in most)


def test_a_store_is_looked_at_while_it_is_written(path: Path) -> None:
    """One moment is seen, and nobody is kept from writing."""
    with (
        closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as writer,
        checking.looking_at("", path) as connection,
    ):
        before = checking.stats(connection, path)
        writer.execute("DELETE FROM retained")
        assert checking.stats(connection, path)["rows"] == before["rows"]
        assert checking.check(connection) == []


def test_looking_changes_nothing(path: Path) -> None:
    there = path.read_bytes()
    found(path)
    figures(path)
    assert path.read_bytes() == there
