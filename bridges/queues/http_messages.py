"""A message and a queue's figures as HTTP shows them: one table each, of names, what they mean, and
where they come from; the answers and their description are both made of it.

Rule kept here: no byte of a message can do harm in a header: values are percent-encoded.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridges.queues.backend import Message, QueueStats

HEADER_PREFIX = "Heliograph-"
LONGEST_HEADER = 4096  # longer ones are left out, or clients would refuse the whole answer
LEFT_OUT = HEADER_PREFIX + "Left-Out"

TEXT = {"type": "string"}
MAYBE_TEXT = {"type": ["string", "null"]}
COUNT = {"type": "integer"}
NUMBER = {"type": "number"}
MAYBE_NUMBER = {"type": ["number", "null"]}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
LIST = {"type": "array", "items": TEXT}
NUMBERS = {"type": "object", "additionalProperties": {"type": "number"}}


@dataclass(frozen=True, slots=True)
class Column:
    """One name of an answer."""

    name: str
    shape: dict[str, Any]
    about: str


MESSAGE = (
    Column("id", COUNT, "The message's number, which it keeps through retries and dead letters."),
    Column("queue", TEXT, "Where it is."),
    Column("receipt", TEXT, 'Proves the lease: for ack, nack, renew, release. "" when peeked at.'),
    Column("topic", TEXT, "The topic it was published to."),
    Column("key", MAYBE_TEXT, "What it is kept in order by."),
    Column("priority", COUNT, "0 to 9, 9 is handed out first."),
    Column("publisher", TEXT, "The client that published it."),
    Column("content_type", MAYBE_TEXT, "As the publisher said."),
    Column("properties", TEXTS, "MQTT user properties; of a name that repeats, the last."),
    Column("enqueued_at", NUMBER, "Seconds since 1970 (UTC), as all instants."),
    Column("expires_at", MAYBE_NUMBER, "When it is dropped, if its publisher set a limit."),
    Column("lease_until", MAYBE_NUMBER, "When the lease ends."),
    Column("delivery_count", COUNT, "How often it was handed out, this time included."),
    Column("failures", COUNT, "How many of these failed: nacked, or the lease ran out."),
    Column("state", TEXT, "ready, leased, waiting (behind another of its key) or delayed."),
    Column("dead_from", MAYBE_TEXT, "Of a dead letter: the queue it came from."),
    Column("dead_reason", MAYBE_TEXT, "failures, rejected, expired, acquisitions, full, or why."),
    Column("dead_at", MAYBE_NUMBER, "When it became a dead letter."),
)
PAYLOAD = (
    Column("payload", TEXT, "The payload, if it is UTF-8 text; else payload_base64 is there."),
    Column("payload_base64", TEXT, "The payload, if it is not UTF-8 text."),
)
STATS = (
    Column("name", TEXT, "The queue."),
    Column("mode", TEXT, "running, paused (hands nothing out) or draining (takes nothing in)."),
    Column("origin", TEXT, "config or client: who made it."),
    Column("messages", COUNT, "All that are in it."),
    Column("bytes", COUNT, "What they count: payload, topic, properties and 100 each."),
    Column("ready", COUNT, "Waiting for a consumer."),
    Column("leased", COUNT, "In the hands of consumers."),
    Column("waiting", COUNT, "Behind another message of the same key."),
    Column("delayed", COUNT, "Not before their time: delayed, or until the next try."),
    Column("oldest_age", MAYBE_NUMBER, "Seconds since the oldest not leased message came."),
    Column("dead", COUNT, "In its dead-letter queue."),
    Column("bindings", LIST, "Topic filters that clients have bound it to."),
    Column("consumers", COUNT, "Subscribed by MQTT, or waiting by another door."),
    Column("rates", NUMBERS, "Messages a second: in, out, failed; empty where not measured."),
    Column("policy", {"type": "object"}, "How the queue behaves."),
)


def as_json(message: Message) -> dict[str, Any]:
    """A message for a JSON answer."""
    return {**_row(MESSAGE, message), **payload_json(message.payload)}


def stats_json(stats: QueueStats) -> dict[str, Any]:
    """A queue's figures for a JSON answer."""
    return _row(STATS, stats)


def payload_json(payload: bytes) -> dict[str, str]:
    """A payload as text, or else in base64: exactly one of the two."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}


def as_headers(message: Message) -> dict[str, str]:
    """All but the payload for a binary answer."""
    headers: dict[str, str] = {}
    too_long = []
    for name, value in _row(MESSAGE, message).items():
        text = _header_text(value)
        if len(text) > LONGEST_HEADER:
            too_long.append(name)
        elif text:
            headers[header_name(name)] = text
    if too_long:
        headers[LEFT_OUT] = ",".join(too_long)
    return headers


def header_name(name: str) -> str:
    """`delivery_count` is `Heliograph-Delivery-Count`."""
    return HEADER_PREFIX + name.replace("_", "-").title()


def schema_of(columns: Sequence[Column]) -> dict[str, Any]:
    """The JSON schema of an object with these names."""
    return {
        "type": "object",
        "properties": {each.name: {**each.shape, "description": each.about} for each in columns},
    }


def _row(columns: Sequence[Column], source: object) -> dict[str, Any]:
    return {each.name: getattr(source, each.name) for each in columns}


def _header_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return urlencode(value)
    return quote(str(value), safe="/:;=,@ ")
