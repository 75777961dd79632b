"""MQTT 3.1.1, section 3.3: PUBLISH, and what is retained."""

import pytest

from broker.engine.ports import Client
from broker.packets.types import Pingreq, Pingresp, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.broker import MemoryBroker, MemoryClient


class Forbidding:
    """An Authorizer that lets nobody publish to "secret"."""

    def may_publish(self, client: Client, topic: str) -> bool:
        return topic != "secret"

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:
        return True


def pair(broker: MemoryBroker, qos: int = 2) -> tuple[MemoryClient, MemoryClient]:
    """A persistent subscriber to everything, and a publisher."""
    alice = broker.connect("alice", version=4, clean_start=False)
    alice.subscribe("#", qos)
    return alice, broker.connect("bob", version=4)


def retained(broker: MemoryBroker, topic_filter: str = "#", qos: int = 2) -> list[Publish]:
    """What a new subscriber gets at once."""
    reader = broker.connect("", version=4)
    reader.subscribe(topic_filter, qos)
    return reader.take_all(Publish)


# -- DUP and QoS -----------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-3.3.1-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_dup_is_set_whenever_a_message_is_sent_again(qos: int) -> None:
    broker = MemoryBroker()
    alice, bob = pair(broker)
    bob.publish("t", b"x", qos=qos)
    assert not alice.take(Publish).dup
    for _ in range(3):
        alice.lose()
        alice = broker.connect("alice", version=4, clean_start=False)
        assert alice.take(Publish).dup


@pytest.mark.spec("3.1.1:MQTT-3.3.1-2", "3.1.1:MQTT-4.3.1-1")
@pytest.mark.parametrize(("published", "granted"), [(0, 2), (1, 0), (2, 0)])
def test_a_message_at_qos_0_has_no_dup_and_no_identifier(published: int, granted: int) -> None:
    alice, bob = pair(MemoryBroker(), granted)
    alice.raw = b""
    bob.publish("t", b"x", qos=published, dup=published > 0)
    assert alice.raw == b"\x30\4\0\1tx"


@pytest.mark.spec("3.1.1:MQTT-3.3.1-3")
@pytest.mark.parametrize("qos", [1, 2])
def test_the_publishers_dup_is_not_passed_on(qos: int) -> None:
    alice, bob = pair(MemoryBroker())
    bob.publish("t", b"x", qos=qos, dup=True)
    message = alice.take(Publish)
    assert (message.payload, message.dup) == (b"x", False)


@pytest.mark.spec("3.1.1:MQTT-3.3.1-4")
@pytest.mark.parametrize("flags", [0x6, 0x7, 0xE, 0xF])
def test_qos_3_closes_the_connection(flags: int) -> None:
    alice, bob = pair(MemoryBroker())
    bob.send_raw(bytes([0x30 | flags]) + b"\6\0\1t\0\1x")
    assert bob.is_closed
    assert alice.received == []


@pytest.mark.spec("3.1.1:MQTT-3.3.4-1")
def test_a_publish_is_answered_as_its_qos_demands() -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.publish("t", qos=0)
    assert client.received == []
    client.publish("t", qos=1, packet_id=7)
    assert client.take_all(Puback) == [Puback(7)]
    client.publish("t", qos=2, packet_id=7)
    assert client.take_all(Pubrec) == [Pubrec(7)]
    client.send(Pubrel(7))
    assert client.take_all(Pubcomp) == [Pubcomp(7)]


# -- the topic -------------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-3.3.2-1", "3.1.1:MQTT-4.7.3-4", "3.1.1:MQTT-1.5.3-3")
@pytest.mark.parametrize(
    "topic", ["t", "/", "//", " a /B", "größe/温度", "\ufeffa", "a\u200bb", "e\u0301", "\U0001f300"]
)
def test_a_topic_name_reaches_its_subscribers_unchanged(topic: str) -> None:
    alice, bob = pair(MemoryBroker())
    alice.raw = b""
    bob.publish(topic, b"x")
    name = topic.encode()
    assert alice.raw == bytes([0x30, len(name) + 3, 0, len(name)]) + name + b"x"


@pytest.mark.spec("3.1.1:MQTT-3.3.2-2", "3.1.1:MQTT-4.7.1-1")
@pytest.mark.parametrize("topic", ["#", "+", "a/#", "a/+/b", "a+", "a#b"])
def test_a_wildcard_in_a_topic_name_closes_the_connection(topic: str) -> None:
    alice, bob = pair(MemoryBroker())
    bob.publish(topic, b"x")
    assert bob.is_closed
    assert alice.received == []


@pytest.mark.spec("3.1.1:MQTT-3.3.2-3", "3.1.1:MQTT-4.7.2-1")
def test_only_messages_that_match_a_filter_are_delivered() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    alice.subscribe("a/+/c")
    for topic in ("a/b/c", "a//c", "a/b", "a/b/c/d", "A/b/c", "/a/b/c", "a/b/c/"):
        bob.publish(topic)
    assert alice.messages() == [("a/b/c", b""), ("a//c", b"")]


# -- what is retained ------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-3.3.1-5", "3.1.1:MQTT-3.3.1-8")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_retained_message_is_kept_with_its_qos_and_sent_with_retain(qos: int) -> None:
    broker = MemoryBroker()
    broker.connect("bob", version=4).publish("t", b"x", qos=qos, retain=True)
    (message,) = retained(broker)
    assert (message.topic, message.payload, message.qos) == ("t", b"x", qos)
    assert message.retain
    assert not message.dup


@pytest.mark.spec("3.1.1:MQTT-3.3.1-5", "3.1.1:MQTT-3.3.1-6")
def test_a_new_subscription_gets_the_last_retained_message_of_every_matching_topic() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob", version=4)
    for topic, payload in [("a/1", b"old"), ("a/2", b"2"), ("b", b"3"), ("a/1", b"new")]:
        bob.publish(topic, payload, retain=True)
    found = {(each.topic, each.payload) for each in retained(broker, "a/#")}
    assert found == {("a/1", b"new"), ("a/2", b"2")}


@pytest.mark.spec("3.1.1:MQTT-3.3.1-7")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_retained_message_at_qos_0_displaces_the_one_before(qos: int) -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob", version=4)
    bob.publish("t", b"old", qos=qos, retain=True)
    bob.publish("t", b"new", qos=0, retain=True)
    assert [(each.payload, each.qos) for each in retained(broker)] == [(b"new", 0)]


@pytest.mark.spec("3.1.1:MQTT-3.3.1-7")
def test_a_retained_message_at_qos_0_for_which_there_is_no_room_still_displaces() -> None:
    broker = MemoryBroker(max_retained_size=1000)
    bob = broker.connect("bob", version=4)
    bob.publish("t", b"old", retain=True)
    bob.publish("t", 2000 * b"x", retain=True)
    assert retained(broker) == []


@pytest.mark.spec("3.1.1:MQTT-3.3.1-9")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_established_subscription_gets_messages_without_retain(qos: int) -> None:
    alice, bob = pair(MemoryBroker())
    bob.publish("t", b"x", qos=qos, retain=True)
    message = alice.take(Publish)
    assert (message.payload, message.retain) == (b"x", False)


@pytest.mark.spec("3.1.1:MQTT-3.3.1-9")
def test_a_stored_message_for_an_absent_subscriber_comes_without_retain() -> None:
    broker = MemoryBroker()
    alice, bob = pair(broker)
    alice.lose()
    bob.publish("t", b"x", qos=1, retain=True)
    assert not broker.connect("alice", version=4, clean_start=False).take(Publish).retain


@pytest.mark.spec("3.1.1:MQTT-3.3.1-10")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_empty_retained_message_is_delivered_and_erases(qos: int) -> None:
    broker = MemoryBroker()
    alice, bob = pair(broker)
    bob.publish("t", b"x", retain=True)
    alice.take(Publish)
    bob.publish("t", b"", qos=qos, retain=True)
    message = alice.take(Publish)
    assert (message.payload, message.retain) == (b"", False)
    assert retained(broker) == []


@pytest.mark.spec("3.1.1:MQTT-3.3.1-11")
def test_an_empty_message_is_not_retained() -> None:
    broker = MemoryBroker()
    broker.connect("bob", version=4).publish("t", b"", qos=1, retain=True)
    assert retained(broker) == []
    assert len(broker.engine.retention) == 0


@pytest.mark.spec("3.1.1:MQTT-3.3.1-12")
@pytest.mark.parametrize("payload", [b"new", b""])
def test_a_message_without_retain_leaves_what_is_retained(payload: bytes) -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob", version=4)
    bob.publish("none", payload, qos=1)
    bob.publish("t", b"kept", retain=True)
    bob.publish("t", payload, qos=1)
    assert [(each.topic, each.payload) for each in retained(broker)] == [("t", b"kept")]


# -- overlapping subscriptions, forbidden topics ---------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-3.3.5-1")
@pytest.mark.parametrize("granted", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 2, 2)])
def test_overlapping_subscriptions_deliver_at_the_highest_of_their_qos(
    granted: tuple[int, ...],
) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4)
    for topic_filter, qos in zip(("a/b", "a/+", "#"), granted, strict=True):
        alice.subscribe(topic_filter, qos)
    broker.connect("bob", version=4).publish("a/b", b"x", qos=2)
    assert max(each.qos for each in alice.take_all(Publish)) == 2


@pytest.mark.spec("3.1.1:MQTT-3.3.5-1")
def test_a_narrower_subscription_taken_back_leaves_the_qos_of_the_wider_one() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4)
    alice.subscribe("a/b", 2)
    alice.subscribe("a/+", 1)
    alice.unsubscribe("a/b")
    broker.connect("bob", version=4).publish("a/b", b"x", qos=2)
    assert [each.qos for each in alice.take_all(Publish)] == [1]


@pytest.mark.spec("3.1.1:MQTT-3.3.5-2")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_forbidden_publish_is_acknowledged_as_usual_and_goes_nowhere(qos: int) -> None:
    broker = MemoryBroker(authorizer=Forbidding())
    alice, bob = pair(broker)
    packet_id = bob.publish("secret", b"x", qos=qos, retain=True)
    assert bob.received == [Puback(packet_id) if qos == 1 else Pubrec(packet_id)]
    if qos == 2:
        bob.received.clear()
        bob.send(Pubrel(packet_id))
        assert bob.received == [Pubcomp(packet_id)]
    assert alice.received == []
    assert retained(broker) == []


@pytest.mark.spec("3.1.1:MQTT-3.3.5-2")
def test_a_forbidden_publish_at_qos_0_is_dropped_and_the_connection_goes_on() -> None:
    alice, bob = pair(MemoryBroker(authorizer=Forbidding()))
    bob.publish("secret", b"x")
    bob.send(Pingreq())
    assert bob.take(Pingresp)
    assert alice.received == []
