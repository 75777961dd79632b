"""What one session has out of queues, and the queues that its client consumes.

A loan ends when the client answers; its lease may end before. Then another consumer may have the
message, and a late answer counts for nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from broker.packets.codes import MQTT_3_1_1, MQTT_5, ReasonCode
from broker.packets.properties import Property
from broker.packets.publication import PUBLISH
from broker.queues.names import PREFIX
from broker.queues.policy import QueuePolicy
from broker.session.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from broker.engine.ports import Row
    from broker.engine.queueing import Queueing
    from broker.packets.properties import Properties
    from broker.packets.publication import Publication
    from broker.queues.delivery import Delivery
    from broker.queues.queue import Queue
    from broker.session.outgoing import Outgoing
    from broker.session.session import Session

REFUSED = 0x80  # reason codes from here on are failures
QOS_2 = 2
FOR_MQTT_5 = 0x100  # above the first byte of a PUBLISH
TOO_LARGE = "too large for the consumer"
LONGEST_REASON = 256  # characters that are kept of what a client says
LONGEST_DELAY = 366 * 86_400.0  # seconds


class Loan(NamedTuple):
    """A message that the client has and has not answered."""

    member: Member
    delivery: Delivery


class Member:
    """One client as a consumer of one queue."""

    __slots__ = ("_lending", "asked", "held", "name", "queue", "subscription", "waiting")

    def __init__(
        self, name: str, queue: Queue, subscription: Subscription, lending: Lending
    ) -> None:
        self.name = name
        self.queue = queue
        self.subscription = subscription
        self.asked = 0
        self.held = 0  # packets that the client has and has not answered
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
        self._lending.send_waiting(self)


class Lending:
    """The Lender of one session. `make` makes what a client of a version is sent."""

    __slots__ = (
        *("_answered", "_make", "_queueing", "_retired", "_session"),
        *("leases", "members", "version_bit"),
    )

    def __init__(
        self, session: Session, queueing: Queueing, make: Callable[[Delivery, int], Publication]
    ) -> None:
        self._session = session
        self._queueing = queueing
        self._make = make
        self._answered: dict[int, Member] = {}  # whose answer is known, but for its packet's
        self._retired: list[Member] = []  # unsubscribed, with something in flight
        self.leases: dict[int, Loan] = {}
        self.members: dict[str, Member] = {}  # by the filter as the client wrote it
        self.version_bit = FOR_MQTT_5
        self._note_version()

    # -- for the session --------------------------------------------------------------------------

    def connected(self) -> None:
        """The client is there: it takes messages."""
        self._note_version()
        for member in self.members.values():
            name = member.queue.name  # it may have been dropped meanwhile
            member.queue = self._queueing.get(name) or self._queueing.define(name, QueuePolicy())
            self._queueing.join(member.queue, member)

    def restore(self, packet_id: int, first: int, row: Row) -> Outgoing:
        """Take back a QoS 2 message that was lent before a restart."""
        name, *rest = row
        queue = self._queueing.get(name) or self._queueing.define(name, QueuePolicy())
        (delivery,) = self._queueing.deliveries(name, [tuple(rest)])
        member = next((each for each in self.members.values() if each.queue is queue), None)
        if member is None:  # the session has ended: it is only there to give it back
            subscription = Subscription(self._session, f"{PREFIX}{name}", QOS_2)
            member = Member("", queue, subscription, self)
        member.held += 1
        self.leases[packet_id] = Loan(member, delivery)
        version = MQTT_5 if first & FOR_MQTT_5 else MQTT_3_1_1
        return (self._make(delivery, version), member.subscription, first & ~FOR_MQTT_5)

    def disconnected(self) -> None:
        """The client has gone: what it has goes back, but for what only it may have."""
        back = [each for each, loan in self.leases.items() if not self._is_kept(loan)]
        self._session.take_back([*back, *self._answered])
        for packet_id in back:
            loan = self.leases.pop(packet_id)
            loan.member.held -= 1
            self._queueing.returned(loan.member.queue, loan.delivery)
        for member in self._answered.values():
            member.held -= 1
        self._answered.clear()
        for member in (*self.members.values(), *self._retired):
            self._return_waiting(member)
            self._queueing.part(member.queue, member)
        self._retired.clear()

    def ended(self) -> None:
        """The session is over."""
        self.disconnected()
        self._session.take_back(list(self.leases))
        for member, delivery in self.leases.values():
            self._queueing.returned(member.queue, delivery)
        self.leases.clear()
        self.members.clear()

    def pump(self) -> None:
        """There may be room in the client's window: for what waits for it, and for more."""
        self._pump(())

    def on_pubacks(self, packet_ids: Iterable[int]) -> None:
        """The client has answered messages with success."""
        done: dict[Queue, list[Delivery]] = {}
        for packet_id in packet_ids:
            loan = self._answer(packet_id)
            if loan is not None:
                done.setdefault(loan.member.queue, []).append(loan.delivery)
        for queue, deliveries in done.items():
            self._queueing.acknowledged(queue, deliveries)
        self._pump(done)

    def on_answer(self, packet_id: int, reason: int, properties: Properties) -> None:
        """The client has answered one message: PUBACK or PUBREC."""
        if reason < REFUSED:
            self.on_pubacks((packet_id,))
            return
        loan = self._answer(packet_id)
        if loan is not None:
            kind = "dead" if reason == ReasonCode.PAYLOAD_FORMAT_INVALID else "nack"
            delay = seconds(dict(properties.get(Property.USER_PROPERTY, ())).get("delay"))
            why = str(properties.get(Property.REASON_STRING, ""))[:LONGEST_REASON]
            self._queueing.failed(loan.member.queue, loan.delivery, kind, delay, why)
        self.pump()

    # -- for the client's other ways to answer ----------------------------------------------------

    def find(self, queue: str, number: int) -> Delivery | None:
        """A message that this client has and has not answered."""
        for member, delivery in self.leases.values():
            if delivery.number == number and member.queue.name == queue:
                return delivery
        return None

    def answered(self, delivery: Delivery) -> None:
        """The answer is known: what the client will say of the packet is not."""
        for packet_id, loan in self.leases.items():
            if loan.delivery is delivery:
                del self.leases[packet_id]
                self._answered[packet_id] = loan.member
                return

    def leave(self, wanted: str) -> None:
        """The client unsubscribes: it gets no more, and may answer what it has [MQTT-3.10.4-3]."""
        member = self.members.pop(wanted)
        self._return_waiting(member)
        self._queueing.retire(member.queue, member)
        self._retired.append(member)

    def send_waiting(self, member: Member) -> None:
        """Send what was leased and waits for the client's window."""
        while member.waiting and self._send(member, member.waiting[0]):
            member.waiting.popleft()

    # -- helpers ----------------------------------------------------------------------------------

    def _pump(self, served: Container[Queue]) -> None:
        """As `pump`; the queues that are `served` know of the room already."""
        for member in self.members.values():
            self.send_waiting(member)
            if member.queue not in served:
                self._queueing.has_room_again(member.queue)

    def _note_version(self) -> None:
        carrier = self._session.carrier
        if carrier is not None:
            self.version_bit = FOR_MQTT_5 if carrier.version == MQTT_5 else 0

    def _is_kept(self, loan: Loan) -> bool:
        """Whether it stays with the session: exactly once is between the two."""
        return loan.delivery.lease_until is None and self._session.record is not None

    def _answer(self, packet_id: int) -> Loan | None:
        loan = self.leases.pop(packet_id, None)
        member = self._answered.pop(packet_id, None) if loan is None else loan.member
        if member is not None:
            member.held -= 1
        return loan

    def _send(self, member: Member, delivery: Delivery) -> bool:
        """False: there is no room in the client's window."""
        session, subscription = self._session, member.subscription
        carrier = session.carrier
        if carrier is None:
            return False
        publication = self._make(delivery, carrier.version)
        if not subscription.qos:
            sent = carrier.send_publication(publication, PUBLISH, 0, subscription.identifiers)
            if sent:
                self._queueing.acknowledged(member.queue, [delivery])
            else:
                self._queueing.failed(member.queue, delivery, "nack", None, TOO_LARGE)
            return True
        packet_id = session.lend(publication, subscription, PUBLISH | subscription.qos << 1)
        if packet_id < 0:
            self._queueing.failed(member.queue, delivery, "nack", None, TOO_LARGE)
        elif packet_id:
            self._note_loan(packet_id, Loan(member, delivery))
        return packet_id != 0

    def _note_loan(self, packet_id: int, loan: Loan) -> None:
        if loan.delivery.acquisitions > 1:
            earlier = self.find(loan.member.queue.name, loan.delivery.number)
            if earlier is not None:  # its lease has ended
                self.answered(earlier)
        loan.member.held += 1
        self.leases[packet_id] = loan

    def _return_waiting(self, member: Member) -> None:
        while member.waiting:
            self._queueing.returned(member.queue, member.waiting.popleft())


def seconds(text: str | None) -> float | None:
    """A number of seconds that somebody has written; None: it is none."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return min(value, LONGEST_DELAY) if value >= 0 else None
