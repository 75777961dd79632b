"""All consumers of one queue in this broker, as the store sees them: one, that asks for what they
have room for together, and a little ahead. What it got waits in its window until a consumer is
free, so a batch hands out many messages with few statements, and a message need not go to the disk
and back for a consumer that waits.

What is leased from the store is leased for longer than consumers are told: their leases end here,
on time; the store's end only counts when the broker has died.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from broker.clock import Clock
    from broker.queues.delivery import Delivery
    from broker.queues.policy import QueuePolicy

AHEAD = 256  # messages in the window beyond what consumers have room for
AHEAD_SIZE = 1_048_576  # bytes in the window at which nothing more is asked for ahead
GRACE = 10.0  # seconds that leases of the store last longer than those of consumers
DOORS = 30.0  # seconds that nothing is asked for ahead after somebody came by another door


class Member(Protocol):
    """Who takes messages: told how many, and given them in order."""

    name: str

    @property
    def room(self) -> int:
        """How many it takes now."""

    def take(self, deliveries: list[Delivery]) -> None:
        """Here they are."""


class Lease(NamedTuple):
    """A message in somebody's hands, until an instant of the broker's clock."""

    delivery: Delivery
    member: Member
    until: float


class Pool:
    """See above. `on_expired` is told of leases that have ended, `on_stale` of messages in the
    window that are too old to be handed out, `on_fault` of what a consumer has raised. `wall` reads
    the clock that deliveries tell.
    """

    __slots__ = (
        *("_clock", "_doors_until", "_is_full", "_is_serving", "_order", "_policy", "_size"),
        *("_wall", "armed_for", "asked", "generation", "has_rivals", "is_paused", "later"),
        *("leases", "looks_ahead", "members", "name", "on_expired", "on_fault", "on_stale"),
        "window",
    )

    def __init__(
        self, name: str, policy: QueuePolicy, clock: Clock, wall: Callable[[], float]
    ) -> None:
        self.name = name
        self.asked = 0
        self.members: dict[str, Member] = {}
        self.window: deque[Delivery] = deque()  # in the order of delivery
        self.later: list[Delivery] = []  # new ones, while the store is being asked
        self.leases: dict[int, Lease] = {}  # by number
        self.looks_ahead = True  # nobody else reads this store
        self.is_paused = False
        self.has_rivals = False  # others take messages out of the same store past this pool
        self.generation = 0  # rises with every consumer that goes
        self.armed_for: int | None = None
        self.on_fault: Callable[[Exception], None] | None = None
        self.on_expired: Callable[[Delivery], None] | None = None
        self.on_stale: Callable[[Delivery], None] | None = None
        self._policy = policy
        self._clock = clock
        self._wall = wall
        self._order: deque[Member] = deque()
        self._size = 0  # bytes in the window
        self._is_full = False  # nobody has room: no need to ask all of them again
        self._is_serving = False
        self._doors_until = 0.0

    # -- a consumer to the store ------------------------------------------------------------------

    @property
    def room(self) -> int:
        """See Consumer."""
        if not self.members or self.is_paused:
            return 0
        waiting = len(self.window) + len(self.later) + self.asked
        if waiting > self._ahead // 2:  # many at once cost less
            return 0
        if self._has_one_active and self.asked:  # what comes may have to go back before the next
            return 0
        return sum(max(0, each.room) for each in self._served) + self._ahead - waiting

    @property
    def lease_seconds(self) -> float:
        """How long the store leases to it."""
        return self._policy.lease + GRACE

    def take(self, deliveries: list[Delivery]) -> None:
        """Messages have come out of the store."""
        self._line_up(deliveries)
        self.serve()

    def _line_up(self, deliveries: list[Delivery]) -> None:
        window = self.window
        is_behind = bool(window) and _place(deliveries[0]) < _place(window[-1])
        window += deliveries
        if is_behind:
            self.window = deque(sorted(window, key=_place))
        self._size += sum(len(each.payload) for each in deliveries)

    @property
    def has_space(self) -> bool:
        """Whether a new message may come here, where the store has none that is ready but what it
        was asked for.
        """
        waiting = len(self.window) + len(self.later)
        return bool(self.members) and not self.is_paused and waiting < self._ahead

    def offer(self, delivery: Delivery) -> None:
        """A new message, which `serve` hands out. It comes after what the store was asked for."""
        if self.asked:
            self.later.append(delivery)
        else:
            self._line_up([delivery])

    def answered(self, is_all: bool) -> list[Delivery]:
        """The store has answered; if that was not all that it has ready, what is newer has to wait
        there, too: it is returned.
        """
        if self.asked or not self.later:
            return []
        later, self.later = self.later, []
        if not is_all:
            return later
        self.take(later)
        return []

    # -- members ----------------------------------------------------------------------------------

    def join(self, member: Member) -> None:
        """One more, or another one of the same name."""
        self.members[member.name] = member
        self._order = deque(self.members.values())
        self._is_full = False

    def part(self, member: Member) -> list[Delivery]:
        """One fewer; what it had."""
        self.generation += 1
        self.retire(member)
        held = [lease.delivery for lease in self.leases.values() if lease.member is member]
        for each in held:
            del self.leases[each.number]
        return held

    def retire(self, member: Member) -> None:
        """It gets no more, and may still answer what it has."""
        if self.members.get(member.name) is member:
            del self.members[member.name]
            self._order = deque(self.members.values())

    def settle(self, delivery: Delivery) -> bool:
        """A consumer has answered a message; False: too late."""
        self._is_full = False
        lease = self.leases.get(delivery.number)
        if lease is None or lease.delivery is not delivery:
            return False
        del self.leases[delivery.number]
        return True

    def has_room_again(self) -> None:
        """A consumer may have room that had none."""
        self._is_full = False
        self.serve()

    def serve(self) -> None:
        """Hand out what consumers have room for."""
        if self._is_serving or self.is_paused:
            return
        self._is_serving = True  # who acknowledges at once leads back to here
        try:
            while self.window and not self._is_full:
                self._serve_one()
        finally:
            self._is_serving = False

    def renew(self, delivery: Delivery, seconds: float) -> bool:
        """A consumer needs longer; False: too late."""
        lease = self.leases.get(delivery.number)
        if lease is None or lease.delivery is not delivery:
            return False
        self.leases[delivery.number] = lease._replace(until=self._clock.now + seconds)
        return True

    # -- giving back ------------------------------------------------------------------------------

    def flush(self) -> list[Delivery]:
        """Give up what nobody has yet."""
        window, self.window = [*self.window, *self.later], deque()
        self.later = []
        self._size = 0
        return window

    def make_way(self) -> list[Delivery]:
        """Somebody comes by another door: give up what nobody has yet, and get nothing ahead for a
        while.
        """
        self._doors_until = self._clock.now + DOORS
        return self.flush()

    def expired(self) -> list[Delivery]:
        """What has grown too old in the window; it is taken out."""
        wall = self._wall()
        old = [each for each in self.window if each.expires_at and each.expires_at <= wall]
        for each in old:
            self.window.remove(each)
            self._size -= len(each.payload)
        return old

    def ageing(self) -> list[Delivery]:
        """What waits in the window and whose leases in the store have not much grace left; they are
        taken for renewed.
        """
        now = self._wall()
        most = now + self._policy.lease + GRACE / 2
        old = [each for each in self.window if (each.lease_until or most) < most]
        for each in old:
            each.lease_until = now + self.lease_seconds
        return old

    # -- for Deadlines ----------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the next lease ends."""
        return min((lease.until for lease in self.leases.values()), default=None)

    def tick(self, now: float) -> None:
        """End leases whose time has come."""
        for lease in [each for each in self.leases.values() if each.until <= now]:
            del self.leases[lease.delivery.number]
            if self.on_expired is not None:
                self.on_expired(lease.delivery)

    # -- helpers ----------------------------------------------------------------------------------

    @property
    def _served(self) -> Iterable[Member]:
        """Who may get messages: all, or the first where there may be only one."""
        return islice(self.members.values(), 1) if self._has_one_active else self.members.values()

    @property
    def _has_one_active(self) -> bool:
        return self._policy.order == "single_active"

    @property
    def _ahead(self) -> int:
        """How many messages may wait here for consumers that have no room yet: none, where that
        would keep them from somebody, or break their order.
        """
        is_simple = self._policy.is_simple and not self._has_one_active
        is_alone = not self.has_rivals and self._clock.now >= self._doors_until
        may = self.looks_ahead and is_simple and is_alone
        return AHEAD if may and self._size < AHEAD_SIZE else 0

    def _serve_one(self) -> None:
        member = self._next_free()
        if member is None:
            self._is_full = True
            return
        share = max(1, len(self.window) // len(self.members))
        deliveries = self._lease(member, min(member.room, share))
        if not deliveries:
            return
        try:
            member.take(deliveries)
        except Exception as fault:  # the consumer's; whoever has brought the message has none
            if self.on_fault is None:
                raise
            self.on_fault(fault)

    def _next_free(self) -> Member | None:
        if self._has_one_active:
            return next((each for each in self._served if each.room > 0), None)
        for _ in range(len(self._order)):
            self._order.rotate(-1)
            if self._order[-1].room > 0:
                return self._order[-1]
        return None

    def _lease(self, member: Member, most: int) -> list[Delivery]:
        """The next ones in the window, which are the member's from now on."""
        wall = self._wall()
        until, lease_until = self._clock.now + self._policy.lease, wall + self._policy.lease
        deliveries: list[Delivery] = []
        while self.window and len(deliveries) < most:
            delivery = self.window.popleft()
            self._size -= len(delivery.payload)
            if delivery.expires_at is not None and delivery.expires_at <= wall:
                if self.on_stale is not None:
                    self.on_stale(delivery)
                continue
            delivery.lease_until = lease_until
            self.leases[delivery.number] = Lease(delivery, member, until)
            deliveries.append(delivery)
        return deliveries


def _place(delivery: Delivery) -> tuple[int, int]:
    return (delivery.rank, delivery.number)
