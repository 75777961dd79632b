"""Queues over HTTP: what each route does, who may, and what a bad client gets."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from bridges.queues import http_server
from bridges.queues.http_routes import BASE, ROUTES
from bridges.queues.http_tokens import TOKEN_FILE
from broker.clock import Clock
from tests.support.fake_queues import LEASED, READY, FakeQueues
from tests.unit.bridges.http_door import MAX_BODY, Door, FakeEngine, opened, settings_for, token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

RECEIVE = "/queues/work/receive"
PUBLISH = "/queues/work/messages"
ANY = "application/octet-stream"


@pytest.fixture
def queues() -> FakeQueues:
    return FakeQueues("work", "other", max_failures=2)


@pytest.fixture
async def door(queues: FakeQueues, tmp_path: Path) -> AsyncIterator[Door]:
    async with opened(
        queues,
        tmp_path,
        token("worker", allow=("receive",), queues=("wo*",)),
        token("looker", allow=("look",)),
        token("manager", allow=("manage",), queues=("work", "work.dlq")),
    ) as door:
        yield door


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so: sockets take some turns."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  the fake has no events for it
            await asyncio.sleep(0.001)


async def receipt_of_one(door: Door) -> str:
    _, found = await door.ask("POST", RECEIVE)
    receipt: str = found["messages"][0]["receipt"]
    return receipt


# ---- publish and receive ----


async def test_a_message_goes_in_and_comes_out(door: Door, queues: FakeQueues) -> None:
    envelope = {
        "payload": "héllo",
        "topic": "site/1",
        "key": "k",
        "priority": 9,
        "ttl": 60,
        "content_type": "text/plain",
        "properties": {"unit": "°C"},
    }
    assert await door.ask("POST", PUBLISH, json=envelope) == (201, {"id": 1})
    status, found = await door.ask("POST", f"{RECEIVE}?max=10&lease=7")
    (message,) = found["messages"]
    assert status == 200
    assert message == {
        "id": 1,
        "queue": "work",
        "receipt": message["receipt"],
        **{name: envelope[name] for name in envelope if name != "ttl"},
        "publisher": "http:administrator",
        "enqueued_at": queues.now,
        "expires_at": queues.now + 60,
        "lease_until": queues.now + 7,
        "delivery_count": 1,
        "failures": 0,
        "state": "leased",
        "dead_from": None,
        "dead_reason": None,
        "dead_at": None,
    }


@pytest.mark.parametrize(
    ("body", "payload", "content_type"),
    [
        ({"payload": ""}, b"", None),
        ({"payload_base64": "AP8="}, b"\x00\xff", None),
        ({"json": {"a": [1, "ü"]}}, '{"a":[1,"ü"]}'.encode(), "application/json"),
        ({"json": None}, b"null", "application/json"),
        ({"json": 1, "content_type": "x/y"}, b"1", "x/y"),
    ],
)
async def test_an_envelope_carries_text_bytes_or_json(
    door: Door, queues: FakeQueues, body: dict[str, Any], payload: bytes, content_type: str | None
) -> None:
    await door.ask("POST", PUBLISH, json=body)
    (message,) = await door.server.backend.receive("work", "c")
    assert (message.payload, message.content_type) == (payload, content_type)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("application/x-www-form-urlencoded", None),  # as curl -d says
        (ANY, None),
        ("text/csv; charset=utf-8", "text/csv; charset=utf-8"),
    ],
)
async def test_any_other_body_is_the_payload_and_the_query_says_the_rest(
    door: Door, sent: str, kept: str | None
) -> None:
    path = f"{PUBLISH}?key=a%2Fb&priority=0&topic=t"
    status, _ = await door.ask("POST", path, data=b"\x00\xff", headers={"Content-Type": sent})
    (message,) = await door.server.backend.receive("work", "c")
    assert (status, message.payload, message.content_type) == (201, b"\x00\xff", kept)
    assert (message.key, message.priority, message.topic) == ("a/b", 0, "t")


async def test_a_payload_that_is_no_text_comes_in_base64(door: Door, queues: FakeQueues) -> None:
    queues.add("work", b"\xff")
    _, found = await door.ask("POST", RECEIVE)
    (message,) = found["messages"]
    assert "payload" not in message
    assert base64.b64decode(message["payload_base64"]) == b"\xff"


async def test_one_message_can_be_had_as_its_bare_payload(door: Door, queues: FakeQueues) -> None:
    queues.add("work", bytes(range(256)), topic="a\r\nX-Evil: 1/ü", key="x" * 5000)
    async with door.request("POST", RECEIVE, headers={"Accept": ANY}) as answer:
        assert (answer.status, await answer.read()) == (200, bytes(range(256)))
        assert "X-Evil" not in answer.headers
        assert unquote(answer.headers["Heliograph-Topic"]) == "a\r\nX-Evil: 1/ü"
        assert answer.headers["Heliograph-Left-Out"] == "key"
        assert answer.headers["Heliograph-Delivery-Count"] == "1"
        receipt = answer.headers["Heliograph-Receipt"]
    _, found = await door.ask("POST", "/queues/work/ack", json={"receipts": [receipt]})
    assert found == {"results": [{"receipt": receipt, "result": "ok"}]}
    async with door.request("POST", RECEIVE, headers={"Accept": ANY}) as answer:
        assert (answer.status, await answer.read()) == (204, b"")


async def test_a_receive_waits_for_a_message(door: Door, queues: FakeQueues) -> None:
    task = asyncio.create_task(door.ask("POST", f"{RECEIVE}?wait=20"))
    await until(lambda: queues.watchers)
    queues.add("work", b"late")
    _, found = await task
    assert found["messages"][0]["payload"] == "late"


async def test_the_name_of_a_consumer_is_its_own_or_its_connections(
    door: Door, queues: FakeQueues
) -> None:
    await door.ask("POST", f"{RECEIVE}?consumer=me", "worker")
    await door.ask("POST", RECEIVE, "worker")
    await door.ask("POST", RECEIVE, "worker")
    named, first, second = (call[2] for call in queues.calls)
    assert named == "http:worker:me"
    assert first == second
    assert first.startswith("http:worker:127.0.0.1:")


# ---- settling ----


async def test_each_receipt_gets_its_own_result(door: Door, queues: FakeQueues) -> None:
    queues.add("work")
    receipt = await receipt_of_one(door)
    body = {"receipts": [receipt, "99-1"]}
    assert await door.ask("POST", "/queues/work/ack", json=body) == (
        200,
        {"results": [{"receipt": receipt, "result": "ok"}, {"receipt": "99-1", "result": "gone"}]},
    )


async def test_nack_renew_and_release(door: Door, queues: FakeQueues) -> None:
    async def settle(verb: str, **more: object) -> str:
        body = {"receipts": [await receipt_of_one(door)], **more}
        status, found = await door.ask("POST", f"/queues/work/{verb}", json=body)
        assert status == 200
        result: str = found["results"][0]["result"]
        return result

    number = queues.add("work")
    assert await settle("release") == "ok"
    assert queues.messages[number].failures == 0
    assert await settle("nack", delay=0) == "ok"
    assert queues.messages[number].failures == 1
    assert await settle("renew", lease=600) == "ok"
    assert queues.messages[number].lease_until == queues.now + 600
    queues.advance(600)
    queues.add("work")
    assert await settle("nack", dead=True, reason="no good") == "dead"
    assert queues.of("work.dlq")[-1].dead_reason == "no good"


# ---- people ----


async def test_queues_are_listed_and_looked_at(door: Door, queues: FakeQueues) -> None:
    number = queues.add("work", b"x")
    _, found = await door.ask("GET", "/queues", "looker")
    assert [each["name"] for each in found["queues"]] == ["work", "other"]
    _, stats = await door.ask("GET", "/queues/work", "looker")
    assert (stats["ready"], stats["mode"], stats["policy"]["lease"]) == (1, "running", 30.0)
    _, seen = await door.ask("GET", "/queues/work/messages?after=0&max=5", "looker")
    assert [(each["id"], each["state"]) for each in seen["messages"]] == [(number, "ready")]
    assert queues.messages[number].state == READY


async def test_a_list_has_only_what_the_token_is_for(queues: FakeQueues, tmp_path: Path) -> None:
    async with opened(queues, tmp_path, token("one", allow=("look",), queues=("o*r",))) as door:
        _, found = await door.ask("GET", "/queues", "one")
    assert [each["name"] for each in found["queues"]] == ["other"]


async def test_purge_delete_redrive_and_modes(door: Door, queues: FakeQueues) -> None:
    number = queues.add("work")
    assert await door.ask("DELETE", f"{PUBLISH}/{number}") == (200, {"deleted": 1})
    queues.add("work")
    assert await door.ask("DELETE", PUBLISH) == (200, {"deleted": 1})
    queues.add("work")
    body = {"receipts": [await receipt_of_one(door)], "dead": True}
    await door.ask("POST", "/queues/work/nack", json=body)
    (dead,) = queues.of("work.dlq")
    body = {"ids": [dead.number], "to": "other", "payload": "new"}
    assert await door.ask("POST", "/queues/work.dlq/redrive", json=body) == (200, {"moved": 1})
    assert queues.of("other")[0].payload == b"new"
    assert await door.ask("POST", "/queues/work.dlq/redrive") == (200, {"moved": 0})
    for verb, mode in (("pause", "paused"), ("drain", "draining"), ("resume", "running")):
        assert await door.ask("POST", f"/queues/work/{verb}") == (200, {"mode": mode})
        assert queues.modes["work"] == mode


async def test_bindings_are_told_and_ended(door: Door, queues: FakeQueues) -> None:
    queues.bindings["work"] = ["site/+/x y", "a/#"]
    _, stats = await door.ask("GET", "/queues/work", "looker")
    assert stats["bindings"] == ["site/+/x y", "a/#"]
    path = "/queues/work/bindings?filter=site%2F%2B%2Fx%20y"
    assert (await door.ask("DELETE", path, "looker"))[0] == 403
    assert await door.ask("DELETE", path) == (200, {"bindings": ["a/#"]})
    status, told = await door.ask("DELETE", path)
    assert (status, told["error"]) == (404, "not_bound")
    assert "[[route]]" in told["message"]


async def test_a_queue_is_dropped_unless_it_is_in_use(door: Door, queues: FakeQueues) -> None:
    queues.add("work")
    await receipt_of_one(door)
    status, told = await door.ask("DELETE", "/queues/work")
    assert (status, told["error"]) == (409, "in_use")
    assert "settings" in told["message"]
    queues.add("other")
    assert (await door.ask("DELETE", "/queues/other", "looker"))[0] == 403
    assert await door.ask("DELETE", "/queues/other") == (200, {"deleted": 1})
    assert (await door.ask("GET", "/queues/other"))[0] == 404


# ---- who may ----


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer x", "Basic worker"])
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_without_a_token_there_is_nothing(door: Door, route: Any, header: str | None) -> None:
    path = route.path.replace("{queue}", "work").replace("{id}", "1")
    headers = {} if header is None else {"Authorization": header}
    url = door.server.url + BASE + path
    async with door.session.request(route.method, url, headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]) == (401, "no_token")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
@pytest.mark.parametrize("name", ["worker", "looker", "manager"])
async def test_a_token_opens_only_what_it_allows(
    door: Door, queues: FakeQueues, route: Any, name: str
) -> None:
    path = route.path.replace("{queue}", "work").replace("{id}", "1")
    status, found = await door.ask(route.method, path, name)
    may = {"worker": "receive", "looker": "look", "manager": "manage"}[name] == route.right
    assert (status == 403) != may
    assert may or found["error"] == "not_allowed"


async def test_a_token_opens_only_its_queues(door: Door, queues: FakeQueues) -> None:
    queues.add("other")
    assert (await door.ask("POST", "/queues/other/receive", "worker"))[0] == 403
    assert (await door.ask("POST", "/queues/nowhere/receive", "worker"))[0] == 403
    assert (await door.ask("POST", "/queues/wo/receive", "worker"))[0] == 404
    status, _ = await door.ask("POST", "/queues/work.dlq/redrive", "manager", json={"to": "other"})
    assert status == 403


async def test_the_administrators_token_is_made_once_for_one_reader(
    queues: FakeQueues, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    made = []
    for _ in range(2):
        async with opened(queues, folder) as door:
            made.append(door.token)
    assert made[0] == made[1]
    assert len(made[0]) >= 40
    assert stat.S_IMODE((folder / TOKEN_FILE).stat().st_mode) == 0o600


async def test_no_token_is_ever_logged(
    queues: FakeQueues,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(0)
    monkeypatch.setattr(queues, "stats", lambda *_: 1 / 0)
    monkeypatch.setattr(http_server.log, "propagate", True)
    async with opened(queues, tmp_path) as door:
        assert (await door.ask("GET", "/queues"))[0] == 500
        await door.ask("GET", "/queues", "hunter2")
        assert "a request over HTTP failed: GET" in caplog.text
        assert door.token not in caplog.text
        assert "hunter2" not in caplog.text


async def test_a_token_that_others_can_read_is_told(
    queues: FakeQueues,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server.log, "propagate", True)
    (tmp_path / TOKEN_FILE).write_text("x\n")
    (tmp_path / TOKEN_FILE).chmod(0o644)
    async with opened(queues, tmp_path):
        assert "chmod 600" in caplog.text


# ---- what is wrong is told ----


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/queues/none/receive", b"", 404, "unknown_queue"),
        ("POST", "/queues/.x/receive", b"", 400, "bad_request"),
        ("POST", "/queues/a%2Fb/receive", b"", 400, "bad_request"),
        ("POST", f"{RECEIVE}?max=0", b"", 400, "bad_request"),
        ("POST", f"{RECEIVE}?max=257", b"", 400, "bad_request"),
        ("POST", f"{RECEIVE}?max=ten", b"", 400, "bad_request"),
        ("POST", f"{RECEIVE}?max=1&max=2", b"", 400, "bad_request"),
        ("POST", f"{RECEIVE}?wait=21", b"", 400, "bad_request"),
        ("POST", f"{RECEIVE}?wait=nan", b"", 400, "bad_request"),
        ("POST", f"{RECEIVE}?wiat=1", b"", 400, "bad_request"),
        ("POST", "/queues/none/ack", b'{"receipts": ["1-1"]}', 404, "unknown_queue"),
        ("POST", "/queues/none/nack", b'{"receipts": ["1-1"]}', 404, "unknown_queue"),
        ("POST", "/queues/none/renew", b'{"receipts":["1-1"],"lease":1}', 404, "unknown_queue"),
        ("POST", "/queues/none/release", b'{"receipts": ["1-1"]}', 404, "unknown_queue"),
        ("POST", "/queues/work/ack", b"", 400, "bad_request"),
        ("POST", "/queues/work/ack", b"{", 400, "bad_request"),
        ("POST", "/queues/work/ack", b"\xff", 400, "bad_request"),
        ("POST", "/queues/work/ack", b"[" * 2000, 400, "bad_request"),
        ("POST", "/queues/work/ack", b"[]", 400, "bad_request"),
        ("POST", "/queues/work/ack", b'{"receipts": "1-1"}', 400, "bad_request"),
        ("POST", "/queues/work/ack", b'{"receipts": []}', 400, "bad_request"),
        ("POST", "/queues/work/ack", b'{"receipts": [1]}', 400, "bad_request"),
        ("POST", "/queues/work/ack", b'{"receipts": ["1"]}', 400, "bad_request"),
        ("POST", "/queues/work/ack", b'{"receipts": ["1-1"], "x": 1}', 400, "bad_request"),
        ("POST", "/queues/work/nack", b'{"receipts": ["1-1"], "dead": 1}', 400, "bad_request"),
        ("POST", "/queues/work/nack", b'{"receipts": ["1-1"], "delay": true}', 400, "bad_request"),
        ("POST", "/queues/work/renew", b'{"receipts": ["1-1"]}', 400, "bad_request"),
        ("POST", "/queues/work/renew", b'{"receipts":["1-1"],"lease":NaN}', 400, "bad_request"),
        ("POST", "/queues/work/renew", b'{"receipts":["1-1"],"lease":1e999}', 400, "bad_request"),
        ("POST", PUBLISH, b"{}", 400, "bad_request"),
        ("POST", PUBLISH, b"", 400, "bad_request"),
        ("POST", PUBLISH, b'{"payload": "a", "json": 1}', 400, "bad_request"),
        ("POST", PUBLISH, b'{"payload": "\\ud800"}', 400, "bad_request"),
        ("POST", PUBLISH, b'{"json": "\\ud800"}', 400, "bad_request"),
        ("POST", PUBLISH, b'{"json": 1e999}', 400, "bad_request"),
        ("POST", PUBLISH, b'{"json": ' + b"[" * 900 + b"]" * 900 + b"}", 201, None),
        ("POST", PUBLISH, b'{"payload_base64": "?"}', 400, "bad_request"),
        ("POST", PUBLISH, b'{"payload_base64": 1}', 400, "bad_request"),
        ("POST", PUBLISH, b'{"payload": "", "key": "\\u0000"}', 400, "bad_request"),
        ("POST", PUBLISH, b'{"payload": "", "priority": 4.5}', 400, "bad_request"),
        ("POST", PUBLISH, b'{"payload": "", "properties": {"a": 1}}', 400, "bad_request"),
        ("POST", PUBLISH, b'{"payload": "", "topic": "#"}', 400, "bad_request"),
        ("POST", PUBLISH, b" " * (MAX_BODY + 1), 413, "too_large"),
        ("DELETE", f"{PUBLISH}/0", b"", 400, "bad_request"),
        ("DELETE", f"{PUBLISH}/one", b"", 400, "bad_request"),
        ("DELETE", f"{PUBLISH}/{2**63}", b"", 400, "bad_request"),
        ("POST", "/queues/work/redrive", b'{"to": "a b"}', 400, "bad_request"),
        ("DELETE", "/queues/work/bindings", b"", 400, "bad_request"),
        ("DELETE", "/queues/work/bindings?filter=a&filter=b", b"", 400, "bad_request"),
        ("DELETE", "/queues/none/bindings?filter=a", b"", 404, "unknown_queue"),
        ("POST", "/queues/work/redrive", b'{"payload": "x"}', 400, "bad_request"),
        ("GET", "/nothing", b"", 404, "not_found"),
        ("PUT", "/queues", b"", 405, "method_not_allowed"),
    ],
)
async def test_what_is_wrong_is_told(
    door: Door, method: str, path: str, body: bytes, status: int, code: str | None
) -> None:
    headers = {"Content-Type": "application/json"}
    found, told = await door.ask(method, path, data=body, headers=headers)
    assert (found, told.get("error")) == (status, code)
    assert code is None or len(told["message"]) > 20


async def test_a_bare_payload_is_one_at_a_time(door: Door) -> None:
    status, _ = await door.ask("POST", f"{RECEIVE}?max=2", headers={"Accept": ANY})
    assert status == 400


async def test_a_queue_that_takes_nothing_says_why(door: Door, queues: FakeQueues) -> None:
    queues.modes["work"] = "draining"
    assert (await door.ask("POST", PUBLISH, json={"payload": ""}))[0] == 409
    queues.policies["other"] = type(queues.policies["other"])(max_messages=0)
    assert (await door.ask("POST", "/queues/other/messages", json={"payload": ""}))[0] == 429
    queues.full_store = True
    assert (await door.ask("POST", PUBLISH, json={"payload": ""}))[0] == 503


async def test_a_compressed_body_is_refused(door: Door) -> None:
    headers = {"Content-Encoding": "gzip"}
    status, _ = await door.ask("POST", PUBLISH, data=b"x", headers=headers)
    assert status == 400


# ---- those who are gone, slow or many ----


async def test_a_client_that_goes_while_it_waits_gets_nothing(
    door: Door, queues: FakeQueues
) -> None:
    _, writer = await door.connect()
    writer.write(door.head(f"POST {BASE}{RECEIVE}?wait=20 HTTP/1.1"))
    await until(lambda: queues.watchers)
    writer.close()
    await until(lambda: not queues.watchers)
    number = queues.add("work")
    assert queues.messages[number].state == READY
    assert queues.messages[number].acquisitions == 0


async def test_what_is_leased_for_a_client_that_is_gone_goes_back(
    door: Door, queues: FakeQueues
) -> None:
    number = queues.add("work")
    queues.held = []
    _, writer = await door.connect()
    writer.write(door.head(f"POST {BASE}{RECEIVE} HTTP/1.1"))
    await until(lambda: queues.held)
    server = door.server._runner.server
    assert server is not None
    before = len(server.connections)
    writer.close()
    await until(lambda: len(server.connections) < before)
    queues.let_go()
    await until(lambda: queues.messages[number].state == READY)
    assert queues.messages[number].acquisitions == 1


async def test_what_cannot_be_sent_goes_back(
    door: Door, queues: FakeQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client takes a message of some megabytes and reads nothing of it."""
    number = queues.add("work", bytes(6_000_000))
    monkeypatch.setattr(http_server, "SEND_TIME", 0.01)
    _, writer = await door.connect()
    writer.write(door.head(f"POST {BASE}{RECEIVE} HTTP/1.1", f"Accept: {ANY}"))
    await until(lambda: queues.messages[number].acquisitions)
    await until(lambda: queues.messages[number].state == READY)
    writer.transport.abort()


async def test_a_slow_body_is_not_waited_for(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "BODY_TIME", 0.01)
    reader, writer = await door.connect()
    writer.write(door.head(f"POST {BASE}{PUBLISH} HTTP/1.1", "Content-Length: 100"))
    assert b" 400 " in await reader.readline()
    writer.close()


async def test_a_client_that_says_nothing_is_hung_up_on(
    queues: FakeQueues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "IDLE_TIME", 0.01)
    async with opened(queues, tmp_path) as door:
        for words in (b"", b"POST / HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await door.connect()
            writer.write(words)
            async with asyncio.timeout(20):
                assert await reader.read() == b""
            writer.close()


@pytest.mark.parametrize(
    "bomb",
    [
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(5000)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01" * 10,
    ],
)
async def test_a_bomb_of_headers_is_refused_without_a_word_in_the_log(
    door: Door, bomb: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await door.connect()
    writer.write(bomb)
    async with asyncio.timeout(20):
        assert b" 400 " in await reader.readline()
    writer.close()
    assert [each for each in caplog.records if each.levelname != "DEBUG"] == []


async def test_one_connection_too_many_is_hung_up_on(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "MOST_CONNECTIONS", 1)
    await door.ask("GET", "/queues")  # and keeps its connection
    reader, writer = await door.connect()
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("limit", ["MOST_WAITING", "MOST_WAITING_PER_TOKEN"])
async def test_one_waiting_receive_too_many_is_refused_and_its_place_comes_free(
    door: Door, queues: FakeQueues, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(http_server, limit, 1)
    first = asyncio.create_task(door.ask("POST", f"{RECEIVE}?wait=20"))
    await until(lambda: queues.watchers)
    status, told = await door.ask("POST", f"{RECEIVE}?wait=20")
    assert (status, told["error"]) == (503, "unavailable")
    assert (await door.ask("POST", RECEIVE))[0] == 200
    queues.add("work")
    await first
    queues.add("work")
    assert (await door.ask("POST", f"{RECEIVE}?wait=20"))[0] == 200


async def test_those_who_wait_are_told_that_the_broker_stops(
    queues: FakeQueues, tmp_path: Path
) -> None:
    async with opened(queues, tmp_path) as door:
        task = asyncio.create_task(door.ask("POST", f"{RECEIVE}?wait=20"))
        await until(lambda: queues.watchers)
        await door.server.close()
        status, told = await task
    assert (status, told["error"]) == (503, "unavailable")


# ---- start ----


async def test_a_port_that_is_taken_is_told(door: Door, queues: FakeQueues, tmp_path: Path) -> None:
    listen = door.server.url.removeprefix("http://")
    with pytest.raises(OSError, match=r"cannot listen on .*choose another"):
        async with opened(queues, tmp_path, listen=listen):
            pass


async def test_without_a_store_there_are_no_queues(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(OSError, match="need a store"):
        await http_server.start(FakeEngine(None, Clock()), settings_for(tmp_path), loop)


async def test_a_certificate_that_cannot_be_used_is_told(
    queues: FakeQueues, tmp_path: Path
) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("no certificate")
    with pytest.raises(OSError, match="must be PEM"):
        async with opened(queues, tmp_path, tls_cert=file, tls_key=file):
            pass


# ---- the document ----


async def test_the_document_describes_every_route_and_needs_no_token(door: Door) -> None:
    async with door.session.get(f"{door.server.url}{BASE}/openapi.json") as answer:
        found = json.loads(await answer.read())
    told = {(method.upper(), path) for path, ways in found["paths"].items() for method in ways}
    assert told == {(route.method, route.path) for route in ROUTES}
    served = {
        (each.method, each.resource.canonical.removeprefix(BASE))
        for each in door.server._runner.app.router.routes()
        if each.method != "HEAD" and each.resource is not None
    }
    assert served - {("GET", "/openapi.json")} == told


async def test_the_document_promises_what_is_answered(door: Door, queues: FakeQueues) -> None:
    queues.add("work")
    async with door.session.get(f"{door.server.url}{BASE}/openapi.json") as answer:
        schemas = (await answer.json())["components"]["schemas"]
    _, found = await door.ask("GET", "/queues/work/messages")
    (message,) = found["messages"]
    assert {*message, "payload_base64"} == set(schemas["Message"]["properties"])
    _, stats = await door.ask("GET", "/queues/work")
    assert set(stats) == set(schemas["Queue"]["properties"])


async def test_leases_are_not_touched_by_a_look(door: Door, queues: FakeQueues) -> None:
    number = queues.add("work")
    await receipt_of_one(door)
    _, found = await door.ask("GET", "/queues/work/messages")
    assert found["messages"][0]["receipt"] == ""
    assert queues.messages[number].state == LEASED
