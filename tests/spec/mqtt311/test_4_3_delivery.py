"""MQTT 3.1.1, sections 4.1 to 4.5: how a message is handed over at each quality of service, and
what happens to it when the connection breaks in between.
"""

import pytest

from broker.packets.types import Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.broker import MemoryBroker, MemoryClient


def subscriber(broker: MemoryBroker) -> MemoryClient:
    """A persistent subscriber to everything at QoS 2."""
    alice = broker.connect("alice", version=4, clean_start=False)
    alice.subscribe("#", qos=2)
    return alice


def again(client: MemoryClient) -> MemoryClient:
    """The same client after its link broke."""
    client.lose()
    name = client.connection.client_id
    return client.broker.connect(name, version=4, clean_start=False)


# -- the broker sends ------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-4.3.1-1")
def test_qos_0_is_sent_once_and_never_again() -> None:
    broker = MemoryBroker()
    alice = subscriber(broker)
    alice.raw = b""
    broker.connect("bob", version=4).publish("t", b"x")
    assert alice.raw == b"\x30\4\0\1tx"
    assert again(alice).received == []


@pytest.mark.spec("3.1.1:MQTT-4.3.2-1", "3.1.1:MQTT-4.4.0-1", "3.1.1:MQTT-4.1.0-1")
def test_qos_1_is_sent_again_until_its_puback_comes() -> None:
    broker = MemoryBroker()
    alice = subscriber(broker)
    broker.connect("bob", version=4).publish("t", b"x", qos=1)
    first = alice.take(Publish)
    assert (first.qos, first.dup) == (1, False)
    for _ in range(3):
        alice = again(alice)
        repeated = alice.take(Publish)
        assert repeated == Publish("t", b"x", 1, dup=True, packet_id=first.packet_id)
    alice.send(Puback(first.packet_id))
    assert alice.received == []
    assert again(alice).received == []


@pytest.mark.spec("3.1.1:MQTT-4.3.3-1", "3.1.1:MQTT-4.4.0-1")
def test_qos_2_is_sent_again_until_its_pubrec_comes() -> None:
    broker = MemoryBroker()
    alice = subscriber(broker)
    broker.connect("bob", version=4).publish("t", b"x", qos=2)
    first = alice.take(Publish)
    assert (first.qos, first.dup) == (2, False)
    for _ in range(3):
        alice = again(alice)
        repeated = alice.take(Publish)
        assert repeated == Publish("t", b"x", 2, dup=True, packet_id=first.packet_id)
    alice.send(Pubrec(first.packet_id))
    assert alice.received == [Pubrel(first.packet_id)]


@pytest.mark.spec("3.1.1:MQTT-4.3.3-1", "3.1.1:MQTT-4.4.0-1")
def test_after_the_pubrec_only_the_pubrel_is_sent_again_until_the_pubcomp_comes() -> None:
    broker = MemoryBroker()
    alice = subscriber(broker)
    broker.connect("bob", version=4).publish("t", b"x", qos=2)
    packet_id = alice.take(Publish).packet_id
    alice.send(Pubrec(packet_id))
    for _ in range(3):
        alice = again(alice)
        assert alice.received == [Pubrel(packet_id)]
        alice.send(Pubrec(packet_id))  # the client may have missed the first
        assert alice.take_all(Pubrel) == [Pubrel(packet_id), Pubrel(packet_id)]
    alice.send(Pubcomp(packet_id))
    assert again(alice).received == []


@pytest.mark.spec("3.1.1:MQTT-4.3.3-1", "3.1.1:MQTT-4.3.2-1")
def test_an_identifier_is_free_again_only_when_its_message_is_done() -> None:
    broker = MemoryBroker()
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    bob.publish("t", qos=2)
    packet_id = alice.take(Publish).packet_id
    alice.send(Pubrec(packet_id))
    alice.received.clear()
    session = alice.connection.session
    assert session is not None
    assert session._inflight is not None
    session._inflight._last_id = 65_535  # as if so many had come and gone
    bob.publish("t", qos=1)
    assert alice.take(Publish).packet_id != packet_id
    alice.send(Pubcomp(packet_id))
    session._inflight._last_id = 65_535
    bob.publish("t", qos=1)
    assert alice.take(Publish).packet_id == packet_id


@pytest.mark.spec("3.1.1:MQTT-4.4.0-1")
def test_nothing_is_sent_again_while_the_connection_lasts() -> None:
    broker = MemoryBroker()
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    bob.publish("t", qos=1)
    bob.publish("t", qos=2)
    assert len(alice.take_all(Publish)) == 2
    broker.pass_time(1_000_000)
    assert alice.received == []


@pytest.mark.spec("3.1.1:MQTT-4.4.0-1")
def test_a_session_without_anything_open_starts_in_silence() -> None:
    broker = MemoryBroker()
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    for qos in (0, 1, 2):
        bob.publish("t", qos=qos)
        alice.acknowledge(alice.take(Publish))
    assert again(alice).received == []


@pytest.mark.parametrize("ack", [Puback(99), Pubrec(99), Pubcomp(99)])
def test_an_acknowledgement_of_nothing_does_no_harm(ack: Puback) -> None:
    broker = MemoryBroker()
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    alice.send(ack)
    alice.received.clear()
    bob.publish("t", b"x", qos=1)
    assert alice.messages() == [("t", b"x")]


# -- the broker receives ---------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-4.3.2-2")
@pytest.mark.parametrize("dup", [False, True])
def test_at_qos_1_the_same_identifier_after_its_puback_is_a_new_message(dup: bool) -> None:
    broker = MemoryBroker()
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    for payload in (b"1", b"2"):
        bob.publish("t", payload, qos=1, packet_id=5, dup=dup)
        assert bob.take(Puback) == Puback(5)
    assert alice.messages() == [("t", b"1"), ("t", b"2")]


@pytest.mark.spec("3.1.1:MQTT-4.3.3-2")
@pytest.mark.parametrize("dup", [False, True])
def test_at_qos_2_a_repeated_publish_is_answered_and_not_delivered_again(dup: bool) -> None:
    broker = MemoryBroker()
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    for _ in range(3):
        bob.publish("t", b"x", qos=2, packet_id=5, dup=dup)
        assert bob.take(Pubrec) == Pubrec(5)
    bob.send(Pubrel(5))
    assert bob.take(Pubcomp) == Pubcomp(5)
    assert alice.messages() == [("t", b"x")]


@pytest.mark.spec("3.1.1:MQTT-4.3.3-2")
@pytest.mark.parametrize("dup", [False, True])
def test_at_qos_2_the_identifier_is_new_again_after_the_pubcomp(dup: bool) -> None:
    broker = MemoryBroker()
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    for payload in (b"1", b"2"):
        bob.publish("t", payload, qos=2, packet_id=5, dup=dup)
        bob.send(Pubrel(5))
        assert bob.received == [Pubrec(5), Pubcomp(5)]
        bob.received.clear()
    assert alice.messages() == [("t", b"1"), ("t", b"2")]


@pytest.mark.spec("3.1.1:MQTT-4.3.3-2", "3.1.1:MQTT-4.1.0-1")
def test_a_qos_2_message_sent_again_on_a_new_connection_is_not_delivered_again() -> None:
    broker = MemoryBroker()
    alice = subscriber(broker)
    bob = broker.connect("bob", version=4, clean_start=False)
    bob.publish("t", b"x", qos=2, packet_id=5)
    bob = again(bob)
    bob.publish("t", b"x", qos=2, packet_id=5, dup=True)
    assert bob.take(Pubrec) == Pubrec(5)
    bob = again(bob)
    bob.send(Pubrel(5))
    assert bob.take(Pubcomp) == Pubcomp(5)
    assert alice.messages() == [("t", b"x")]


@pytest.mark.spec("3.1.1:MQTT-4.3.3-2", "3.1.1:MQTT-3.1.2-6")
def test_the_identifiers_of_a_clean_session_mean_nothing_to_the_next() -> None:
    broker = MemoryBroker()
    alice = subscriber(broker)
    for payload in (b"1", b"2"):
        bob = broker.connect("bob", version=4, clean_start=True)
        bob.publish("t", payload, qos=2, packet_id=5)
        bob.lose()
    assert alice.messages() == [("t", b"1"), ("t", b"2")]


@pytest.mark.spec("3.1.1:MQTT-4.3.3-2")
def test_a_pubrel_that_comes_again_is_answered_again() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob", version=4, clean_start=False)
    bob.publish("t", b"x", qos=2, packet_id=5)
    bob.send(Pubrel(5))
    bob = again(bob)
    bob.send(Pubrel(5))
    assert bob.raw.endswith(b"\x70\2\0\5")


# -- to whom ---------------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-4.5.0-1")
def test_a_message_reaches_every_session_with_a_matching_subscription() -> None:
    broker = MemoryBroker()
    here = [broker.connect(f"here-{n}", version=4) for n in range(3)]
    away = [broker.connect(f"away-{n}", version=4, clean_start=False) for n in range(3)]
    other = broker.connect("other", version=4)
    for client in here + away:
        client.subscribe("a/+", qos=1)
    for client in away:
        client.lose()
    other.subscribe("b/+", qos=1)
    broker.connect("bob", version=4).publish("a/b", b"x", qos=1)
    for client in here:
        assert client.messages() == [("a/b", b"x")]
    for client in away:
        name = client.connection.client_id
        assert broker.connect(name, version=4, clean_start=False).messages() == [("a/b", b"x")]
    assert other.received == []


@pytest.mark.spec("3.1.1:MQTT-4.5.0-1")
def test_a_publisher_gets_its_own_message_if_it_subscribed() -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.subscribe("t")
    client.publish("t", b"x")
    assert client.messages() == [("t", b"x")]
