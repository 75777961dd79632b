"""What the broker knows of one queue, whose messages lie in the store: who consumes it, how full it
is, and when it is worth asking the store for messages.

`hint` is a guess, never too low for long: how many messages may be ready. Asking costs a statement,
so nobody asks for what cannot be there.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from broker.queues.delivery import Delivery
    from broker.queues.policy import QueuePolicy
    from broker.queues.pool import Pool

MOST_BINDINGS = 100  # filters that clients bind to one queue
SLACK = 2  # times its bounds that a queue holds which drops the oldest, before it refuses
SHARED_HINT = 64  # consumers that may ask when it is not known how many messages are ready
SPARE_MESSAGES = 256  # runs of messages are let in without a look at each as long as so many fit
SPARE_BYTES = 1_048_576


class Consumer(Protocol):
    """Who takes messages out of a queue for as long as it has room for them."""

    name: str  # one of its own for each consumer and queue
    asked: int  # messages that the store was asked for and has not answered about

    @property
    def room(self) -> int:
        """How many more it would take now, those asked for included."""

    @property
    def lease_seconds(self) -> float | None:
        """How long its leases last; None: they do not end by themselves."""

    def take(self, deliveries: list[Delivery]) -> None:
        """Here they are."""


class Queue:
    """One queue and its consumers: its `pool`, when somebody is in it, and those with leases of
    their own kind. `messages` and `size` (bytes) count what is in it, what the
    store has not written yet included.
    """

    __slots__ = (
        "_before",
        "_order",
        "_sent",
        "_unknown_at",
        "armed_for",
        "bindings",
        "came",
        "consumers",
        "hint",
        "look_at",
        "messages",
        "mode",
        "name",
        "on_due",
        "origin",
        "pending",
        "pending_size",
        "policy",
        "pool",
        "rates",
        "size",
        "watchers",
        "woken",
    )

    def __init__(
        self,
        name: str,
        policy: QueuePolicy,
        origin: str,
        pool: Pool,
        bindings: Collection[str] = (),
    ) -> None:
        self.name = name
        self.policy = policy
        self.origin = origin  # "config" or "client"
        self.bindings = dict.fromkeys(bindings)
        self.pool = pool
        self.mode = "running"
        self.messages = self.size = 0
        self.pending = self.pending_size = 0  # of them, what is in no batch yet
        self.woken = 0.0  # messages that have become ready, ever
        self._unknown_at = -1.0  # what `woken` was when nobody knew how many more
        self._sent: deque[tuple[int, int, int]] = deque()  # batches: position, messages, bytes
        self.came = 0  # messages since the rates were measured
        self.rates: dict[str, float] = {}  # messages a second, "in" and "out", a short while ago
        self._before: int | None = None  # how many were in it when the rates were measured
        self.hint: float = inf
        self.consumers: dict[str, Consumer] = {}
        self.watchers: dict[object, Callable[[], None]] = {}
        self.look_at: float | None = None  # when something may become ready by itself
        self.on_due: Callable[[Queue], None] | None = None
        self.armed_for: int | None = None
        self._order: deque[Consumer] = deque()  # whose turn it is

    def has_room(self, size: int) -> bool:
        """Whether the bounds allow one more message of so many bytes. Where the store makes room,
        there is a bound, too: for what it cannot drop.
        """
        policy = self.policy
        factor = 1 if policy.on_full == "reject" else SLACK
        has_place = not policy.max_messages or self.messages < policy.max_messages * factor
        return has_place and self.size + size <= policy.max_bytes * factor

    @property
    def refuses(self) -> bool:
        """Whether a new message may have to be refused: it is worth a closer look."""
        policy = self.policy
        factor = 1 if policy.on_full == "reject" else SLACK
        most = policy.max_messages * factor or inf
        return self.mode == "draining" or not (
            self.messages + SPARE_MESSAGES < most
            and self.size + SPARE_BYTES < policy.max_bytes * factor
        )

    def count_in(self, size: int) -> None:
        """A message is on its way into the store."""
        self.came += 1
        self.messages += 1
        self.size += size
        self.pending += 1
        self.pending_size += size

    def counted(self, messages: int, size: int, position: int = 0) -> None:
        """The store says how much is in it, up to the batch at this position."""
        while self._sent and self._sent[0][0] <= position:
            self._sent.popleft()
        messages += self.pending + sum(each[1] for each in self._sent)
        if messages > self.messages:  # dead letters, or what others have put in
            self.wake(messages - self.messages)
        self.messages = messages
        self.size = size + self.pending_size + sum(each[2] for each in self._sent)

    def count_out(self, size: int) -> None:
        """A message that is in no batch yet is not for the store any more."""
        self.messages -= 1
        self.size -= size
        self.pending -= 1
        self.pending_size -= size

    def begin_count(self, position: int = 0) -> None:
        """What has been counted in goes into this batch, and so into the store's next figures."""
        if self.pending:
            self._sent.append((position, self.pending, self.pending_size))
        self.pending = self.pending_size = 0

    def measure(self, seconds: float) -> None:
        """So much time has passed since the last call: how fast do messages come and go?"""
        if self._before is not None:
            gone = self.came - (self.messages - self._before)
            self.rates = {"in": self.came / seconds, "out": max(0, gone) / seconds}
        self.came, self._before = 0, self.messages

    # -- consumers --------------------------------------------------------------------------------

    @property
    def wants(self) -> bool:
        """Whether somebody should ask for messages."""
        return (
            self.hint > 0
            and self.mode != "paused"
            and any(each.room > 0 for each in self.consumers.values())
        )

    def join(self, consumer: Consumer) -> None:
        """One more consumer, or another one of the same name."""
        self.consumers[consumer.name] = consumer
        self._order = deque(self.consumers.values())

    def part(self, consumer: Consumer) -> None:
        """One fewer."""
        if self.consumers.get(consumer.name) is consumer:
            del self.consumers[consumer.name]
            self._order = deque(self.consumers.values())

    def asks(self) -> list[tuple[Consumer, int]]:
        """Who asks for how many: those with room share what may be there, and begin in turn."""
        self._order.rotate(-1)
        hungry = [each for each in self._order if each.room > 0]
        if not hungry:
            return []
        if self.hint == inf:
            return [(each, each.room) for each in hungry[:SHARED_HINT]]
        share = -(-int(self.hint) // len(hungry))
        asks = []
        left = int(self.hint)
        for each in hungry:
            most = min(each.room, share, left)
            if most <= 0:
                break
            asks.append((each, most))
            left -= most
        return asks

    def none_left(self, woken: float) -> None:
        """The store had fewer than it was asked for, when it had heard of the first `woken` of all
        that have become ready: what has come since may be there.
        """
        self.hint = inf if self._unknown_at > woken else self.woken - woken

    @property
    def is_bound_enough(self) -> bool:
        """Whether clients may bind it to no further filter."""
        return len(self.bindings) >= MOST_BINDINGS

    @property
    def is_plain(self) -> bool:
        """Whether a message can go to any consumer without a look at the others."""
        policy = self.policy
        return policy.order == "fifo" and policy.is_simple and self.mode == "running"

    def wake(self, messages: float = 1) -> None:
        """So many messages more may be ready; inf: nobody knows."""
        self.hint += messages
        if messages == inf:
            messages = 1
            self._unknown_at = self.woken + 1
        self.woken += messages
        if self.watchers:
            for each in list(self.watchers.values()):
                each()

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have `wake` called whenever something may have become ready; returns how to end that."""
        token = object()
        self.watchers[token] = wake

        def end() -> None:
            self.watchers.pop(token, None)

        return end

    # -- for Deadlines ----------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When something may become ready by itself."""
        return self.look_at

    def tick(self, now: float) -> None:
        """That time has come."""
        if self.look_at is not None and now >= self.look_at:
            self.look_at = None
            self.wake(inf)
            if self.on_due is not None:
                self.on_due(self)
