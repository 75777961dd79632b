"""UNSUBSCRIBE and UNSUBACK (MQTT 5 sections 3.10 and 3.11)."""

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.encode import encode
from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Unsuback,
    Unsubscribe,
)
from tests.support.broker import MemoryBroker

SUCCESS = ReasonCode.SUCCESS
NONE_EXISTED = ReasonCode.NO_SUBSCRIPTION_EXISTED
STAY = {Property.SESSION_EXPIRY_INTERVAL: 600}


# -- what is refused outright ---------------------------------------------------------------------


@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
@pytest.mark.spec("5.0:MQTT-3.10.1-1")
def test_an_unsubscribe_with_other_flags_than_0010_closes_the_connection(flags: int) -> None:
    client = MemoryBroker().connect()
    client.send_raw(bytes((0xA0 | flags,)) + b"\6\0\1\0\0\1t")
    assert client.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-3.10.3-2")
def test_an_unsubscribe_without_a_filter_closes_the_connection() -> None:
    client = MemoryBroker().connect()
    client.send_raw(b"\xa2\3\0\1\0")
    assert client.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert client.is_closed


# -- which subscriptions go -----------------------------------------------------------------------


@pytest.mark.parametrize("other", ["a/+", "a/#", "A/b", "a/b/", "/a/b", "a//b", "#", "+/b"])
@pytest.mark.spec("5.0:MQTT-3.10.4-1")
def test_only_the_filter_with_the_same_characters_is_deleted(other: str) -> None:
    client = MemoryBroker().connect()
    client.subscribe("a/b")
    assert client.unsubscribe(other).reasons == [NONE_EXISTED]
    client.publish("a/b", b"x")
    assert client.messages() == [("a/b", b"x")]


@pytest.mark.spec("5.0:MQTT-3.10.4-1")
def test_composed_and_decomposed_characters_are_different_filters() -> None:
    client = MemoryBroker().connect()
    client.subscribe("caf\u00e9")
    assert client.unsubscribe("cafe\u0301").reasons == [NONE_EXISTED]
    assert client.unsubscribe("caf\u00e9").reasons == [SUCCESS]


@pytest.mark.spec("5.0:MQTT-3.10.4-1")
def test_nobody_elses_subscription_is_deleted() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t")
    assert bob.unsubscribe("t").reasons == [NONE_EXISTED]
    bob.publish("t", b"x")
    assert alice.messages() == [("t", b"x")]


@pytest.mark.spec("5.0:MQTT-3.10.4-1")
def test_a_shared_subscription_and_a_plain_one_are_deleted_apart() -> None:
    client = MemoryBroker().connect()
    client.subscribe("t")
    client.subscribe("$share/g/t")
    assert client.unsubscribe("t").reasons == [SUCCESS]
    client.publish("t", b"x")
    assert client.messages() == [("t", b"x")]
    assert client.unsubscribe("$share/h/t", "$share/g/t").reasons == [NONE_EXISTED, SUCCESS]
    client.publish("t", b"x")
    assert client.received == []


# -- messages afterwards --------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.spec("5.0:MQTT-3.10.4-2")
def test_no_new_message_comes_for_a_deleted_filter(qos: int) -> None:
    broker = MemoryBroker()
    client, other = broker.connect("client"), broker.connect("other")
    client.subscribe("a/+", qos=2)
    other.publish("a/b", b"before")
    assert client.messages() == [("a/b", b"before")]
    client.unsubscribe("a/+")
    other.publish("a/b", b"after", qos=qos)
    assert client.received == []


@pytest.mark.spec("5.0:MQTT-3.10.4-2")
def test_nothing_new_is_queued_for_a_deleted_filter() -> None:
    broker = MemoryBroker()
    client = broker.connect("client", properties=STAY)
    client.subscribe("t", qos=1)
    client.unsubscribe("t")
    client.lose()
    broker.connect("other").publish("t", b"x", qos=1)
    assert broker.connect("client", clean_start=False, properties=STAY).received == []


@pytest.mark.spec("5.0:MQTT-3.10.4-2")
def test_another_filter_that_matches_still_brings_the_message() -> None:
    client = MemoryBroker().connect()
    client.subscribe("a/b")
    client.subscribe("a/#")
    client.unsubscribe("a/b")
    client.publish("a/b", b"x")
    assert client.messages() == [("a/b", b"x")]


@pytest.mark.spec("5.0:MQTT-3.10.4-3")
def test_a_qos_2_delivery_goes_on_to_its_end() -> None:
    broker = MemoryBroker()
    client = broker.connect("client")
    client.subscribe("t", qos=2)
    broker.connect("other").publish("t", b"x", qos=2)
    publish = client.take(Publish)
    client.unsubscribe("t")
    client.send(Pubrec(publish.packet_id))
    assert client.take(Pubrel) == Pubrel(publish.packet_id)
    client.send(Pubcomp(publish.packet_id))
    assert client.received == []
    assert not client.is_closed


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.spec("5.0:MQTT-3.10.4-3")
def test_a_delivery_begun_is_repeated_after_a_loss_although_the_filter_is_gone(qos: int) -> None:
    broker = MemoryBroker()
    client = broker.connect("client", properties=STAY)
    client.subscribe("t", qos=qos)
    broker.connect("other").publish("t", b"x", qos=qos)
    first = client.take(Publish)
    client.unsubscribe("t")
    client.lose()
    client = broker.connect("client", clean_start=False, properties=STAY)
    again = client.take(Publish)
    assert (again.packet_id, again.payload, again.dup) == (first.packet_id, b"x", True)
    client.acknowledge(again)
    assert client.received == []


# -- the answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("packet_id", [1, 77, 65_535])
@pytest.mark.spec("5.0:MQTT-3.10.4-4", "5.0:MQTT-3.10.4-5", "5.0:MQTT-3.11.3-2")
def test_every_unsubscribe_is_answered_with_its_packet_id_even_when_nothing_is_deleted(
    packet_id: int,
) -> None:
    client = MemoryBroker().connect()
    client.send(Unsubscribe(packet_id, ["t"]))
    assert client.take(Unsuback) == Unsuback(packet_id, [NONE_EXISTED])


@pytest.mark.spec("5.0:MQTT-3.10.4-6", "5.0:MQTT-3.11.3-1", "5.0:MQTT-3.11.3-2")
def test_one_answer_has_the_outcome_of_every_filter_in_their_order() -> None:
    client = MemoryBroker().connect()
    client.subscribe("a")
    client.subscribe("c")
    answer = client.unsubscribe("a", "b", "c", "a", "not/#/valid")
    assert answer.reasons == [SUCCESS, NONE_EXISTED, SUCCESS, NONE_EXISTED, NONE_EXISTED]
    assert client.received == []
    client.publish("a", b"x", qos=1)
    assert client.take(Puback).reason == ReasonCode.NO_MATCHING_SUBSCRIBERS


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(
            {Property.REASON_STRING: "w" * 60}, marks=pytest.mark.spec("5.0:MQTT-3.11.2-1")
        ),
        pytest.param(
            {Property.USER_PROPERTY: [("k", "w" * 60)]}, marks=pytest.mark.spec("5.0:MQTT-3.11.2-2")
        ),
    ],
)
def test_an_explanation_that_does_not_fit_is_left_out(properties: Properties) -> None:
    packet = Unsuback(1, [0x80], dict(properties))
    limit = len(encode(packet, 5)) - 1
    client = MemoryBroker().connect(properties={Property.MAXIMUM_PACKET_SIZE: limit})
    client.connection.send_packet(packet)
    client.flush()
    assert client.take(Unsuback) == Unsuback(1, [0x80])
