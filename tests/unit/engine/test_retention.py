"""Retained messages within their bounds: what cannot be kept is refused where the publisher can be
told, and otherwise passed on at least.
"""

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.properties import Property
from broker.packets.types import Puback, Publish, Pubrec
from tests.support.broker import MemoryBroker


def full_broker() -> MemoryBroker:
    broker = MemoryBroker(max_retained_messages=1)
    broker.connect("early").publish("early", b"x", retain=True)
    return broker


@pytest.mark.spec("3.1.1:MQTT-3.3.1-7")
@pytest.mark.parametrize(("version", "qos"), [(4, 0), (4, 1), (4, 2), (5, 0)])
def test_a_message_that_cannot_be_refused_is_passed_on_though_not_retained(
    version: int, qos: int
) -> None:
    broker = full_broker()
    listener = broker.connect("listener")
    listener.subscribe("t", qos=2)
    broker.connect("publisher", version).publish("t", b"x", qos, retain=True)
    assert listener.messages() == [("t", b"x")]
    assert len(broker.engine.retention) == 1
    assert broker.engine.traffic.lost == {"retained_full": 1}


@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_message_is_not_passed_on_and_the_old_one_stays(qos: int) -> None:
    broker = MemoryBroker(max_retained_size=100)
    listener = broker.connect("listener")
    publisher = broker.connect("publisher")
    publisher.publish("t", b"old", retain=True)
    listener.subscribe("t", qos=2, retain_handling=2)
    publisher.publish("t", bytes(200), qos, retain=True)
    answer = publisher.take(Puback if qos == 1 else Pubrec)
    assert answer.reason == ReasonCode.QUOTA_EXCEEDED
    assert listener.received == []
    late = broker.connect("late")
    late.subscribe("t")
    assert late.take(Publish).payload == b"old"


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_where_nobody_can_be_told_the_old_message_does_not_stay_for_the_new_one(qos: int) -> None:
    broker = MemoryBroker(max_retained_size=100)
    publisher = broker.connect("publisher", version=4)
    publisher.publish("t", b"old", retain=True)
    publisher.publish("t", bytes(200), qos, retain=True)
    assert len(broker.engine.retention) == 0
    assert broker.engine.retention.size == 0


def test_replaced_messages_leave_no_expiries_behind() -> None:
    broker = MemoryBroker()
    publisher = broker.connect("publisher")
    for number in range(1000):
        expiry = {Property.MESSAGE_EXPIRY_INTERVAL: 1_000_000 + number}
        publisher.publish("t", b"x", retain=True, properties=expiry)
    assert len(broker.engine.retention._expiries) < 100
    broker.pass_time(1_001_500)
    publisher.publish("u", b"x", retain=True)
    assert len(broker.engine.retention) == 1


def test_a_message_that_replaces_one_that_expires_outlives_it() -> None:
    broker = MemoryBroker()
    publisher = broker.connect("publisher")
    publisher.publish("t", b"brief", retain=True, properties={Property.MESSAGE_EXPIRY_INTERVAL: 5})
    publisher.publish("t", b"lasting", retain=True)
    broker.pass_time(10)
    client = broker.connect("client")
    client.subscribe("t")
    assert client.messages() == [("t", b"lasting")]
