"""The promises of a session, whatever happens to its connections: hypothesis drives one publisher
and one persistent subscriber over links that break at any moment, also with bytes on their way,
and answers that come late, in another order or as refusals.

What must hold (sections 4.3, 4.4, 4.6 and 4.9 of MQTT 5; 4.3, 4.4 and 4.6 of MQTT 3.1.1):

- QoS 2 arrives exactly once, QoS 1 at least once, QoS 0 at most once;
- first deliveries keep the publisher's order per topic and QoS;
- never more unanswered messages than the Receive Maximum of the present connection;
- packet identifiers of unanswered messages differ, and DUP says truly that this is a repetition.
"""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.packets.properties import Properties, Property
from broker.packets.types import Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.broker import MemoryBroker, MemoryClient

TOPICS = ("a", "b")
LONGEST_WAIT = 100_000  # seconds that the sessions outlive their connections


class Ledger:
    """What the subscriber has got, as an application that follows the standard would see it."""

    def __init__(self) -> None:
        self.copies: Counter[int] = Counter()  # message number -> times delivered
        self.order: dict[tuple[str, int], list[int]] = {}  # first deliveries
        self.refused: set[int] = set()
        self.held: set[int] = set()  # QoS 2 identifiers received and not released

    def deliver(self, publish: Publish) -> None:
        number = int(publish.payload)
        if publish.qos == 2:
            if publish.packet_id in self.held:
                return
            self.held.add(publish.packet_id)
        if not self.copies[number]:
            self.order.setdefault((publish.topic, publish.qos), []).append(number)
        self.copies[number] += 1


class SessionMachine(RuleBasedStateMachine):
    """One publisher, one subscriber, one broker."""

    subscriber_version = 5

    def __init__(self) -> None:
        super().__init__()
        self.broker = MemoryBroker(max_inflight=20, outbox_limit=60, receive_maximum=5)
        self.ledger = Ledger()
        self.published: dict[int, tuple[str, int]] = {}  # number -> (topic, QoS), as accepted
        self.qos_0: set[int] = set()
        self.unconfirmed: dict[int, Publish] = {}  # the publisher's, by packet id
        self.unreleased: list[int] = []  # the publisher's PUBRELs without PUBCOMP
        self.unanswered: dict[int, Publish] = {}  # on the subscriber's present connection
        self.released: set[int] = set()  # identifiers whose PUBREC was sent, on any connection
        self.let_go: set[int] = set()  # identifiers whose PUBREL came and whose PUBCOMP did not go
        self.seen: dict[int, int] = {}  # packet id -> number, PUBLISH seen on any connection
        self.completing: list[int] = []  # identifiers whose PUBCOMP is still to be sent
        self.newest_at_connect = 0
        self.window = 3
        self.subscriber: MemoryClient | None = None
        self.publisher: MemoryClient | None = None
        self.connect_subscriber(3)
        assert self.subscriber is not None
        self.subscriber.subscribe("#", qos=2)
        self.connect_publisher()

    # -- connections ------------------------------------------------------------------------------

    def _connect(self, client_id: str, version: int, properties: Properties) -> MemoryClient:
        if version == 5:
            properties = {**properties, Property.SESSION_EXPIRY_INTERVAL: LONGEST_WAIT}
        else:
            properties = {}
        return self.broker.connect(client_id, version, clean_start=False, properties=properties)

    @precondition(lambda self: self.subscriber is None)
    @rule(window=st.integers(1, 6))
    def connect_subscriber(self, window: int) -> None:
        self.window = window if self.subscriber_version == 5 else 20
        self.unanswered.clear()
        self.completing.clear()
        self.newest_at_connect = len(self.published) + len(self.qos_0)
        properties: Properties = {Property.RECEIVE_MAXIMUM: window}
        self.subscriber = self._connect("subscriber", self.subscriber_version, properties)
        self._look()

    @precondition(lambda self: self.subscriber is not None)
    @rule(window=st.integers(1, 6), end=st.sampled_from(["lose", "lose", "take over", "go on"]))
    def interrupt_subscriber(self, window: int, end: str) -> None:
        """Lose the subscriber for a while, or for a moment, or let its next connection be first."""
        if end == "take over":
            self.connect_subscriber(window)
        else:
            self.lose_subscriber()
        if end == "go on":
            self.connect_subscriber(window)

    def lose_subscriber(self) -> None:
        assert self.subscriber is not None
        self.subscriber.lose()  # what it did not read is gone with the outbox
        self.subscriber = None

    @precondition(lambda self: self.subscriber is not None)
    @rule()
    def stop_or_go_on_reading(self) -> None:
        assert self.subscriber is not None
        if self.subscriber.reading:
            self.subscriber.stop_reading()
        else:
            self.subscriber.resume_reading()
            self._look()

    def connect_publisher(self) -> None:
        """Come back and repeat what is unconfirmed, as section 4.4 asks of a client."""
        self.publisher = self._connect("publisher", 5, {})
        for packet_id in self.unreleased:
            self.publisher.send(Pubrel(packet_id))
        for publish in self.unconfirmed.values():
            publish.dup = True
            self.publisher.send(publish)
        self._listen()

    @rule()
    def interrupt_publisher(self) -> None:
        """Lose the publisher with the answers it has not read; it comes back at once."""
        assert self.publisher is not None
        self.publisher.lose()
        self.connect_publisher()

    # -- the publisher ----------------------------------------------------------------------------

    @rule(
        messages=st.lists(
            st.tuples(st.sampled_from(TOPICS), st.integers(0, 2)), min_size=1, max_size=6
        ),
        confirmed=st.booleans(),
    )
    def publish(self, messages: list[tuple[str, int]], confirmed: bool) -> None:
        """Publish several messages in one write; their answers are read now or later."""
        assert self.publisher is not None
        packets = [self._new(topic, qos) for topic, qos in messages]
        if packets:
            self.publisher.send(*packets)
        if confirmed:
            self._listen()
        self._look()

    def _new(self, topic: str, qos: int) -> Publish:
        in_use = len(self.unreleased) + sum(each.qos == 2 for each in self.unconfirmed.values())
        if qos == 2 and in_use >= 5:  # the broker's Receive Maximum
            qos = 1
        number = len(self.published) + len(self.qos_0)
        packet_id = 0
        if qos:
            packet_id = next(
                n
                for n in range(1, 65_536)
                if n not in self.unconfirmed and n not in self.unreleased
            )
        publish = Publish(topic, b"%d" % number, qos, packet_id=packet_id)
        if qos:
            self.published[number] = (topic, qos)
            self.unconfirmed[packet_id] = publish
        else:
            self.qos_0.add(number)
        return publish

    @rule()
    def confirm(self) -> None:
        self._listen()

    def _listen(self) -> None:
        """Let the publisher read its answers and go on with its handshakes."""
        assert self.publisher is not None
        while self.publisher.received:
            packet = self.publisher.received.pop(0)
            if isinstance(packet, Puback):
                del self.unconfirmed[packet.packet_id]
            elif isinstance(packet, Pubrec):
                if self.unconfirmed.pop(packet.packet_id, None) is not None:
                    self.unreleased.append(packet.packet_id)
                self.publisher.send(Pubrel(packet.packet_id))
            elif isinstance(packet, Pubcomp) and packet.packet_id in self.unreleased:
                self.unreleased.remove(packet.packet_id)
        self._look()

    # -- the subscriber ---------------------------------------------------------------------------

    @precondition(lambda self: self._answerable() and self.subscriber is not None)
    @rule(data=st.data(), refused=st.sampled_from([False] * 4 + [True]))
    def answer(self, data: st.DataObject, refused: bool) -> None:
        """Answer some of the messages, in any order, in one write."""
        some = data.draw(st.lists(st.sampled_from(self._answerable()), unique=True))
        refused = refused and self.subscriber_version == 5
        answers = [self._answer(packet_id, refused) for packet_id in some]
        assert self.subscriber is not None
        if answers:
            self.subscriber.send(*answers)
        self._look()

    @precondition(lambda self: self.subscriber is not None)
    @rule()
    def answer_all(self) -> None:
        """Answer everything that has come, in order, each in its own write."""
        assert self.subscriber is not None
        for packet_id in self._answerable():
            self.subscriber.send(self._answer(packet_id, refused=False))
        self._look()
        for packet_id in self.completing[:]:
            self._complete([packet_id])

    def _answerable(self) -> list[int]:
        return sorted(set(self.unanswered) - set(self.completing))

    def _answer(self, packet_id: int, refused: bool) -> Puback | Pubrec | Pubcomp:
        publish = self.unanswered[packet_id]
        if packet_id in self.released:
            return Pubrec(packet_id)  # said twice
        if refused:
            self.ledger.refused.add(int(publish.payload))
        if publish.qos == 1 or refused:
            del self.unanswered[packet_id]
            self.seen.pop(packet_id, None)
        if publish.qos == 1:
            return Puback(packet_id, 0x80 * refused)
        if refused:
            self.ledger.held.discard(packet_id)
        else:
            self.released.add(packet_id)
        return Pubrec(packet_id, 0x80 * refused)

    def _look(self) -> None:
        """Let the subscriber read what has come."""
        client = self.subscriber
        while client is not None and client.received:
            packet = client.received.pop(0)
            if isinstance(packet, Publish):
                self._got(packet)
            elif isinstance(packet, Pubrel):
                self._let_go(packet.packet_id)

    def _got(self, publish: Publish) -> None:
        number = int(publish.payload)
        if not publish.qos:
            assert not publish.dup
            self.ledger.deliver(publish)
            return
        packet_id = publish.packet_id
        assert packet_id not in self.unanswered, "sent twice on one connection, or not unique"
        assert packet_id not in self.released, "published again after its PUBREL"
        if publish.dup:
            assert number < self.newest_at_connect, "DUP on a message that is new"
        if packet_id in self.seen:
            assert self.seen[packet_id] == number, "the identifier of an unanswered message"
            assert publish.dup, "a repetition without DUP"
        self.seen[packet_id] = number
        self.unanswered[packet_id] = publish
        self.ledger.deliver(publish)

    def _let_go(self, packet_id: int) -> None:
        assert packet_id in self.released | self.let_go, "a PUBREL that nobody asked for"
        self.let_go.add(packet_id)
        self.released.discard(packet_id)
        self.ledger.held.discard(packet_id)
        if packet_id not in self.completing:
            self.completing.append(packet_id)

    @precondition(lambda self: self.completing and self.subscriber is not None)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """Send some of the PUBCOMPs that are due, in any order, in one write."""
        some = data.draw(st.lists(st.sampled_from(self.completing), unique=True, min_size=1))
        self._complete(some)

    def _complete(self, packet_ids: list[int]) -> None:
        for packet_id in packet_ids:
            self.completing.remove(packet_id)
            self.let_go.discard(packet_id)
            self.unanswered.pop(packet_id, None)
            self.seen.pop(packet_id, None)
        assert self.subscriber is not None
        self.subscriber.send(*(Pubcomp(packet_id) for packet_id in packet_ids))
        self._look()

    # -- what always holds ------------------------------------------------------------------------

    @invariant()
    def never_more_unanswered_than_the_receive_maximum(self) -> None:
        assert len(self.unanswered) <= self.window

    @invariant()
    def qos_2_and_qos_0_at_most_once(self) -> None:
        for number, copies in self.ledger.copies.items():
            if number in self.qos_0 or self.published[number][1] == 2:
                assert copies == 1

    @invariant()
    def first_deliveries_in_order(self) -> None:
        for numbers in self.ledger.order.values():
            assert all(earlier < later for earlier, later in pairwise(numbers))

    @invariant()
    def nobody_was_thrown_out(self) -> None:
        for client in (self.subscriber, self.publisher):
            assert client is None or not client.is_closed

    def teardown(self) -> None:
        """Let everything come to rest: then nothing is missing."""
        self._listen()
        if self.subscriber is not None:
            self.lose_subscriber()
        self.connect_subscriber(5)
        assert self.subscriber is not None
        while self.unanswered or self.completing:
            for packet_id in self._answerable():
                self.subscriber.send(self._answer(packet_id, refused=False))
            self._look()
            if self.completing:
                self._complete(self.completing[:1])
        assert not self.unconfirmed
        assert not self.released | self.let_go, "a handshake that came to no end"
        missing = set(self.published) - set(self.ledger.copies)
        assert not missing, "lost on the way"
        assert "backlog_full" not in self.broker.engine.traffic.lost
        for topic, qos in self.ledger.order:
            if qos:
                expected = [n for n, kind in self.published.items() if kind == (topic, qos)]
                assert self.ledger.order[topic, qos] == expected


class SessionMachine311(SessionMachine):
    """The same for a subscriber of MQTT 3.1.1, which knows neither Receive Maximum nor refusals."""

    subscriber_version = 4


SETTINGS = settings(max_examples=100, stateful_step_count=50, deadline=None)

TestSessionOverBrokenLinks = pytest.mark.spec(
    "5.0:MQTT-4.3.2-3",
    "5.0:MQTT-4.3.3-3",
    "5.0:MQTT-4.3.3-5",
    "5.0:MQTT-4.3.3-6",
    "5.0:MQTT-4.3.3-10",
    "5.0:MQTT-4.4.0-1",
    "5.0:MQTT-4.4.0-2",
    "5.0:MQTT-4.6.0-5",
    "5.0:MQTT-4.6.0-6",
    "5.0:MQTT-4.9.0-2",
)(SessionMachine.TestCase)
TestSessionOverBrokenLinks.settings = SETTINGS

TestSessionOverBrokenLinks311 = pytest.mark.spec(
    "3.1.1:MQTT-4.3.2-1", "3.1.1:MQTT-4.3.3-1", "3.1.1:MQTT-4.4.0-1", "3.1.1:MQTT-4.6.0-6"
)(SessionMachine311.TestCase)
TestSessionOverBrokenLinks311.settings = SETTINGS
