"""Who gets a message: subscriptions, shared groups, and a cached answer for each topic in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.packets.primitives import encode_string
from broker.packets.publication import QOS_BITS
from broker.session.subscription import Subscription, merge
from broker.topics.filters import check_topic, is_wildcard, matches
from broker.topics.sharing import HOPELESS, OFFLINE, ShareGroup
from broker.topics.tree import TopicTree

if TYPE_CHECKING:
    from random import Random

    from broker.engine.journal import Journal
    from broker.packets.publication import Publication
    from broker.session.outgoing import Outgoing

MOST_ROUTES = 16_384
MOST_RECEIVERS = 1_000_000  # in all of them: many topics with many receivers each are not kept
FEW_ROUTES = 64  # so many can be looked through when a filter changes
LONGEST_CACHED_TOPIC = 256  # bytes; the cache must not be a way to fill the memory


class Route:
    """The receivers of one topic: one subscription for each session, the shared groups, and the
    `rules` by which queues take its messages (None: none does). `level` says how its messages are
    stored, `audience` for whom (None: for nobody).
    """

    __slots__ = ("audience", "groups", "has_no_local", "level", "rules", "subscriptions", "topic")

    def __init__(
        self,
        topic: str,
        subscriptions: list[Subscription],
        groups: list[ShareGroup[Subscription]],
        journal: Journal | None = None,
    ) -> None:
        self.topic = topic
        self.level = 0 if journal is None else journal.levels.of(topic)
        self.audience = journal.audiences.of(subscriptions) if journal and self.level else None
        self.subscriptions = subscriptions
        self.groups = groups
        self.has_no_local = any(each.no_local for each in subscriptions)
        queues = None if journal is None else journal.queues
        self.rules = None if queues is None else queues.bindings.for_topic(topic)


class Router:
    """Owns every subscription; says who gets what."""

    __slots__ = (
        "_groups",
        "_journal",
        "_max_levels",
        "_rng",
        "_shared",
        "_strategy",
        "_tree",
        "_weight",
        "known",
        "shared_count",
    )

    def __init__(
        self,
        max_topic_levels: int,
        shared_strategy: str,
        rng: Random,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal
        self._max_levels = max_topic_levels
        self._strategy = shared_strategy
        self._rng = rng
        self._tree: TopicTree[Subscription] = TopicTree()
        self._shared: TopicTree[ShareGroup[Subscription]] = TopicTree()
        self._groups: dict[tuple[str, str], ShareGroup[Subscription]] = {}
        # By topic name as it stands on the wire, its length in front. What is here is a good name,
        # open to clients.
        self.known: dict[bytes, Route] = {}
        self._weight = 0  # receivers in `known`, or a few more
        if journal is not None and journal.queues is not None:
            journal.queues.bindings.on_change = self.forget_routes
        self.shared_count = 0  # how many subscriptions are shared ones

    def __len__(self) -> int:
        return len(self._tree) + self.shared_count

    # -- subscriptions ----------------------------------------------------------------------------

    def add(self, subscription: Subscription) -> None:
        """Add or replace a session's subscription [MQTT-3.8.4-3]."""
        client_id = subscription.session.client_id
        if subscription.share_name:
            group = self._group(subscription)
            self.shared_count -= len(group)
            group.add(client_id, subscription)
            self.shared_count += len(group)
        else:
            self._tree.add(subscription.filter, client_id, subscription)
        self.forget_routes(subscription.filter)

    def remove(self, subscription: Subscription) -> None:
        """Take a subscription out; nothing new is routed to it [MQTT-3.10.4-2]."""
        client_id = subscription.session.client_id
        if subscription.share_name:
            self._leave_group(subscription)
        else:
            self._tree.remove(subscription.filter, client_id)
        self.forget_routes(subscription.filter)

    # -- messages ---------------------------------------------------------------------------------

    def route(self, topic: str) -> Route:
        """The receivers of a topic; checks the topic name when it meets it first. Raises
        ProtocolViolation.
        """
        name = encode_string(topic)
        route = self.known.get(name)
        if route is None:
            check_topic(topic, self._max_levels)
            route = self._find(topic)
            self._remember(name, route)
        return route

    def spread(self, publication: Publication, route: Route) -> int:
        """Offer a message to the receivers of its route; return how many there are."""
        receivers = 0
        if route.audience is not None and publication.first & QOS_BITS:
            assert self._journal is not None
            self._journal.address(publication, route)
        publisher = publication.publisher
        for each in route.subscriptions:
            subscription = each
            if each.no_local and each.session.client_id == publisher:  # [MQTT-3.8.3-3]
                if each.own is None:
                    continue
                subscription = each.own
            subscription.session.offer(publication, subscription)
            receivers += 1
        for group in route.groups:
            receivers += self._deliver_shared(group, publication)
        if route.rules is not None:
            receivers += self._put_into_queues([publication], route)
        return receivers

    def spread_run(self, messages: list[Publication], route: Route) -> int:
        """Offer several messages of one publisher and topic, to each receiver all at once.

        Returns how many receivers the last one has; see `spread`.
        """
        receivers = 0
        if len(messages) == 1 or route.groups or route.has_no_local:
            for message in messages:
                receivers = self.spread(message, route)
            return receivers
        size = 0
        if route.audience is not None and messages[0].first & QOS_BITS:
            assert self._journal is not None
            for message in messages:
                self._journal.address(message, route)
            size = sum([each.size for each in messages])
        for subscription in route.subscriptions:
            subscription.session.offer_run(messages, subscription, size)
        if route.rules is not None:
            receivers = self._put_into_queues(messages, route)
        return len(route.subscriptions) + receivers

    def is_anyone_full(self, route: Route) -> bool:
        """Whether a QoS 1 or 2 message would be lost to one of its receivers."""
        return any(each.qos and each.session.is_full for each in route.subscriptions)

    def pass_on(self, outgoing: Outgoing) -> bool:
        """Give a message of a shared subscription whose session ended to another member; False when
        there is none.
        """
        publication, subscription, _ = outgoing
        group = self._groups.get((subscription.share_name, subscription.filter))
        return group is not None and self._deliver_shared(group, publication) > 0

    # -- helpers ----------------------------------------------------------------------------------

    def _put_into_queues(self, messages: list[Publication], route: Route) -> int:
        assert self._journal is not None
        assert self._journal.queues is not None
        assert route.rules is not None
        return self._journal.queues.intake.take_in(messages, route.rules, route.level)

    def _deliver_shared(self, group: ShareGroup[Subscription], publication: Publication) -> int:
        chosen = group.choose(publication.topic, publication.publisher, _readiness, _load)
        if chosen is None:
            return 0
        if self._journal is not None and publication.first & QOS_BITS:
            publication = self._journal.address_one(publication, chosen)
        chosen.session.offer(publication, chosen)
        return 1

    def _find(self, topic: str) -> Route:
        by_session: dict[str, list[Subscription]] = {}
        for subscription in self._tree.match(topic):
            by_session.setdefault(subscription.session.client_id, []).append(subscription)
        groups = self._shared.match(topic) if self._groups else []
        receivers = [_one(several) for several in by_session.values()]
        return Route(topic, receivers, groups, self._journal)

    def _remember(self, name: bytes, route: Route) -> None:
        if len(name) > LONGEST_CACHED_TOPIC or is_reserved(route.topic):
            return
        self._weight += len(route.subscriptions) + len(route.groups)
        if len(self.known) >= MOST_ROUTES or self._weight > MOST_RECEIVERS:
            self.known.clear()
            self._weight = len(route.subscriptions) + len(route.groups)
        self.known[name] = route

    def forget_routes(self, topic_filter: str) -> None:
        """Drop the cached answers that a change of this filter makes wrong."""
        known = self.known
        if not is_wildcard(topic_filter):
            known.pop(encode_string(topic_filter), None)
        elif len(known) > FEW_ROUTES:
            known.clear()
        else:
            wrong = [name for name, route in known.items() if matches(topic_filter, route.topic)]
            for name in wrong:
                del known[name]

    def _group(self, subscription: Subscription) -> ShareGroup[Subscription]:
        name = (subscription.share_name, subscription.filter)
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = ShareGroup(*name, self._strategy, self._rng)
            self._shared.add(subscription.filter, name, group)
        return group

    def _leave_group(self, subscription: Subscription) -> None:
        name = (subscription.share_name, subscription.filter)
        group = self._groups.get(name)
        if group is None:
            return
        if group.remove(subscription.session.client_id) is not None:
            self.shared_count -= 1
        if not len(group):
            del self._groups[name]
            self._shared.remove(subscription.filter, name)


def is_reserved(topic: str) -> bool:
    """Whether only the broker itself may publish there (section 4.7.2)."""
    return topic.startswith("$SYS/")


def _one(several: list[Subscription]) -> Subscription:
    return several[0] if len(several) == 1 else merge(several)


def _readiness(subscription: Subscription) -> int:
    session = subscription.session
    readiness = session.readiness()
    if readiness == OFFLINE and (subscription.qos == 0 or session.is_full):
        return HOPELESS
    return readiness


def _load(subscription: Subscription) -> int:
    return subscription.session.in_flight + subscription.session.waiting
