"""Where a rule sends a message: into which queue, and how it stands there."""

from __future__ import annotations

from dataclasses import dataclass

from broker.queues.policy import DEFAULT_PRIORITY


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
