"""What a crash leaves behind, and what the next start makes of it: nothing acknowledged is lost,
QoS 2 comes once, the order stays, and nothing stays in the store that nobody needs.
"""

from __future__ import annotations

from typing import Any

import pytest

from broker.packets.properties import Property
from broker.packets.types import Puback, Publish, Pubrec
from tests.support.broker import MemoryBroker, MemoryClient, will
from tests.support.store import MemoryStore

LASTING = 100_000


def stored(**policy: Any) -> MemoryBroker:
    return MemoryBroker(store=MemoryStore(instant=True), **policy)


def durable(broker: MemoryBroker, name: str, expiry: int = LASTING, **fields: Any) -> MemoryClient:
    fields.setdefault("clean_start", False)
    properties = {Property.SESSION_EXPIRY_INTERVAL: expiry}
    return broker.connect(name, properties=properties, **fields)


def absent(broker: MemoryBroker, name: str, *filters: str, expiry: int = LASTING) -> None:
    client = durable(broker, name, expiry)
    for each in filters:
        client.subscribe(each, qos=2)
    client.lose()


def rows(broker: MemoryBroker, name: str) -> int:
    """After everything has been written, the lazy part of it, too."""
    broker.pass_time(3)
    broker.commit()
    assert broker.store is not None
    return broker.store.count(name)


def payloads(client: MemoryClient) -> list[bytes]:
    return [each.payload for each in client.drain()]


@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_acknowledged_for_an_absent_client_comes_after_a_crash(qos: int) -> None:
    broker = stored()
    absent(broker, "away", "t")
    publisher = broker.connect("publisher")
    for number in range(10):
        publisher.publish("t", b"%d" % number, qos)
    assert len(publisher.take_all(Puback if qos == 1 else Pubrec)) == 10
    broker = broker.crash(away=60)
    assert payloads(durable(broker, "away")) == [b"%d" % number for number in range(10)]
    assert rows(broker, "message") == rows(broker, "inflight") == 0


def test_order_is_that_of_the_first_sending_also_after_two_crashes() -> None:
    broker = stored()
    away = durable(broker, "away")
    away.subscribe("t", qos=2)
    for number in range(3):
        broker.connect("publisher").publish("t", b"%d" % number, qos=2)
    broker = broker.crash()
    durable(broker, "away")
    for number in range(3, 5):
        broker.connect("publisher").publish("t", b"%d" % number, qos=2)
    broker = broker.crash()
    again = durable(broker, "away")
    assert [each.payload for each in again.take_all(Publish)] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_packet_in_flight_whose_message_is_done_for_leaves_no_row() -> None:
    broker = stored()
    client = durable(broker, "one")
    client.subscribe("t", qos=1)
    publisher = broker.connect("publisher")
    publisher.publish("t", b"x", qos=1)
    broker.pass_time(2)  # in flight, as the store knows
    client.drain()
    publisher.publish("t", b"y", qos=1)  # sweeps the first one; the packet's end waits
    broker = broker.crash()
    assert payloads(durable(broker, "one")) == [b"y"]
    assert rows(broker, "inflight") == rows(broker, "message") == 0


def test_a_retained_message_in_flight_leaves_no_row_when_its_session_ends_unseen() -> None:
    broker = stored()
    broker.connect("publisher").publish("t", b"x", qos=1, retain=True)
    client = durable(broker, "one", expiry=10)
    client.subscribe("t", qos=1)
    broker.pass_time(2)
    assert broker.store is not None
    assert broker.store.count("message") == 1
    client.lose()
    broker = broker.crash()
    broker.pass_time(20)
    assert len(broker.engine.sessions) == 0
    assert rows(broker, "message") == rows(broker, "inflight") == 0


def test_who_has_come_back_does_not_expire_by_the_instant_of_his_earlier_absence() -> None:
    broker = stored()
    absent(broker, "one", "t", expiry=10)
    broker.pass_time(9)
    publisher = broker.connect("publisher")
    publisher.publish("t", b"x", qos=1)
    durable(broker, "one", expiry=10)
    publisher.publish("t", b"y", qos=1)
    broker = broker.crash(away=5)
    broker.pass_time(3)
    assert payloads(durable(broker, "one", expiry=10)) == [b"x", b"y"]


def test_a_session_expires_while_the_broker_is_away() -> None:
    broker = stored()
    absent(broker, "one", "t", expiry=100)
    broker.pass_time(2)
    broker = broker.crash(away=200)
    broker.pass_time(1)
    assert len(broker.engine.sessions) == 0
    assert rows(broker, "session") == rows(broker, "subscription") == 0


def test_an_unsubscribe_in_the_middle_of_a_replay_stays_one() -> None:
    broker = stored()
    for number in range(5):
        broker.connect("publisher").publish(f"t/{number}", b"x", qos=1, retain=True)
    properties = {Property.SESSION_EXPIRY_INTERVAL: LASTING, Property.RECEIVE_MAXIMUM: 1}
    client = broker.connect("one", properties=properties)
    client.subscribe("t/#", qos=1)
    received, client.received = client.received, []
    client.unsubscribe("t/#")
    for each in received:
        client.send(Puback(each.packet_id))
    client.drain()
    assert rows(broker, "subscription") == 0


def test_a_client_that_begins_anew_while_its_shared_messages_are_given_on() -> None:
    broker = stored()
    absent(broker, "one", "$share/g/t")
    broker.connect("publisher").publish("t", b"x", qos=1)
    absent(broker, "two", "$share/g/t")
    broker.pass_time(2)
    anew = durable(broker, "one", clean_start=True)
    assert anew.connack is not None
    assert not anew.connack.session_present
    assert payloads(durable(broker, "two")) == [b"x"]
    assert rows(broker, "message") == 0
    assert rows(broker, "session") == 2


def test_a_stored_message_follows_however_large() -> None:
    broker = stored()
    absent(broker, "away", "t")
    publisher = broker.connect("publisher")
    sizes = (100_000, 200_000, 1)
    for size in sizes:
        publisher.publish("t", bytes(size), qos=1)
    assert [len(each) for each in payloads(durable(broker, "away"))] == list(sizes)


# -- wills -----------------------------------------------------------------------------------------


def heirs(broker: MemoryBroker) -> list[bytes]:
    return payloads(durable(broker, "heir"))


def test_the_will_of_a_connected_client_is_published_after_a_crash() -> None:
    broker = stored()
    absent(broker, "heir", "will")
    durable(broker, "one", will=will("will", b"gone", qos=1))
    broker.pass_time(2)
    broker = broker.crash()
    assert heirs(broker) == [b"gone"]
    assert rows(broker, "will") == rows(broker, "message") == 0


def test_the_will_of_a_client_that_said_goodbye_is_not() -> None:
    broker = stored()
    absent(broker, "heir", "will")
    client = durable(broker, "one", will=will("will", b"gone", qos=1))
    broker.pass_time(2)
    client.disconnect()
    broker.pass_time(2)
    assert rows(broker, "will") == 0
    assert heirs(broker.crash()) == []


def test_the_delay_of_a_will_goes_on_while_the_broker_is_away() -> None:
    delayed = will("will", b"gone", qos=1, properties={Property.WILL_DELAY_INTERVAL: 100})
    broker = stored()
    absent(broker, "heir", "will")
    durable(broker, "one", will=delayed).lose()
    broker.pass_time(30)
    broker = broker.crash(away=30)
    broker.pass_time(35)
    assert heirs(broker) == []
    broker.pass_time(10)
    assert heirs(broker) == [b"gone"]


# -- shared subscriptions --------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(8))
def test_what_an_ended_member_had_in_the_store_goes_to_others_whenever_it_crashes(
    steps: int,
) -> None:
    broker = stored()
    absent(broker, "one", "$share/g/t")
    publisher = broker.connect("publisher")
    for number in range(3):
        publisher.publish("t", b"%d" % number, qos=1)
    absent(broker, "two", "$share/g/t")
    broker.pass_time(2)
    assert broker.store is not None
    broker.store.instant = False
    broker.client().connect("one", clean_start=True)
    for _ in range(steps):
        broker.store.commit_next()
        broker.flush()
    broker = broker.crash()
    broker.store.instant = True  # type: ignore[union-attr]
    broker.commit()
    first, second = payloads(durable(broker, "one")), payloads(durable(broker, "two"))
    assert set(first + second) == {b"0", b"1", b"2"}
    assert rows(broker, "message") == rows(broker, "inflight") == 0
