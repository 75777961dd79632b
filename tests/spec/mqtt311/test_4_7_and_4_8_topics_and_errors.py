"""MQTT 3.1.1, sections 4.7 and 4.8: topics as a running broker treats them, and what ends a
connection.
"""

import pytest

from broker.engine.notices import FaultSeen
from broker.engine.ports import Client
from broker.packets.types import Pingreq, Pingresp, Publish
from tests.support.broker import MemoryBroker
from tests.unit.packets.invalid import INVALID

INVALID_3_1_1 = [each for each in INVALID if each.version == 4]


class Broken:
    """An Authorizer with a fault."""

    def may_publish(self, client: Client, topic: str) -> bool:
        raise RuntimeError("a fault of ours")

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:
        return True


@pytest.mark.spec("3.1.1:MQTT-4.7.2-1")
@pytest.mark.parametrize("topic_filter", ["#", "+/x", "+", "+/#"])
def test_a_leading_wildcard_gets_nothing_of_dollar_topics(topic_filter: str) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    bob.publish("$own/x", b"retained", retain=True)
    alice.subscribe(topic_filter)
    for topic in ("$own/x", "$own", "$"):
        bob.publish(topic, b"x")
    assert alice.received == []


def test_a_dollar_topic_can_be_subscribed_by_its_name() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    alice.subscribe("$own/#")
    bob.publish("$own/x", b"x")
    assert alice.messages() == [("$own/x", b"x")]


@pytest.mark.spec("3.1.1:MQTT-4.7.3-4")
def test_names_that_look_alike_are_different_topics() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    alice.subscribe("\u00e9/A")
    for topic in ("e\u0301/A", "\u00e9/a", "\u00c9/A", "\u00e9/A ", "\ufeff\u00e9/A", "\u00e9/A"):
        bob.publish(topic)
    assert alice.messages() == [("\u00e9/A", b"")]


@pytest.mark.spec("3.1.1:MQTT-4.7.3-1")
def test_an_empty_topic_name_closes_the_connection() -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.send_raw(b"\x30\2\0\0")
    assert client.is_closed


@pytest.mark.spec("3.1.1:MQTT-4.8.0-1", "3.1.1:MQTT-2.2.2-2", "3.1.1:MQTT-1.5.3-1")
@pytest.mark.parametrize("invalid", INVALID_3_1_1, ids=lambda each: each.name)
def test_a_violation_closes_the_connection_it_came_on_and_no_other(invalid) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    alice.raw = b""
    alice.send_raw(invalid.frame)
    assert alice.is_closed
    assert alice.raw == b""
    bob.send(Pingreq())
    assert bob.take(Pingresp)


@pytest.mark.spec("3.1.1:MQTT-4.8.0-1")
@pytest.mark.parametrize(
    "frame",
    [b"\x20\2\0\0", b"\x90\3\0\1\0", b"\xb0\2\0\1", b"\xd0\0", b"\xf0\0", b"\x00\0"],
    ids=["CONNACK", "SUBACK", "UNSUBACK", "PINGRESP", "AUTH", "type 0"],
)
def test_a_packet_that_only_a_server_sends_closes_the_connection(frame: bytes) -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.raw = b""
    client.send_raw(frame)
    assert client.is_closed
    assert client.raw == b""


@pytest.mark.spec("3.1.1:MQTT-4.8.0-1")
def test_nothing_after_a_violation_is_processed() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    bob.subscribe("#")
    alice.send_raw(b"\x30\4\0\1t1" + b"\x36\4\0\1t2" + b"\x30\4\0\1t3")
    assert bob.messages() == [("t", b"1")]


@pytest.mark.spec("3.1.1:MQTT-4.8.0-1")
def test_a_packet_larger_than_allowed_closes_the_connection() -> None:
    broker = MemoryBroker(maximum_packet_size=100)
    client = broker.connect("alice", version=4)
    client.publish("t", 90 * b"x")
    assert not client.is_closed
    client.send_raw(b"\x30\x64\0\1t")  # 102 bytes, of which these are the first
    assert client.is_closed


@pytest.mark.spec("3.1.1:MQTT-4.8.0-2")
def test_a_fault_while_a_packet_is_handled_closes_that_connection_and_no_other() -> None:
    broker = MemoryBroker(authorizer=Broken())
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=4)
    alice.send(Publish("t", b"x", 1, packet_id=1))
    assert alice.is_closed
    assert alice.received == []
    assert any(isinstance(each, FaultSeen) for each in broker.notices)
    bob.send(Pingreq())
    assert bob.take(Pingresp)
