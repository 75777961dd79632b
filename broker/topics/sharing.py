"""Shared subscriptions: which member of a group gets the next message.

A strategy chooses among the best class of members only: those that are connected and have room in
their in-flight window, else those that are connected, else those whose session would store the
message. The group keeps its members ordered by how long ago they were chosen, which makes turns
fair whoever leaves, joins or is busy meanwhile.
"""

# ruff: noqa: A002 - "filter" is the standard's word for it, and the builtin is not used here

from collections import OrderedDict
from collections.abc import Callable, Hashable
from random import Random
from typing import Any, Generic, TypeAlias, TypeVar
from zlib import crc32

V = TypeVar("V")

HOPELESS = -1  # away, and its session would not even store the message
OFFLINE = 0  # its session would store the message
FULL = 1  # connected, without room in its in-flight window
READY = 2  # connected, with room


class Member(Generic[V]):
    """One subscription in a group; `digest` is the same for the same key in every process."""

    __slots__ = ("digest", "key", "value")

    def __init__(self, key: Hashable, value: V) -> None:
        self.key = key
        self.value = value
        self.digest = crc32(str(key).encode("utf-8", "surrogatepass"))


class Offer(Generic[V]):
    """A message looking for a member, and how to ask the members about themselves."""

    __slots__ = ("is_ready", "load", "publisher_id", "topic")

    def __init__(
        self,
        topic: str,
        publisher_id: str,
        is_ready: Callable[[V], int],
        load: Callable[[V], int] | None,
    ) -> None:
        self.topic = topic
        self.publisher_id = publisher_id
        self.is_ready = is_ready
        self.load = load


class ShareGroup(Generic[V]):
    """The members of one `$share/<share_name>/<filter>`. `strategy` is a name in STRATEGIES."""

    __slots__ = ("filter", "last", "members", "rng", "share_name", "strategy")

    def __init__(self, share_name: str, filter: str, strategy: str, rng: Random) -> None:
        self.share_name = share_name
        self.filter = filter
        self.strategy = strategy
        self.rng = rng
        self.members: OrderedDict[Hashable, Member[V]] = OrderedDict()  # longest waiting first
        self.last: Member[V] | None = None  # chosen for the message before

    def __len__(self) -> int:
        return len(self.members)

    def add(self, key: Hashable, value: V) -> None:
        """Let `key` take part; one who is there already keeps its turn and gets the new value."""
        member = self.members.get(key)
        if member is None:
            self.members[key] = Member(key, value)
        else:
            member.value = value

    def remove(self, key: Hashable) -> V | None:
        """Take the member out and return its value; None when there is no such member."""
        member = self.members.pop(key, None)
        if member is None:
            return None
        if self.last is member:
            self.last = None
        return member.value

    def choose(
        self,
        topic: str,
        publisher_id: str,
        is_ready: Callable[[V], int],
        load: Callable[[V], int] | None = None,
    ) -> V | None:
        """The value of the member that gets this message; None when the group is empty.

        `is_ready(value)` is READY, FULL, OFFLINE or HOPELESS; `load(value)`, what it
        matters to `least_inflight`.
        """
        if not self.members:
            return None
        member: Member[V] = STRATEGIES[self.strategy](
            self, Offer(topic, publisher_id, is_ready, load)
        )
        self.members.move_to_end(member.key)
        self.last = member
        return member.value


def _round_robin(group: ShareGroup[V], offer: Offer[V]) -> Member[V]:
    """The one that has waited longest."""
    best: Member[V] | None = None
    best_class = HOPELESS - 1
    for member in group.members.values():
        member_class = offer.is_ready(member.value)
        if member_class == READY:
            return member
        if member_class > best_class:
            best, best_class = member, member_class
    assert best is not None
    return best


def _random(group: ShareGroup[V], offer: Offer[V]) -> Member[V]:
    return group.rng.choice(_best_class(group, offer))


def _sticky(group: ShareGroup[V], offer: Offer[V]) -> Member[V]:
    """The same as before while it is in the best class."""
    last = group.last
    if last is not None and offer.is_ready(last.value) == READY:
        return last
    candidates = _best_class(group, offer)
    return last if last is not None and last in candidates else candidates[0]


def _hash_topic(group: ShareGroup[V], offer: Offer[V]) -> Member[V]:
    return _highest(_best_class(group, offer), offer.topic)


def _hash_client(group: ShareGroup[V], offer: Offer[V]) -> Member[V]:
    return _highest(_best_class(group, offer), offer.publisher_id)


def _least_inflight(group: ShareGroup[V], offer: Offer[V]) -> Member[V]:
    """The one with the least load; among equals, and without a load, the longest waiting one."""
    load = offer.load
    if load is None:
        return _round_robin(group, offer)
    return min(_best_class(group, offer), key=lambda member: load(member.value))


Strategy: TypeAlias = Callable[[ShareGroup[Any], Offer[Any]], Member[Any]]

STRATEGIES: dict[str, Strategy] = {
    "round_robin": _round_robin,
    "random": _random,
    "sticky": _sticky,
    "hash_topic": _hash_topic,
    "hash_client": _hash_client,
    "least_inflight": _least_inflight,
}


def _best_class(group: ShareGroup[V], offer: Offer[V]) -> list[Member[V]]:
    candidates: list[Member[V]] = []
    best_class = HOPELESS - 1
    for member in group.members.values():
        member_class = offer.is_ready(member.value)
        if member_class > best_class:
            candidates, best_class = [], member_class
        if member_class == best_class:
            candidates.append(member)
    return candidates


def _highest(candidates: list[Member[V]], text: str) -> Member[V]:
    """Rendezvous hashing: the member that weighs the text heaviest gets it.

    So a member who leaves moves its own share only.
    """
    seed = crc32(text.encode("utf-8", "surrogatepass"))
    return max(candidates, key=lambda member: (_mixed(member.digest ^ seed), member.digest))


def _mixed(number: int) -> int:
    """Scatter 32 bits: bare checksums differ by the same bits for every text, which is unfair."""
    for factor in (0x9E3779B1, 0x85EBCA77):
        number = (number ^ number >> 15) * factor & 0xFFFFFFFF
    return number ^ number >> 16
