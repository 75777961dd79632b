"""The promise of the store, whatever happens: hypothesis drives a publisher and several
subscribers, the store commits when it likes, links break, and now and then the broker and its store
end without warning and are started again.

- What was acknowledged, and addressed to a session that stands, arrives: QoS 2 exactly once, QoS 1
  at least once; of a shared subscription at one of its members.
- First deliveries keep the order of their topic and QoS.
- A session whose SUBACK has been seen, and a QoS 2 exchange that was acknowledged, stand.
- When all is delivered and acknowledged, the store holds nothing more of it.
"""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker.engine import questions
from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Connack,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
)
from tests.support.broker import MemoryBroker, MemoryClient
from tests.support.store import MemoryStore

FILTERS = {  # who subscribes to what, at which QoS
    "all": ("t/#", 2),
    "old": ("t/1", 1),  # with MQTT 3.1.1
    "one": ("$share/group/t/+", 2),
    "two": ("$share/group/t/+", 2),
    "brief": ("t/#", 2),  # whose session ends with its connection
}
NAMES = tuple(FILTERS)
MEMBERS = ("one", "two")
DURABLE = ("all", "old", "one", "two")
TOPICS = ("t/1", "t/2")
QUOTA = 6  # the broker's Receive Maximum
names = st.sampled_from(NAMES)


class Peer:
    """A client as an application that follows the standard: it outlives the broker's end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = 4 if name == "old" else 5
        self.link: MemoryClient | None = None
        self.subscribed = False  # as far as it knows
        self.subscribing = 0  # the packet id of a SUBSCRIBE whose SUBACK is awaited
        self.expected: set[int] = set()  # numbers of messages that it must get in the end
        self.copies: Counter[int] = Counter()
        self.order: dict[tuple[str, int], list[int]] = {}
        self.held: set[int] = set()  # QoS 2 packet ids that were not released
        self.answers: list[Packet] = []  # still to be sent

    def look(self) -> None:
        """See what has come."""
        while self.link is not None and self.link.received:
            packet = self.link.received.pop(0)
            if isinstance(packet, Publish):
                self._got(packet)
            elif isinstance(packet, Pubrel):
                self.held.discard(packet.packet_id)
                self.answers.append(Pubcomp(packet.packet_id))
            elif isinstance(packet, Suback) and packet.packet_id == self.subscribing:
                self.subscribed = True

    def _got(self, publish: Publish) -> None:
        if publish.qos:
            kind = Puback if publish.qos == 1 else Pubrec
            self.answers.append(kind(publish.packet_id))
        if publish.qos == 2:
            if publish.packet_id in self.held:
                return
            self.held.add(publish.packet_id)
        number = int(publish.payload)
        self.expected.discard(number)
        if publish.retain:  # another delivery, for a new subscription
            return
        if not self.copies[number]:
            self.order.setdefault((publish.topic, publish.qos), []).append(number)
        self.copies[number] += 1

    def answer(self, count: int) -> None:
        """Send some of the answers that are due."""
        some, self.answers = self.answers[:count], self.answers[count:]
        if some and self.link is not None:
            self.link.send(*some)
            self.look()

    def part(self) -> None:
        """The connection is gone, and what was to be answered on it."""
        self.link = None
        self.subscribing = 0
        self.answers.clear()

    def begin_anew(self) -> None:
        """The session is gone."""
        self.subscribed = False
        self.held.clear()
        self.expected.clear()


class DurableMachine(RuleBasedStateMachine):
    """A broker over a store that is crashed, and its clients, who are not."""

    def __init__(self) -> None:
        super().__init__()
        self._page, questions.PAGE = questions.PAGE, 3
        self.broker = MemoryBroker(
            store=MemoryStore(), max_inflight=4, backlog_window=3, receive_maximum=QUOTA
        )
        self.peers = {name: Peer(name) for name in NAMES}
        self.published: dict[int, Publish] = {}
        self.group: set[int] = set()  # what one of the members must get
        self.retained: dict[str, int] = {}  # topic -> number of the last one confirmed
        self.publisher: MemoryClient | None = None
        self.unconfirmed: dict[int, Publish] = {}
        self.unreleased: list[int] = []
        self.is_known = False  # the publisher's session must not be forgotten
        self.connect_publisher()

    # -- the publisher ----------------------------------------------------------------------------

    def connect_publisher(self) -> None:
        """Come back and repeat what is unconfirmed."""
        properties: Properties = {Property.SESSION_EXPIRY_INTERVAL: 100_000}
        self.publisher, present = self._connect("publisher", 5, False, properties)
        if not present:
            assert not self.is_known, "the session of a publisher is lost"
            for packet in self.unconfirmed.values():
                self._give_up(int(packet.payload))
            self.unconfirmed.clear()
        for packet_id in self.unreleased:
            self.publisher.send(Pubrel(packet_id))
        for publish in self.unconfirmed.values():
            publish.dup = True
            self.publisher.send(publish)
        self.listen()

    @rule(
        messages=st.lists(
            st.tuples(
                st.sampled_from(TOPICS),
                st.sampled_from((0, 1, 1, 2, 2)),
                st.sampled_from((False, False, False, True)),
            ),
            min_size=1,
            max_size=5,
        )
    )
    def publish(self, messages: list[tuple[str, int, bool]]) -> None:
        """Publish several messages in one write; their answers are read later."""
        assert self.publisher is not None
        self._look()
        self.publisher.send(*[self._new(*each) for each in messages])
        self._look()

    def _new(self, topic: str, qos: int, retain: bool) -> Publish:
        busy = {*self.unconfirmed, *self.unreleased}
        if qos == 2 and len(busy) >= QUOTA:
            qos = 1
        number = len(self.published)
        packet_id = next(n for n in range(1, 1000) if n not in busy) if qos else 0
        publish = Publish(topic, b"%d" % number, qos, retain, packet_id=packet_id)
        self.published[number] = publish
        if qos:
            self.unconfirmed[packet_id] = publish
            self._expect(number, topic)
        return publish

    def _expect(self, number: int, topic: str) -> None:
        for name in ("all", "old"):
            if self.peers[name].subscribed and (name == "all" or topic == "t/1"):
                self.peers[name].expected.add(number)
        if any(self.peers[name].subscribed for name in MEMBERS):
            self.group.add(number)

    def _give_up(self, number: int) -> None:
        """Nobody was promised this one."""
        self.group.discard(number)
        for peer in self.peers.values():
            peer.expected.discard(number)

    @rule()
    def listen(self) -> None:
        """Let the publisher read its answers and go on with its handshakes."""
        assert self.publisher is not None
        while self.publisher.received:
            packet = self.publisher.received.pop(0)
            if isinstance(packet, Puback | Pubrec):
                self._confirm(self.unconfirmed.pop(packet.packet_id, None))
            if isinstance(packet, Pubrec):
                self.is_known = True
                if packet.packet_id not in self.unreleased:
                    self.unreleased.append(packet.packet_id)
                self.publisher.send(Pubrel(packet.packet_id))
            elif isinstance(packet, Pubcomp) and packet.packet_id in self.unreleased:
                self.unreleased.remove(packet.packet_id)

    def _confirm(self, publish: Publish | None) -> None:
        if publish is None:
            return
        if publish.retain:
            self.retained[publish.topic] = int(publish.payload)

    @rule()
    def interrupt_publisher(self) -> None:
        assert self.publisher is not None
        self.publisher.lose()
        self.connect_publisher()

    # -- subscribers ------------------------------------------------------------------------------

    @rule(name=names, clean_start=st.sampled_from((False, False, False, True)))
    def connect(self, name: str, clean_start: bool) -> None:
        """Connect, perhaps over an older connection, and subscribe if that is in doubt."""
        peer = self.peers[name]
        peer.look()
        clean_start = clean_start or name == "brief"
        was_subscribed = peer.subscribed
        if clean_start:
            self._session_ends(peer)
        peer.part()
        if name == "old" and clean_start:  # MQTT 3.1.1 cannot end a session and begin a lasting one
            self._connect(name, 4, True, {})[0].disconnect()
            clean_start = was_subscribed = False
        properties: Properties = {}
        if name in DURABLE and peer.version == 5:
            properties = {Property.SESSION_EXPIRY_INTERVAL: 100_000}
        peer.link, present = self._connect(name, peer.version, clean_start, properties)
        if not present and not clean_start:
            assert not was_subscribed, "a session is lost"
            self._session_ends(peer)
        peer.look()
        if not peer.subscribed:
            self.subscribe(name)

    @precondition(lambda self: any(peer.link for peer in self.peers.values()))
    @rule(name=names)
    def subscribe(self, name: str) -> None:
        peer = self.peers[name]
        if peer.link is not None:
            peer.subscribing = peer.link.next_id()
            request = SubscriptionRequest(*FILTERS[name])
            peer.link.send(Subscribe(peer.subscribing, [request]))
            self._look()

    @rule(name=names)
    def unsubscribe(self, name: str) -> None:
        """Take the subscription back; what was acknowledged before still comes."""
        peer = self.peers[name]
        if peer.link is None:
            return
        self.listen()
        unsure = {int(each.payload) for each in self.unconfirmed.values()}
        peer.look()
        peer.subscribed = False
        peer.subscribing = 0
        peer.expected -= unsure
        if name in MEMBERS:
            self.group -= unsure
        peer.link.send(Unsubscribe(peer.link.next_id(), [FILTERS[name][0]]))
        self._look()

    def _session_ends(self, peer: Peer) -> None:
        peer.begin_anew()
        if peer.name not in MEMBERS:
            return
        if not any(self.peers[name].subscribed for name in MEMBERS):
            self.group.clear()
        else:  # what is in flight at QoS 2 goes to nobody else
            self.group = {number for number in self.group if self.published[number].qos == 1}

    @rule(name=names, politely=st.booleans())
    def part(self, name: str, politely: bool) -> None:
        peer = self.peers[name]
        if peer.link is None:
            return
        peer.look()
        if politely:
            peer.link.disconnect()
        else:
            peer.link.lose()
        peer.part()
        if name == "brief":
            peer.begin_anew()

    @rule(name=names, count=st.integers(1, 6))
    def answer(self, name: str, count: int) -> None:
        self.peers[name].look()
        self.peers[name].answer(count)

    # -- the store --------------------------------------------------------------------------------

    @rule(count=st.integers(1, 3))
    def commit_some(self, count: int) -> None:
        assert self.broker.store is not None
        for _ in range(count):
            self.broker.store.commit_next()
            self.broker.flush()
        self._look()

    @rule()
    def commit(self) -> None:
        self.broker.commit()
        self._look()

    @rule(seconds=st.sampled_from((0.3, 2.0)))
    def pass_time(self, seconds: float) -> None:
        self.broker.pass_time(seconds)
        self._look()

    @rule(is_flushed=st.booleans())
    def crash(self, is_flushed: bool) -> None:
        """The end of broker and store; what had left the broker may be read, or not."""
        if is_flushed:
            self.listen()
            self._look()
        for peer in self.peers.values():
            peer.part()
        self.peers["brief"].begin_anew()
        self.broker = self.broker.crash(away=1.0)
        self.connect_publisher()

    # -- helpers ----------------------------------------------------------------------------------

    def _connect(
        self, name: str, version: int, clean_start: bool, properties: Properties
    ) -> tuple[MemoryClient, bool]:
        link = self.broker.client(version)
        connack = link.connect(name, clean_start=clean_start, properties=properties)
        if connack is None:  # what was in flight is read first
            self.broker.commit()
            connack = link.take(Connack)
        assert connack.reason == 0
        return link, connack.session_present

    def _look(self) -> None:
        for peer in self.peers.values():
            peer.look()
        for name in MEMBERS:
            self.group -= set(self.peers[name].copies)

    # -- what always holds ------------------------------------------------------------------------

    @invariant()
    def qos_2_at_most_once(self) -> None:
        for publish in self.published.values():
            if publish.qos == 2:
                number = int(publish.payload)
                assert self.peers["all"].copies[number] <= 1
                assert sum(self.peers[name].copies[number] for name in MEMBERS) <= 1

    @invariant()
    def first_deliveries_in_order(self) -> None:
        for name in ("all", "old"):
            for (_, qos), order in self.peers[name].order.items():
                # a repetition at QoS 1 is news to one who was not subscribed the first time
                numbers = [n for n in order if qos == 2 or not self.published[n].dup]
                assert all(earlier < later for earlier, later in pairwise(numbers)), numbers

    @invariant()
    def nobody_was_thrown_out(self) -> None:
        assert not any(peer.link.is_closed for peer in self.peers.values() if peer.link)
        assert self.publisher is not None
        assert not self.publisher.is_closed

    def teardown(self) -> None:
        """Let everything come to rest: then nothing is missing, and nothing is left."""
        try:
            self._come_to_rest()
        finally:
            questions.PAGE = self._page

    def _come_to_rest(self) -> None:
        for name in NAMES:
            self.connect(name, clean_start=False)
        for _ in range(3):
            self._drain()
            self.broker.pass_time(2.0)
        for name in DURABLE:
            assert not self.peers[name].expected, f"{name} lacks what was acknowledged"
        assert not self.group, "the group lacks what was acknowledged"
        store = self.broker.store
        assert store is not None
        for name in ("message", "inflight", "received"):
            assert not store.tables[name], f"left in the store: {name}"
        for topic, number in self.retained.items():
            found = int(store.tables["retained"][topic][1])
            assert found >= number or self.published[found].dup

    def _drain(self) -> None:
        busy = True
        while busy:
            self.broker.commit()
            self.listen()
            self._look()
            for peer in self.peers.values():
                peer.answer(100)
            store = self.broker.store
            assert store is not None
            busy = bool(store.waiting) or any(peer.answers for peer in self.peers.values())
            busy = busy or bool(self.unconfirmed or self.unreleased)


TestNothingAcknowledgedIsLost = pytest.mark.spec("5.0:MQTT-4.4.0-1", "5.0:MQTT-4.3.3-10")(
    DurableMachine.TestCase
)
TestNothingAcknowledgedIsLost.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None
)
