"""What every door offers: one protocol, whoever implements it: the running broker in this process,
its HTTP interface, or the database itself.

Times are seconds since 1970 (UTC), durations seconds. Payloads are bytes, of any content.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_WAIT = 20.0  # seconds that `receive` waits for a first message at most
MOST_AT_ONCE = 256  # messages that are received, acknowledged or peeked at in one call
MOST_BYTES = 8 * 1024**2  # payload bytes that are received or peeked at in one call


class QueueError(Exception):
    """A door says no. `code` is for programs, the text for people: what is wrong and what to do."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return self.text


# The codes, and the HTTP status of each.
CODES = {
    "unknown_queue": 404,
    "bad_request": 400,
    "not_allowed": 403,
    "no_token": 401,
    "not_bound": 404,
    "in_use": 409,
    "full": 429,
    "too_large": 413,
    "draining": 409,
    "unavailable": 503,
}

# What became of one acknowledgement, nack or renewal. "gone": no such message (acknowledged
# before, or never there); "lost": the lease has ended or is another's.
OK, GONE, LOST, DEAD = "ok", "gone", "lost", "dead"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a consumer gets it, or (without `receipt`) as it is looked at."""

    id: int  # its number, which it keeps through retries and dead-letter queues
    queue: str
    payload: bytes
    topic: str
    key: str | None = None
    priority: int = 4
    publisher: str = ""
    content_type: str | None = None
    properties: Mapping[str, str] = field(
        default_factory=dict
    )  # user properties, the last of a name
    enqueued_at: float = 0.0
    expires_at: float | None = None
    lease_until: float | None = None
    delivery_count: int = 0  # acquisitions, this one included
    failures: int = 0
    dead_from: str | None = None
    dead_reason: str | None = None
    dead_at: float | None = None
    state: str = "leased"  # "ready", "leased", "waiting", "delayed"
    receipt: str = ""  # proves the lease: "<id>-<token in hexadecimal>"


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What `stats` tells of one queue."""

    name: str
    mode: str
    origin: str
    messages: int
    bytes: int
    ready: int
    leased: int
    waiting: int
    delayed: int
    oldest_age: float | None
    dead: int
    policy: Mapping[str, Any]
    bindings: Sequence[str] = ()  # topic filters that clients have bound it to
    consumers: int = 0
    rates: Mapping[str, float] = field(default_factory=dict)  # "in", "out", "failed" a second


class Backend(Protocol):
    """The verbs. Each raises QueueError; when what is behind it is gone, with "unavailable"."""

    async def receive(
        self,
        queue: str,
        consumer: str,
        *,
        most: int = 1,
        wait: float = 0.0,
        lease: float | None = None,
    ) -> list[Message]:
        """Lease up to `most` messages; waits up to `wait` seconds for the first. `lease` None: as
        long as the queue's policy says.
        """
        ...

    async def ack(self, receipts: Sequence[str]) -> list[str]:
        """The messages are done. Returns when that is committed; one of OK, GONE, LOST for each."""
        ...

    async def nack(
        self,
        receipts: Sequence[str],
        *,
        delay: float | None = None,
        dead: bool = False,
        reason: str = "",
    ) -> list[str]:
        """The messages failed: again after `delay` (None: the policy's pause), or straight to the
        dead letters. OK, DEAD, GONE or LOST for each.
        """
        ...

    async def renew(self, receipts: Sequence[str], lease: float) -> list[str]:
        """The leases end `lease` seconds from now. OK, GONE or LOST for each."""
        ...

    async def release(self, receipts: Sequence[str]) -> list[str]:
        """Give messages back unworked: no failure, and back to their old place."""
        ...

    async def publish(
        self,
        queue: str,
        payload: bytes,
        *,
        topic: str = "",
        key: str | None = None,
        priority: int = 4,
        delay: float = 0.0,
        ttl: float | None = None,
        dedup_id: str | None = None,
        content_type: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> int | None:
        """Put a message into a queue. Returns when it is committed; its id where that is known.
        `topic` "": `$queue/<queue>`.
        """
        ...

    async def peek(self, queue: str, *, after: int = 0, most: int = 10) -> list[Message]:
        """Look at messages by their ids, without any effect."""
        ...

    async def stats(self, queue: str | None = None) -> list[QueueStats]:
        """Of one queue, or all."""
        ...

    async def purge(self, queue: str) -> int:
        """Delete all that is not leased; how many."""
        ...

    async def delete(self, queue: str, message_id: int) -> int:
        """Delete one message that is not leased; 0 or 1."""
        ...

    async def redrive(
        self,
        queue: str,
        *,
        ids: Sequence[int] | None = None,
        to: str | None = None,
        payload: bytes | None = None,
    ) -> int:
        """Send dead letters (of the queue `queue`, which holds them) back to where they came from,
        or `to`; with `payload` one of them, changed. How many.
        """
        ...

    async def drop(self, queue: str) -> int:
        """Delete a queue with all that is in it: one that clients have made or that is no more in
        the settings; how many messages. "in_use" while somebody consumes it.
        """
        ...

    async def unbind(self, queue: str, topic_filter: str) -> None:
        """The queue takes the messages of a filter no more that a client has bound it to (SUBSCRIBE
        `$queue/<queue>/<filter>`); what is in it stays.
        """
        ...

    async def set_mode(self, queue: str, mode: str) -> None:
        """ "running", "paused" (nothing is handed out) or "draining" (nothing is taken in)."""
        ...

    async def close(self) -> None:
        """Leases that are held end by themselves, or are released first."""
        ...
