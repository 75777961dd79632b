"""One queue as the store process knows it: its policy, its mode, its sums.

The process is the only one that writes a SQLite file, so what stands here is what stands in the
tables, and no operation has to read it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker.queues.names import dead_letter_queue, takes_dead_letters
from broker.queues.policy import QueuePolicy

if TYPE_CHECKING:
    from broker.storage.database import Row

COLUMNS = "name, policy, origin, bindings, mode, active, active_until, tokens, tokens_at"


class QueueState:
    """A row of `queue` and its sums. `is_changed`: the row has to be written; `is_touched`: the
    sums, too.
    """

    __slots__ = (
        *("active", "active_until", "bindings", "bytes", "is_changed", "is_touched", "messages"),
        *("mode", "name", "origin", "policy", "tokens", "tokens_at"),
    )

    def __init__(self, name: str, policy: QueuePolicy, origin: str, bindings: str = "[]") -> None:
        self.name = name
        self.policy = policy
        self.origin = origin
        self.bindings = bindings
        self.mode = "running"
        self.active: str | None = None
        self.active_until: float | None = None
        self.tokens: float | None = None
        self.tokens_at: float | None = None
        self.messages = self.bytes = 0
        self.is_changed = self.is_touched = False

    @classmethod
    def from_row(cls, row: Row) -> QueueState:
        """A row of COLUMNS."""
        name, policy, origin, bindings, *rest = row
        state = cls(name, QueuePolicy.from_json(policy), origin, bindings)
        state.mode, state.active, state.active_until, state.tokens, state.tokens_at = rest
        return state

    def to_row(self) -> Row:
        first = (self.name, self.policy.to_json(), self.origin, self.bindings, self.mode)
        return (*first, self.active, self.active_until, self.tokens, self.tokens_at)

    def count(self, messages: int, size: int) -> None:
        """So many more, or less."""
        self.messages += messages
        self.bytes += size
        self.is_touched = True

    @property
    def is_too_full(self) -> bool:
        policy = self.policy
        too_many = 0 < policy.max_messages < self.messages
        return too_many or 0 < policy.max_bytes < self.bytes

    def is_full_for(self, size: int) -> bool:
        """Whether one more of that size is too much."""
        policy = self.policy
        too_many = 0 < policy.max_messages <= self.messages
        return too_many or 0 < policy.max_bytes < self.bytes + size

    @property
    def dead_letters(self) -> str | None:
        """Where its dead letters go; None: it has none."""
        policy = self.policy
        target = policy.dead_letter_queue or dead_letter_queue(self.name)
        if not policy.dead_letters or takes_dead_letters(self.name) or target == self.name:
            return None
        return target

    # -- one consumer at a time -------------------------------------------------------------------

    def activate(self, consumer: str, now: float, seconds: float | None) -> None:
        """It has taken something, or shown that it lives."""
        if self.policy.order == "single_active":
            self.active = consumer
            self.active_until = now + (self.policy.lease if seconds is None else seconds)
            self.is_changed = True

    def deactivate(self) -> None:
        self.active = self.active_until = None
        self.is_changed = True

    # -- the rate ---------------------------------------------------------------------------------

    def allowance(self, now: float) -> float:
        """How many may be delivered now: one second's worth at most gathers."""
        burst = max(1.0, self.policy.max_rate)
        if self.tokens is None or self.tokens_at is None:
            return burst
        return min(burst, self.tokens + max(0.0, now - self.tokens_at) * self.policy.max_rate)

    def spend(self, count: int, now: float) -> None:
        if self.policy.max_rate > 0:
            self.tokens, self.tokens_at = self.allowance(now) - count, now
            self.is_changed = True


def described(state: QueueState) -> tuple[Any, ...]:
    """As `opened` tells of it."""
    first = (state.name, state.policy.to_json(), state.origin, state.bindings, state.mode)
    return (*first, state.messages, state.bytes)
