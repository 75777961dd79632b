"""Message ordering (MQTT 5 section 4.6). Every topic is ordered, whatever slows the way."""

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.properties import Properties, Property
from broker.packets.types import Packet, Puback, Publish, Pubrec, Pubrel, SubscriptionRequest
from broker.packets.types import Subscribe as SubscribePacket
from tests.support.broker import MemoryBroker, MemoryClient

ALL_QOS = pytest.mark.parametrize("qos", [0, 1, 2])
QOS = pytest.mark.parametrize("qos", [1, 2])
ORDERED = pytest.mark.spec("5.0:MQTT-4.6.0-5", "5.0:MQTT-4.6.0-6")


def connect(broker: MemoryBroker, **properties: int) -> MemoryClient:
    """The subscriber, back in its session if it has one."""
    wanted: Properties = {Property.SESSION_EXPIRY_INTERVAL: 600}
    wanted.update({Property[name.upper()]: value for name, value in properties.items()})
    return broker.connect("subscriber", clean_start=False, properties=wanted)


def subscriber(broker: MemoryBroker, qos: int, **properties: int) -> MemoryClient:
    client = connect(broker, **properties)
    client.subscribe("#", qos=qos)
    return client


def payloads(packets: list[Publish]) -> list[bytes]:
    return [each.payload for each in packets]


def numbers(first: int, last: int) -> list[bytes]:
    return [b"%d" % n for n in range(first, last)]


def publish(client: MemoryClient, messages: list[bytes], qos: int) -> None:
    for payload in messages:
        client.publish("t", payload, qos)


@ALL_QOS
@ORDERED
def test_messages_of_one_write_keep_their_order(qos: int) -> None:
    broker = MemoryBroker()
    client = subscriber(broker, qos)
    packets: list[Packet] = [
        Publish("t", payload, qos, packet_id=qos and n)
        for n, payload in enumerate(numbers(0, 50), start=1)
    ]
    broker.connect("publisher").send(*packets)
    assert payloads(client.drain()) == numbers(0, 50)


@ALL_QOS
@ORDERED
def test_every_publishers_order_is_kept_for_every_subscriber(qos: int) -> None:
    broker = MemoryBroker()
    fast, slow = broker.connect("fast"), subscriber(broker, qos, receive_maximum=2)
    fast.subscribe("#", qos=qos)
    alice, bob = broker.connect("alice"), broker.connect("bob")
    for n in numbers(0, 20):
        alice.publish("t", b"a" + n, qos)
        bob.publish("t", b"b" + n, qos)
    for received in (payloads(fast.drain()), payloads(slow.drain())):
        for name in (b"a", b"b"):
            assert [each[1:] for each in received if each[:1] == name] == numbers(0, 20)


@QOS
@ORDERED
def test_the_order_survives_a_full_window_an_absence_and_the_return(qos: int) -> None:
    broker = MemoryBroker()
    client = subscriber(broker, qos, receive_maximum=3)
    publisher = broker.connect("publisher")
    publish(publisher, numbers(0, 6), qos)
    first = client.take_all(Publish)
    client.acknowledge(first[0])
    client.lose()
    publish(publisher, numbers(6, 9), qos)
    client = connect(broker, receive_maximum=2)
    publish(publisher, numbers(9, 12), qos)
    assert payloads(client.drain()) == numbers(1, 12)


@QOS
@ORDERED
def test_a_message_that_comes_while_the_backlog_drains_does_not_overtake(qos: int) -> None:
    broker = MemoryBroker()
    client = subscriber(broker, qos, receive_maximum=1)
    publisher = broker.connect("publisher")
    publish(publisher, numbers(0, 3), qos)
    (message,) = client.take_all(Publish)
    received = [message.payload]
    client.acknowledge(message)
    publish(publisher, numbers(3, 5), qos)
    assert received + payloads(client.drain()) == numbers(0, 5)


@QOS
@ORDERED
def test_the_order_is_kept_for_a_client_that_reads_slowly(qos: int) -> None:
    broker = MemoryBroker(outbox_limit=40)
    client = subscriber(broker, qos)
    publisher = broker.connect("publisher")
    client.stop_reading()
    publish(publisher, numbers(0, 20), qos)
    client.resume_reading()
    publish(publisher, numbers(20, 25), qos)
    assert payloads(client.drain()) == numbers(0, 25)


@QOS
@ORDERED
def test_a_retained_message_comes_before_its_successors(qos: int) -> None:
    broker = MemoryBroker()
    publisher = broker.connect("publisher")
    publisher.publish("t", b"0", qos, retain=True)
    client = broker.connect("subscriber", properties={Property.RECEIVE_MAXIMUM: 1})
    client.send(
        SubscribePacket(1, [SubscriptionRequest("t", qos), SubscriptionRequest("other", qos)])
    )
    publish(publisher, numbers(1, 4), qos)
    assert payloads(client.drain()) == numbers(0, 4)


@ORDERED
def test_a_refused_message_leaves_the_order_of_the_others() -> None:
    broker = MemoryBroker()
    client = subscriber(broker, 1, receive_maximum=2)
    publish(broker.connect("publisher"), numbers(0, 6), 1)
    first, _ = client.take_all(Publish)
    client.send(Puback(first.packet_id, ReasonCode.UNSPECIFIED_ERROR))
    assert payloads(client.drain()) == numbers(2, 6)


# -- acknowledgements, for which the standard's rule binds clients and which we keep, too ----------


@pytest.mark.spec("5.0:MQTT-4.6.0-2", "5.0:MQTT-4.6.0-3")
def test_pubacks_and_pubrecs_come_in_the_order_of_the_messages() -> None:
    client = MemoryBroker().connect()
    client.send(*(Publish("t", b"x", 1 + n % 2, packet_id=n) for n in (9, 4, 7, 2, 8)))
    acks = client.received
    assert [each.packet_id for each in acks if isinstance(each, Puback | Pubrec)] == [9, 4, 7, 2, 8]


@pytest.mark.spec("5.0:MQTT-4.6.0-4")
def test_pubrels_come_in_the_order_of_the_pubrecs() -> None:
    broker = MemoryBroker()
    client = subscriber(broker, 2)
    publish(broker.connect("publisher"), numbers(0, 3), 2)
    first, second, third = (each.packet_id for each in client.take_all(Publish))
    client.send(Pubrec(third), Pubrec(first), Pubrec(second))
    order = [Pubrel(third), Pubrel(first), Pubrel(second)]
    assert client.take_all(Pubrel) == order
    client.lose()
    assert connect(broker).take_all(Pubrel) == order
