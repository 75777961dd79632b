"""Flow control (MQTT 5 section 4.9): Receive Maximum in both directions."""

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)
from tests.support.broker import MemoryBroker, MemoryClient

QOS = pytest.mark.parametrize("qos", [1, 2])


def limited(broker: MemoryBroker, receive_maximum: int, qos: int) -> MemoryClient:
    """A subscriber of everything with a Receive Maximum."""
    properties: Properties = {
        Property.RECEIVE_MAXIMUM: receive_maximum,
        Property.SESSION_EXPIRY_INTERVAL: 600,
    }
    client = broker.connect("subscriber", clean_start=False, properties=properties)
    client.subscribe("#", qos=qos)
    return client


def flood(broker: MemoryBroker, count: int, qos: int) -> None:
    publisher = broker.connect("publisher")
    for n in range(count):
        publisher.publish("t", bytes([n]), qos)


# -- the client's quota ---------------------------------------------------------------------------


@QOS
@pytest.mark.parametrize("receive_maximum", [1, 2, 7])
@pytest.mark.spec("5.0:MQTT-4.9.0-1", "5.0:MQTT-4.9.0-2", "5.0:MQTT-3.3.4-9")
def test_a_client_gets_as_many_messages_as_its_receive_maximum_and_no_more(
    receive_maximum: int, qos: int
) -> None:
    broker = MemoryBroker()
    client = limited(broker, receive_maximum, qos)
    flood(broker, 10, qos)
    assert len(client.take_all(Publish)) == receive_maximum


@pytest.mark.spec("5.0:MQTT-4.9.0-1")
def test_without_a_receive_maximum_the_brokers_own_bound_holds() -> None:
    broker = MemoryBroker(max_inflight=5)
    client = broker.connect("subscriber")
    client.subscribe("#", qos=1)
    flood(broker, 10, 1)
    assert len(client.take_all(Publish)) == 5


@QOS
@pytest.mark.spec("5.0:MQTT-4.9.0-2")
def test_each_finished_exchange_lets_one_more_message_go(qos: int) -> None:
    broker = MemoryBroker()
    client = limited(broker, 2, qos)
    flood(broker, 6, qos)
    payloads = []
    while client.received:
        publish = client.received.pop(0)
        assert isinstance(publish, Publish)
        payloads.append(publish.payload[0])
        held, client.received = client.received, []
        client.acknowledge(publish)
        client.received = held + client.received
        assert len(client.received) <= 2
    assert payloads == list(range(6))


@pytest.mark.spec("5.0:MQTT-4.9.0-2")
def test_a_pubrec_alone_does_not_make_room() -> None:
    broker = MemoryBroker()
    client = limited(broker, 1, 2)
    flood(broker, 2, 2)
    packet_id = client.take(Publish).packet_id
    client.send(Pubrec(packet_id))
    assert client.take(Pubrel) == Pubrel(packet_id)
    assert client.received == []
    client.send(Pubcomp(packet_id))
    assert client.take(Publish).payload == b"\1"


@pytest.mark.parametrize(("qos", "ack"), [(1, Puback), (2, Pubrec)])
@pytest.mark.spec("5.0:MQTT-4.9.0-2")
def test_a_refusal_makes_room(qos: int, ack: type[Puback] | type[Pubrec]) -> None:
    broker = MemoryBroker()
    client = limited(broker, 1, qos)
    flood(broker, 2, qos)
    client.send(ack(client.take(Publish).packet_id, ReasonCode.UNSPECIFIED_ERROR))
    assert client.take(Publish).payload == b"\1"


@QOS
def test_an_acknowledgement_repeated_makes_no_more_room(qos: int) -> None:
    broker = MemoryBroker()
    client = limited(broker, 2, qos)
    flood(broker, 9, qos)
    first, _ = client.take_all(Publish)
    client.acknowledge(first)
    client.send(*([Puback(first.packet_id)] * 3 if qos == 1 else [Pubcomp(first.packet_id)] * 3))
    assert len(client.take_all(Publish)) == 1


@QOS
@pytest.mark.spec("5.0:MQTT-4.9.0-3")
def test_without_quota_everything_else_goes_on(qos: int) -> None:
    broker = MemoryBroker()
    client = limited(broker, 1, qos)
    flood(broker, 2, qos)
    client.take(Publish)
    client.send(Pingreq())
    assert client.take(Pingresp)
    assert client.subscribe("u").reasons == [0]
    assert client.unsubscribe("u").reasons == [0]
    client.unsubscribe("#")
    client.publish("v", b"x", qos=1)
    assert client.take(Puback)
    client.publish("v", b"x", qos=2, packet_id=9)
    assert client.take(Pubrec).packet_id == 9
    client.send(Pubrel(9))
    assert client.take(Pubcomp) == Pubcomp(9)
    client.disconnect()
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-4.9.0-2")
def test_qos_0_needs_no_quota() -> None:
    broker = MemoryBroker()
    client = limited(broker, 1, 1)
    flood(broker, 3, 1)
    client.take(Publish)
    flood(broker, 3, 0)
    assert [publish.qos for publish in client.take_all(Publish)] == [0, 0, 0]


@QOS
@pytest.mark.spec("5.0:MQTT-4.9.0-1", "5.0:MQTT-4.9.0-2")
def test_every_connection_has_its_own_quota(qos: int) -> None:
    broker = MemoryBroker()
    limited(broker, 1, qos).lose()
    flood(broker, 9, qos)
    for receive_maximum in (4, 2, 6):
        client = broker.connect(
            "subscriber",
            clean_start=False,
            properties={
                Property.RECEIVE_MAXIMUM: receive_maximum,
                Property.SESSION_EXPIRY_INTERVAL: 600,
            },
        )
        assert len(client.take_all(Publish)) == receive_maximum
        client.lose()


@QOS
def test_retained_messages_keep_to_the_quota(qos: int) -> None:
    broker = MemoryBroker()
    publisher = broker.connect("publisher")
    for n in range(5):
        publisher.publish(f"t/{n}", b"x", qos, retain=True)
    client = limited(broker, 2, qos)
    assert len(client.take_all(Publish)) == 2


# -- the broker's quota ---------------------------------------------------------------------------


def test_the_broker_announces_its_receive_maximum() -> None:
    connack = MemoryBroker(receive_maximum=3).connect().connack
    assert connack is not None
    assert connack.properties[Property.RECEIVE_MAXIMUM] == 3


@pytest.mark.spec("5.0:MQTT-3.3.4-7", "5.0:MQTT-4.13.1-1")
def test_a_client_that_exceeds_it_is_disconnected_and_told_so() -> None:
    client = MemoryBroker(receive_maximum=2).connect()
    for packet_id in (1, 2):
        client.publish("t", b"x", qos=2, packet_id=packet_id)
        client.take(Pubrec)
    client.publish("t", b"x", qos=2, packet_id=3)
    assert client.take(Disconnect).reason == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
    assert client.is_closed


def test_a_client_that_stays_within_it_may_go_on_for_ever() -> None:
    client = MemoryBroker(receive_maximum=2).connect()
    for n in range(50):
        client.publish("t", b"x", qos=2, packet_id=n % 2 + 1)
        client.publish("t", b"x", qos=1, packet_id=3)
        client.publish("t", b"x", qos=2, packet_id=n % 2 + 1, dup=True)
        client.send(Pubrel(n % 2 + 1))
    assert not client.is_closed
