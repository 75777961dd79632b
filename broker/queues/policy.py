"""How one queue behaves: data, and the few rules that are arithmetic.

The same numbers rule in the broker, in the store process and, as JSON, in PostgreSQL's functions.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

# What is done to a queue, and the mode that it is in then.
MODES_BY_VERB = {"resume": "running", "pause": "paused", "drain": "draining"}

LOWEST_PRIORITY, DEFAULT_PRIORITY, HIGHEST_PRIORITY = 0, 4, 9
MINUTE, DAY = 60.0, 86_400.0
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """Durations in seconds, sizes in bytes; 0 switches a limit off where it says so."""

    lease: float = 30.0
    max_failures: int = 5  # then it is a dead letter; 0: never
    max_acquisitions: int = 100  # then it is a dead letter; 0: never. For what kills its consumers
    retry_first: float = 1.0
    retry_longest: float = 5 * MINUTE
    retry_jitter: float = 0.2  # the share of a pause that chance adds or takes away
    order: str = "fifo"
    prefetch: int = 16
    max_messages: int = 100_000
    max_bytes: int = 256 * MIB
    on_full: str = "reject"
    retention: float = 7 * DAY
    ttl: float = 0.0  # of messages that bring none; 0: only the retention holds
    on_expiry: str = "drop"
    last_value: bool = False  # a newer message of the same key replaces one that waits
    dedup_window: float = 0.0  # 0: off
    max_rate: float = 0.0  # messages a second to all consumers together; 0: any
    dead_letters: bool = True  # False: what would be a dead letter is deleted and counted
    dead_letter_queue: str = ""  # "": the queue's own, `<queue>.dlq`

    @classmethod
    def for_dead_letters(cls, parent: QueuePolicy) -> QueuePolicy:
        """The policy of a dead-letter queue that nobody has configured."""
        return cls(
            lease=parent.lease,
            max_failures=0,
            max_acquisitions=0,
            prefetch=parent.prefetch,
            max_messages=parent.max_messages,
            max_bytes=parent.max_bytes,
            on_full="drop_oldest",
            retention=30 * DAY,
            dead_letters=False,
        )

    @property
    def is_keyed(self) -> bool:
        """Whether messages of one key stand in line behind each other."""
        return self.order == "key"

    @property
    def is_simple(self) -> bool:
        """Whether what is leased ahead, and so is out of the store's reach, breaks no rule."""
        return self.on_full == "reject" and not self.last_value and not self.max_rate

    def retry_delay(self, failures: int, rng: Random) -> float:
        """The pause after the `failures`-th failure (from 1 on): doubling, bounded, never twice the
        same, so that what failed together does not come back together.
        """
        # 2.0 ** 64 is beyond every bound; larger exponents would overflow
        pause = min(self.retry_first * 2.0 ** min(failures - 1, 64), self.retry_longest)
        return pause * (1.0 + self.retry_jitter * rng.uniform(-1.0, 1.0))

    def to_json(self) -> str:
        """All of it, keys in the order of the fields."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> QueuePolicy:
        """What another release wrote is read, too: unknown keys are left out, missing ones are as
        by default.
        """
        given: dict[str, Any] = json.loads(text)
        known = {each.name for each in fields(cls)}
        return replace(cls(), **{name: value for name, value in given.items() if name in known})
