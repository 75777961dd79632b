"""SUBSCRIBE and UNSUBSCRIBE (sections 3.8 to 3.11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.engine.notices import AccessDenied, BindingRefused
from broker.engine.ports import Client
from broker.engine.queue_clients import address, is_queue_topic
from broker.packets.codes import MQTT_5, ReasonCode
from broker.packets.decode import decode
from broker.packets.errors import ProtocolViolation
from broker.packets.properties import Property
from broker.packets.types import Suback, Subscribe, Unsuback, Unsubscribe
from broker.queues.names import PREFIX
from broker.session.subscription import Subscription
from broker.topics.filters import check_filter, split_shared

if TYPE_CHECKING:
    from broker.connection.connection import Connection
    from broker.engine.journal import Journal
    from broker.engine.notices import Observer
    from broker.engine.policy import Policy
    from broker.engine.ports import Authorizer
    from broker.engine.queue_clients import QueueClients
    from broker.engine.retention import Retention
    from broker.engine.router import Router
    from broker.packets.types import SubscriptionRequest
    from broker.session.session import Session

FAILURE_3_1_1 = 0x80  # the only failure a MQTT 3.1.1 SUBACK knows [3.1.1:MQTT-3.9.3-2]
SEND_IF_NEW = 1  # Retain Handling (section 3.8.3.1)
DO_NOT_SEND = 2


class Subscribing:
    """What the broker does with topic filters."""

    __slots__ = (
        *("_authorizer", "_journal", "_observe", "_policy", "_queues", "_retention", "_router"),
    )

    def __init__(
        self,
        policy: Policy,
        router: Router,
        retention: Retention,
        authorizer: Authorizer | None,
        observe: Observer,
        journal: Journal | None = None,
        queues: QueueClients | None = None,
    ) -> None:
        self._journal = journal
        self._queues = queues
        self._policy = policy
        self._router = router
        self._retention = retention
        self._authorizer = authorizer
        self._observe = observe

    def on_subscribe(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """Grant or refuse each filter, answer them together, then send retained messages
        [MQTT-3.8.4-1].
        """
        packet = decode(first, data, start, end, connection.version)
        assert isinstance(packet, Subscribe)
        identifiers = tuple(packet.properties.get(Property.SUBSCRIPTION_IDENTIFIER, ()))
        replays: list[Subscription] = []
        reasons = [  # [MQTT-3.8.4-5]
            self._subscribe(connection, request, identifiers, replays)
            for request in packet.requests
        ]
        self._answer(connection, Suback(packet.packet_id, reasons))  # [MQTT-3.8.4-6]
        session = connection.session
        assert session is not None
        for subscription in replays:
            session.replay(self._retention.replay(subscription))

    def on_unsubscribe(
        self, connection: Connection, first: int, data: bytes, start: int, end: int
    ) -> None:
        """Remove each filter that is held, character by character [MQTT-3.10.4-1]."""
        packet = decode(first, data, start, end, connection.version)
        assert isinstance(packet, Unsubscribe)
        session = connection.session
        assert session is not None
        reasons: list[int] = [self._unsubscribe(session, each) for each in packet.filters]
        self._answer(connection, Unsuback(packet.packet_id, reasons))  # [MQTT-3.10.4-5]

    def _answer(self, connection: Connection, packet: Suback | Unsuback) -> None:
        if self._journal is None:
            connection.send_packet(packet)
            return
        frame = connection.encoded(packet)
        self._journal.answer(connection, [frame] if frame else [])

    # -- one filter -------------------------------------------------------------------------------

    def _subscribe(
        self,
        connection: Connection,
        request: SubscriptionRequest,
        identifiers: tuple[int, ...],
        replays: list[Subscription],
    ) -> int:
        session = connection.session
        assert session is not None
        if is_queue_topic(request.filter):
            return self._consume(connection, session, request, identifiers)
        try:
            subscription = self._subscription(session, request, identifiers)
        except ProtocolViolation as violation:
            return _failure(connection, violation.reason)
        refusal = self._refusal(connection, session, request.filter, subscription)
        if refusal is not None:
            return _failure(connection, refusal)
        before = (session.subscriptions or {}).get(request.filter)
        is_new = self._add(session, request.filter, subscription)
        if self._wants_retained(request, subscription, is_new):
            replays.append(subscription)
            subscription.replaying = subscription.qos > 0
        if self._journal is not None:
            self._journal.subscribed(request.filter, subscription, before)
        return subscription.qos

    def _consume(
        self,
        connection: Connection,
        session: Session,
        request: SubscriptionRequest,
        identifiers: tuple[int, ...],
    ) -> int:
        """A filter that names a queue: its messages are lent, one consumer each."""
        wanted = request.filter
        subscription = Subscription(session, wanted, request.qos, identifiers=identifiers)
        refusal = (
            self._queue_refusal(wanted)
            or self._refusal(connection, session, wanted, subscription)
            or self._circle_refusal(session, wanted)
        )
        if refusal is not None:
            return _failure(connection, refusal)
        assert self._queues is not None
        before = (session.subscriptions or {}).get(wanted)
        if session.subscriptions is None:
            session.subscriptions = {}
        session.subscriptions[wanted] = subscription
        self._queues.subscribe(wanted, subscription)
        if self._journal is not None:
            self._journal.subscribed(wanted, subscription, before)
        return subscription.qos

    def _queue_refusal(self, wanted: str) -> ReasonCode | None:
        if self._queues is None:
            return ReasonCode.TOPIC_FILTER_INVALID
        found = address(wanted)
        try:
            if found is not None and found.rest:
                check_filter(found.rest, self._policy.max_topic_levels)
        except ProtocolViolation as violation:
            return violation.reason
        return self._queues.refusal(wanted)

    def _circle_refusal(self, session: Session, wanted: str) -> ReasonCode | None:
        assert self._queues is not None
        found, circle = address(wanted), self._queues.circle(wanted)
        if found is None or not circle:
            return None
        self._observe(BindingRefused(session.client_id, *found, circle))
        return ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR

    def _subscription(
        self, session: Session, request: SubscriptionRequest, identifiers: tuple[int, ...]
    ) -> Subscription:
        shared = split_shared(request.filter)
        topic_filter = request.filter if shared is None else shared.filter
        if is_queue_topic(topic_filter):  # it is shared by its nature
            raise ProtocolViolation(ReasonCode.TOPIC_FILTER_INVALID, "4.8.2", request.filter)
        check_filter(topic_filter, self._policy.max_topic_levels)
        return Subscription(
            session,
            topic_filter,
            request.qos,  # [MQTT-3.2.2-10]: whatever the maximum QoS is
            request.no_local,
            request.retain_as_published,
            identifiers,
            "" if shared is None else shared.share_name,
        )

    def _refusal(
        self, connection: Connection, session: Session, wanted: str, subscription: Subscription
    ) -> ReasonCode | None:
        held = session.subscriptions or {}
        if wanted not in held and (
            len(held) >= self._policy.max_subscriptions_per_client
            or len(self._router) >= self._policy.max_subscriptions
        ):
            return ReasonCode.QUOTA_EXCEEDED
        refusal = self._unstorable(session, wanted, subscription)
        if refusal is not None:
            return refusal
        if self._authorizer is None:
            return None
        client = Client(connection.client_id, connection.username, connection.origin.address)
        if all(self._authorizer.may_subscribe(client, each) for each in _asked_about(subscription)):
            return None
        self._observe(AccessDenied(client.client_id, client.username, "subscribe to", wanted))
        return ReasonCode.NOT_AUTHORIZED

    def _unstorable(
        self, session: Session, wanted: str, subscription: Subscription
    ) -> ReasonCode | None:
        """Why a subscription of a durable session cannot be stored; one that is there already can
        be asked for again.
        """
        journal = self._journal
        if journal is None or session.record is None:
            return None
        if not journal.fits(wanted):
            return ReasonCode.TOPIC_FILTER_INVALID
        is_stored = subscription.is_like((session.subscriptions or {}).get(wanted))
        return ReasonCode.QUOTA_EXCEEDED if journal.refuses and not is_stored else None

    def _add(self, session: Session, wanted: str, subscription: Subscription) -> bool:
        """Enter the subscription where it is kept and where it is found; True when the filter is
        new.
        """
        if session.subscriptions is None:
            session.subscriptions = {}
        is_new = wanted not in session.subscriptions
        session.subscriptions[wanted] = subscription  # [MQTT-3.8.4-3]
        self._router.add(subscription)
        return is_new

    def _wants_retained(
        self, request: SubscriptionRequest, subscription: Subscription, is_new: bool
    ) -> bool:
        if subscription.share_name or not len(
            self._retention
        ):  # section 4.8.2: not for shared ones
            return False
        if request.retain_handling == SEND_IF_NEW:  # [MQTT-3.3.1-10]
            return is_new
        return request.retain_handling != DO_NOT_SEND  # [MQTT-3.3.1-9] [MQTT-3.3.1-11]

    def _unsubscribe(self, session: Session, topic_filter: str) -> ReasonCode:
        held = session.subscriptions
        subscription = held.pop(topic_filter, None) if held else None
        if subscription is None:
            return ReasonCode.NO_SUBSCRIPTION_EXISTED
        if is_queue_topic(topic_filter):
            assert self._queues is not None
            self._queues.unsubscribe(session, topic_filter)
        else:
            self._router.remove(subscription)
        if self._journal is not None:
            self._journal.unsubscribed(session, topic_filter)
        return ReasonCode.SUCCESS


def _asked_about(subscription: Subscription) -> tuple[str, ...]:
    """The filters that must be allowed: a queue by its name, and the topics that feed it."""
    found = address(subscription.filter) if is_queue_topic(subscription.filter) else None
    if found is None:
        return (subscription.filter,)
    queue = f"{PREFIX}{found.queue}"
    return (queue, found.rest) if found.rest else (queue,)


def _failure(connection: Connection, reason: ReasonCode) -> int:
    return reason if connection.version == MQTT_5 else FAILURE_3_1_1
