"""MQTT clients as consumers and producers of queues: the door of topics that begin with `$queue/`.

    SUBSCRIBE $queue/<name>             consume; $queue/<name>/<filter> makes the queue and binds it
    PUBACK, PUBREC                      an ack; with a reason >= 0x80 a nack, with 0x99 a rejection
    PUBLISH $queue/<name>               put a message into the queue, past all rules
    PUBLISH $queue/<name>/$nack/<id>    and $reject, $renew: for clients whose PUBACK has no reason

Several QoS 1 messages of a client that has gone are given to others at once, which the standard
leaves to the server (section 4.8.2, on shared subscriptions). A QoS 2 message stays with a session
that outlives its connection: exactly once is between the two of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from broker.engine.lending import LONGEST_REASON, Lending, Member, seconds
from broker.engine.queueing import MQTT
from broker.packets.codes import MQTT_5, ReasonCode
from broker.packets.properties import Property
from broker.packets.publication import Publication, user_properties
from broker.queues.entry import Entry
from broker.queues.names import PREFIX, is_queue_name
from broker.queues.policy import (
    DEFAULT_PRIORITY,
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    QueuePolicy,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from broker.clock import Clock
    from broker.connection.ports import Traffic
    from broker.engine.queueing import Queueing
    from broker.queues.delivery import Delivery
    from broker.session.session import Session
    from broker.session.subscription import Subscription

LONGEST_TEXT = 65_535  # bytes
NEVER_BOUND = (PREFIX, "$share/")  # no message of a queue has such a topic


class Address(NamedTuple):
    """`$queue/<name>/<rest>`, taken apart."""

    queue: str
    rest: str


def address(topic: str) -> Address | None:
    """Take a topic or filter apart that begins with `$queue/`; None: no queue has such a name."""
    name, _, rest = topic[len(PREFIX) :].partition("/")
    return Address(name, rest) if is_queue_name(name) else None


def is_queue_topic(topic: str) -> bool:
    """Whether a topic or filter is about queues."""
    return topic.startswith(PREFIX)


def is_control_topic(topic: str) -> bool:
    """Whether it is about a message that the client has: nobody else's can be meant."""
    return topic.startswith(PREFIX) and "/$" in topic


class QueueClients:
    """What the engine does with SUBSCRIBE, UNSUBSCRIBE and PUBLISH to `$queue/...`."""

    __slots__ = ("_clock", "_creates", "_traffic", "queueing")

    def __init__(
        self,
        queueing: Queueing,
        clock: Clock,
        traffic: Traffic,
        creates: bool = False,
    ) -> None:
        self.queueing = queueing
        self._traffic = traffic
        self._clock = clock
        self._creates = creates  # whether clients may make queues

    # -- subscriptions ----------------------------------------------------------------------------

    def refusal(self, wanted: str) -> ReasonCode | None:
        """Why a client cannot consume this, whoever it is; the filter itself has been checked."""
        found = address(wanted)
        if found is None or found.rest.startswith(NEVER_BOUND):
            return ReasonCode.TOPIC_FILTER_INVALID
        queue = self.queueing.get(found.queue)
        if self._binds(found):
            if not self._creates or (queue is not None and queue.origin == "config"):
                return ReasonCode.NOT_AUTHORIZED
            is_full = self.queueing.is_full if queue is None else queue.is_bound_enough
            return ReasonCode.QUOTA_EXCEEDED if is_full else None
        return ReasonCode.TOPIC_FILTER_INVALID if queue is None else None

    def circle(self, wanted: str) -> Sequence[str]:
        """The circle in which messages would go for ever if this were bound; empty: none."""
        found = address(wanted)
        assert found is not None
        return self.queueing.bindings.circle(*found) if self._binds(found) else ()

    def _binds(self, found: Address) -> bool:
        """Whether who subscribes to it binds a queue to a filter that it has not yet."""
        queue = self.queueing.get(found.queue)
        return bool(found.rest) and (queue is None or found.rest not in queue.bindings)

    def subscribe(self, wanted: str, subscription: Subscription) -> None:
        """A client consumes a queue from now on, or does so with other options."""
        found = address(wanted)
        assert found is not None
        if self._binds(found):
            self.queueing.define(found.queue, QueuePolicy(), [found.rest])
        self.restore(wanted, subscription)
        session = subscription.session
        if session.carrier is not None and session.lending is not None:
            member = session.lending.members[wanted]
            self.queueing.join(member.queue, member)

    def restore(self, wanted: str, subscription: Subscription) -> None:
        """As `subscribe`, of a client that is not there: it binds nothing, for what was bound may
        have been unbound since.
        """
        found = address(wanted)
        assert found is not None
        queue = self.queueing.get(found.queue)
        if queue is None:
            queue = self.queueing.define(found.queue, QueuePolicy())
        session = subscription.session
        lending = self._lending(session)
        if lending is None:
            lending = session.lending = Lending(session, self.queueing, self.publication)
        member = lending.members.get(wanted)
        if member is not None:
            member.subscription = subscription
        else:
            which = wanted.removeprefix(PREFIX)
            name = self.queueing.consumer_name(MQTT, f"{session.client_id}/{which}")
            lending.members[wanted] = Member(name, queue, subscription, lending)

    def unsubscribe(self, session: Session, wanted: str) -> None:
        """A client consumes it no more."""
        lending = self._lending(session)
        if lending is not None and wanted in lending.members:
            lending.leave(wanted)

    # -- messages ---------------------------------------------------------------------------------

    def on_publish(self, session: Session, publication: Publication) -> ReasonCode:
        """A client publishes to `$queue/...`: into a queue, or about a message that it has."""
        found = address(publication.topic)
        if found is None:
            return ReasonCode.TOPIC_NAME_INVALID
        if not found.rest:
            return self._put(found.queue, publication)
        verb, _, number = found.rest.partition("/")
        act = CONTROLS.get(verb)
        if act is None or not (number.isascii() and number.isdecimal()) or len(number) > 19:
            return ReasonCode.TOPIC_NAME_INVALID
        lending = self._lending(session)
        delivery = None if lending is None else lending.find(found.queue, int(number))
        text = publication.payload[:LONGEST_REASON].decode(errors="replace")
        if lending is None or delivery is None or not act(self, lending, delivery, text):
            self._traffic.lose("queue_late_answer")
            return ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR
        return ReasonCode.SUCCESS

    def publish(self, publication: Publication) -> ReasonCode:
        """Put a message into a queue that comes from nobody who is there: a Will."""
        found = address(publication.topic)
        if found is None or found.rest:
            return ReasonCode.TOPIC_NAME_INVALID
        return self._put(found.queue, publication)

    def publication(self, delivery: Delivery, version: int) -> Publication:
        """A message as its consumer sees it: in MQTT 5 what there is to know is in user properties;
        before, the number and the original topic follow in the topic.
        """
        expires_at = delivery.expires_at
        if expires_at is not None:
            expires_at += self._clock.now - self.queueing.wall()
        topic = f"{PREFIX}{delivery.queue}"
        properties = delivery.properties
        if version == MQTT_5:
            properties = _told(delivery)
        else:
            topic = f"{topic}/{delivery.number}/{delivery.topic}"
            if len(topic.encode()) > LONGEST_TEXT:  # better without than not at all
                topic = f"{PREFIX}{delivery.queue}/{delivery.number}"
        return Publication(
            topic, delivery.payload, 1, False, properties, expires_at, delivery.publisher
        )

    @staticmethod
    def _lending(session: Session) -> Lending | None:
        lending = session.lending
        assert lending is None or isinstance(lending, Lending)
        return lending

    def _put(self, queue: str, publication: Publication) -> ReasonCode:
        result = self.queueing.intake.enqueue(_entry(queue, publication), publication)
        if result != "ok":
            self._traffic.lose(f"queue_{result}")
        return _REASONS[result]

    # -- control topics ---------------------------------------------------------------------------

    def _nack(self, lending: Lending, delivery: Delivery, text: str) -> bool:
        return self._answer(lending, delivery, "nack", seconds(text), "")

    def _reject(self, lending: Lending, delivery: Delivery, text: str) -> bool:
        return self._answer(lending, delivery, "dead", None, text)

    def _renew(self, _: Lending, delivery: Delivery, text: str) -> bool:
        queue = self.queueing.get(delivery.queue)
        if queue is None:
            return False
        return self.queueing.renewed(queue, delivery, seconds(text) or queue.policy.lease)

    def _answer(
        self, lending: Lending, delivery: Delivery, kind: str, delay: float | None, why: str
    ) -> bool:
        """False: it is too late."""
        lending.answered(delivery)
        queue = self.queueing.get(delivery.queue)
        return queue is not None and self.queueing.failed(queue, delivery, kind, delay, why)


CONTROLS: Mapping[str, Callable[[QueueClients, Lending, Delivery, str], bool]] = {
    "$nack": QueueClients._nack,
    "$reject": QueueClients._reject,
    "$renew": QueueClients._renew,
}

_REASONS = {
    "ok": ReasonCode.SUCCESS,
    "unknown": ReasonCode.TOPIC_NAME_INVALID,
    "full": ReasonCode.QUOTA_EXCEEDED,
    "draining": ReasonCode.QUOTA_EXCEEDED,
}


def _entry(queue: str, publication: Publication) -> Entry:
    """How a message that a client puts into a queue by itself stands there: its user properties
    `key`, `priority`, `delay`, `ttl` and `dedup-id`.
    """
    told = user_properties(publication.properties)
    if not told:
        return Entry(queue)
    priority = told.get("priority", "")
    return Entry(
        queue,
        told.get("key"),
        _priority(priority),
        seconds(told.get("delay")) or 0.0,
        seconds(told.get("ttl")),
        told.get("dedup-id"),
    )


def _priority(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 1:
        return DEFAULT_PRIORITY
    return max(LOWEST_PRIORITY, min(int(text), HIGHEST_PRIORITY))


def _told(delivery: Delivery) -> bytes:
    """What there is to know of a message, as MQTT 5 user properties."""
    parts = [
        delivery.properties,
        *(_ID, _text(str(delivery.number))),
        *(_COUNT, _text(str(delivery.acquisitions))),
        *(_ENQUEUED, _text(f"{delivery.enqueued_at:.3f}")),
        *(_TOPIC, _text(delivery.topic)),
    ]
    if delivery.lease_until is not None:
        parts += (_LEASE, _text(f"{delivery.lease_until:.3f}"))
    if delivery.key is not None:
        parts += (_KEY, _text(delivery.key))
    if delivery.dead_reason is not None:
        parts += (_DEAD_FROM, _text(delivery.dead_from or ""))
        parts += (_DEAD_REASON, _text(delivery.dead_reason))
        parts += (_DEAD_AT, _text(f"{delivery.dead_at or 0.0:.3f}"))
        parts += (_FAILURES, _text(str(delivery.failures)))
    return b"".join(parts)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


_ID, _COUNT, _ENQUEUED, _TOPIC, _LEASE, _KEY, _DEAD_FROM, _DEAD_REASON, _DEAD_AT, _FAILURES = (
    bytes((Property.USER_PROPERTY,)) + _text(name)
    for name in (
        *("msg-id", "delivery-count", "enqueued-at", "original-topic", "lease-until", "key"),
        *("dead-from", "dead-reason", "dead-at", "failures"),
    )
)
