"""The three qualities of service (MQTT 5 section 4.3): the broker as sender and as receiver."""

import pytest

from broker.engine.ports import Client
from broker.packets.codes import ReasonCode
from broker.packets.properties import Property
from broker.packets.types import Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.broker import MemoryBroker, MemoryClient

STAY = {Property.SESSION_EXPIRY_INTERVAL: 100_000}
PACKET_IDS = pytest.mark.parametrize("packet_id", [1, 300, 65_535])


class Changeable:
    """An authorizer that can be told to refuse."""

    allowed = True

    def may_publish(self, client: Client, topic: str) -> bool:
        return self.allowed

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:
        return True


def pair(broker: MemoryBroker, qos: int) -> tuple[MemoryClient, MemoryClient]:
    """A publisher and a persistent subscriber of everything."""
    subscriber = broker.connect("subscriber", properties=STAY)
    subscriber.subscribe("#", qos=qos)
    return broker.connect("publisher", properties=STAY), subscriber


def back(client: MemoryClient) -> MemoryClient:
    """The client on a new connection, after losing the one before."""
    client.lose()
    client_id = client.connection.client_id
    return client.broker.connect(client_id, clean_start=False, properties=STAY)


def put_identifiers_forward(client: MemoryClient, last: int) -> None:
    """As if so many messages had come and gone."""
    session = client.connection.session
    assert session is not None
    assert session._inflight is not None
    session._inflight._last_id = last


# -- QoS 0 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.spec("5.0:MQTT-4.3.1-1")
def test_qos_0_goes_out_without_dup_and_without_packet_id(published: int) -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=0)
    subscriber.raw = b""
    publisher.publish("t", b"x", qos=published, dup=published > 0)
    assert subscriber.raw == b"\x30\5\0\1t\0x"


# -- the broker sends QoS 1 and 2 -----------------------------------------------------------------


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.spec("5.0:MQTT-4.3.2-1", "5.0:MQTT-4.3.3-1")
def test_every_new_message_has_an_identifier_that_no_other_is_using(qos: int) -> None:
    publisher, subscriber = pair(MemoryBroker(), qos)
    for _ in range(50):
        publisher.publish("t", b"x", qos=1)
    first = subscriber.take_all(Publish)
    for publish in first[::2]:
        subscriber.acknowledge(publish)
    in_use = {publish.packet_id for publish in first[1::2]}
    put_identifiers_forward(subscriber, 65_530)
    for _ in range(50):
        publisher.publish("t", b"x", qos=1)
    later = [publish.packet_id for publish in subscriber.take_all(Publish)]
    assert len(set(later)) == 50
    assert not in_use & set(later)


@pytest.mark.spec("5.0:MQTT-4.3.3-1")
def test_an_identifier_is_in_use_until_its_pubcomp() -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=2)
    publisher.publish("t", b"x", qos=2)
    in_use = subscriber.take(Publish).packet_id
    subscriber.send(Pubrec(in_use))
    subscriber.take(Pubrel)
    put_identifiers_forward(subscriber, in_use - 1)
    publisher.publish("t", b"y", qos=2)
    assert subscriber.take(Publish).packet_id != in_use


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.spec("5.0:MQTT-4.3.2-2", "5.0:MQTT-4.3.3-2")
def test_a_new_message_goes_out_without_dup_even_if_it_came_with_it(qos: int) -> None:
    publisher, subscriber = pair(MemoryBroker(), qos)
    publisher.publish("t", b"x", qos=qos, dup=True)
    publish = subscriber.take(Publish)
    assert (publish.qos, publish.dup) == (qos, False)


@pytest.mark.spec("5.0:MQTT-4.3.2-3")
def test_a_qos_1_message_is_unacknowledged_until_its_own_puback() -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=1)
    publisher.publish("t", b"x", qos=1)
    packet_id = subscriber.take(Publish).packet_id
    subscriber.send(Puback(packet_id + 1))
    for _ in range(2):
        subscriber = back(subscriber)
        assert subscriber.take(Publish).packet_id == packet_id
    subscriber.send(Puback(packet_id))
    assert back(subscriber).received == []


@pytest.mark.spec("5.0:MQTT-4.3.3-3")
def test_a_qos_2_message_is_unacknowledged_until_its_own_pubrec() -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=2)
    publisher.publish("t", b"x", qos=2)
    packet_id = subscriber.take(Publish).packet_id
    subscriber.send(Pubrec(packet_id + 1))
    for _ in range(2):
        subscriber = back(subscriber)
        assert subscriber.take(Publish).packet_id == packet_id


@pytest.mark.parametrize(
    "reason", [ReasonCode.SUCCESS, ReasonCode.NO_MATCHING_SUBSCRIBERS], ids=str
)
@pytest.mark.spec("5.0:MQTT-4.3.3-4")
def test_a_pubrec_below_0x80_is_answered_with_pubrel(reason: int) -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=2)
    publisher.publish("t", b"x", qos=2)
    packet_id = subscriber.take(Publish).packet_id
    subscriber.send(Pubrec(packet_id, reason))
    assert subscriber.take(Pubrel) == Pubrel(packet_id)


@pytest.mark.spec("5.0:MQTT-4.3.3-5")
def test_a_pubrel_is_unacknowledged_until_its_own_pubcomp() -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=2)
    publisher.publish("t", b"x", qos=2)
    packet_id = subscriber.take(Publish).packet_id
    subscriber.send(Pubrec(packet_id), Pubcomp(packet_id + 1))
    for _ in range(2):
        subscriber = back(subscriber)
        assert subscriber.take(Pubrel) == Pubrel(packet_id)
    subscriber.send(Pubcomp(packet_id))
    assert back(subscriber).received == []


@pytest.mark.spec("5.0:MQTT-4.3.3-6")
def test_after_its_pubrel_a_message_is_never_published_again() -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=2)
    publisher.publish("t", b"x", qos=2)
    packet_id = subscriber.take(Publish).packet_id
    subscriber.send(Pubrec(packet_id), Pubrec(packet_id))
    assert set(map(type, subscriber.received)) == {Pubrel}
    subscriber = back(subscriber)
    subscriber.send(Pubrec(packet_id))
    assert set(map(type, subscriber.received)) == {Pubrel}


@pytest.mark.spec("5.0:MQTT-4.3.3-7")
def test_a_message_that_was_sent_does_not_expire_any_more() -> None:
    broker = MemoryBroker()
    publisher, subscriber = pair(broker, qos=2)
    expiry = {Property.MESSAGE_EXPIRY_INTERVAL: 5}
    publisher.publish("t", b"x", qos=2, properties=expiry)
    packet_id = subscriber.take(Publish).packet_id
    subscriber.lose()
    broker.pass_time(3600)
    subscriber = back(subscriber)
    assert subscriber.take(Publish).packet_id == packet_id
    broker.pass_time(3600)
    subscriber.send(Pubrec(packet_id))
    subscriber.lose()
    broker.pass_time(3600)
    assert back(subscriber).take(Pubrel) == Pubrel(packet_id)


def test_a_message_that_was_not_sent_does_expire() -> None:
    broker = MemoryBroker()
    publisher, subscriber = pair(broker, qos=2)
    subscriber.lose()
    publisher.publish("t", b"x", qos=2, properties={Property.MESSAGE_EXPIRY_INTERVAL: 5})
    publisher.publish("t", b"y", qos=2)
    broker.pass_time(6)
    assert back(subscriber).messages() == [("t", b"y")]


# -- the broker receives QoS 1 --------------------------------------------------------------------


@PACKET_IDS
@pytest.mark.spec("5.0:MQTT-4.3.2-4")
def test_a_qos_1_message_is_answered_with_puback_of_the_same_identifier(packet_id: int) -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=0)
    publisher.publish("t", b"x", qos=1, packet_id=packet_id)
    assert publisher.take(Puback) == Puback(packet_id)
    assert subscriber.messages() == [("t", b"x")]


@pytest.mark.parametrize("dup", [False, True])
@pytest.mark.spec("5.0:MQTT-4.3.2-5")
def test_after_the_puback_the_same_identifier_is_a_new_message(dup: bool) -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=0)
    publisher.publish("t", b"x", qos=1, packet_id=3)
    publisher.publish("t", b"x", qos=1, packet_id=3, dup=dup)
    assert subscriber.messages() == [("t", b"x"), ("t", b"x")]
    assert publisher.take_all(Puback) == [Puback(3), Puback(3)]


# -- the broker receives QoS 2 --------------------------------------------------------------------


@PACKET_IDS
@pytest.mark.spec("5.0:MQTT-4.3.3-8")
def test_a_qos_2_message_is_answered_with_pubrec_of_the_same_identifier(packet_id: int) -> None:
    publisher, _ = pair(MemoryBroker(), qos=0)
    publisher.publish("t", b"x", qos=2, packet_id=packet_id)
    assert publisher.take(Pubrec) == Pubrec(packet_id)


@pytest.mark.spec("5.0:MQTT-4.3.3-9")
def test_after_a_pubrec_that_refuses_the_same_identifier_is_a_new_message() -> None:
    law = Changeable()
    publisher, subscriber = pair(MemoryBroker(authorizer=law), qos=0)
    law.allowed = False
    publisher.publish("t", b"no", qos=2, packet_id=3)
    assert publisher.take(Pubrec).reason >= 0x80
    law.allowed = True
    publisher.publish("t", b"yes", qos=2, packet_id=3)
    assert publisher.take(Pubrec) == Pubrec(3)
    assert subscriber.messages() == [("t", b"yes")]


@pytest.mark.parametrize("dup", [False, True])
@pytest.mark.spec("5.0:MQTT-4.3.3-10")
def test_until_its_pubrel_a_repeated_publish_is_answered_but_not_passed_on(dup: bool) -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=2)
    for repeated in (False, dup, dup):
        publisher.publish("t", b"x", qos=2, packet_id=3, dup=repeated)
        assert publisher.take(Pubrec) == Pubrec(3)
    assert subscriber.messages() == [("t", b"x")]


@pytest.mark.spec("5.0:MQTT-4.3.3-10")
def test_a_publish_repeated_on_the_next_connection_is_not_passed_on() -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=2)
    publisher.publish("t", b"x", qos=2, packet_id=3)
    publisher = back(publisher)
    publisher.publish("t", b"x", qos=2, packet_id=3, dup=True)
    assert publisher.take(Pubrec) == Pubrec(3)
    assert subscriber.messages() == [("t", b"x")]


@PACKET_IDS
@pytest.mark.spec("5.0:MQTT-4.3.3-11")
def test_a_pubrel_is_answered_with_pubcomp_of_the_same_identifier(packet_id: int) -> None:
    publisher, _ = pair(MemoryBroker(), qos=0)
    publisher.publish("t", b"x", qos=2, packet_id=packet_id)
    publisher.send(Pubrel(packet_id))
    assert publisher.received == [Pubrec(packet_id), Pubcomp(packet_id)]


@pytest.mark.spec("5.0:MQTT-4.3.3-11")
def test_a_pubrel_repeated_on_the_next_connection_is_answered() -> None:
    publisher, _ = pair(MemoryBroker(), qos=0)
    publisher.publish("t", b"x", qos=2, packet_id=3)
    publisher = back(publisher)
    publisher.send(Pubrel(3))
    assert publisher.take(Pubcomp) == Pubcomp(3)


@pytest.mark.parametrize("dup", [False, True])
@pytest.mark.spec("5.0:MQTT-4.3.3-12")
def test_after_the_pubcomp_the_same_identifier_is_a_new_message(dup: bool) -> None:
    publisher, subscriber = pair(MemoryBroker(), qos=0)
    publisher.publish("t", b"1", qos=2, packet_id=3)
    publisher.send(Pubrel(3))
    publisher.publish("t", b"2", qos=2, packet_id=3, dup=dup)
    assert subscriber.messages() == [("t", b"1"), ("t", b"2")]


@pytest.mark.spec("5.0:MQTT-4.3.3-13")
def test_the_handshake_of_an_expired_message_is_finished_as_receiver() -> None:
    broker = MemoryBroker()
    publisher, subscriber = pair(broker, qos=0)
    expiry = {Property.MESSAGE_EXPIRY_INTERVAL: 1}
    publisher.publish("t", b"x", qos=2, packet_id=3, properties=expiry)
    broker.pass_time(60)
    publisher.publish("t", b"x", qos=2, packet_id=3, dup=True, properties=expiry)
    publisher.send(Pubrel(3))
    assert publisher.received == [Pubrec(3), Pubrec(3), Pubcomp(3)]
    assert subscriber.messages() == [("t", b"x")]


@pytest.mark.spec("5.0:MQTT-4.3.3-13")
def test_the_handshake_of_an_expired_message_is_finished_as_sender() -> None:
    broker = MemoryBroker()
    publisher, subscriber = pair(broker, qos=2)
    publisher.publish("t", b"x", qos=2, properties={Property.MESSAGE_EXPIRY_INTERVAL: 1})
    publish = subscriber.take(Publish)
    broker.pass_time(60)
    subscriber.acknowledge(publish)
    assert back(subscriber).received == []


@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_beyond_what_one_client_may_have_unreleased_is_new_when_it_comes_again(
    qos: int,
) -> None:
    publisher, subscriber = pair(MemoryBroker(receive_maximum=1), qos=qos)
    publisher.publish("t", b"1", qos=2, packet_id=1)
    publisher.publish("t", b"2", qos=2, packet_id=2)
    assert publisher.is_closed
    publisher = back(publisher)
    publisher.send(Pubrel(1))
    publisher.publish("t", b"2", qos=2, packet_id=2, dup=True)
    assert subscriber.messages() == [("t", b"1"), ("t", b"2")]
