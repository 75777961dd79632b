"""MQTT 3.1.1 and MQTT 5 on one broker: what crosses from one to the other in a message, and what
becomes of a session that is resumed with the other version.

Most tests publish twice: the broker takes a short cut for a topic it has seen before.
"""

import pytest

from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Connack,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Subscribe,
    SubscriptionRequest,
)
from tests.support.broker import MemoryBroker, MemoryClient, will

EXPIRY = Property.MESSAGE_EXPIRY_INTERVAL
KEPT: Properties = {
    Property.PAYLOAD_FORMAT_INDICATOR: 1,
    Property.CONTENT_TYPE: "text/plain",
    Property.RESPONSE_TOPIC: "answers/here",
    Property.CORRELATION_DATA: b"\0\xff",
    Property.USER_PROPERTY: [("b", "2"), ("a", "1"), ("b", "3")],
}
FOREVER: Properties = {Property.SESSION_EXPIRY_INTERVAL: 0xFFFFFFFF}

both_ways = pytest.mark.parametrize(("first", "second"), [(4, 5), (5, 4)])
every_qos = pytest.mark.parametrize("qos", [0, 1, 2])


def persistent(broker: MemoryBroker, name: str, version: int) -> MemoryClient:
    """A client whose session outlives its connection, in either version's way."""
    properties = FOREVER if version == 5 else {}
    return broker.connect(name, version, clean_start=False, properties=properties)


def frames(client: MemoryClient) -> bytes:
    """Take the bytes of everything that came since the last time."""
    data, client.raw = client.raw, b""
    client.received.clear()
    return data


# -- messages --------------------------------------------------------------------------------------


@every_qos
@pytest.mark.parametrize("retain", [False, True])
def test_a_message_of_3_1_1_comes_to_mqtt_5_without_properties(qos: int, retain: bool) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=5), broker.connect("bob", version=4)
    alice.subscribe("t", qos=2)
    for _ in range(2):
        bob.publish("t", b"x", qos=qos, retain=retain)
    for message in alice.take_all(Publish):
        assert (message.topic, message.payload, message.qos) == ("t", b"x", qos)
        assert message.properties == {}
        assert not message.retain


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("properties", [{}, KEPT, KEPT | {EXPIRY: 60}], ids=["none", "kept", "all"])
def test_a_message_of_mqtt_5_comes_to_3_1_1_as_topic_and_payload_and_nothing_else(
    published: int, granted: int, properties: Properties
) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=5)
    alice.subscribe("t", granted)
    qos = min(published, granted)
    for number in (1, 2):
        frames(alice)
        bob.publish("t", b"text", qos=published, properties=dict(properties))
        packet_id = bytes([0, number]) if qos else b""
        body = b"\0\1t" + packet_id + b"text"
        assert frames(alice) == bytes([0x30 | qos << 1, len(body)]) + body


@every_qos
def test_one_message_serves_receivers_of_both_versions(qos: int) -> None:
    broker = MemoryBroker()
    old, new = broker.connect("old", version=4), broker.connect("new", version=5)
    for client in (old, new):
        client.subscribe("t", qos=2)
    bob = broker.connect("bob", version=5)
    for number in (1, 2):
        bob.publish("t", b"x", qos=qos, properties=dict(KEPT))
        packet_id = number if qos else 0
        assert old.take(Publish) == Publish("t", b"x", qos, packet_id=packet_id)
        assert new.take(Publish) == Publish("t", b"x", qos, packet_id=packet_id, properties=KEPT)


@every_qos
def test_a_topic_alias_is_resolved_for_3_1_1(qos: int) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=4), broker.connect("bob", version=5)
    alice.subscribe("#", qos=2)
    bob.publish("long/topic", b"1", qos=qos, properties={Property.TOPIC_ALIAS: 3})
    for payload in (b"2", b"3"):
        bob.publish("", payload, qos=qos, properties={Property.TOPIC_ALIAS: 3})
    assert alice.messages() == [("long/topic", b"1"), ("long/topic", b"2"), ("long/topic", b"3")]


def test_a_message_of_3_1_1_takes_a_topic_alias_towards_mqtt_5() -> None:
    broker = MemoryBroker()
    wanted: Properties = {Property.TOPIC_ALIAS_MAXIMUM: 10}
    alice = broker.connect("alice", version=5, properties=wanted)
    bob = broker.connect("bob", version=4)
    alice.subscribe("long/topic")
    for _ in range(3):
        bob.publish("long/topic", b"x")
    messages = alice.take_all(Publish)
    assert [each.topic for each in messages] == ["long/topic", "", ""]
    assert len({each.properties[Property.TOPIC_ALIAS] for each in messages}) == 1


def test_a_subscription_identifier_comes_with_messages_of_3_1_1() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=5), broker.connect("bob", version=4)
    alice.subscribe("t", properties={Property.SUBSCRIPTION_IDENTIFIER: [7]})
    for _ in range(2):
        bob.publish("t", b"x")
        assert alice.take(Publish).properties == {Property.SUBSCRIPTION_IDENTIFIER: [7]}


def test_retain_as_published_holds_for_messages_of_3_1_1() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", version=5), broker.connect("bob", version=4)
    alice.subscribe("t", retain_as_published=True)
    bob.publish("t", b"x", retain=True)
    bob.publish("t", b"y")
    assert [each.retain for each in alice.take_all(Publish)] == [True, False]


@pytest.mark.parametrize("version", [4, 5])
def test_a_message_that_has_expired_is_kept_from_both_versions(version: int) -> None:
    broker = MemoryBroker()
    alice = persistent(broker, "alice", version)
    alice.subscribe("t", qos=1)
    alice.lose()
    bob = broker.connect("bob", version=5)
    bob.publish("t", b"short", qos=1, properties={EXPIRY: 10})
    bob.publish("t", b"long", qos=1, properties={EXPIRY: 100})
    broker.pass_time(20)
    message = persistent(broker, "alice", version).take(Publish)
    assert message.payload == b"long"
    assert message.properties == ({EXPIRY: 80} if version == 5 else {})


# -- retained messages and Wills -------------------------------------------------------------------


def test_a_retained_message_of_mqtt_5_comes_to_each_version_in_its_way() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob", version=5)
    bob.publish("t", b"x", retain=True, properties=KEPT | {EXPIRY: 60})
    broker.pass_time(10)
    old, new = broker.connect("old", version=4), broker.connect("new", version=5)
    frames(old)
    old.send(Subscribe(1, [SubscriptionRequest("t")]))
    assert frames(old) == b"\x90\3\0\1\0" + b"\x31\4\0\1tx"
    new.subscribe("t")
    assert new.take(Publish) == Publish("t", b"x", retain=True, properties=KEPT | {EXPIRY: 50})


@both_ways
def test_a_retained_message_is_replaced_and_erased_by_either_version(
    first: int, second: int
) -> None:
    broker = MemoryBroker()
    one, other = broker.connect("one", version=first), broker.connect("other", version=second)
    one.publish("t", b"1", retain=True)
    other.publish("t", b"2", retain=True)
    one.subscribe("t")
    assert one.messages() == [("t", b"2")]
    one.publish("t", b"", retain=True)
    other.subscribe("t")
    assert other.received == []


def test_the_will_of_a_client_of_mqtt_5_reaches_3_1_1_after_its_delay() -> None:
    broker = MemoryBroker()
    heir = broker.connect("heir", version=4)
    heir.subscribe("w", qos=1)
    properties: Properties = KEPT | {Property.WILL_DELAY_INTERVAL: 10}
    last = will("w", b"gone", 1, properties=properties)
    broker.connect("alice", version=5, will=last, properties=dict(FOREVER)).lose()
    broker.pass_time(9)
    assert heir.received == []
    frames(heir)
    broker.pass_time(2)
    assert frames(heir) == b"\x32\x09\0\1w\0\1gone"


def test_the_will_of_a_client_of_3_1_1_reaches_mqtt_5() -> None:
    broker = MemoryBroker()
    heir = broker.connect("heir", version=5)
    heir.subscribe("w", qos=2)
    broker.connect("alice", version=4, will=will("w", b"gone", 2)).lose()
    assert heir.take(Publish) == Publish("w", b"gone", 2, packet_id=1)


# -- answers ---------------------------------------------------------------------------------------


def test_only_mqtt_5_is_told_that_nobody_listens() -> None:
    broker = MemoryBroker()
    old, new = broker.connect("old", version=4), broker.connect("new", version=5)
    for _ in range(2):
        new.publish("t", qos=1, packet_id=9)
        assert new.take(Puback) == Puback(9, 0x10)
        frames(old)
        old.publish("t", qos=1, packet_id=9)
        assert frames(old) == b"\x40\2\0\x09"


def test_members_of_a_shared_subscription_may_differ_in_version() -> None:
    broker = MemoryBroker()
    members = [broker.connect(f"m{version}", version=version) for version in (3, 4, 5)]
    for member in members:
        member.subscribe("$share/crew/t", qos=1)
    bob = broker.connect("bob", version=5)
    for number in range(6):
        bob.publish("t", b"%d" % number, qos=1, properties=dict(KEPT))
    found = [member.messages() for member in members]
    assert [len(each) for each in found] == [2, 2, 2]
    assert len({payload for each in found for _, payload in each}) == 6


# -- sessions --------------------------------------------------------------------------------------


@both_ways
def test_a_session_is_resumed_with_the_other_version(first: int, second: int) -> None:
    broker = MemoryBroker()
    alice = persistent(broker, "alice", first)
    alice.subscribe("t", qos=1)
    alice.disconnect()
    bob = broker.connect("bob", version=5)
    bob.publish("t", b"stored", qos=1, properties=dict(KEPT))
    alice = persistent(broker, "alice", second)
    assert alice.connack is not None
    assert alice.connack.session_present
    bob.publish("t", b"new", qos=1, properties=dict(KEPT))
    messages = alice.take_all(Publish)
    assert [each.payload for each in messages] == [b"stored", b"new"]
    assert all(each.properties == (KEPT if second == 5 else {}) for each in messages)


@both_ways
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("publisher", [4, 5])
def test_a_message_in_flight_is_sent_again_in_the_other_version(
    first: int, second: int, qos: int, publisher: int
) -> None:
    broker = MemoryBroker()
    alice = persistent(broker, "alice", first)
    alice.subscribe("t", qos=2)
    bob = broker.connect("bob", version=publisher)
    for _ in range(2):
        bob.publish("t", b"x", qos=qos, properties=dict(KEPT) if publisher == 5 else {})
    before = alice.take_all(Publish)
    alice.lose()
    alice = persistent(broker, "alice", second)
    properties = KEPT if publisher == second == 5 else {}
    expected = [
        Publish("t", b"x", qos, dup=True, packet_id=each.packet_id, properties=properties)
        for each in before
    ]
    after = alice.take_all(Publish)
    assert after == expected
    for message in after:
        alice.acknowledge(message)
    alice.lose()
    assert persistent(broker, "alice", first).received == []


@both_ways
def test_a_release_goes_on_in_the_other_version(first: int, second: int) -> None:
    broker = MemoryBroker()
    alice = persistent(broker, "alice", first)
    alice.subscribe("t", qos=2)
    broker.connect("bob", version=5).publish("t", b"x", qos=2)
    packet_id = alice.take(Publish).packet_id
    alice.send(Pubrec(packet_id))
    alice.lose()
    alice = persistent(broker, "alice", second)
    assert alice.take_all(Pubrel) == [Pubrel(packet_id)]
    alice.send(Pubcomp(packet_id))
    alice.lose()
    assert persistent(broker, "alice", first).received == []


@both_ways
def test_a_qos_2_message_repeated_in_the_other_version_is_delivered_once(
    first: int, second: int
) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4)
    alice.subscribe("t", qos=2)
    bob = persistent(broker, "bob", first)
    bob.publish("t", b"x", qos=2, packet_id=5)
    bob.lose()
    bob = persistent(broker, "bob", second)
    bob.publish("t", b"x", qos=2, packet_id=5, dup=True)
    assert bob.take(Pubrec) == Pubrec(5)
    bob.send(Pubrel(5))
    assert bob.take(Pubcomp) == Pubcomp(5)
    assert alice.messages() == [("t", b"x")]


def test_what_mqtt_5_asked_of_a_subscription_waits_while_3_1_1_holds_the_session() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob", version=4)
    alice = persistent(broker, "alice", 5)
    alice.subscribe("t", properties={Property.SUBSCRIPTION_IDENTIFIER: [7]})
    alice.disconnect()
    alice = persistent(broker, "alice", 4)
    frames(alice)
    for _ in range(2):
        bob.publish("t", b"x")
    assert frames(alice) == b"\x30\4\0\1tx" * 2
    alice.disconnect()
    alice = persistent(broker, "alice", 5)
    bob.publish("t", b"x")
    assert alice.take(Publish).properties == {Property.SUBSCRIPTION_IDENTIFIER: [7]}


@both_ways
def test_a_client_is_taken_over_by_the_other_version(first: int, second: int) -> None:
    broker = MemoryBroker()
    older = persistent(broker, "alice", first)
    frames(older)
    newer = persistent(broker, "alice", second)
    assert older.is_closed
    if first == 5:
        assert older.take(Disconnect).reason == 0x8E
    assert older.received == []
    assert newer.connack is not None
    assert newer.connack.session_present
    assert not newer.is_closed


@both_ways
def test_a_clean_start_in_one_version_ends_the_session_of_the_other(
    first: int, second: int
) -> None:
    broker = MemoryBroker()
    persistent(broker, "alice", first).subscribe("t", qos=1)
    alice = broker.connect("alice", version=second, clean_start=True)
    broker.connect("bob", version=5).publish("t", qos=1)
    assert alice.connack is not None
    assert not alice.connack.session_present
    assert alice.received == []


def test_each_connection_says_anew_how_long_the_session_lasts() -> None:
    broker = MemoryBroker()
    persistent(broker, "alice", 4).disconnect()
    broker.connect("alice", version=5, clean_start=False).disconnect()  # expiry interval 0
    assert broker.connect("alice", version=4, clean_start=False).connack == Connack(False, 0)
    short: Properties = {Property.SESSION_EXPIRY_INTERVAL: 10}
    broker.connect("alice", version=5, clean_start=False, properties=short).disconnect()
    persistent(broker, "alice", 4).disconnect()
    broker.pass_time(100)
    assert persistent(broker, "alice", 4).connack == Connack(True, 0)


def test_the_receive_maximum_of_mqtt_5_ends_with_its_connection() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob", version=4)
    narrow = FOREVER | {Property.RECEIVE_MAXIMUM: 1}
    alice = broker.connect("alice", version=5, clean_start=False, properties=narrow)
    alice.subscribe("t", qos=1)
    for number in range(5):
        bob.publish("t", b"%d" % number, qos=1)
    assert len(alice.take_all(Publish)) == 1
    alice.lose()
    assert len(persistent(broker, "alice", 4).take_all(Publish)) == 5


def test_the_maximum_packet_size_of_mqtt_5_ends_with_its_connection() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob", version=4)
    small = FOREVER | {Property.MAXIMUM_PACKET_SIZE: 50}
    alice = broker.connect("alice", version=5, clean_start=False, properties=small)
    alice.subscribe("t", qos=1)
    bob.publish("t", 100 * b"x", qos=1)
    assert alice.received == []
    alice.lose()
    alice = persistent(broker, "alice", 4)
    bob.publish("t", 100 * b"y", qos=1)
    assert alice.messages() == [("t", 100 * b"y")]
