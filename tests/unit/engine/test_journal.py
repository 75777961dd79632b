"""The gate: what is promised is committed first, nothing else waits, and levels say what is
promised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from broker.engine.durability import Level, Levels
from broker.packets.codes import ReasonCode
from broker.packets.properties import Property
from broker.packets.types import (
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from tests.support.broker import MemoryBroker, MemoryClient
from tests.support.store import MemoryStore

if TYPE_CHECKING:
    from broker.engine.journal import Journal
    from broker.packets.types import Packet

LASTING = {Property.SESSION_EXPIRY_INTERVAL: 100_000}


class Stored:
    """A broker whose store commits on demand, a durable subscriber of t/# and a publisher."""

    def __init__(self, is_durable: bool = True, version: int = 5, **fields: Any) -> None:
        self.store = MemoryStore()
        self.broker = MemoryBroker(store=self.store, **fields)
        properties = dict(LASTING) if is_durable else {}
        self.subscriber = self.broker.connect("subscriber", properties=properties)
        request = SubscriptionRequest("t/#", 2)
        self.subscriber.send(Subscribe(self.subscriber.next_id(), [request]))
        self.publisher = self.broker.connect("publisher", version)
        self.broker.commit()
        self.subscriber.received.clear()

    @property
    def journal(self) -> Journal:
        journal = self.broker.engine.journal
        assert journal is not None
        return journal


def waits(stored: Stored, client: MemoryClient) -> list[Packet]:
    """What comes only with the next commit."""
    assert not client.received, "it came before the commit"
    stored.store.commit_next()
    stored.broker.flush()
    received, client.received = client.received, []
    return received


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(("qos", "answer"), [(1, Puback), (2, Pubrec)])
def test_an_acknowledgement_waits_for_the_commit_of_its_message(
    version: int, qos: int, answer: type[Puback | Pubrec]
) -> None:
    stored = Stored(version=version)
    packet_id = stored.publisher.publish("t", b"x", qos)
    assert waits(stored, stored.publisher) == [answer(packet_id)]


def test_what_comes_while_a_commit_runs_goes_with_the_next_one_in_order() -> None:
    stored = Stored()
    ids = [stored.publisher.publish("t", b"x", qos=1) for _ in range(5)]
    assert waits(stored, stored.publisher) == [Puback(ids[0])]
    assert waits(stored, stored.publisher) == [Puback(each) for each in ids[1:]]


def test_subscribe_and_unsubscribe_of_a_durable_session_wait() -> None:
    stored = Stored()
    stored.subscriber.send(Subscribe(1, [SubscriptionRequest("other", 1)]))
    assert waits(stored, stored.subscriber) == [Suback(1, [1])]
    stored.subscriber.send(Unsubscribe(2, ["other"]))
    assert waits(stored, stored.subscriber) == [Unsuback(2, [0])]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_nothing_waits_where_no_session_is_durable(qos: int) -> None:
    stored = Stored(is_durable=False)
    stored.publisher.publish("t", b"x", qos)
    assert len(stored.publisher.received) == (1 if qos else 0)
    assert stored.subscriber.take(Publish).payload == b"x"
    assert not stored.store.waiting


def test_qos_0_does_not_wait_and_is_not_stored() -> None:
    stored = Stored()
    stored.publisher.publish("t", b"x")
    assert stored.subscriber.take(Publish).payload == b"x"
    assert not stored.store.waiting


def test_qos_1_is_delivered_at_once_and_qos_2_when_its_packet_id_is_stored() -> None:
    stored = Stored()
    stored.publisher.publish("t", b"1", qos=1)
    assert stored.subscriber.take(Publish).payload == b"1"
    stored.broker.commit()
    stored.publisher.publish("t", b"2", qos=2)
    (publish,) = waits(stored, stored.subscriber)
    assert isinstance(publish, Publish)
    stored.subscriber.send(Pubrec(publish.packet_id))
    assert waits(stored, stored.subscriber) == [Pubrel(publish.packet_id)]
    assert stored.store.count("inflight") >= 1


def test_pubcomp_waits_for_a_durable_publisher() -> None:
    stored = Stored()
    durable = stored.broker.connect("durable", properties=dict(LASTING))
    packet_id = durable.publish("nobody", b"x", qos=2)
    stored.broker.commit()
    assert isinstance(durable.received.pop(), Pubrec)
    assert stored.store.count("received") == 1
    durable.send(Pubrel(packet_id))
    assert waits(stored, durable) == [Pubcomp(packet_id)]
    assert stored.store.count("received") == 0


LEVELS = Levels(
    Level.STRICT, (("t/c", Level.COMMIT), ("t/r", Level.RELAXED), ("t/m", Level.MEMORY))
)


def test_strict_is_synced_and_commit_is_not() -> None:
    stored = Stored(levels=LEVELS)
    before = len(stored.store.batches)
    for topic in ("t/s", "t/c"):
        packet_id = stored.publisher.publish(topic, b"x", qos=1)
        assert waits(stored, stored.publisher) == [Puback(packet_id)]
    assert [synced for synced, _ in stored.store.batches[before:]] == [True, False]


def test_relaxed_is_acknowledged_at_once_and_written_within_the_interval() -> None:
    stored = Stored(levels=LEVELS, relaxed_interval=5.0)
    stored.broker.pass_time(6)
    stored.broker.commit()
    stored.subscriber.lose()
    stored.broker.pass_time(6)
    stored.broker.commit()
    packet_id = stored.publisher.publish("t/r", b"x", qos=1)
    assert stored.publisher.take(Puback) == Puback(packet_id)
    assert not stored.store.waiting
    stored.broker.pass_time(5.5)
    stored.broker.commit()
    assert stored.store.count("message") == 1


def test_memory_is_never_written_and_kept_for_an_absent_client_all_the_same() -> None:
    stored = Stored(levels=LEVELS)
    stored.subscriber.lose()
    packet_id = stored.publisher.publish("t/m", b"x", qos=1)
    assert stored.publisher.take(Puback) == Puback(packet_id)
    stored.broker.pass_time(3)
    stored.broker.commit()
    assert stored.store.written["message_put"] == 0
    back = stored.broker.connect("subscriber", clean_start=False, properties=dict(LASTING))
    assert back.drain()[0].payload == b"x"


def test_an_answer_given_later_does_not_overtake_one_that_waits() -> None:
    stored = Stored(levels=LEVELS)
    strict = stored.publisher.publish("t/s", b"x", qos=1)
    memory = stored.publisher.publish("t/m", b"x", qos=1)
    assert not stored.publisher.received
    stored.broker.commit()
    assert stored.publisher.take_all(Puback) == [Puback(strict), Puback(memory)]


@pytest.mark.parametrize("kind", ["full", "read_only"])
def test_a_store_that_takes_nothing_new_is_told_to_publishers_and_subscribers(kind: str) -> None:
    stored = Stored()
    stored.journal.on_trouble(kind, "")
    packet_id = stored.publisher.publish("t", b"x", qos=1)
    assert stored.publisher.take(Puback) == Puback(packet_id, ReasonCode.QUOTA_EXCEEDED)
    stored.subscriber.send(Subscribe(1, [SubscriptionRequest("other", 1)]))
    assert stored.subscriber.take(Suback) == Suback(1, [ReasonCode.QUOTA_EXCEEDED])
    stored.journal.on_well()
    stored.publisher.publish("t", b"x", qos=1)
    (puback,) = waits(stored, stored.publisher)
    assert isinstance(puback, Puback)
    assert puback.reason == 0


def test_a_client_that_cannot_be_told_gets_no_answer_while_the_store_is_full() -> None:
    stored = Stored(version=4)
    stored.journal.on_trouble("full", "")
    stored.publisher.publish("t", b"x", qos=1)
    assert not stored.publisher.received


def test_publishers_are_slowed_down_while_the_store_is_behind() -> None:
    stored = Stored(maximum_packet_size=20_000_000)
    for _ in range(3):
        stored.publisher.publish("t", bytes(12_000_000), qos=1)
    assert stored.publisher.held
    stored.broker.commit()
    assert not stored.publisher.held
    assert len(stored.publisher.take_all(Puback)) == 3


def test_of_a_qos_2_packet_nothing_is_stored_without_the_rest() -> None:
    """Its id, and all the messages it causes, are of one batch, whatever the store is asked."""
    stored = Stored(backlog_messages=2, backlog_policy="drop_oldest")
    shared = stored.broker.connect("shared", properties=dict(LASTING))
    shared.send(Subscribe(1, [SubscriptionRequest("$share/g/t", 2)]))
    stored.broker.commit()
    stored.subscriber.lose()
    shared.lose()
    durable = stored.broker.connect("durable", properties=dict(LASTING))
    durable.send(*(Publish("t", b"%d" % n, 2, packet_id=n) for n in range(1, 60)))
    while stored.store.commit_next():
        stored.broker.flush()
        received = stored.store.count("received")
        put = stored.store.written["message_put"]
        assert put == 2 * received, "the packets are known, and not all of their messages"
