"""What one session asked for with one topic filter, and how a message reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.session.session import Session


class Subscription:
    """One filter of one session with its options (MQTT 5 section 3.8.3.1).

    `identifiers` are sent with every message it causes. Where several filters of a session match
    one topic, the router makes one merged Subscription of them; `own` then says what is left for
    the session's own messages when some of the merged filters have No Local (None = nothing).
    """

    __slots__ = (
        "filter",
        "identifiers",
        "no_local",
        "own",
        "qos",
        "replaying",
        "retain_as_published",
        "session",
        "share_name",
    )

    def __init__(
        self,
        session: Session,
        filter: str,  # noqa: A002  the standard's word
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        identifiers: tuple[int, ...] = (),
        share_name: str = "",
    ) -> None:
        self.session = session
        self.filter = filter
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.identifiers = identifiers
        self.share_name = share_name
        self.own: Subscription | None = None
        self.replaying = False  # retained messages are still to be sent for it

    def is_like(self, other: Subscription | None) -> bool:
        """Whether the store need not be told that this one takes the place of the other."""
        return (
            other is not None
            and other.qos == self.qos
            and other.no_local == self.no_local
            and other.retain_as_published == self.retain_as_published
            and other.identifiers == self.identifiers
            and not other.replaying
            and not self.replaying
        )


def merge(subscriptions: list[Subscription]) -> Subscription:
    """Make one of several overlapping subscriptions of the same session: one copy, the highest QoS,
    all identifiers.
    """
    merged = _union(subscriptions)
    local = [each for each in subscriptions if not each.no_local]
    if local and len(local) < len(subscriptions):
        merged.no_local = True
        merged.own = _union(local)
    return merged


def _union(subscriptions: list[Subscription]) -> Subscription:
    first = subscriptions[0]
    return Subscription(
        first.session,
        first.filter,
        max(each.qos for each in subscriptions),  # [MQTT-3.3.4-2]
        all(each.no_local for each in subscriptions),
        any(each.retain_as_published for each in subscriptions),
        tuple(n for each in subscriptions for n in each.identifiers),  # [MQTT-3.3.4-4]
    )
