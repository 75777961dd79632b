"""MQTT 5 chapters 1 and 2 as far as only a running broker shows them; the encodings themselves are
held by tests/unit/packets.
"""

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.types import (
    Disconnect,
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


@pytest.mark.spec("5.0:MQTT-1.5.4-3")
def test_a_byte_order_mark_in_a_topic_is_a_character_like_any_other() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    alice.subscribe("\ufeffa")
    alice.publish("a", b"without")
    alice.publish("\ufeffa", b"with")
    assert alice.messages() == [("\ufeffa", b"with")]


@pytest.mark.spec("5.0:MQTT-1.5.4-1", "5.0:MQTT-1.5.4-2")
@pytest.mark.parametrize("topic", [b"a\0", b"\xed\xa0\x80", b"\xc0\xaf", b"\xff"])
def test_a_topic_that_is_no_valid_text_ends_the_connection_and_reaches_nobody(topic: bytes) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    bob.subscribe("#")
    body = len(topic).to_bytes(2, "big") + topic + b"\0payload"
    alice.send_raw(bytes((0x30, len(body))) + body)
    assert alice.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert alice.is_closed
    assert bob.received == []


@pytest.mark.spec("5.0:MQTT-1.5.7-1")
@pytest.mark.parametrize("pair", [b"\0\1\xff\0\1v", b"\0\1n\0\1\xff"])
def test_a_user_property_of_which_one_half_is_no_text_ends_the_connection(pair: bytes) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    body = b"\0\1t" + bytes((len(pair) + 1, 38)) + pair
    alice.send_raw(bytes((0x30, len(body))) + body)
    assert alice.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-2.2.1-2")
def test_a_qos_0_publish_of_the_broker_has_no_packet_identifier() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    alice.subscribe("t", qos=2)
    alice.raw = b""
    alice.publish("t", b"x", qos=0)
    assert alice.raw == b"\x30\x05\0\1t\0x"


@pytest.mark.spec("5.0:MQTT-2.2.1-4")
def test_messages_in_flight_have_different_identifiers_and_none_is_zero() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("#", qos=2)
    for qos in (1, 2, 1, 2, 1, 2):
        bob.publish("t", qos=qos)
    ids = [each.packet_id for each in alice.take_all(Publish)]
    assert len(set(ids)) == 6
    assert 0 not in ids


@pytest.mark.spec("5.0:MQTT-2.2.1-4")
def test_an_identifier_stays_in_use_until_pubcomp() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t", qos=2)
    bob.publish("t", qos=2)
    first = alice.take(Publish)
    alice.send(Pubrec(first.packet_id))
    alice.take(Pubrel)
    bob.publish("t", qos=2)
    assert alice.take(Publish).packet_id != first.packet_id


@pytest.mark.spec("5.0:MQTT-2.2.1-4")
def test_after_the_last_identifier_the_next_free_one_is_taken() -> None:
    broker = MemoryBroker(max_inflight=65_535)
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t", qos=1)
    bob.send_raw(b"\x32\x06\0\1t\0\1\0" * 65_535)
    ids = [each.packet_id for each in alice.take_all(Publish)]
    assert sorted(ids) == list(range(1, 65_536))
    alice.send(Puback(300), Puback(2))
    bob.send_raw(b"\x32\x06\0\1t\0\1\0" * 2)
    assert sorted(each.packet_id for each in alice.take_all(Publish)) == [2, 300]


@pytest.mark.spec("5.0:MQTT-2.2.1-5")
def test_every_acknowledgement_repeats_the_identifier_of_its_publish() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    alice.publish("t", qos=1, packet_id=65535)
    assert alice.take(Puback).packet_id == 65535
    alice.publish("t", qos=2, packet_id=258)
    assert alice.take(Pubrec).packet_id == 258
    alice.send(Pubrel(258))
    assert alice.take(Pubcomp).packet_id == 258


@pytest.mark.spec("5.0:MQTT-2.2.1-5")
def test_pubrel_repeats_the_identifier_of_the_brokers_publish() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t", qos=2)
    for _ in range(3):
        bob.publish("t", qos=2)
    _, second, _ = alice.take_all(Publish)
    alice.send(Pubrec(second.packet_id))
    assert alice.take(Pubrel).packet_id == second.packet_id


@pytest.mark.spec("5.0:MQTT-2.2.1-6")
def test_suback_and_unsuback_repeat_the_identifier_of_the_request() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    alice.send(Subscribe(4711, [SubscriptionRequest("t")]))
    assert alice.take(Suback).packet_id == 4711
    alice.send(Unsubscribe(65535, ["t"]))
    assert alice.take(Unsuback).packet_id == 65535


def test_the_identifiers_of_both_directions_do_not_disturb_each_other() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t", qos=2)
    bob.publish("t", qos=2)
    theirs = alice.take(Publish)
    alice.publish("elsewhere", qos=2, packet_id=theirs.packet_id)
    alice.take(Pubrec)
    alice.acknowledge(theirs)
    alice.send(Pubrel(theirs.packet_id))
    assert alice.take(Pubcomp).reason == 0
    assert alice.received == []
