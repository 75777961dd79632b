"""A backlog that lies in the store: read in pages and in order whatever comes meanwhile, bounded as
the policy says, and every message that does not arrive counted with its reason. With and without a
store the outcome is the same.
"""

from __future__ import annotations

from typing import Any

import pytest

from broker.engine import questions
from broker.packets.codes import ReasonCode
from broker.packets.properties import Properties, Property
from broker.packets.types import Puback, Publish
from tests.support.broker import MemoryBroker, MemoryClient
from tests.support.store import MemoryStore

BOTH = pytest.mark.parametrize("is_stored", [False, True], ids=["memory", "stored"])


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "PAGE", 4)


def made(is_stored: bool, **policy: Any) -> MemoryBroker:
    store = MemoryStore(instant=True) if is_stored else None
    return MemoryBroker(store=store, backlog_window=8, **policy)


def durable(broker: MemoryBroker, window: int = 65_535) -> MemoryClient:
    properties: Properties = {
        Property.SESSION_EXPIRY_INTERVAL: 100_000,
        Property.RECEIVE_MAXIMUM: window,
    }
    return broker.connect("away", clean_start=False, properties=properties)


def absent(broker: MemoryBroker) -> None:
    client = durable(broker)
    client.subscribe("t/#", qos=2)
    client.lose()


def send(broker: MemoryBroker, numbers: range, topics: int = 1, expiry: int = 0) -> list[int]:
    """Publish the numbers, each in its own write; the reasons of the answers."""
    publisher = broker.connect("publisher")
    for number in numbers:
        properties: Properties = {Property.MESSAGE_EXPIRY_INTERVAL: expiry} if expiry else {}
        publisher.publish(f"t/{number % topics}", b"%d" % number, 1, properties=properties)
    return [each.reason for each in publisher.take_all(Puback)]


def numbers_of(messages: list[Publish]) -> list[int]:
    return [int(each.payload) for each in messages]


def lost(broker: MemoryBroker) -> dict[str, int]:
    return {reason: count for reason, count in broker.engine.traffic.lost.items() if count}


# -- in pages, in order ----------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("window", [1, 3, 65_535])
def test_a_long_backlog_comes_in_order_with_what_arrives_meanwhile(
    is_stored: bool, window: int
) -> None:
    broker = made(is_stored)
    absent(broker)
    send(broker, range(50))
    client = durable(broker, window)
    got = []
    for number in range(50, 90):
        send(broker, range(number, number + 1))
        some, client.received = client.received[:2], client.received[2:]
        got += [each for each in some if isinstance(each, Publish)]
        for each in got[-len(some) :] if some else ():
            client.send(Puback(each.packet_id))
    got += client.drain()
    assert numbers_of(got) == list(range(90))


def test_a_page_that_is_read_when_its_client_goes_is_not_lost() -> None:
    broker = made(True)
    absent(broker)
    send(broker, range(20))
    assert broker.store is not None
    broker.store.instant = False
    for end in ("lose", "take over"):
        client = durable(broker)
        broker.flush()
        assert broker.store.waiting, "a page is being read"
        if end == "lose":
            client.lose()
    client = durable(broker)
    broker.store.instant = True
    broker.commit()
    assert sorted(set(numbers_of(client.drain()))) == list(range(20))


@BOTH
def test_what_was_not_acknowledged_comes_again_before_the_rest(is_stored: bool) -> None:
    broker = made(is_stored)
    absent(broker)
    send(broker, range(30))
    client = durable(broker, window=5)
    assert numbers_of(client.take_all(Publish)) == [0, 1, 2, 3, 4]
    client.lose()
    send(broker, range(30, 40))
    client = durable(broker, window=5)
    assert numbers_of(client.drain()) == list(range(40))


# -- too much --------------------------------------------------------------------------------------


@BOTH
def test_drop_newest_keeps_the_oldest(is_stored: bool) -> None:
    broker = made(is_stored, backlog_messages=20, backlog_policy="drop_newest")
    absent(broker)
    assert send(broker, range(50)) == [0] * 50
    assert numbers_of(durable(broker).drain()) == list(range(20))
    assert lost(broker) == {"backlog_full": 30}


@BOTH
def test_reject_tells_the_publisher(is_stored: bool) -> None:
    broker = made(is_stored, backlog_messages=20, backlog_policy="reject")
    absent(broker)
    assert send(broker, range(30)) == [0] * 20 + [ReasonCode.QUOTA_EXCEEDED] * 10
    assert numbers_of(durable(broker).drain()) == list(range(20))


@BOTH
def test_drop_oldest_keeps_the_newest(is_stored: bool) -> None:
    broker = made(is_stored, backlog_messages=20, backlog_policy="drop_oldest")
    absent(broker)
    assert send(broker, range(50)) == [0] * 50
    assert numbers_of(durable(broker).drain()) == list(range(30, 50))
    assert lost(broker) == {"backlog_oldest": 30}


@BOTH
def test_last_value_keeps_the_newest_of_each_topic(is_stored: bool) -> None:
    broker = made(is_stored, backlog_messages=20, backlog_policy="last_value")
    absent(broker)
    send(broker, range(50), topics=3)
    assert sorted(numbers_of(durable(broker).drain())) == [47, 48, 49]


def test_every_superseded_message_in_the_store_is_counted() -> None:
    broker = made(True, backlog_messages=20, backlog_policy="last_value")
    absent(broker)
    send(broker, range(50), topics=3)
    durable(broker).drain()
    assert lost(broker) == {"superseded": 47}


@BOTH
def test_drop_oldest_counts_what_a_connected_client_does_not_get(is_stored: bool) -> None:
    broker = made(is_stored, backlog_messages=20, backlog_policy="drop_oldest")
    absent(broker)
    client = durable(broker, window=1)
    send(broker, range(60))
    got = numbers_of(client.drain())
    assert got[0] == 0
    assert got[-1] == 59
    assert len(got) + sum(lost(broker).values()) == 60


@BOTH
def test_a_limit_in_bytes_holds_too(is_stored: bool) -> None:
    broker = made(is_stored, backlog_size=5_000, backlog_policy="drop_oldest")
    absent(broker)
    send(broker, range(200))
    got = numbers_of(durable(broker).drain())
    assert got == list(range(200 - len(got), 200))
    assert 20 <= len(got) <= 48  # 100 bytes each, and their payload and topic
    assert lost(broker) == {"backlog_oldest": 200 - len(got)}


@BOTH
def test_what_expired_while_it_waited_is_not_sent_and_counted(is_stored: bool) -> None:
    broker = made(is_stored)
    absent(broker)
    send(broker, range(10), expiry=5)
    send(broker, range(10, 20))
    broker.pass_time(10)
    assert numbers_of(durable(broker).drain()) == list(range(10, 20))
    assert lost(broker) == {"expired": 10}


@BOTH
def test_what_is_dropped_is_gone_from_the_store_in_the_end(is_stored: bool) -> None:
    broker = made(is_stored, backlog_messages=20, backlog_policy="drop_oldest")
    absent(broker)
    send(broker, range(100))
    durable(broker).drain()
    broker.pass_time(3)
    if broker.store is not None:
        assert broker.store.count("message") == broker.store.count("inflight") == 0


def test_what_is_delivered_while_the_store_drops_the_oldest_is_not_counted_as_dropped() -> None:
    store = MemoryStore(instant=True)
    broker = MemoryBroker(
        store=store, backlog_window=8, backlog_messages=20, backlog_policy="drop_oldest"
    )
    absent(broker)
    client = durable(broker, window=1)
    send(broker, range(30))
    store.instant = False
    publisher = broker.connect("publisher")
    for number in range(30, 60):
        publisher.publish("t/0", b"%d" % number, qos=1)
    got = numbers_of(client.drain())  # the store is still busy
    broker.commit()
    got += numbers_of(client.drain())
    while store.waiting:
        broker.commit()
        got += numbers_of(client.drain())
    assert got == sorted(set(got))
    assert got[-1] == 59
    assert len(got) + sum(lost(broker).values()) == 60
