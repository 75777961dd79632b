"""A message that has expired takes nobody's place and is passed on to nobody [MQTT-3.3.2-5]."""

import pytest

from broker.packets.properties import Properties, Property
from broker.packets.types import Puback, Publish
from tests.support.broker import MemoryBroker, MemoryClient

KEPT: Properties = {Property.SESSION_EXPIRY_INTERVAL: 1000}
FOR_10_SECONDS: Properties = {Property.MESSAGE_EXPIRY_INTERVAL: 10}


def away(broker: MemoryBroker, client_id: str, topic_filter: str, **fields: Properties) -> None:
    """A subscriber whose session waits for it."""
    client = broker.connect(client_id, **{"properties": KEPT, **fields})
    client.subscribe(topic_filter, qos=1)
    client.lose()


def back(broker: MemoryBroker, client_id: str) -> MemoryClient:
    return broker.connect(client_id, clean_start=False, properties=KEPT)


def test_what_has_expired_makes_room_in_a_full_backlog() -> None:
    broker = MemoryBroker(backlog_messages=3)
    away(broker, "away", "t")
    publisher = broker.connect("publisher")
    publisher.publish("t", b"lasting", qos=1)
    for _ in range(2):
        publisher.publish("t", b"old", qos=1, properties=dict(FOR_10_SECONDS))
    broker.pass_time(11)
    for number in (b"1", b"2", b"3"):
        publisher.publish("t", number, qos=1)
    assert [each.payload for each in back(broker, "away").drain()] == [b"lasting", b"1", b"2"]
    assert broker.engine.traffic.lost == {"expired": 2, "backlog_full": 1}


@pytest.mark.spec("5.0:MQTT-3.3.2-5")
def test_an_ended_session_does_not_pass_on_what_has_expired() -> None:
    broker = MemoryBroker()
    away(broker, "first", "$share/group/t")
    publisher = broker.connect("publisher")
    publisher.publish("t", b"old", qos=1, properties=dict(FOR_10_SECONDS))
    publisher.publish("t", b"lasting", qos=1)
    second = broker.connect("second")
    second.subscribe("$share/group/t", qos=1)
    broker.pass_time(1001)
    assert second.messages() == [("t", b"lasting")]
    assert broker.engine.traffic.lost == {"expired": 1}


def test_retained_messages_that_have_expired_make_room_for_others() -> None:
    broker = MemoryBroker(max_retained_messages=2)
    publisher = broker.connect("publisher")
    publisher.publish("lasting", b"x", retain=True)
    publisher.publish("old", b"x", retain=True, properties=dict(FOR_10_SECONDS))
    broker.pass_time(11)
    publisher.publish("new", b"x", retain=True)
    assert len(broker.engine.retention) == 2
    subscriber = broker.connect("subscriber")
    subscriber.subscribe("#")
    assert sorted(subscriber.messages()) == [("lasting", b"x"), ("new", b"x")]


def test_a_clock_that_stood_still_does_not_deliver_what_has_expired() -> None:
    """A slow reader goes on long after anything else happened."""
    broker = MemoryBroker(outbox_limit=1000)
    slow = broker.connect("slow")
    slow.subscribe("t", qos=1)
    publisher = broker.connect("publisher")
    slow.stop_reading()
    publisher.publish("t", bytes(1000), qos=1)
    publisher.publish("t", b"old", qos=1, properties=dict(FOR_10_SECONDS))
    broker.now += 11  # no tick, no packet: nothing has told the engine
    slow.resume_reading()
    assert len(slow.take_all(Publish)) == 1
    slow.send(Puback(1))
    assert broker.engine.traffic.lost == {"expired": 1}
