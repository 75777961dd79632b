"""MQTT 3.1.1, sections 3.8 to 3.11: SUBSCRIBE and UNSUBSCRIBE with their answers."""

import pytest

from broker.engine.ports import Client
from broker.packets.encode import encode
from broker.packets.types import (
    Connect,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from tests.support.broker import MemoryBroker, MemoryClient


class Forbidding:
    """An Authorizer that lets nobody subscribe to "secret"."""

    def may_publish(self, client: Client, topic: str) -> bool:
        return True

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:
        return topic_filter != "secret"


def subscribe(client: MemoryClient, *wanted: tuple[str, int]) -> list[int]:
    """Subscribe to several filters in one packet; the codes of the SUBACK."""
    requests = [SubscriptionRequest(each, qos) for each, qos in wanted]
    client.send(Subscribe(client.next_id(), requests))
    return client.take(Suback).reasons


# -- SUBSCRIBE -------------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-3.8.1-1", "3.1.1:MQTT-2.2.2-2")
@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
def test_subscribe_with_other_flags_closes_the_connection(flags: int) -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.send_raw(bytes([0x80 | flags]) + b"\6\0\1\0\1t\0")
    assert client.is_closed
    assert client.received == []


@pytest.mark.spec("3.1.1:MQTT-3.8.3-4")
@pytest.mark.parametrize("options", [3, 4, 8, 0x10, 0x20, 0x40, 0x80, 0xFC, 0xFF])
def test_reserved_bits_beside_the_requested_qos_close_the_connection(options: int) -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.send_raw(b"\x82\6\0\1\0\1t" + bytes([options]))
    assert client.is_closed
    assert client.received == []


@pytest.mark.spec("3.1.1:MQTT-4.8.0-1")
def test_subscribe_without_a_filter_closes_the_connection() -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.send_raw(b"\x82\2\0\1")
    assert client.is_closed


@pytest.mark.spec("3.1.1:MQTT-3.8.4-3")
def test_the_same_filter_again_replaces_the_subscription() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    alice.subscribe("t", qos=0)
    alice.subscribe("t", qos=2)
    bob.publish("t", b"x", qos=2)
    assert [each.qos for each in alice.take_all(Publish)] == [2]
    alice.subscribe("t", qos=1)
    bob.publish("t", b"y", qos=2)
    assert [each.qos for each in alice.take_all(Publish)] == [1]
    alice.unsubscribe("t")
    bob.publish("t", b"z", qos=2)
    assert alice.received == []


@pytest.mark.spec("3.1.1:MQTT-3.8.4-3")
def test_the_same_filter_again_sends_retained_messages_again() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4)
    broker.connect("bob", version=4).publish("t", b"x", retain=True)
    for _ in range(3):
        alice.subscribe("t")
        message = alice.take(Publish)
        assert (message.payload, message.retain) == (b"x", True)


@pytest.mark.spec("3.1.1:MQTT-3.8.4-3")
def test_no_message_is_lost_while_a_subscription_is_replaced() -> None:
    broker = MemoryBroker(max_inflight=1)
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    alice.subscribe("t", qos=1)
    for number in range(4):
        bob.publish("t", b"%d" % number, qos=1)
        if number == 1:
            first = alice.take(Publish)
            alice.subscribe("t", qos=2)
    alice.acknowledge(first)
    payloads = [first.payload]
    while alice.received:
        message = alice.take(Publish)
        payloads.append(message.payload)
        alice.acknowledge(message)
    assert payloads == [b"0", b"1", b"2", b"3"]


@pytest.mark.spec("3.1.1:MQTT-3.8.4-4", "3.1.1:MQTT-3.8.4-5", "3.1.1:MQTT-3.9.3-1")
def test_several_filters_have_one_suback_with_a_code_for_each_in_their_order() -> None:
    broker = MemoryBroker(authorizer=Forbidding())
    alice = broker.connect("alice", version=4)
    wanted = [("a", 2), ("secret", 1), ("b/#", 0), ("c", 1), ("bad/#/filter", 2), ("a", 1)]
    assert subscribe(alice, *wanted) == [2, 0x80, 0, 1, 0x80, 1]
    assert alice.received == []


@pytest.mark.spec("3.1.1:MQTT-3.8.4-4")
def test_several_filters_act_like_several_subscribes() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob", version=4)
    bob.publish("a", b"retained", retain=True)
    alice = broker.connect("alice", version=4)
    subscribe(alice, ("a", 2), ("b", 1), ("b", 0))
    assert alice.messages() == [("a", b"retained")]
    bob.publish("a", b"x", qos=2)
    bob.publish("b", b"y", qos=2)
    assert [(each.topic, each.qos) for each in alice.take_all(Publish)] == [("a", 2), ("b", 0)]


@pytest.mark.spec("3.1.1:MQTT-3.8.4-6", "3.1.1:MQTT-3.8.4-5")
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("requested", [0, 1, 2])
def test_a_message_comes_at_the_lower_of_published_and_granted_qos(
    published: int, requested: int
) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4)
    (granted,) = alice.subscribe("t", requested).reasons
    assert granted == requested
    broker.connect("bob", version=4).publish("t", b"x", qos=published)
    assert alice.take(Publish).qos == min(published, granted)


@pytest.mark.spec("3.1.1:MQTT-3.8.4-6")
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_a_retained_message_comes_at_the_lower_of_published_and_granted_qos(
    published: int, granted: int
) -> None:
    broker = MemoryBroker()
    broker.connect("bob", version=4).publish("t", b"x", qos=published, retain=True)
    alice = broker.connect("alice", version=4)
    alice.subscribe("t", granted)
    assert alice.take(Publish).qos == min(published, granted)


@pytest.mark.spec("3.1.1:MQTT-3.9.3-2")
@pytest.mark.parametrize(
    "wanted", ["secret", "a/#/b", "a+", "", "a\x00", 200 * "a/", "b"], ids=lambda each: each[:8]
)
def test_a_refused_filter_is_told_with_0x80_and_nothing_else(wanted: str) -> None:
    broker = MemoryBroker(authorizer=Forbidding(), max_subscriptions_per_client=1)
    alice = broker.connect("alice", version=4)
    alice.subscribe("t")
    name = wanted.encode()
    body = b"\0\5" + len(name).to_bytes(2, "big") + name + b"\1"
    alice.raw = b""
    alice.send_raw(bytes([0x82]) + encode_length(len(body)) + body)
    if "\0" in wanted:
        assert alice.is_closed  # [MQTT-1.5.3-2]
    else:
        assert alice.raw == b"\x90\3\0\5\x80"


def encode_length(length: int) -> bytes:
    """The remaining length of a short packet."""
    return bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])


def test_messages_may_come_for_the_filters_of_a_subscribe_only_after_its_suback() -> None:
    broker = MemoryBroker()
    broker.connect("bob", version=4).publish("t", b"x", retain=True)
    alice = broker.client(version=4)
    alice.send_raw(
        encode(Connect("alice"), 4) + encode(Subscribe(1, [SubscriptionRequest("t")]), 4)
    )
    assert [type(each).__name__ for each in alice.received] == ["Connack", "Suback", "Publish"]


# -- UNSUBSCRIBE -----------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-3.10.1-1", "3.1.1:MQTT-2.2.2-2")
@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
def test_unsubscribe_with_other_flags_closes_the_connection(flags: int) -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.send_raw(bytes([0xA0 | flags]) + b"\5\0\1\0\1t")
    assert client.is_closed
    assert client.received == []


@pytest.mark.spec("3.1.1:MQTT-3.10.4-1", "3.1.1:MQTT-3.10.4-2")
@pytest.mark.parametrize("held", ["a/b", "a/+", "a/#", "#", "+/b"])
def test_unsubscribing_ends_the_delivery(held: str) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    alice.subscribe(held, qos=1)
    bob.publish("a/b", b"1")
    alice.take(Publish)
    alice.unsubscribe(held)
    bob.publish("a/b", b"2", qos=1)
    assert alice.received == []


@pytest.mark.spec("3.1.1:MQTT-3.10.4-1")
@pytest.mark.parametrize("other", ["a/b", "a/#", "#", "A/+", "a/+/", "a/ +", "a"])
def test_only_the_very_same_filter_is_deleted(other: str) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4)
    alice.subscribe("a/+")
    alice.unsubscribe(other)
    broker.connect("bob", version=4).publish("a/b")
    assert alice.messages() == [("a/b", b"")]


@pytest.mark.spec("3.1.1:MQTT-3.10.4-2")
def test_nothing_is_stored_for_a_deleted_subscription() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4, clean_start=False)
    alice.subscribe("t", qos=1)
    alice.unsubscribe("t")
    alice.lose()
    broker.connect("bob", version=4).publish("t", qos=1)
    assert broker.connect("alice", version=4, clean_start=False).received == []


@pytest.mark.spec("3.1.1:MQTT-3.10.4-3")
def test_deliveries_begun_are_finished_after_unsubscribing() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4, clean_start=False)
    alice.subscribe("t", qos=2)
    bob = broker.connect("bob", version=4)
    bob.publish("t", b"1", qos=1)
    bob.publish("t", b"2", qos=2)
    _, second = alice.take_all(Publish)
    alice.unsubscribe("t")
    alice.send(Pubrec(second.packet_id))
    assert alice.take(Pubrel).packet_id == second.packet_id
    alice.lose()
    alice = broker.connect("alice", version=4, clean_start=False)
    assert Pubrel(second.packet_id) in alice.received
    (again,) = [each for each in alice.received if isinstance(each, Publish)]
    assert (again.payload, again.dup) == (b"1", True)


@pytest.mark.spec("3.1.1:MQTT-3.10.4-4", "3.1.1:MQTT-3.10.4-5")
def test_unsubscribing_from_what_was_never_subscribed_is_answered() -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.raw = b""
    client.send(Unsubscribe(0x1234, ["never", "a/#/not a filter"]))
    assert client.raw == b"\xb0\2\x12\x34"


@pytest.mark.spec("3.1.1:MQTT-3.10.4-6")
def test_several_filters_are_unsubscribed_with_one_unsuback() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    subscribe(alice, ("a", 0), ("b", 0), ("c", 0), ("d/#", 0))
    alice.send(Unsubscribe(9, ["d/#", "a", "x", "c"]))
    assert alice.take_all(Unsuback) == [Unsuback(9)]
    for topic in ("a", "b", "c", "d/e"):
        bob.publish(topic)
    assert alice.messages() == [("b", b"")]
