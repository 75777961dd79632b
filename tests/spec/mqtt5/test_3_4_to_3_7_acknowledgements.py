"""PUBACK, PUBREC, PUBREL, PUBCOMP (MQTT 5 sections 3.4 to 3.7): their flags, reasons and
properties. What they mean for the message is in test_4_3_qos.py.
"""

import pytest

from broker.engine.ports import Client
from broker.packets.codes import ReasonCode
from broker.packets.encode import encode
from broker.packets.properties import Properties, Property
from broker.packets.types import Disconnect, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.broker import MemoryBroker, MemoryClient

Ack = type[Puback] | type[Pubrec] | type[Pubrel] | type[Pubcomp]

ACKS: list[Ack] = [Puback, Pubrec, Pubrel, Pubcomp]
ANSWER: dict[int, type[Puback] | type[Pubrec]] = {1: Puback, 2: Pubrec}
QOS = pytest.mark.parametrize("qos", [1, 2])


class NothingAllowed:
    """An authorizer that refuses everything."""

    def may_publish(self, client: Client, topic: str) -> bool:
        return False

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:
        return False


def answer_to(broker: MemoryBroker, publish: Publish) -> Puback | Pubrec:
    client = broker.connect("publisher")
    client.send(publish)
    return client.take(ANSWER[publish.qos])


# -- reasons the broker sends ---------------------------------------------------------------------


@QOS
@pytest.mark.spec("5.0:MQTT-3.4.2-1", "5.0:MQTT-3.5.2-1")
def test_a_message_with_a_subscriber_is_a_success(qos: int) -> None:
    broker = MemoryBroker()
    broker.connect("subscriber").subscribe("t")
    assert answer_to(broker, Publish("t", b"x", qos, packet_id=7)).reason == ReasonCode.SUCCESS


@QOS
@pytest.mark.spec("5.0:MQTT-3.4.2-1", "5.0:MQTT-3.5.2-1")
def test_a_message_without_a_subscriber_is_told_so(qos: int) -> None:
    answer = answer_to(MemoryBroker(), Publish("t", b"x", qos, packet_id=7))
    assert answer.reason == ReasonCode.NO_MATCHING_SUBSCRIBERS


@QOS
@pytest.mark.spec("5.0:MQTT-3.4.2-1", "5.0:MQTT-3.5.2-1")
def test_a_message_that_is_not_allowed_is_refused_and_the_connection_stays(qos: int) -> None:
    broker = MemoryBroker(authorizer=NothingAllowed())
    client = broker.connect()
    client.publish("t", b"x", qos)
    assert client.take(ANSWER[qos]).reason == ReasonCode.NOT_AUTHORIZED
    assert not client.is_closed


@QOS
@pytest.mark.spec("5.0:MQTT-3.4.2-1", "5.0:MQTT-3.5.2-1")
def test_text_that_is_none_is_refused(qos: int) -> None:
    properties: Properties = {Property.PAYLOAD_FORMAT_INDICATOR: 1}
    publish = Publish("t", b"\xff", qos, packet_id=7, properties=properties)
    assert answer_to(MemoryBroker(), publish).reason == ReasonCode.PAYLOAD_FORMAT_INVALID


@QOS
@pytest.mark.spec("5.0:MQTT-3.4.2-1", "5.0:MQTT-3.5.2-1")
def test_a_retained_message_beyond_the_quota_is_refused(qos: int) -> None:
    broker = MemoryBroker(max_retained_messages=0)
    publish = Publish("t", b"x", qos, retain=True, packet_id=7)
    assert answer_to(broker, publish).reason == ReasonCode.QUOTA_EXCEEDED


@pytest.mark.spec("5.0:MQTT-3.6.2-1")
def test_a_pubrec_for_an_unknown_message_is_answered_with_the_reason_of_a_pubrel() -> None:
    client = MemoryBroker().connect()
    client.send(Pubrec(9))
    assert client.take(Pubrel) == Pubrel(9, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)


@pytest.mark.spec("5.0:MQTT-3.7.2-1")
def test_a_pubrel_for_an_unknown_message_is_answered_with_the_reason_of_a_pubcomp() -> None:
    client = MemoryBroker().connect()
    client.send(Pubrel(9))
    assert client.take(Pubcomp) == Pubcomp(9, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)


# -- reasons the broker receives ------------------------------------------------------------------


@pytest.mark.parametrize("ack", ACKS)
@pytest.mark.spec("5.0:MQTT-3.4.2-1", "5.0:MQTT-3.5.2-1", "5.0:MQTT-3.6.2-1", "5.0:MQTT-3.7.2-1")
def test_a_reason_of_another_packet_closes_the_connection(ack: Ack) -> None:
    client = MemoryBroker().connect()
    client.send(ack(1, ReasonCode.SESSION_TAKEN_OVER))
    assert client.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert client.is_closed


@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
@pytest.mark.spec("5.0:MQTT-3.6.1-1")
def test_a_pubrel_with_other_flags_than_0010_closes_the_connection(flags: int) -> None:
    client = MemoryBroker().connect()
    client.send_raw(bytes((0x60 | flags, 2, 0, 1)))
    assert client.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-3.6.1-1")
def test_the_brokers_pubrel_has_the_flags_0010() -> None:
    broker = MemoryBroker()
    subscriber = broker.connect("subscriber")
    subscriber.subscribe("t", qos=2)
    broker.connect("publisher").publish("t", b"x", qos=2)
    packet_id = subscriber.take(Publish).packet_id
    subscriber.raw = b""
    subscriber.send(Pubrec(packet_id))
    assert subscriber.raw == b"\x62\x02" + packet_id.to_bytes(2, "big")


# -- explanations that do not fit -----------------------------------------------------------------


def small_client(limit: int) -> MemoryClient:
    return MemoryBroker().connect(properties={Property.MAXIMUM_PACKET_SIZE: limit})


def explained(ack: Ack, properties: Properties) -> Puback | Pubrec | Pubrel | Pubcomp:
    reason = ReasonCode.NOT_AUTHORIZED if ack in {Puback, Pubrec} else 0x92
    return ack(7, reason, dict(properties))


@pytest.mark.parametrize("ack", ACKS)
@pytest.mark.spec("5.0:MQTT-3.4.2-2", "5.0:MQTT-3.5.2-2", "5.0:MQTT-3.6.2-2", "5.0:MQTT-3.7.2-2")
def test_a_reason_string_that_does_not_fit_is_left_out(ack: Ack) -> None:
    packet = explained(ack, {Property.REASON_STRING: "w" * 60})
    client = small_client(len(encode(packet, 5)) - 1)
    client.connection.send_packet(packet)
    client.flush()
    assert client.take(ack) == explained(ack, {})


@pytest.mark.parametrize("ack", ACKS)
@pytest.mark.spec("5.0:MQTT-3.4.2-3", "5.0:MQTT-3.5.2-3", "5.0:MQTT-3.6.2-3", "5.0:MQTT-3.7.2-3")
def test_user_properties_that_do_not_fit_are_left_out(ack: Ack) -> None:
    packet = explained(ack, {Property.USER_PROPERTY: [("k", "w" * 60)]})
    client = small_client(len(encode(packet, 5)) - 1)
    client.connection.send_packet(packet)
    client.flush()
    assert client.take(ack) == explained(ack, {})


@pytest.mark.parametrize("ack", ACKS)
def test_an_explanation_that_just_fits_is_sent(ack: Ack) -> None:
    properties: Properties = {Property.REASON_STRING: "w" * 60}
    client = small_client(len(encode(explained(ack, properties), 5)))
    client.connection.send_packet(explained(ack, properties))
    client.flush()
    assert client.take(ack) == explained(ack, properties)
