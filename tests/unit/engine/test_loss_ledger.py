"""Every copy of a message that somebody was to get is delivered, in flight, waiting or counted as
lost with a reason: always, whatever the clients do and however their connections end.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.packets.properties import Properties, Property
from broker.packets.types import Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.broker import MemoryBroker, MemoryClient

NAMES = ("one", "two", "three")
SHARED = "$share/group/t"
MEMBERS = ("two", "three")  # of the group
LARGE, SMALL = bytes(150), b"x"
REASONS = {  # every way in which a copy can be lost here
    "backlog_full",
    "expired",
    "offline_qos_0",
    "session_ended",
    "slow_reader_qos_0",
    "too_large_for_client",
    "unsent_qos_0",
}

who = st.sampled_from(NAMES)
actions = st.one_of(
    *[
        st.tuples(
            st.just("publish"),
            st.integers(0, 2),
            st.sampled_from((SMALL, LARGE)),
            st.sampled_from((None, None, 0, 5)),
            st.integers(1, 4),
        )
    ]
    * 3,
    st.tuples(st.just("connect"), who, st.booleans(), st.sampled_from((0, 20)), st.booleans()),
    st.tuples(st.just("answer"), who, st.integers(1, 5)),
    st.tuples(st.just("stop_reading"), who),
    st.tuples(st.just("resume_reading"), who),
    st.tuples(st.just("lose"), who),
    st.tuples(st.just("pass_time"), st.sampled_from((1, 10, 30))),
)


class World:
    """A broker with narrow bounds, a publisher, and subscribers of which two share a filter."""

    def __init__(self) -> None:
        self.broker = MemoryBroker(
            outbox_limit=300, backlog_messages=5, max_inflight=3, stall_timeout=60
        )
        self.publisher = self.broker.connect("publisher")
        self.clients: dict[str, MemoryClient] = {}
        self.unanswered: dict[str, list[Publish]] = {name: [] for name in NAMES}
        self.owed = 0  # copies that somebody was to get
        self.delivered = 0  # copies that a client has got (QoS 0) or owns (QoS 1 and 2)
        for name in NAMES:
            self.connect(name, True, 20, False)

    # -- actions ----------------------------------------------------------------------------------

    def publish(self, qos: int, payload: bytes, expiry: int | None, times: int) -> None:
        properties: Properties = {}
        if expiry is not None:
            properties[Property.MESSAGE_EXPIRY_INTERVAL] = expiry
        held = [each.subscriptions or {} for each in self.broker.engine.sessions]
        receivers = sum("t" in each for each in held) + any(SHARED in each for each in held)
        self.owed += receivers * times
        first_id = self.publisher.next_id()
        self.publisher._packet_id += times
        packets = [
            Publish("t", payload, qos, packet_id=qos and first_id + n, properties=dict(properties))
            for n in range(times)
        ]
        self.publisher.send(*packets)
        for each in self.publisher.take_all(Puback if qos == 1 else Pubrec) if qos else ():
            if isinstance(each, Pubrec):
                self.publisher.send(Pubrel(each.packet_id))
        self.publisher.received.clear()

    def connect(self, name: str, clean_start: bool, expiry: int, is_small: bool) -> None:
        properties: Properties = {Property.SESSION_EXPIRY_INTERVAL: expiry}
        if is_small:
            properties[Property.MAXIMUM_PACKET_SIZE] = 100
        client = self.broker.connect(name, clean_start=clean_start, properties=properties)
        self.look()  # a connection that was taken over brings what was on its way
        self.unanswered[name] = []
        self.clients[name] = client
        early, client.received = client.received, []
        client.subscribe(SHARED if name in MEMBERS else "t", qos=2)
        client.received[:0] = early

    def answer(self, name: str, count: int) -> None:
        client = self.clients[name]
        some, self.unanswered[name] = self.unanswered[name][:count], self.unanswered[name][count:]
        if not client.is_closed:
            for each in some:
                self.delivered += 1
                client.send((Puback if each.qos == 1 else Pubrec)(each.packet_id))

    def stop_reading(self, name: str) -> None:
        if not self.clients[name].is_closed:
            self.clients[name].stop_reading()

    def resume_reading(self, name: str) -> None:
        if not self.clients[name].is_closed:
            self.clients[name].resume_reading()

    def lose(self, name: str) -> None:
        client = self.clients[name]
        if not client.is_closed:
            client.lose()

    def pass_time(self, seconds: int) -> None:
        self.broker.pass_time(seconds)

    # -- the sum ----------------------------------------------------------------------------------

    def look(self) -> None:
        """Let every client see what has come to it."""
        for name, client in self.clients.items():
            received, client.received = client.received, []
            for packet in received:
                if isinstance(packet, Publish) and packet.qos:
                    self.unanswered[name].append(packet)
                elif isinstance(packet, Publish):
                    self.delivered += 1
                elif isinstance(packet, Pubrel) and not client.is_closed:
                    client.send(Pubcomp(packet.packet_id))

    def check(self) -> None:
        self.look()
        in_flight = waiting = 0
        for session in self.broker.engine.sessions:
            waiting += session.waiting
            if session._inflight is not None:
                in_flight += len(session._inflight.published)
        lost = self.broker.engine.traffic.lost
        leaving = sum(
            frame[0] & 0xF6 == 0x30
            for client in self.clients.values()
            for frame in client.connection._outbox
        )
        found = (self.delivered, leaving, in_flight, waiting, dict(lost))
        assert self.owed == self.delivered + leaving + in_flight + waiting + sum(lost.values()), (
            found
        )
        assert set(lost) <= REASONS


@given(st.lists(actions, max_size=40))
@settings(max_examples=300, deadline=None)
def test_published_is_delivered_in_flight_waiting_or_lost_with_a_reason(
    script: list[tuple[str, ...]],
) -> None:
    world = World()
    for name, *arguments in script:
        getattr(world, name)(*arguments)
        world.check()


@given(st.lists(actions, max_size=40))
@settings(max_examples=150, deadline=None)
def test_no_flag_stays_up_once_everybody_reads_and_answers(script: list[tuple[str, ...]]) -> None:
    world = World()
    for name, *arguments in script:
        getattr(world, name)(*arguments)
    for name in NAMES:
        world.resume_reading(name)
    for name in NAMES:
        client = world.clients[name]
        if client.is_closed:
            continue
        world.look()
        while world.unanswered[name] or client.received:
            world.answer(name, 2)
            world.look()
        connection, session = client.connection, client.connection.session
        assert session is not None
        assert not any((connection.blocked, connection.paused, connection._deaf_to))
        assert connection._outbox_size == 0
        assert not any((session.queueing, session.holding, session._pumping))
        assert (session.waiting, session.in_flight) == (0, 0)
        assert session.readiness() == 2
