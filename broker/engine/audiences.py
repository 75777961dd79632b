"""Who a stored message is for: sets of durable subscribers, each kept once and shared by all the
messages that go to the same ones. A message for a hundred absent clients is so one row, not a
hundred.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker.session.session import Session
    from broker.session.subscription import Subscription

FEW = 4096  # audiences that may be known without being looked through

MemberKey: TypeAlias = tuple[int, int, bool, tuple[int, ...], str, str]
Key: TypeAlias = tuple[MemberKey, ...]


class Audience:
    """The receivers of some messages, by the number of their session.

    `lowest` and `highest` are the numbers of the first and last of its messages that the store
    holds (None: it holds none); `is_stored` says whether the store knows the members.
    """

    __slots__ = ("highest", "id", "is_stored", "key", "lowest", "members")

    def __init__(self, number: int, key: Key, members: Iterable[Subscription]) -> None:
        self.id = number
        self.key = key  # what makes it the same as another one
        self.members = {each[0]: member for each, member in zip(key, members, strict=True)}
        self.is_stored = False
        self.lowest: int | None = None
        self.highest = 0

    def finished(self, latest: int) -> int:
        """The number up to which every member is through with every message; `latest` is the last
        number given to any message.
        """
        low = latest
        for subscription in self.members.values():
            low = min(low, finished(subscription.session, latest))
        return low


def finished(session: Session, latest: int) -> int:
    """The number up to which a session is through with everything that was ever for it."""
    record = session.record
    if record is None or record.is_over:
        return latest
    if record.is_cold:
        return record.cold_finished
    for number in session.numbers_in_flight():
        return number - 1
    return record.cursor if session.waiting else latest


class Audiences:
    """All audiences; the same members are always the same one."""

    __slots__ = ("_by_members", "_look_at", "by_id", "next_id")

    def __init__(self) -> None:
        self.by_id: dict[int, Audience] = {}
        self._by_members: dict[Key, Audience] = {}
        self._look_at = FEW
        self.next_id = 1

    def of(self, subscriptions: Iterable[Subscription]) -> Audience | None:
        """The audience of those among the subscriptions that take QoS 1 or 2 messages for a durable
        session; None when there is none.
        """
        members = [each for each in subscriptions if each.qos and each.session.record is not None]
        if not members:
            return None
        key = tuple(_key(each) for each in members)
        audience = self._by_members.get(key)
        if audience is None:
            audience = self._by_members[key] = Audience(self.next_id, key, members)
            self.by_id[audience.id] = audience
            self.next_id += 1
        return audience

    def restore(self, number: int, members: list[Subscription]) -> Audience:
        """Put back an audience that the store knows."""
        key = tuple(_key(each) for each in members)
        audience = Audience(number, key, members)
        audience.is_stored = True
        self.by_id[number] = audience
        self._by_members[key] = audience
        return audience

    def forget(self, audience: Audience) -> None:
        """Forget an audience that nobody is left in."""
        self.by_id.pop(audience.id, None)
        self._by_members.pop(audience.key, None)

    def take_idle(self) -> list[int]:
        """Forget the audiences without stored messages, when there are many, and return the ids of
        those that the store knows. One that is still in use is stored under a new id with its next
        message: the store may still be busy with the end of the old one.
        """
        if len(self.by_id) < self._look_at:
            return []
        idle = [each for each in self.by_id.values() if each.lowest is None]
        for each in idle:
            del self.by_id[each.id]
        kept = self.by_id
        self._by_members = {key: each for key, each in self._by_members.items() if each.id in kept}
        self._look_at = max(FEW, 2 * len(kept))
        known = [each for each in idle if each.is_stored]
        ids = [each.id for each in known]
        for each in known:
            each.is_stored = False
            each.id = self.next_id
            self.next_id += 1
        return ids


def _key(subscription: Subscription) -> MemberKey:
    record = subscription.session.record
    assert record is not None
    return (
        record.id,
        subscription.qos,
        subscription.retain_as_published,
        subscription.identifiers,
        subscription.filter,
        subscription.share_name,
    )
