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

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from broker.engine.queueing import MQTT
from broker.packets.codes import MQTT_3_1_1, MQTT_5, ReasonCode
from broker.packets.properties import Property
from broker.packets.publication import PUBLISH, Publication, user_properties
from broker.queues.entry import Entry
from broker.queues.names import PREFIX, is_queue_name
from broker.queues.policy import (
    DEFAULT_PRIORITY,
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    QueuePolicy,
)
from broker.session.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from broker.clock import Clock
    from broker.connection.ports import Traffic
    from broker.engine.ports import Row
    from broker.engine.queueing import Queueing, Receipt
    from broker.packets.properties import Properties
    from broker.queues.delivery import Delivery
    from broker.queues.queue import Queue
    from broker.session.outgoing import Outgoing
    from broker.session.session import Session

REFUSED = 0x80  # reason codes from here on are failures
QOS_2 = 2
FOR_MQTT_5 = 0x100  # above the first byte of a PUBLISH
TOO_LARGE = "too large for the consumer"
LONGEST_REASON = 256  # characters that are kept of what a client says
LONGEST_TEXT = 65_535  # bytes
LONGEST_DELAY = 366 * 86_400.0  # seconds


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


class Member:
    """One client that consumes one queue."""

    __slots__ = ("_lending", "asked", "held", "name", "queue", "subscription", "waiting")

    def __init__(
        self, name: str, queue: Queue, subscription: Subscription, lending: Lending
    ) -> None:
        self.name = name
        self.queue = queue
        self.subscription = subscription
        self.asked = 0
        self.held = 0  # messages that the client has and has not answered
        self.waiting: deque[Delivery] = deque()  # leased, but its window was full meanwhile
        self._lending = lending

    @property
    def room(self) -> int:
        """See Consumer."""
        session = self.subscription.session
        carrier = session.carrier
        if carrier is None or carrier.blocked:
            return 0
        waiting = len(self.waiting) + self.asked
        mine = self.queue.policy.prefetch - self.held
        return min(mine, session.window - session.in_flight) - waiting

    @property
    def lease_seconds(self) -> float | None:
        """See Consumer."""
        is_kept = self.subscription.qos == QOS_2 and self.subscription.session.record is not None
        return None if is_kept else self.queue.policy.lease

    def take(self, deliveries: list[Delivery]) -> None:
        """See Consumer."""
        self.waiting += deliveries
        self._lending.pump()


class Lending:
    """What one session has out of queues: by packet id, until the client has answered."""

    __slots__ = ("_clients", "_session", "leases", "members", "version_bit")

    def __init__(self, session: Session, clients: QueueClients) -> None:
        self._session = session
        self._clients = clients
        self.leases: dict[int, tuple[Member, Delivery]] = {}
        self.members: dict[str, Member] = {}  # by the filter as the client wrote it
        self.version_bit = FOR_MQTT_5

    # -- for the session --------------------------------------------------------------------------

    def connected(self) -> None:
        """The client is there: it takes messages."""
        carrier = self._session.carrier
        self.version_bit = FOR_MQTT_5 if carrier and carrier.version == MQTT_5 else 0
        for member in self.members.values():
            self._clients.queueing.join(member.queue, member)

    def restore(self, packet_id: int, first: int, row: Row) -> Outgoing:
        """Take back a QoS 2 message that was lent before a restart."""
        name, *rest = row
        queueing = self._clients.queueing
        queue = queueing.get(name) or queueing.define(name, QueuePolicy())
        (delivery,) = queueing.deliveries(name, [tuple(rest)])
        member = next((each for each in self.members.values() if each.queue is queue), None)
        if member is None:  # the session has ended: it is only there to give it back
            subscription = Subscription(self._session, f"{PREFIX}{name}", QOS_2)
            member = Member("", queue, subscription, self)
        member.held += 1
        self.leases[packet_id] = (member, delivery)
        version = MQTT_5 if first & FOR_MQTT_5 else MQTT_3_1_1
        publication = self._clients.publication(delivery, version)
        return (publication, member.subscription, first & ~FOR_MQTT_5)

    def disconnected(self) -> None:
        """The client has gone: what it has goes back, but for what only it may have."""
        is_kept = self._session.record is not None
        back = [
            packet_id
            for packet_id, (member, _) in self.leases.items()
            if not (is_kept and member.subscription.qos == QOS_2)
        ]
        self._session.take_back(back)
        for packet_id in back:
            member, _ = self.leases.pop(packet_id)
            member.held -= 1
        for member in self.members.values():
            self._return_waiting(member)
            self._clients.queueing.part(member.queue, member)

    def ended(self) -> None:
        """The session is over."""
        self.disconnected()
        self._session.take_back(list(self.leases))
        for member, delivery in self.leases.values():
            self._clients.queueing.failed(member.queue, _receipt(delivery), "return", None, "")
        self.leases.clear()
        self.members.clear()

    def pump(self) -> None:
        """Send what was leased and waits for the client's window."""
        for member in self.members.values():
            while member.waiting:
                if not self._send(member, member.waiting[0]):
                    break
                member.waiting.popleft()

    def on_pubacks(self, packet_ids: Iterable[int]) -> None:
        """The client has answered QoS 1 messages, with success."""
        leases = self.leases
        done: dict[Member, list[Receipt]] = {}
        for packet_id in packet_ids:
            lease = leases.pop(packet_id, None)
            if lease is not None:
                member, delivery = lease
                member.held -= 1
                done.setdefault(member, []).append((delivery.number, delivery.token))
        for member, receipts in done.items():
            self._clients.queueing.acknowledged(member.queue, receipts)
        self.pump()

    def on_answer(self, packet_id: int, reason: int, properties: Properties) -> None:
        """The client has answered one message: PUBACK or PUBREC."""
        if reason < REFUSED:
            self.on_pubacks((packet_id,))
            return
        lease = self.leases.pop(packet_id, None)
        if lease is not None:
            member, delivery = lease
            member.held -= 1
            kind = "dead" if reason == ReasonCode.PAYLOAD_FORMAT_INVALID else "nack"
            delay = _seconds(dict(properties.get(Property.USER_PROPERTY, ())).get("delay"))
            why = str(properties.get(Property.REASON_STRING, ""))[:LONGEST_REASON]
            self._clients.queueing.failed(member.queue, _receipt(delivery), kind, delay, why)
        self.pump()

    # -- by its control topics --------------------------------------------------------------------

    def find(self, queue: str, number: int) -> Delivery | None:
        """A message that this client has and has not answered."""
        for member, delivery in self.leases.values():
            if delivery.number == number and member.queue.name == queue:
                return delivery
        return None

    # -- helpers ----------------------------------------------------------------------------------

    def _send(self, member: Member, delivery: Delivery) -> bool:
        """False: there is no room in the client's window."""
        session, subscription = self._session, member.subscription
        carrier = session.carrier
        if carrier is None:
            return False
        publication = self._clients.publication(delivery, carrier.version)
        qos = subscription.qos
        if not qos:
            carrier.send_publication(publication, PUBLISH, 0, subscription.identifiers)
            self._clients.queueing.acknowledged(member.queue, [_receipt(delivery)])
            return True
        packet_id = session.lend(publication, subscription, PUBLISH | qos << 1)
        if not packet_id:
            return False
        if packet_id < 0:
            self._clients.queueing.failed(member.queue, _receipt(delivery), "nack", None, TOO_LARGE)
            return True
        member.held += 1
        self.leases[packet_id] = (member, delivery)
        return True

    def _return_waiting(self, member: Member) -> None:
        while member.waiting:
            delivery = member.waiting.popleft()
            if delivery.lease_until is None:  # else leaving gives it back
                receipt = _receipt(delivery)
                self._clients.queueing.failed(member.queue, receipt, "return", None, "")

    def leave(self, wanted: str) -> None:
        """The client unsubscribes: what it has not answered goes back."""
        member = self.members.pop(wanted)
        held = [each for each, (other, _) in self.leases.items() if other is member]
        for packet_id in held:  # it may be answered still, which is then heard by nobody
            _, delivery = self.leases.pop(packet_id)
            if delivery.lease_until is None:
                receipt = _receipt(delivery)
                self._clients.queueing.failed(member.queue, receipt, "return", None, "")
        self._return_waiting(member)
        self._clients.queueing.part(member.queue, member)


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
        if found is None:
            return ReasonCode.TOPIC_FILTER_INVALID
        queue = self.queueing.get(found.queue)
        if found.rest and (queue is None or found.rest not in queue.bindings):
            if not self._creates or (queue is not None and queue.origin == "config"):
                return ReasonCode.NOT_AUTHORIZED
            return ReasonCode.QUOTA_EXCEEDED if self.queueing.is_full else None
        return ReasonCode.TOPIC_FILTER_INVALID if queue is None else None

    def subscribe(self, wanted: str, subscription: Subscription) -> None:
        """A client consumes a queue from now on, or does so with other options."""
        self.restore(wanted, subscription)
        session = subscription.session
        if session.carrier is not None and session.lending is not None:
            member = session.lending.members[wanted]
            self.queueing.join(member.queue, member)

    def restore(self, wanted: str, subscription: Subscription) -> None:
        """As `subscribe`, of a client that is not there."""
        found = address(wanted)
        assert found is not None
        queue = self.queueing.get(found.queue)
        if queue is None or (found.rest and found.rest not in queue.bindings):
            bindings = [found.rest] if found.rest else []
            queue = self.queueing.define(found.queue, QueuePolicy(), bindings)
        session = subscription.session
        lending = self._lending(session)
        if lending is None:
            lending = session.lending = Lending(session, self)
        member = lending.members.get(wanted)
        if member is not None:
            member.subscription = subscription
        else:
            name = self.queueing.consumer_name(MQTT, f"{session.client_id}/{queue.name}")
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
        if delivery is None:
            self._traffic.lose("queue_late_answer")
            return ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR
        act(self, delivery, publication.payload[:LONGEST_REASON].decode(errors="replace"))
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
            properties += b"".join(_USER + _text(n) + _text(v) for n, v in _told(delivery))
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

    def _nack(self, delivery: Delivery, text: str) -> None:
        self._answer(delivery, "nack", _seconds(text), "")

    def _reject(self, delivery: Delivery, text: str) -> None:
        self._answer(delivery, "dead", None, text)

    def _renew(self, delivery: Delivery, text: str) -> None:
        queue = self.queueing.get(delivery.queue)
        if queue is not None and delivery.lease_until is not None:
            seconds = _seconds(text) or queue.policy.lease
            self.queueing.renewed(queue, _receipt(delivery), seconds)

    def _answer(self, delivery: Delivery, kind: str, delay: float | None, why: str) -> None:
        queue = self.queueing.get(delivery.queue)
        if queue is not None:
            self.queueing.failed(queue, _receipt(delivery), kind, delay, why)


CONTROLS: Mapping[str, Callable[[QueueClients, Delivery, str], None]] = {
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
_USER = bytes((Property.USER_PROPERTY,))


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
        _seconds(told.get("delay")) or 0.0,
        _seconds(told.get("ttl")),
        told.get("dedup-id"),
    )


def _priority(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 1:
        return DEFAULT_PRIORITY
    return max(LOWEST_PRIORITY, min(int(text), HIGHEST_PRIORITY))


def _seconds(text: str | None) -> float | None:
    """A number of seconds that somebody has written; None: it is none."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return None
    return min(seconds, LONGEST_DELAY) if seconds >= 0 else None


def _told(delivery: Delivery) -> Iterable[tuple[str, str]]:
    yield "msg-id", str(delivery.number)
    yield "delivery-count", str(delivery.acquisitions)
    yield "enqueued-at", f"{delivery.enqueued_at:.3f}"
    yield "original-topic", delivery.topic
    if delivery.lease_until is not None:
        yield "lease-until", f"{delivery.lease_until:.3f}"
    if delivery.key is not None:
        yield "key", delivery.key
    if delivery.dead_reason is not None:
        yield "dead-from", delivery.dead_from or ""
        yield "dead-reason", delivery.dead_reason
        yield "dead-at", f"{delivery.dead_at or 0.0:.3f}"
        yield "failures", str(delivery.failures)


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def _receipt(delivery: Delivery) -> Receipt:
    return (delivery.number, delivery.token)
