"""Retained messages that are more than the window lie in the store alone: read in pages, merged
with those that are only in memory, and a replay goes on after a crash.
"""

from __future__ import annotations

import pytest

from broker.engine import retention
from broker.engine.durability import Level, Levels
from broker.packets.properties import Property
from broker.packets.types import Puback, Publish
from tests.support.broker import MemoryBroker
from tests.support.store import MemoryStore
from tests.unit.engine.test_recovery import durable, payloads, rows


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAGE", 3)


def many(count: int = 100, **policy: int) -> MemoryBroker:
    """A broker with retained messages r/0 to r/99, of which it holds none in memory."""
    levels = Levels(Level.STRICT, (("memory/#", Level.MEMORY),))
    store = MemoryStore(instant=True)
    broker = MemoryBroker(store=store, levels=levels, retained_window=5, **policy)
    publisher = broker.connect("publisher")
    for number in range(count):
        publisher.publish(f"r/{number}", b"%d" % number, qos=1, retain=True)
    return broker


def test_more_than_the_window_are_found_by_any_filter() -> None:
    broker = many()
    assert len(broker.engine.retention._messages) == 0
    for topic_filter, count in (("#", 100), ("r/+", 100), ("r/7", 1), ("+/42", 1), ("x/#", 0)):
        client = broker.connect("reader")
        client.subscribe(topic_filter, qos=1)
        topics = [each.topic for each in client.drain()]
        assert len(topics) == len(set(topics)) == count, topic_filter


def test_those_in_memory_come_too() -> None:
    broker = many()
    broker.connect("publisher").publish("memory/1", b"here", retain=True)
    client = broker.connect("reader")
    client.subscribe("#", qos=1)
    got = payloads(client)
    assert b"here" in got
    assert len(got) == 101


def test_replaced_and_erased_ones_in_the_store_are() -> None:
    broker = many()
    publisher = broker.connect("publisher")
    publisher.publish("r/1", b"new", qos=1, retain=True)
    publisher.publish("r/2", b"", qos=1, retain=True)
    client = broker.connect("reader")
    client.subscribe("r/#")
    got = {each.topic: each.payload for each in client.drain()}
    assert got["r/1"] == b"new"
    assert "r/2" not in got
    assert len(got) == 99


def test_they_are_there_after_a_crash() -> None:
    for count in (4, 100):
        broker = many(count).crash()
        client = broker.connect("reader")
        client.subscribe("r/#")
        assert len(client.drain()) == count
        assert len(broker.engine.retention) == count


def test_an_expired_one_in_the_store_is_not_sent() -> None:
    broker = many()
    properties = {Property.MESSAGE_EXPIRY_INTERVAL: 5}
    broker.connect("publisher").publish("r/x", b"x", 1, retain=True, properties=properties)
    broker.pass_time(6)
    client = broker.connect("reader")
    client.subscribe("r/x")
    assert client.received == []


def test_a_replay_that_was_not_finished_goes_on_after_a_crash() -> None:
    broker = many()
    properties = {Property.SESSION_EXPIRY_INTERVAL: 100_000, Property.RECEIVE_MAXIMUM: 10}
    client = broker.connect("reader", properties=properties)
    client.subscribe("r/#", qos=1)
    got = {each.topic for each in client.received if isinstance(each, Publish)}
    assert 0 < len(got) < 100
    for each in client.received:
        assert isinstance(each, Publish)
        client.send(Puback(each.packet_id))
    broker = broker.crash()
    client = durable(broker, "reader")
    got |= {each.topic for each in client.drain()}
    assert len(got) == 100
    assert rows(broker, "message") == rows(broker, "inflight") == 0
    broker = broker.crash()
    assert durable(broker, "reader").received == [], "it has had them all"


def test_there_is_room_again_when_the_store_says_so() -> None:
    broker = many(100, max_retained_messages=100)
    publisher = broker.connect("publisher")
    for _ in range(20):  # replaced, not more
        publisher.publish("r/1", b"again", qos=1, retain=True)
        broker.pass_time(2)
    client = broker.connect("reader")
    client.subscribe("r/1")
    assert client.take(Publish).payload == b"again"
