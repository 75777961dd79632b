"""Message delivery retry (MQTT 5 section 4.4): what a new connection brings again, whatever the
exchange had come to.
"""

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.properties import Properties, Property
from broker.packets.types import Packet, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.broker import MemoryBroker, MemoryClient

QOS = pytest.mark.parametrize("qos", [1, 2])


def connect(broker: MemoryBroker, client_id: str, **properties: int) -> MemoryClient:
    wanted: Properties = {Property.SESSION_EXPIRY_INTERVAL: 100_000}
    wanted.update({Property[name.upper()]: value for name, value in properties.items()})
    return broker.connect(client_id, clean_start=False, properties=wanted)


def back(client: MemoryClient, **properties: int) -> MemoryClient:
    client.lose()
    return connect(client.broker, client.connection.client_id, **properties)


def pair(qos: int, **properties: int) -> tuple[MemoryClient, MemoryClient]:
    broker = MemoryBroker()
    subscriber = connect(broker, "subscriber", **properties)
    subscriber.subscribe("#", qos=qos)
    return connect(broker, "publisher"), subscriber


def facts(packets: list[Packet]) -> list[tuple[str, int, bool]]:
    return [
        (type(each).__name__, each.packet_id, isinstance(each, Publish) and each.dup)
        for each in packets
        if isinstance(each, Publish | Pubrel)
    ]


# -- the broker as sender -------------------------------------------------------------------------


@QOS
@pytest.mark.spec("5.0:MQTT-4.4.0-1", "5.0:MQTT-3.3.1-1")
def test_a_publish_without_answer_comes_again_with_its_identifier_and_dup(qos: int) -> None:
    publisher, subscriber = pair(qos)
    publisher.publish("t", b"x", qos, properties={Property.CONTENT_TYPE: "text"})
    first = subscriber.take(Publish)
    again = back(subscriber).take(Publish)
    assert not first.dup
    assert again.dup
    again.dup = False
    assert again == first


@QOS
@pytest.mark.spec("5.0:MQTT-4.4.0-1")
def test_a_publish_that_never_left_the_outbox_comes_again(qos: int) -> None:
    publisher, subscriber = pair(qos)
    subscriber.stop_reading()
    publisher.publish("t", b"x", qos)
    assert subscriber.received == []
    assert back(subscriber).take(Publish).payload == b"x"


@pytest.mark.spec("5.0:MQTT-4.4.0-1")
def test_a_pubrel_without_answer_comes_again_with_its_identifier() -> None:
    publisher, subscriber = pair(2)
    publisher.publish("t", b"x", 2)
    packet_id = subscriber.take(Publish).packet_id
    subscriber.send(Pubrec(packet_id))
    assert back(subscriber).received == [Pubrel(packet_id)]


@pytest.mark.spec("5.0:MQTT-4.4.0-1")
def test_every_exchange_goes_on_where_it_stood() -> None:
    publisher, subscriber = pair(2)
    for n in range(4):
        publisher.publish("t", bytes([n]), 2)
    published, received, released, done = (p.packet_id for p in subscriber.take_all(Publish))
    subscriber.send(Pubrec(received), Pubrec(released), Pubrec(done), Pubcomp(done))
    subscriber = back(subscriber)
    assert sorted(facts(subscriber.received)) == sorted(
        [
            ("Publish", published, True),
            ("Pubrel", received, False),
            ("Pubrel", released, False),
        ]
    )
    subscriber.received.clear()
    subscriber.send(Pubcomp(received), Pubcomp(released), Pubrec(published))
    assert subscriber.take(Pubrel) == Pubrel(published)
    subscriber.send(Pubcomp(published))
    assert back(subscriber).received == []


@QOS
@pytest.mark.spec("5.0:MQTT-4.4.0-1")
def test_nothing_is_sent_again_while_a_connection_lasts(qos: int) -> None:
    publisher, subscriber = pair(qos)
    publisher.publish("t", b"x", qos)
    subscriber.take(Publish)
    subscriber.broker.pass_time(90_000)
    publisher.publish("t", b"y", qos)
    assert subscriber.messages() == [("t", b"y")]


@QOS
@pytest.mark.spec("5.0:MQTT-4.4.0-1")
def test_a_clean_start_brings_nothing_again(qos: int) -> None:
    publisher, subscriber = pair(qos)
    publisher.publish("t", b"x", qos)
    subscriber.lose()
    assert subscriber.broker.connect("subscriber").received == []


@pytest.mark.parametrize("ack", [Puback, Pubrec])
@pytest.mark.parametrize("reason", [ReasonCode.UNSPECIFIED_ERROR, ReasonCode.QUOTA_EXCEEDED])
@pytest.mark.spec("5.0:MQTT-4.4.0-2")
def test_a_refused_message_counts_as_acknowledged(
    ack: type[Puback] | type[Pubrec], reason: int
) -> None:
    publisher, subscriber = pair(1 if ack is Puback else 2, receive_maximum=1)
    publisher.publish("t", b"x", 2)
    publisher.publish("t", b"y", 2)
    subscriber.send(ack(subscriber.take(Publish).packet_id, reason))
    subscriber.acknowledge(subscriber.take(Publish))
    assert back(subscriber).received == []


@QOS
def test_what_a_take_over_interrupts_comes_again_on_the_new_connection(qos: int) -> None:
    publisher, subscriber = pair(qos)
    publisher.publish("t", b"x", qos)
    packet_id = subscriber.take(Publish).packet_id
    subscriber = connect(subscriber.broker, "subscriber")
    assert facts(subscriber.received) == [("Publish", packet_id, True)]


@QOS
def test_repetitions_come_in_their_order_and_before_what_waits(qos: int) -> None:
    publisher, subscriber = pair(qos, receive_maximum=3)
    for n in range(6):
        publisher.publish("t", bytes([n]), qos)
    first, *_ = subscriber.take_all(Publish)
    subscriber.acknowledge(first)
    subscriber = back(subscriber, receive_maximum=3)
    received = [(each.payload[0], each.dup) for each in subscriber.drain()]
    assert received == [(1, True), (2, True), (3, True), (4, False), (5, False)]


@QOS
@pytest.mark.spec("5.0:MQTT-4.4.0-1", "5.0:MQTT-4.9.0-2", "5.0:MQTT-3.3.4-9")
def test_repetitions_keep_to_the_receive_maximum_of_the_new_connection(qos: int) -> None:
    publisher, subscriber = pair(qos)
    for n in range(5):
        publisher.publish("t", bytes([n]), qos)
    subscriber = back(subscriber, receive_maximum=2)
    first, second = subscriber.take_all(Publish)
    assert (first.payload, second.payload) == (b"\0", b"\1")
    subscriber.acknowledge(first)
    (third,) = subscriber.take_all(Publish)
    assert (third.payload, third.dup) == (b"\2", True)
    subscriber.acknowledge(second)
    assert [each.payload for each in subscriber.drain()] == [b"\3", b"\4"]


@QOS
@pytest.mark.spec("5.0:MQTT-4.4.0-1")
def test_acknowledgements_that_come_before_the_repetition_spare_it(qos: int) -> None:
    publisher, subscriber = pair(qos)
    for n in range(4):
        publisher.publish("t", bytes([n]), qos)
    packet_ids = [each.packet_id for each in subscriber.take_all(Publish)]
    subscriber = back(subscriber, receive_maximum=1)
    acks = [Puback(n) if qos == 1 else Pubrec(n) for n in packet_ids]
    subscriber.send(*acks, *(Pubcomp(n) for n in packet_ids if qos == 2))
    subscriber.received.clear()
    assert back(subscriber).received == []


@QOS
def test_repetitions_larger_than_the_outbox_come_whole_and_in_order(qos: int) -> None:
    broker = MemoryBroker(outbox_limit=1000)
    subscriber = connect(broker, "subscriber")
    subscriber.subscribe("#", qos)
    publisher = connect(broker, "publisher")
    for n in range(10):
        publisher.publish("t", bytes([n]) * 400, qos)
    subscriber = back(subscriber)
    subscriber.lose()
    subscriber = connect(broker, "subscriber")
    payloads = [publish.payload[0] for publish in subscriber.take_all(Publish)]
    assert payloads == list(range(10))


@QOS
@pytest.mark.spec("5.0:MQTT-3.1.2-25")
def test_a_repetition_too_large_for_the_new_connection_is_dropped_and_the_next_goes(
    qos: int,
) -> None:
    publisher, subscriber = pair(qos, receive_maximum=1)
    publisher.publish("t", b"x" * 500, qos)
    publisher.publish("t", b"y", qos)
    subscriber = back(subscriber, receive_maximum=1, maximum_packet_size=100)
    assert subscriber.messages() == [("t", b"y")]


# -- the broker as receiver -----------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["the PUBREC", "the PUBREL", "the PUBCOMP"])
@pytest.mark.spec("5.0:MQTT-4.3.3-10", "5.0:MQTT-4.3.3-11")
def test_a_publisher_that_comes_back_in_any_state_is_delivered_exactly_once(lost: str) -> None:
    publisher, subscriber = pair(0)
    publish = Publish("t", b"x", 2, packet_id=5)
    publisher.send(publish)
    if lost == "the PUBCOMP":
        publisher.send(Pubrel(5))
    publisher = back(publisher)
    if lost == "the PUBREC":
        publish.dup = True
        publisher.send(publish)
        assert publisher.take(Pubrec) == Pubrec(5)
    publisher.send(Pubrel(5))
    assert publisher.take(Pubcomp).packet_id == 5
    assert subscriber.messages() == [("t", b"x")]
    publisher.publish("t", b"y", 2, packet_id=5)
    assert subscriber.messages() == [("t", b"y")]
