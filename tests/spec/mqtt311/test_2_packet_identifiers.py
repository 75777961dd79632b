"""MQTT 3.1.1, section 2.3.1: packet identifiers; their format is held by tests/unit/packets."""

import pytest

from broker.packets.types import (
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from tests.support.broker import MemoryBroker


@pytest.mark.spec("3.1.1:MQTT-2.3.1-4")
def test_messages_on_their_way_to_a_client_have_different_identifiers() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    alice.subscribe("#", qos=2)
    for qos in (1, 2, 1, 2):
        bob.publish("t", qos=qos)
    identifiers = [each.packet_id for each in alice.take_all(Publish)]
    assert len(set(identifiers)) == 4
    assert 0 not in identifiers


@pytest.mark.spec("3.1.1:MQTT-2.3.1-4")
def test_an_identifier_in_use_is_passed_over_when_the_numbers_begin_anew() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    alice.subscribe("#", qos=1)
    bob.publish("t", qos=1)
    in_use = alice.take(Publish).packet_id
    session = alice.connection.session
    assert session is not None
    assert session._inflight is not None
    session._inflight._last_id = 65_530  # as if so many had come and gone
    for _ in range(10):
        bob.publish("t", qos=1, packet_id=1)
    identifiers = [each.packet_id for each in alice.take_all(Publish)]
    assert identifiers[:5] == [65_531, 65_532, 65_533, 65_534, 65_535]
    assert not {0, in_use}.intersection(identifiers)
    assert len(set(identifiers)) == 10


@pytest.mark.spec("3.1.1:MQTT-2.3.1-4")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_sent_again_keeps_its_identifier(qos: int) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4, clean_start=False)
    alice.subscribe("#", qos=2)
    broker.connect("bob", version=4).publish("t", qos=qos)
    first = alice.take(Publish)
    alice.lose()
    again = broker.connect("alice", version=4, clean_start=False).take(Publish)
    assert again.packet_id == first.packet_id


@pytest.mark.spec("3.1.1:MQTT-2.3.1-6", "3.1.1:MQTT-3.3.4-1")
@pytest.mark.parametrize("packet_id", [1, 0x1234, 0xFFFF])
def test_acknowledgements_repeat_the_identifier_of_the_message(packet_id: int) -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.publish("t", qos=1, packet_id=packet_id)
    assert client.take(Puback).packet_id == packet_id
    client.publish("t", qos=2, packet_id=packet_id)
    assert client.take(Pubrec).packet_id == packet_id
    client.send(Pubrel(packet_id))
    assert client.take(Pubcomp).packet_id == packet_id


@pytest.mark.spec("3.1.1:MQTT-2.3.1-6")
def test_the_release_repeats_the_identifier_of_the_message() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    alice.subscribe("#", qos=2)
    bob.publish("a", qos=2)
    bob.publish("b", qos=2)
    _, second = alice.take_all(Publish)
    alice.send(Pubrec(second.packet_id))
    assert alice.take(Pubrel).packet_id == second.packet_id


@pytest.mark.spec(
    "3.1.1:MQTT-2.3.1-7",
    "3.1.1:MQTT-3.8.4-1",
    "3.1.1:MQTT-3.8.4-2",
    "3.1.1:MQTT-3.10.4-4",
)
@pytest.mark.parametrize("packet_id", [1, 0x1234, 0xFFFF])
def test_subscribe_and_unsubscribe_are_answered_with_their_identifier(packet_id: int) -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.send(Subscribe(packet_id, [SubscriptionRequest("t")]))
    assert client.take(Suback) == Suback(packet_id, [0])
    client.send(Unsubscribe(packet_id, ["t"]))
    assert client.take(Unsuback) == Unsuback(packet_id)
