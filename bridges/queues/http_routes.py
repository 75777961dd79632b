"""The HTTP interface without HTTP: a table of routes, and what each does with a call.

The server is built from this table and so is the OpenAPI document, so they cannot differ. Bytes in,
bytes out: nothing here knows which library speaks HTTP.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from bridges.queues import http_messages as shown
from bridges.queues.backend import LONGEST_WAIT, MOST_AT_ONCE, Message, QueueError
from bridges.queues.http_fields import (
    LARGEST_NUMBER,
    LONGEST_RECEIPT,
    AnyJson,
    AnyText,
    Base64,
    Field,
    Flag,
    ListOf,
    Names,
    QueueName,
    Seconds,
    Text,
    Whole,
    encoded,
    read_object,
    read_query,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from bridges.queues.http_tokens import Grant
    from bridges.queues.local import LocalBackend

BASE = "/api/v1"
BYTES, JSON = "application/octet-stream", "application/json"
FORM = "application/x-www-form-urlencoded"  # what curl -d says, whatever it sends
LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked. `origin` tells connections apart."""

    backend: LocalBackend
    grant: Grant
    origin: str
    queue: str = ""
    message_id: int = 0
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes | None = None  # the body, where it is a payload
    content_type: str | None = None  # of `raw`
    wants_bytes: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. `leased` goes back to its queue if this cannot be sent."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    leased: Sequence[Message] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the interface."""

    method: str
    path: str
    name: str
    right: str
    about: str
    handle: Callable[[Call], Awaitable[Answer]]
    answers: dict[str, Any]  # JSON schema of a good answer
    query: tuple[Field, ...] = ()
    body: tuple[Field, ...] | None = None  # None: there is none
    status: int = 200
    takes_bytes: bool = False  # a body that is not JSON is a payload
    gives_bytes: bool = False  # one message can be had as its bare payload
    waits: bool = False


def answer(value: object, status: int = 200, leased: Sequence[Message] = ()) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(value).encode(), leased=leased)


# ---- consumers ----


async def receive(call: Call) -> Answer:
    most = call.query.get("max", 1)
    if call.wants_bytes and most != 1:
        raise bad_request(f"one bare payload at a time: leave max out with Accept: {BYTES}")
    found = await call.backend.receive(
        call.queue,
        consumer_of(call),
        most=most,
        wait=call.query.get("wait", 0.0),
        lease=call.query.get("lease"),
    )
    if not call.wants_bytes:
        return answer({"messages": [shown.as_json(each) for each in found]}, leased=found)
    if not found:
        return Answer(204)
    return Answer(200, found[0].payload, BYTES, shown.as_headers(found[0]), found)


async def ack(call: Call) -> Answer:
    receipts = receipts_of(call)
    return results(receipts, await call.backend.ack(receipts))


async def nack(call: Call) -> Answer:
    receipts, body = receipts_of(call), call.body
    found = await call.backend.nack(
        receipts,
        delay=body.get("delay"),
        dead=body.get("dead", False),
        reason=body.get("reason", ""),
    )
    return results(receipts, found)


async def renew(call: Call) -> Answer:
    receipts = receipts_of(call)
    return results(receipts, await call.backend.renew(receipts, call.body["lease"]))


async def release(call: Call) -> Answer:
    receipts = receipts_of(call)
    return results(receipts, await call.backend.release(receipts))


# ---- producers ----


async def publish(call: Call) -> Answer:
    given = {**call.query, **call.body}
    payload, content_type = call.raw, call.content_type
    if payload is None:
        payload, content_type = payload_of(call.body)
    if payload is None:
        raise bad_request("the body has no payload: write payload, payload_base64 or json")
    given.setdefault("content_type", content_type)
    names = {each.name for each in ENTRY}
    number = await call.backend.publish(
        call.queue,
        payload,
        publisher=f"http:{call.grant.name}",
        **{name: value for name, value in given.items() if name in names},
    )
    return answer({"id": number}, 201)


# ---- people ----


async def list_queues(call: Call) -> Answer:
    found = [each for each in await call.backend.stats() if call.grant.covers(each.name)]
    return answer({"queues": [shown.stats_json(each) for each in found]})


async def stats(call: Call) -> Answer:
    (found,) = await call.backend.stats(call.queue)
    return answer(shown.stats_json(found))


async def peek(call: Call) -> Answer:
    after, most = call.query.get("after", 0), call.query.get("max", 10)
    found = await call.backend.peek(call.queue, after=after, most=most)
    return answer({"messages": [shown.as_json(each) for each in found]})


async def purge(call: Call) -> Answer:
    return answer({"deleted": await call.backend.purge(call.queue)})


async def delete(call: Call) -> Answer:
    return answer({"deleted": await call.backend.delete(call.queue, call.message_id)})


async def redrive(call: Call) -> Answer:
    to = call.body.get("to")
    if to is not None:
        call.grant.check("manage", to)
    payload, _ = payload_of(call.body)
    ids = call.body.get("ids")
    return answer(
        {"moved": await call.backend.redrive(call.queue, ids=ids, to=to, payload=payload)}
    )


async def drop(call: Call) -> Answer:
    return answer({"deleted": await call.backend.drop(call.queue)})


async def unbind(call: Call) -> Answer:
    await call.backend.unbind(call.queue, call.query["filter"])
    (found,) = await call.backend.stats(call.queue)
    return answer({"bindings": list(found.bindings)})


async def pause(call: Call) -> Answer:
    return await _set_mode(call, "paused")


async def resume(call: Call) -> Answer:
    return await _set_mode(call, "running")


async def drain(call: Call) -> Answer:
    return await _set_mode(call, "draining")


async def _set_mode(call: Call, mode: str) -> Answer:
    await call.backend.set_mode(call.queue, mode)
    return answer({"mode": mode})


# ---- the table ----

RECEIPTS = Field(
    "receipts",
    ListOf(Text(LONGEST_RECEIPT)),
    "Receipts of messages as they were received.",
    needed=True,
)
PAYLOADS = (
    Field("payload", AnyText(), "The payload as text."),
    Field("payload_base64", Base64(), "The payload, any bytes, in base64."),
    Field("json", AnyJson(), f"The payload as a JSON value; its content type is {JSON}."),
)
ENTRY = (
    Field("topic", Text(), "The topic consumers see; $queue/<queue> if left out."),
    Field("key", Text(), "What the message is kept in order by."),
    Field("priority", Whole(0, 9), "9 is handed out first; 4 if left out."),
    Field("delay", Seconds(), "Not handed out before so many seconds."),
    Field("ttl", Seconds(0.001), "Dropped (or a dead letter) after so many seconds."),
    Field("dedup_id", Text(), "A second message with the same is not put, within dedup_window."),
    Field("content_type", Text(), "MQTT's content type."),
    Field("properties", Names(), "MQTT user properties."),
)
IN_QUERY = tuple(each for each in ENTRY if each.name != "properties")

_MOST = Field("max", Whole(1, MOST_AT_ONCE), "At most so many messages.")
_MESSAGES = {
    "type": "object",
    "properties": {
        "messages": {"type": "array", "items": {"$ref": "#/components/schemas/Message"}}
    },
}
_QUEUES = {
    "type": "object",
    "properties": {"queues": {"type": "array", "items": {"$ref": "#/components/schemas/Queue"}}},
}
_RESULT = {
    "type": "object",
    "properties": {
        "receipt": {"type": "string"},
        "result": {"type": "string", "enum": ["ok", "dead", "gone", "lost"]},
    },
}
_RESULTS = {
    "type": "object",
    "properties": {"results": {"type": "array", "items": _RESULT}},
}


def _one(name: str, **shape: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {name: shape}}


_DELETED = _one("deleted", type="integer")
_MODE = _one("mode", type="string")
_QUEUE, _MESSAGE = "/queues/{queue}", "/queues/{queue}/messages/{id}"

ROUTES = (
    Route(
        "POST",
        f"{_QUEUE}/receive",
        "receive",
        "receive",
        "Lease messages: they are yours until you acknowledge them or the lease ends.",
        receive,
        _MESSAGES,
        query=(
            _MOST,
            Field("wait", Seconds(0, LONGEST_WAIT), "Wait so long for the first; 0 if left out."),
            Field("lease", Seconds(0.001), "For so many seconds; the queue's, if left out."),
            Field(
                "consumer",
                Text(LONGEST_NAME),
                "Your name; the connection, if left out. Needed for a queue with a single active "
                "consumer, unless you keep the connection.",
            ),
        ),
        gives_bytes=True,
        waits=True,
    ),
    Route(
        "POST",
        f"{_QUEUE}/ack",
        "ack",
        "receive",
        "The messages are done. Answered when that is stored.",
        ack,
        _RESULTS,
        body=(RECEIPTS,),
    ),
    Route(
        "POST",
        f"{_QUEUE}/nack",
        "nack",
        "receive",
        "The messages failed: they come again later, or become dead letters.",
        nack,
        _RESULTS,
        body=(
            RECEIPTS,
            Field("delay", Seconds(), "Again after so many seconds; the queue's, if left out."),
            Field("dead", Flag(), "Straight to the dead letters."),
            Field("reason", Text(1000), "Why, for dead letters."),
        ),
    ),
    Route(
        "POST",
        f"{_QUEUE}/renew",
        "renew",
        "receive",
        "The work takes longer: the leases end so many seconds from now.",
        renew,
        _RESULTS,
        body=(RECEIPTS, Field("lease", Seconds(0.001), "Seconds from now.", needed=True)),
    ),
    Route(
        "POST",
        f"{_QUEUE}/release",
        "release",
        "receive",
        "Give messages back unworked: no failure, and to their old place.",
        release,
        _RESULTS,
        body=(RECEIPTS,),
    ),
    Route(
        "POST",
        f"{_QUEUE}/messages",
        "publish",
        "publish",
        f"Put a message into the queue: in an envelope of {JSON}, or (with any other content "
        "type) the body is the payload. Answered when it is stored.",
        publish,
        _one("id", type=["integer", "null"]),
        query=IN_QUERY,
        body=(*PAYLOADS, *ENTRY),
        status=201,
        takes_bytes=True,
    ),
    Route(
        "GET",
        "/queues",
        "list",
        "look",
        "The queues that the token is for, and what is in them.",
        list_queues,
        _QUEUES,
    ),
    Route(
        "GET",
        _QUEUE,
        "stats",
        "look",
        "What is in the queue.",
        stats,
        {"$ref": "#/components/schemas/Queue"},
    ),
    Route(
        "GET",
        f"{_QUEUE}/messages",
        "peek",
        "look",
        "Look at messages by their ids, without any effect.",
        peek,
        _MESSAGES,
        query=(
            Field("after", Whole(0, LARGEST_NUMBER), "Only with a higher id than this."),
            _MOST,
        ),
    ),
    Route(
        "DELETE",
        f"{_QUEUE}/messages",
        "purge",
        "manage",
        "Delete all messages that are not leased.",
        purge,
        _DELETED,
    ),
    Route(
        "DELETE",
        _MESSAGE,
        "delete",
        "manage",
        "Delete one message, if it is not leased.",
        delete,
        _DELETED,
    ),
    Route(
        "POST",
        f"{_QUEUE}/redrive",
        "redrive",
        "manage",
        "Send dead letters of this (dead-letter) queue back to where they came from.",
        redrive,
        _one("moved", type="integer"),
        body=(
            Field("ids", ListOf(Whole(1, LARGEST_NUMBER)), "Which; all, if left out."),
            Field("to", QueueName(), "To this queue instead."),
            *(
                Field(each.name, each.kind, f"Changed, of one message. {each.about}")
                for each in PAYLOADS
            ),
        ),
    ),
    Route(
        "DELETE",
        _QUEUE,
        "drop",
        "manage",
        "Delete the queue with all that is in it: one that clients have made, or that the settings "
        "no longer have. Not while somebody consumes it.",
        drop,
        _DELETED,
    ),
    Route(
        "DELETE",
        f"{_QUEUE}/bindings",
        "unbind",
        "manage",
        "The queue takes the messages of a topic filter no more that a client has bound it to; "
        "what is in it stays. Answered with the filters that are left.",
        unbind,
        _one("bindings", type="array", items={"type": "string"}),
        query=(Field("filter", Text(), "The topic filter, percent-encoded.", needed=True),),
    ),
    Route("POST", f"{_QUEUE}/pause", "pause", "manage", "Hand nothing out.", pause, _MODE),
    Route("POST", f"{_QUEUE}/resume", "resume", "manage", "Run again.", resume, _MODE),
    Route("POST", f"{_QUEUE}/drain", "drain", "manage", "Take nothing in.", drain, _MODE),
)


# ---- reading ----


def checked_queue(text: str) -> str:
    """The queue of a path; raises QueueError."""
    try:
        return QueueName().read(text)
    except ValueError as error:
        raise bad_request(f"{text[:60]!r} is no name of a queue: {error}") from None


def checked_id(text: str) -> int:
    """The message of a path; raises QueueError."""
    try:
        return Whole(1, LARGEST_NUMBER).read_text(text)
    except ValueError as error:
        raise bad_request(f"{text[:60]!r} is no id of a message: {error}") from None


def checked_query(route: Route, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What the query says; raises QueueError."""
    try:
        return read_query(route.query, pairs)
    except ValueError as error:
        raise bad_request(str(error)) from None


def checked_body(route: Route, data: bytes) -> dict[str, Any]:
    """What a JSON body says; raises QueueError. None at all is an empty object."""
    fields = route.body or ()
    try:
        value = json.loads(data, parse_constant=_no_number) if data else {}
        return read_object(fields, value)
    except RecursionError:
        raise bad_request("the body is nested too deeply") from None
    except UnicodeDecodeError:
        raise bad_request("the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise bad_request(f"the body is not JSON: {error}") from None
    except ValueError as error:
        raise bad_request(str(error)) from None


def payload_of(body: Mapping[str, Any]) -> tuple[bytes | None, str | None]:
    """The payload of an envelope and what it says of its content type; None: there is none."""
    named = [each.name for each in PAYLOADS if each.name in body]
    if len(named) > 1:
        raise bad_request(f"{' and '.join(named)}: write only one of them")
    if not named:
        return None, None
    value = body[named[0]]
    if named[0] != "json":
        return value, None
    return json_bytes(value), JSON


def json_bytes(value: object) -> bytes:
    """A JSON value as a payload; raises QueueError."""
    try:
        return encoded(
            json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        )
    except (ValueError, RecursionError) as error:
        raise bad_request(f"json cannot be a payload: {error}") from None


def receipts_of(call: Call) -> list[str]:
    """What is to be settled; raises QueueError where the path names no queue there is."""
    call.backend.check_known(call.queue)
    receipts: list[str] = call.body["receipts"]
    return receipts


def consumer_of(call: Call) -> str:
    """The name a lease is held by: nobody can take the name of another token's consumer."""
    return f"http:{call.grant.name}:{call.query.get('consumer') or call.origin}"


def results(receipts: Sequence[str], found: Sequence[str]) -> Answer:
    """What became of each."""
    pairs = zip(receipts, found, strict=True)
    return answer({"results": [{"receipt": receipt, "result": each} for receipt, each in pairs]})


def bad_request(text: str) -> QueueError:
    """The caller's mistake."""
    return QueueError("bad_request", text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"the body has {text}, which is not JSON")
