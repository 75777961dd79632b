"""Runs are a short cut and nothing else: without them every client gets the same bytes, and the
broker holds the same.
"""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.packets.encode import encode
from broker.packets.properties import Property
from broker.packets.reader import Reader
from broker.packets.types import (
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    SubscriptionRequest,
    Unsubscribe,
)
from tests.support.broker import MemoryBroker, MemoryClient

TOPICS = ("a", "a/b", "c", "ü/" + "x" * 140)
IDS = st.integers(1, 4)

publishes = st.builds(
    lambda topic, payload, qos, packet_id, retain: Publish(
        topic, payload, qos, retain, packet_id=packet_id if qos else 0
    ),
    st.sampled_from(TOPICS),
    st.sampled_from((b"", b"x", b"y" * 200)),
    st.integers(0, 2),
    IDS,
    st.sampled_from((False, False, False, True)),
)
answers = st.builds(
    lambda kind, packet_id: kind(packet_id), st.sampled_from((Puback, Pubrec, Pubcomp)), IDS
)
others = st.one_of(
    st.builds(Pubrel, IDS),
    st.just(Pingreq()),
    st.builds(lambda topic: Subscribe(9, [SubscriptionRequest(topic, 1)]), st.sampled_from(TOPICS)),
    st.builds(lambda topic: Unsubscribe(9, [topic]), st.sampled_from(TOPICS)),
)
packets = st.one_of(publishes, publishes, publishes, answers, others)
ODD = (  # what a hostile client puts between
    b"\x32\x06\x00\x01a\x00\x00x",  # PUBLISH with packet identifier 0
    b"\x34\x06\x00\x01a\x00\x00x",
    b"\x40\x02\x00\x00",  # PUBACK of packet identifier 0
    b"\x30\x05\x00\x09a/b",  # a topic that reaches beyond its packet
    b"\x30\x02\x00\x00",
    b"\x36\x03\x00\x01a",
)
pieces = st.one_of(packets, packets, packets, st.sampled_from(ODD))
reads = st.lists(st.lists(pieces, min_size=1, max_size=12), max_size=8)


class World:
    """A broker with a client that talks and two that listen, one of each version."""

    def __init__(self, version: int, has_runs: bool, receive_maximum: int = 3) -> None:
        self.broker = MemoryBroker(max_inflight=2, receive_maximum=receive_maximum)
        if not has_runs:
            self.broker.engine.runs = {}
        properties = {Property.SESSION_EXPIRY_INTERVAL: 100} if version == 5 else {}
        self.talker = self.broker.connect(
            "talker", version, clean_start=False, properties=properties
        )
        self.listeners = [self.broker.connect(f"listener {n}", n) for n in (4, 5)]
        for listener in self.listeners:
            listener.subscribe("#", qos=2)
        for topic in TOPICS:
            self.talker.publish(topic, b"known from now on")
        self.talker.subscribe("c", qos=1)

    def read(self, pieces: Sequence[Packet | bytes]) -> None:
        data = b"".join(
            each if isinstance(each, bytes) else encode(each, self.talker.version)
            for each in pieces
        )
        if not self.talker.is_closed:
            self.talker.send_raw(data)

    def seen(self) -> list[object]:
        clients = [self.talker, *self.listeners]
        sessions = sorted(self.broker.engine.sessions, key=lambda each: each.client_id)
        traffic = self.broker.engine.traffic
        return [
            *[by_kind(each) for each in clients],
            [each.is_closed for each in clients],
            [(each.in_flight, each.waiting, each.unreleased) for each in sessions],
            [getattr(traffic, name) for name in traffic.__slots__],
            len(self.broker.engine.retention),
        ]


def by_kind(client: MemoryClient) -> dict[str, list[Packet]]:
    """What a client got, in order for each type of packet: acknowledgements of a run leave
    together, after what the run sent to the client itself.
    """
    kinds: dict[str, list[Packet]] = {}
    for packet in client.received:
        kinds.setdefault(type(packet).__name__, []).append(packet)
    return kinds


@pytest.mark.parametrize("version", [4, 5])
@given(reads=reads)
@settings(max_examples=60, deadline=None)
def test_any_stream_has_the_same_outcome_without_runs(
    version: int, reads: list[list[Packet | bytes]]
) -> None:
    short_cut, long_way = World(version, has_runs=True), World(version, has_runs=False)
    for pieces in reads:
        short_cut.read(pieces)
        long_way.read(pieces)
    assert short_cut.seen() == long_way.seen()
    assert [each.raw for each in short_cut.listeners] == [each.raw for each in long_way.listeners]


def test_acknowledgements_before_a_bad_one_count() -> None:
    for has_runs in (True, False):
        world = World(5, has_runs)
        for _ in range(2):
            world.listeners[0].publish("c", b"x", qos=1)
        talker = next(each for each in world.broker.engine.sessions if each.client_id == "talker")
        assert talker.in_flight == 2
        world.read([Puback(1), b"\x40\x02\x00\x00"])
        assert world.talker.is_closed
        assert talker.in_flight == 1


def test_a_qos_2_message_beyond_the_quota_costs_none_of_those_before_it() -> None:
    for has_runs in (True, False):
        world = World(5, has_runs, receive_maximum=2)
        world.read([Publish("c", b"%d" % n, 2, packet_id=n) for n in (1, 2, 3)])
        assert world.talker.is_closed
        came = [each.payload for each in world.listeners[0].received if isinstance(each, Publish)]
        assert came[-2:] == [b"1", b"2"]
        talker = next(each for each in world.broker.engine.sessions if each.client_id == "talker")
        assert talker.unreleased == 2


def test_a_read_of_many_short_runs_copies_no_more_than_it_must() -> None:
    class Counting(list):  # type: ignore[type-arg]  # what a read brought
        copied = 0

        def __getitem__(self, at):  # type: ignore[no-untyped-def]
            found = super().__getitem__(at)
            if isinstance(at, slice):
                Counting.copied += len(found)
            return found

    world = World(4, has_runs=True)
    connection = world.talker.connection
    packets = [Publish(TOPICS[n % 2], b"x") for n in range(1000)]
    data = b"".join(encode(each, 4) for each in packets)
    data, found = Reader().cut(data)
    cuts = Counting(found)
    at = 0
    while at < len(cuts):
        first = cuts[at][0]
        at = connection.runs[first](connection, data, cuts, at)
    assert Counting.copied < 100 * len(cuts)
