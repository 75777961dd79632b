"""Topic names and filters (MQTT 5 section 4.7) as a client meets them; what matches what is held by
tests/unit/topics.
"""

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.encode import encode
from broker.packets.types import Disconnect, Publish
from tests.support.broker import MemoryBroker

INVALID = [ReasonCode.TOPIC_FILTER_INVALID]


def publish_frame(topic: bytes) -> bytes:
    size = len(topic) + 3
    return b"\x30" + bytes((size,)) + len(topic).to_bytes(2, "big") + topic + b"\0"


@pytest.mark.parametrize("topic", [b"a/+", b"#", b"a/#/b", b"a+b", b"a#"])
@pytest.mark.spec("5.0:MQTT-4.7.0-1", "5.0:MQTT-4.13.1-1")
def test_a_wildcard_in_a_topic_name_closes_the_connection(topic: bytes) -> None:
    broker = MemoryBroker()
    watcher, client = broker.connect("watcher"), broker.connect("client")
    watcher.subscribe("#")
    client.send_raw(publish_frame(topic))
    assert client.take(Disconnect).reason == ReasonCode.TOPIC_NAME_INVALID
    assert client.is_closed
    assert watcher.received == []


@pytest.mark.parametrize("topic_filter", ["#/a", "a#", "a/#/b", "##", "/a/b#"])
@pytest.mark.spec("5.0:MQTT-4.7.1-1")
def test_a_misplaced_number_sign_is_refused(topic_filter: str) -> None:
    assert MemoryBroker().connect().subscribe(topic_filter).reasons == INVALID


@pytest.mark.parametrize("topic_filter", ["a+", "+a", "a/b+/c", "++", "+#"])
@pytest.mark.spec("5.0:MQTT-4.7.1-2")
def test_a_plus_sign_beside_other_characters_is_refused(topic_filter: str) -> None:
    assert MemoryBroker().connect().subscribe(topic_filter).reasons == INVALID


@pytest.mark.parametrize("topic_filter", ["#", "a/#", "+", "+/+", "/+", "a/+/b", "+/#", "/", "//"])
@pytest.mark.spec("5.0:MQTT-4.7.1-1", "5.0:MQTT-4.7.1-2", "5.0:MQTT-4.7.3-1")
def test_well_placed_wildcards_are_granted(topic_filter: str) -> None:
    assert MemoryBroker().connect().subscribe(topic_filter, qos=1).reasons == [1]


@pytest.mark.parametrize("topic_filter", ["#", "+/x", "+/#", "+"])
@pytest.mark.spec("5.0:MQTT-4.7.2-1")
def test_a_filter_that_begins_with_a_wildcard_brings_no_dollar_topic(topic_filter: str) -> None:
    client = MemoryBroker().connect()
    client.subscribe(topic_filter)
    client.publish("$own/x", b"x")
    client.publish("$own", b"x")
    assert client.received == []


@pytest.mark.spec("5.0:MQTT-4.7.2-1")
def test_a_retained_dollar_topic_does_not_come_to_a_leading_wildcard() -> None:
    client = MemoryBroker().connect()
    client.publish("$own/x", b"x", retain=True)
    client.subscribe("#")
    client.subscribe("+/x")
    assert client.received == []
    client.subscribe("$own/#")
    assert client.messages() == [("$own/x", b"x")]


@pytest.mark.spec("5.0:MQTT-4.7.3-1")
def test_an_empty_name_or_filter_is_refused() -> None:
    client = MemoryBroker().connect()
    assert client.subscribe("").reasons == INVALID
    client.send_raw(publish_frame(b""))
    assert client.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR


@pytest.mark.spec("5.0:MQTT-4.7.3-2")
def test_u_0000_in_a_topic_name_closes_the_connection() -> None:
    client = MemoryBroker().connect()
    client.send_raw(publish_frame(b"a\0b"))
    assert client.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET


@pytest.mark.spec("5.0:MQTT-4.7.3-2")
def test_u_0000_in_a_filter_closes_the_connection() -> None:
    client = MemoryBroker().connect()
    client.send_raw(b"\x82\x09\0\1\0\0\3a\0b\0")
    assert client.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET


@pytest.mark.spec("5.0:MQTT-4.7.3-3")
def test_a_name_of_65535_bytes_comes_through() -> None:
    client = MemoryBroker().connect()
    longest = "\u00e4" * 32_767 + "x"
    assert client.subscribe(longest).reasons == [0]
    client.send_raw(encode(Publish(longest, b"x"), 5))
    assert client.messages() == [(longest, b"x")]


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("ACCOUNTS", "accounts"),
        ("a/b", "a//b"),
        ("a/b", "/a/b"),
        ("a/b", "a/b/"),
        ("a/b", "a/./b"),
        ("a/b", "a/b "),
        ("caf\u00e9", "cafe\u0301"),
        ("\u2126", "\u03a9"),
        ("a", "\ufeffa"),
        ("\uff41", "a"),
    ],
)
@pytest.mark.spec("5.0:MQTT-4.7.3-4")
def test_names_are_compared_as_they_are_and_passed_on_as_they_came(
    topic_filter: str, topic: str
) -> None:
    client = MemoryBroker().connect()
    client.subscribe(topic_filter)
    client.publish(topic, b"x")
    assert client.received == []
    client.publish(topic_filter, b"x")
    assert client.messages() == [(topic_filter, b"x")]


def test_a_topic_deeper_than_the_limit_leaves_no_retained_message_behind() -> None:
    broker = MemoryBroker(max_topic_levels=4)
    client = broker.connect()
    client.publish("a/b/c/d/e", b"x", retain=True)
    assert client.take(Disconnect).reason == ReasonCode.TOPIC_NAME_INVALID
    assert len(broker.engine.retention) == 0
