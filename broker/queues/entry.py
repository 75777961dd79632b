"""Where a rule sends a message: into which queue, and how it stands there."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from broker.queues.policy import DEFAULT_PRIORITY

LONGEST_KEY = 256  # bytes; of what is longer the hash is the key, so the order of a key is kept


def bounded(text: str) -> str:
    """A key or an id as it is stored: long ones as their hash, for an index must take them."""
    if len(text) <= LONGEST_KEY // 4:  # no character takes more than four bytes
        return text
    data = text.encode(errors="replace")
    return text if len(data) <= LONGEST_KEY else f"sha256:{sha256(data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One message for one queue. `delay` and `ttl` are in seconds; ttl None: as the message and the
    queue's policy say. `why` is for people: the name of the rule.
    """

    queue: str
    key: str | None = None
    priority: int = DEFAULT_PRIORITY
    delay: float = 0.0
    ttl: float | None = None
    dedup_id: str | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Forward:
    """What is to become of the messages of a queue: a rule moves them on to other queues
    (`entries`) or publishes them (`topics`); both empty: nothing matches, the message stays.
    """

    entries: tuple[Entry, ...] = ()
    topics: tuple[str, ...] = ()
