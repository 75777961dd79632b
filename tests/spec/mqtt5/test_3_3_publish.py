"""MQTT 5 section 3.3, PUBLISH: flags, retained messages, properties, aliases, expiry, subscription
identifiers and the client's Receive Maximum.
"""

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
)
from tests.support.broker import MemoryBroker, MemoryClient

KEPT: Properties = {Property.SESSION_EXPIRY_INTERVAL: 3600}


def expiry(seconds: int) -> Properties:
    """The property of a message that is good for so long."""
    return {Property.MESSAGE_EXPIRY_INTERVAL: seconds}


def alias(number: int) -> Properties:
    """The property of a message that sets or uses a topic alias."""
    return {Property.TOPIC_ALIAS: number}


def identifier(number: int) -> Properties:
    """The property of a SUBSCRIBE with a subscription identifier."""
    return {Property.SUBSCRIPTION_IDENTIFIER: [number]}


def back(broker: MemoryBroker, client_id: str = "alice", **properties: int) -> MemoryClient:
    """The client comes back to its session."""
    wanted = KEPT | {Property[name.upper()]: value for name, value in properties.items()}
    return broker.connect(client_id, clean_start=False, properties=wanted)


# -- DUP, QoS --------------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.3.1-1", "5.0:MQTT-3.3.1-3")
@pytest.mark.parametrize("qos", [1, 2])
def test_dup_is_set_on_a_repetition_and_only_there(qos: int) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=qos)
    bob = broker.connect("bob")
    bob.publish("t", b"seen", qos=qos)
    assert alice.take(Publish).dup is False
    alice.lose()
    bob.publish("t", b"new", qos=qos)
    for _ in range(2):
        alice = back(broker)
        assert [each.dup for each in alice.take_all(Publish)][:1] == [True]
        alice.lose()


@pytest.mark.spec("5.0:MQTT-3.3.1-3")
def test_a_message_that_only_waited_is_no_repetition() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=1)
    alice.lose()
    broker.connect("bob").publish("t", qos=1)
    assert back(broker).take(Publish).dup is False


@pytest.mark.spec("5.0:MQTT-3.3.1-2", "5.0:MQTT-3.3.1-3")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_the_dup_of_the_publisher_is_not_passed_on(qos: int, granted: int) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t", qos=granted)
    for _ in range(2):
        bob.publish("t", qos=qos, dup=True)
    assert [each.dup for each in alice.take_all(Publish)] == [False, False]


@pytest.mark.spec("5.0:MQTT-3.3.1-2")
def test_a_qos_0_message_with_dup_ends_the_connection() -> None:
    alice = MemoryBroker().connect("alice")
    alice.send_raw(b"\x38\x04\0\1t\0")
    assert alice.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.3.1-4")
def test_qos_3_ends_the_connection() -> None:
    alice = MemoryBroker().connect("alice")
    alice.send_raw(b"\x36\x06\0\1t\0\1\0")
    assert alice.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.3.4-1")
@pytest.mark.parametrize(
    ("qos", "answers"), [(0, []), (1, [Puback(7)]), (2, [Pubrec(7)])], ids=["0", "1", "2"]
)
@pytest.mark.parametrize("properties", [{}, {Property.CONTENT_TYPE: "x"}])
def test_a_publish_is_answered_as_its_qos_demands(
    qos: int, answers: list[Puback | Pubrec], properties: Properties
) -> None:
    broker = MemoryBroker()
    broker.connect("watcher").subscribe("t")
    alice = broker.connect("alice")
    for _ in range(2):
        alice.publish("t", qos=qos, packet_id=7, properties=properties)
        assert alice.received == answers
        alice.received.clear()
        if qos == 2:
            alice.send(Pubrel(7))
            assert alice.take(Pubcomp).reason == 0


def test_a_publisher_learns_that_nobody_was_interested() -> None:
    alice = MemoryBroker().connect("alice")
    alice.publish("t", qos=1)
    assert alice.take(Puback).reason == ReasonCode.NO_MATCHING_SUBSCRIBERS
    alice.publish("t", qos=2)
    assert alice.take(Pubrec).reason == ReasonCode.NO_MATCHING_SUBSCRIBERS


# -- retained messages -----------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.3.1-5")
def test_a_retained_message_is_stored_for_later_subscribers_and_the_next_replaces_it() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob")
    bob.publish("t", b"old", retain=True)
    bob.publish("t", b"new", qos=1, retain=True, properties={Property.CONTENT_TYPE: "x"})
    alice = broker.connect("alice")
    alice.subscribe("#", qos=2)
    kept = alice.take(Publish)
    assert (kept.payload, kept.qos, kept.retain) == (b"new", 1, True)
    assert kept.properties == {Property.CONTENT_TYPE: "x"}
    assert alice.received == []


@pytest.mark.spec("5.0:MQTT-3.3.1-6", "5.0:MQTT-3.3.1-7")
def test_an_empty_retained_message_is_delivered_and_erases_the_one_that_was_kept() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t", retain_as_published=True)
    bob.publish("t", b"x", retain=True)
    bob.publish("t", b"", retain=True)
    assert [(each.payload, each.retain) for each in alice.take_all(Publish)] == [
        (b"x", True),
        (b"", True),
    ]
    late = broker.connect("late")
    late.subscribe("t")
    assert late.received == []
    assert len(broker.engine.retention) == 0


@pytest.mark.spec("5.0:MQTT-3.3.1-7")
def test_an_empty_retained_message_for_a_new_topic_is_not_kept() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    alice.publish("t", b"", retain=True, properties={Property.CONTENT_TYPE: "x"})
    alice.subscribe("t")
    assert alice.received == []


@pytest.mark.spec("5.0:MQTT-3.3.1-8")
@pytest.mark.parametrize("payload", [b"passing", b""])
def test_a_message_that_is_not_retained_leaves_the_retained_one_alone(payload: bytes) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    alice.publish("t", b"kept", retain=True)
    alice.publish("t", payload)
    alice.publish("other", payload)
    alice.subscribe("#")
    assert alice.messages() == [("t", b"kept")]


@pytest.mark.spec("5.0:MQTT-3.3.1-9")
def test_retain_handling_0_sends_the_retained_messages_with_every_subscribe() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    alice.publish("t", b"kept", retain=True)
    for _ in range(2):
        alice.subscribe("t", retain_handling=0)
        assert alice.messages() == [("t", b"kept")]


@pytest.mark.spec("5.0:MQTT-3.3.1-10")
def test_retain_handling_1_sends_them_only_if_the_subscription_is_new() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.publish("t", b"kept", retain=True)
    alice.subscribe("t", retain_handling=1)
    assert alice.messages() == [("t", b"kept")]
    alice.subscribe("t", qos=1, retain_handling=1)
    assert alice.received == []
    alice.lose()
    alice = back(broker)
    alice.subscribe("t", retain_handling=1)
    assert alice.received == []
    alice.unsubscribe("t")
    alice.subscribe("t", retain_handling=1)
    assert alice.messages() == [("t", b"kept")]


@pytest.mark.spec("5.0:MQTT-3.3.1-11")
def test_retain_handling_2_sends_none_of_them() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    alice.publish("t", b"kept", retain=True)
    alice.subscribe("t", retain_handling=2)
    assert alice.received == []
    alice.publish("t", b"live", retain=True)
    assert alice.messages() == [("t", b"live")]


@pytest.mark.spec("5.0:MQTT-3.3.1-12", "5.0:MQTT-3.3.1-13")
@pytest.mark.parametrize("came_in", [False, True])
@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_retain_is_passed_on_as_the_subscription_says(
    came_in: bool, as_published: bool, qos: int
) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=qos, retain_as_published=as_published)
    bob = broker.connect("bob")
    for _ in range(2):
        bob.publish("t", b"x", qos=qos, retain=came_in)
    assert [each.retain for each in alice.take_all(Publish)] == [came_in and as_published] * 2


@pytest.mark.spec("5.0:MQTT-3.3.1-12", "5.0:MQTT-3.3.1-13")
@pytest.mark.parametrize("as_published", [False, True])
def test_retain_is_passed_on_as_the_subscription_says_also_after_a_wait_and_a_repetition(
    as_published: bool,
) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=1, retain_as_published=as_published)
    alice.lose()
    broker.connect("bob").publish("t", b"x", qos=1, retain=True)
    for dup in (False, True):
        alice = back(broker)
        publish = alice.take(Publish)
        assert (publish.dup, publish.retain) == (dup, as_published)
        alice.lose()


@pytest.mark.parametrize("as_published", [False, True])
def test_a_message_sent_because_of_a_subscribe_is_marked_as_retained(as_published: bool) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    alice.publish("t", b"kept", retain=True)
    alice.subscribe("t", retain_as_published=as_published)
    assert alice.take(Publish).retain is True


@pytest.mark.parametrize(("published", "granted", "sent"), [(2, 1, 1), (0, 2, 0), (1, 0, 0)])
def test_a_retained_message_comes_with_the_smaller_qos(
    published: int, granted: int, sent: int
) -> None:
    broker = MemoryBroker()
    broker.connect("bob").publish("t", b"kept", qos=published, retain=True)
    alice = broker.connect("alice")
    alice.subscribe("t", qos=granted)
    assert alice.take(Publish).qos == sent


# -- topic names -----------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.3.2-2")
@pytest.mark.parametrize("topic", ["#", "a/#", "+", "a/+/b", "a+", "#a"])
def test_a_topic_name_with_a_wildcard_ends_the_connection(topic: str) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("#")
    bob.publish(topic, b"x")
    assert bob.take(Disconnect).reason == ReasonCode.TOPIC_NAME_INVALID
    assert bob.is_closed
    assert alice.received == []


@pytest.mark.spec("5.0:MQTT-3.3.2-3")
def test_only_messages_that_match_the_filter_arrive() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("a/+/c")
    for _ in range(2):  # on topics new and known
        for topic in ("a/b/c", "a/c", "a/b/c/d", "b/b/c", "a//c", "A/b/c"):
            bob.publish(topic)
    assert [topic for topic, _ in alice.messages()] == ["a/b/c", "a//c"] * 2


# -- properties that travel with the message -------------------------------------------------------

TRAVELLING = [
    pytest.param(
        {Property.PAYLOAD_FORMAT_INDICATOR: 0}, marks=pytest.mark.spec("5.0:MQTT-3.3.2-4")
    ),
    pytest.param(
        {Property.PAYLOAD_FORMAT_INDICATOR: 1}, marks=pytest.mark.spec("5.0:MQTT-3.3.2-4")
    ),
    pytest.param(
        {Property.RESPONSE_TOPIC: "answers/größe"}, marks=pytest.mark.spec("5.0:MQTT-3.3.2-15")
    ),
    pytest.param(
        {Property.CORRELATION_DATA: bytes(range(256))}, marks=pytest.mark.spec("5.0:MQTT-3.3.2-16")
    ),
    pytest.param({Property.CORRELATION_DATA: b""}, marks=pytest.mark.spec("5.0:MQTT-3.3.2-16")),
    pytest.param(
        {Property.CONTENT_TYPE: "text/plain; charset=utf-8"},
        marks=pytest.mark.spec("5.0:MQTT-3.3.2-20"),
    ),
    pytest.param({Property.CONTENT_TYPE: ""}, marks=pytest.mark.spec("5.0:MQTT-3.3.2-20")),
    pytest.param(
        {Property.USER_PROPERTY: [("b", "1"), ("a", "2"), ("b", "3"), ("b", "1"), ("", "")]},
        marks=pytest.mark.spec("5.0:MQTT-3.3.2-17", "5.0:MQTT-3.3.2-18"),
    ),
]


@pytest.mark.parametrize("properties", TRAVELLING)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_properties_of_a_message_are_passed_on_unaltered(properties: Properties, qos: int) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t", qos=2)
    bob.publish("t", b"x", qos=qos, properties=properties)
    assert alice.take(Publish).properties == properties


@pytest.mark.parametrize("properties", TRAVELLING)
def test_properties_survive_waiting_repetition_and_retention(properties: Properties) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=1)
    alice.lose()
    broker.connect("bob").publish("t", b"x", qos=1, retain=True, properties=properties)
    for _ in range(2):
        alice = back(broker)
        assert alice.take(Publish).properties == properties
        alice.lose()
    alice = back(broker)
    alice.take(Publish)
    alice.subscribe("t")
    assert alice.take(Publish).properties == properties


@pytest.mark.spec(
    "5.0:MQTT-3.3.2-4",
    "5.0:MQTT-3.3.2-15",
    "5.0:MQTT-3.3.2-16",
    "5.0:MQTT-3.3.2-17",
    "5.0:MQTT-3.3.2-20",
)
def test_all_properties_travel_together_and_those_of_the_hop_stay_behind() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t")
    together: Properties = {}
    for each in TRAVELLING:
        together |= each.values[0]
    bob.publish("t", b"x", properties=together | alias(3))
    assert alice.take(Publish).properties == together


def test_a_client_of_the_older_version_gets_the_message_without_its_properties() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", 4), broker.connect("bob")
    alice.subscribe("t", qos=1)
    bob.publish("t", b"x", qos=1, properties={Property.CONTENT_TYPE: "x"} | expiry(9))
    assert alice.messages() == [("t", b"x")]


@pytest.mark.parametrize(("qos", "answer"), [(1, Puback), (2, Pubrec)])
def test_a_payload_that_is_not_the_text_it_claims_to_be_is_refused(
    qos: int, answer: type[Puback | Pubrec]
) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t")
    text = {Property.PAYLOAD_FORMAT_INDICATOR: 1}
    bob.publish("t", b"\xff", qos=qos, properties=text, retain=True)
    assert bob.take(answer).reason == ReasonCode.PAYLOAD_FORMAT_INVALID
    assert not bob.is_closed
    assert alice.received == []
    assert len(broker.engine.retention) == 0
    bob.publish("t", "größe".encode(), properties=text)
    assert alice.messages() == [("t", "größe".encode())]


def test_a_refused_qos_2_message_frees_its_identifier() -> None:
    broker = MemoryBroker(receive_maximum=1)
    bob = broker.connect("bob")
    text = {Property.PAYLOAD_FORMAT_INDICATOR: 1}
    for packet_id in (1, 2, 1):
        bob.publish("t", b"\xff", qos=2, packet_id=packet_id, properties=text)
        assert bob.take(Pubrec).reason == ReasonCode.PAYLOAD_FORMAT_INVALID


@pytest.mark.spec("5.0:MQTT-3.3.2-14")
@pytest.mark.parametrize("topic", ["a/#", "+/a"])
def test_a_response_topic_with_a_wildcard_ends_the_connection(topic: str) -> None:
    alice = MemoryBroker().connect("alice")
    raw = topic.encode()
    body = b"\0\1t" + bytes((len(raw) + 3, 8, 0, len(raw))) + raw
    alice.send_raw(bytes((0x30, len(body))) + body)
    assert alice.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.3.2-13", "5.0:MQTT-3.3.2-19")
@pytest.mark.parametrize("which", [Property.RESPONSE_TOPIC, Property.CONTENT_TYPE])
def test_a_response_topic_or_content_type_that_is_no_text_ends_the_connection(which: int) -> None:
    alice = MemoryBroker().connect("alice")
    alice.send_raw(b"\x30\x08\0\1t\x04" + bytes((which,)) + b"\0\1\xff")
    assert alice.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert alice.is_closed


# -- message expiry --------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.3.2-6")
@pytest.mark.parametrize("seconds", [0, 1, 60, 0xFFFFFFFF])
def test_a_message_passed_on_at_once_keeps_its_expiry_interval(seconds: int) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t", qos=1)
    bob.publish("t", b"x", qos=1, properties=expiry(seconds))
    assert alice.take(Publish).properties == expiry(seconds)


@pytest.mark.spec("5.0:MQTT-3.3.2-6")
def test_the_time_a_message_waits_is_taken_off_its_expiry_interval() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=1)
    alice.lose()
    broker.connect("bob").publish("t", b"x", qos=1, properties=expiry(60))
    broker.pass_time(20)
    assert back(broker).take(Publish).properties == expiry(40)


@pytest.mark.spec("5.0:MQTT-3.3.2-6")
def test_the_time_a_message_waits_for_room_in_flight_is_taken_off_too() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.RECEIVE_MAXIMUM: 1})
    alice.subscribe("t", qos=1)
    bob = broker.connect("bob")
    bob.publish("t", b"first", qos=1)
    bob.publish("t", b"second", qos=1, properties=expiry(60))
    broker.pass_time(59)
    alice.acknowledge(alice.take(Publish))
    assert alice.take(Publish).properties == expiry(1)


@pytest.mark.spec("5.0:MQTT-3.3.2-6")
def test_a_retained_message_is_handed_out_with_the_time_it_has_left() -> None:
    broker = MemoryBroker()
    broker.connect("bob").publish("t", b"x", retain=True, properties=expiry(60))
    for left in (50, 40):
        broker.pass_time(10)
        alice = broker.connect("alice")
        alice.subscribe("t")
        assert alice.take(Publish).properties == expiry(left)


@pytest.mark.spec("5.0:MQTT-3.3.2-5")
@pytest.mark.parametrize("version", [4, 5])
def test_a_message_that_expires_while_it_waits_is_deleted(version: int) -> None:
    broker = MemoryBroker()
    fields = {"properties": KEPT} if version == 5 else {}
    alice = broker.connect("alice", version, clean_start=False, **fields)
    alice.subscribe("t", qos=1)
    alice.lose()
    bob = broker.connect("bob")
    bob.publish("t", b"short", qos=1, properties=expiry(10))
    bob.publish("t", b"long", qos=1, properties=expiry(100))
    bob.publish("t", b"for ever", qos=1)
    broker.pass_time(10)
    alice = broker.connect("alice", version, clean_start=False, **fields)
    assert [payload for _, payload in alice.messages()] == [b"long", b"for ever"]
    assert broker.engine.traffic.lost == {"expired": 1}


@pytest.mark.spec("5.0:MQTT-3.3.2-5")
def test_a_message_that_expires_while_it_waits_for_room_in_flight_is_deleted() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.RECEIVE_MAXIMUM: 1})
    alice.subscribe("t", qos=2)
    bob = broker.connect("bob")
    bob.publish("t", b"first", qos=2)
    bob.publish("t", b"expires", qos=2, properties=expiry(5))
    bob.publish("t", b"third", qos=2)
    broker.pass_time(5)
    alice.acknowledge(alice.take(Publish))
    assert alice.messages() == [("t", b"third")]


@pytest.mark.spec("5.0:MQTT-3.3.2-5")
def test_a_message_with_expiry_interval_0_does_not_wait() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=1)
    alice.lose()
    broker.connect("bob").publish("t", b"x", qos=1, retain=True, properties=expiry(0))
    alice = back(broker)
    alice.subscribe("t")
    assert alice.received == []


@pytest.mark.spec("5.0:MQTT-3.3.2-5")
def test_an_expired_retained_message_is_not_handed_out_and_forgotten() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    bob.publish("t", b"x", retain=True, properties=expiry(10))
    broker.pass_time(10)
    alice.subscribe("t")
    assert alice.received == []
    assert len(broker.engine.retention) == 0


@pytest.mark.spec("5.0:MQTT-3.3.2-5")
def test_a_delivery_that_has_begun_is_finished_even_after_the_expiry() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=1)
    broker.connect("bob").publish("t", b"x", qos=1, properties=expiry(10))
    alice.lose()
    broker.pass_time(20)
    repeated = back(broker).take(Publish)
    assert repeated.dup
    assert repeated.properties == expiry(0)


@pytest.mark.spec("5.0:MQTT-3.3.2-5", "5.0:MQTT-3.3.2-6")
def test_each_subscribers_copy_has_its_own_wait() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    alice.subscribe("t", qos=1)
    for name in ("early", "late"):
        waiting = broker.connect(name, properties=KEPT)
        waiting.subscribe("t", qos=1)
        waiting.lose()
    broker.connect("bob").publish("t", b"x", qos=1, properties=expiry(10))
    broker.pass_time(6)
    early = back(broker, "early")
    broker.pass_time(6)
    late = back(broker, "late")
    assert alice.take(Publish).properties == expiry(10)
    assert early.take(Publish).properties == expiry(4)
    assert late.received == []


# -- topic aliases of the client -------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.3.2-12")
def test_every_alias_up_to_the_announced_maximum_is_accepted() -> None:
    broker = MemoryBroker(topic_alias_maximum=8)
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("#")
    for number in range(1, 9):
        bob.publish(f"t/{number}", properties=alias(number))
    for number in range(1, 9):
        bob.publish("", properties=alias(number))
    expected = [f"t/{number}" for number in range(1, 9)]
    assert [topic for topic, _ in alice.messages()] == expected * 2


@pytest.mark.spec("5.0:MQTT-3.3.2-12")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_alias_can_be_given_another_topic_and_used_with_any_qos(qos: int) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("#")
    for topic in ("first", "", "second", "", "first"):
        bob.publish(topic, qos=qos, properties=alias(1))
    assert [topic for topic, _ in alice.messages()] == [
        "first", "first", "second", "second", "first",
    ]  # fmt: skip


@pytest.mark.spec("5.0:MQTT-3.3.2-8", "5.0:MQTT-3.3.2-9")
@pytest.mark.parametrize("number", [0, 9, 65_535])
def test_an_alias_of_0_or_above_the_maximum_ends_the_connection(number: int) -> None:
    broker = MemoryBroker(topic_alias_maximum=8)
    watcher, bob = broker.connect("watcher"), broker.connect("bob")
    watcher.subscribe("#")
    bob.send_raw(b"\x30\x07\0\1t\x03\x23" + number.to_bytes(2, "big"))
    assert bob.take(Disconnect).reason == ReasonCode.TOPIC_ALIAS_INVALID
    assert bob.is_closed
    assert watcher.received == []


@pytest.mark.parametrize("properties", [{}, alias(1)], ids=["no alias", "unknown alias"])
def test_a_message_without_topic_and_known_alias_ends_the_connection(
    properties: Properties,
) -> None:
    bob = MemoryBroker().connect("bob")
    bob.publish("", properties=properties)
    assert bob.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert bob.is_closed


@pytest.mark.spec("5.0:MQTT-3.3.2-7")
def test_an_alias_of_the_client_ends_with_its_connection() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob", properties=KEPT)
    bob.publish("t", properties=alias(1))
    bob.lose()
    bob = back(broker, "bob")
    bob.publish("", properties=alias(1))
    assert bob.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR


@pytest.mark.spec("5.0:MQTT-3.3.2-7")
def test_an_alias_of_one_client_means_nothing_for_another() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.publish("t", properties=alias(1))
    bob.publish("", properties=alias(1))
    assert bob.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert not alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.3.2-7")
def test_the_aliases_of_the_broker_end_with_the_connection() -> None:
    broker = MemoryBroker()
    limits: Properties = KEPT | {Property.TOPIC_ALIAS_MAXIMUM: 5}
    alice = broker.connect("alice", properties=limits)
    alice.subscribe("t", qos=1)
    bob = broker.connect("bob")
    bob.publish("t", b"1", qos=1)
    bob.publish("t", b"2", qos=1)
    assert [topic for topic, _ in alice.messages()] == ["t", ""]
    alice.lose()
    alice = back(broker, topic_alias_maximum=5)  # both come again, in their order
    assert alice.messages() == [("t", b"1"), ("", b"2")]
    alice.lose()
    assert back(broker).messages() == [("t", b"1"), ("t", b"2")]


def test_an_alias_and_a_retained_message_go_together() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob")
    bob.publish("t", b"1", properties=alias(1))
    bob.publish("", b"2", retain=True, properties=alias(1))
    alice = broker.connect("alice")
    alice.subscribe("t")
    assert alice.take(Publish) == Publish("t", b"2", retain=True)


# -- overlapping subscriptions and identifiers -----------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.3.4-2")
@pytest.mark.parametrize(("filters", "highest"), [((0, 1, 2), 2), ((1, 0, 0), 1), ((0, 0, 0), 0)])
def test_overlapping_subscriptions_deliver_with_the_highest_qos_among_them(
    filters: tuple[int, ...], highest: int
) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    for topic_filter, qos in zip(("a/#", "a/+", "a/b"), filters, strict=True):
        alice.subscribe(topic_filter, qos=qos)
    bob.publish("a/b", qos=2)
    assert max(each.qos for each in alice.take_all(Publish)) == highest


@pytest.mark.spec("5.0:MQTT-3.3.4-3", "5.0:MQTT-3.3.4-4", "5.0:MQTT-3.3.4-5")
def test_a_message_carries_the_identifiers_of_all_subscriptions_that_caused_it() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("a/#", properties=identifier(1))
    alice.subscribe("a/+", qos=1, properties=identifier(268_435_455))
    alice.subscribe("a/b", qos=2)
    alice.subscribe("c", properties=identifier(3))
    bob.publish("a/b", qos=1)
    copies = alice.take_all(Publish)
    carried = [n for each in copies for n in each.properties[Property.SUBSCRIPTION_IDENTIFIER]]
    assert sorted(carried) == [1, 268_435_455]


@pytest.mark.spec("5.0:MQTT-3.3.4-3")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_message_carries_the_identifier_of_its_subscription(qos: int) -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", properties=KEPT), broker.connect("bob")
    alice.subscribe("a", qos=qos, properties=identifier(1))
    alice.subscribe("b", qos=qos, properties=identifier(2))
    alice.subscribe("c", qos=qos)
    for topic in ("a", "b", "c"):
        bob.publish(topic, qos=qos)
    assert [each.properties for each in alice.take_all(Publish)] == [
        identifier(1),
        identifier(2),
        {},
    ]


@pytest.mark.spec("5.0:MQTT-3.3.4-3")
def test_the_identifier_comes_also_with_retained_waiting_and_repeated_messages() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob")
    bob.publish("t", b"kept", retain=True)
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=1, properties=identifier(5))
    assert alice.take(Publish).properties == identifier(5)
    alice.lose()
    bob.publish("t", b"x", qos=1)
    for _ in range(2):
        alice = back(broker)
        assert alice.take(Publish).properties == identifier(5)
        alice.lose()


@pytest.mark.spec("5.0:MQTT-3.3.4-3")
def test_a_repeated_subscribe_replaces_or_removes_the_identifier() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    for properties in (identifier(1), identifier(2), {}):
        alice.subscribe("t", properties=properties)
        alice.publish("t")
        assert alice.take(Publish).properties == properties


@pytest.mark.spec("5.0:MQTT-3.3.4-3")
def test_a_shared_subscription_has_its_identifier_too() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice")
    alice.subscribe("$share/g/t", properties=identifier(4))
    alice.subscribe("t", properties=identifier(5))
    alice.publish("t")
    copies = [each.properties[Property.SUBSCRIPTION_IDENTIFIER] for each in alice.take_all(Publish)]
    assert sorted(copies) == [[4], [5]]


def test_the_identifiers_of_one_client_are_not_sent_to_another() -> None:
    broker = MemoryBroker()
    alice, carol, bob = broker.connect("alice"), broker.connect("carol"), broker.connect("bob")
    alice.subscribe("t", properties=identifier(1))
    carol.subscribe("t")
    bob.publish("t")
    assert alice.take(Publish).properties == identifier(1)
    assert carol.take(Publish).properties == {}


@pytest.mark.spec("5.0:MQTT-3.3.4-6")
def test_a_client_that_publishes_with_a_subscription_identifier_is_closed() -> None:
    broker = MemoryBroker()
    watcher, bob = broker.connect("watcher"), broker.connect("bob")
    watcher.subscribe("#")
    bob.publish("t", properties=identifier(1))
    assert bob.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert bob.is_closed
    assert watcher.received == []


# -- Receive Maximum of the client -----------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.3.4-9")
@pytest.mark.parametrize("qos", [1, 2])
def test_no_more_messages_are_in_flight_than_the_client_receives(qos: int) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.RECEIVE_MAXIMUM: 2})
    alice.subscribe("t", qos=qos)
    bob = broker.connect("bob")
    for number in range(5):
        bob.publish("t", bytes([number]), qos=qos)
    unacknowledged = alice.take_all(Publish)
    assert len(unacknowledged) == 2
    for left in (2, 2, 2, 1, 0):
        alice.acknowledge(unacknowledged.pop(0))
        unacknowledged += alice.take_all(Publish)
        assert len(unacknowledged) == left
    assert bob.take_all(Puback if qos == 1 else Pubrec)  # who was not kept waiting


@pytest.mark.spec("5.0:MQTT-3.3.4-9")
def test_a_qos_2_message_is_in_flight_until_pubcomp_or_a_refusal() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.RECEIVE_MAXIMUM: 1})
    alice.subscribe("t", qos=2)
    bob = broker.connect("bob")
    for payload in (b"1", b"2", b"3"):
        bob.publish("t", payload, qos=2)
    first = alice.take(Publish)
    alice.send(Pubrec(first.packet_id))
    assert alice.take_all(Pubrel) == [Pubrel(first.packet_id)]
    alice.send(Pubcomp(first.packet_id))
    second = alice.take(Publish)
    alice.send(Pubrec(second.packet_id, ReasonCode.QUOTA_EXCEEDED))
    assert alice.messages() == [("t", b"3")]


@pytest.mark.spec("5.0:MQTT-3.3.4-9")
def test_a_refused_qos_1_message_makes_room_too() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.RECEIVE_MAXIMUM: 1})
    alice.subscribe("t", qos=1)
    bob = broker.connect("bob")
    bob.publish("t", b"1", qos=1)
    bob.publish("t", b"2", qos=1)
    alice.send(Puback(alice.take(Publish).packet_id, ReasonCode.NOT_AUTHORIZED))
    assert alice.messages() == [("t", b"2")]


@pytest.mark.spec("5.0:MQTT-3.3.4-9")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_client_that_comes_back_with_a_smaller_maximum_gets_no_more_than_that(qos: int) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=qos)
    bob = broker.connect("bob")
    for number in range(4):
        bob.publish("t", bytes([number]), qos=qos)
    assert len(alice.take_all(Publish)) == 4
    alice.lose()
    bob.publish("t", bytes([4]), qos=qos)
    alice = back(broker, receive_maximum=1)
    got = []
    for number in range(5):
        (publish,) = alice.take_all(Publish)
        assert publish.dup is (number < 4)
        got.append(publish.payload)
        alice.acknowledge(publish)
    assert got == [bytes([number]) for number in range(5)]


@pytest.mark.spec("5.0:MQTT-3.3.4-9")
def test_retained_messages_respect_the_maximum_too() -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob")
    for number in range(4):
        bob.publish(f"t/{number}", b"x", qos=1, retain=True)
    alice = broker.connect("alice", properties={Property.RECEIVE_MAXIMUM: 1})
    alice.subscribe("t/#", qos=1)
    for _ in range(4):
        (publish,) = alice.take_all(Publish)
        alice.acknowledge(publish)
    assert alice.received == []


@pytest.mark.spec("5.0:MQTT-3.3.4-10")
def test_a_client_without_room_in_flight_still_gets_everything_else() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.RECEIVE_MAXIMUM: 1})
    alice.subscribe("t", qos=1)
    bob = broker.connect("bob")
    for _ in range(3):
        bob.publish("t", b"waits", qos=1)
    alice.take(Publish)
    bob.publish("t", b"at most once", qos=0)
    assert alice.messages() == [("t", b"at most once")]
    alice.send(Pingreq())
    alice.take(Pingresp)
    alice.publish("elsewhere", qos=1)
    alice.take(Puback)
    alice.publish("elsewhere", qos=2, packet_id=9)
    alice.take(Pubrec)
    alice.send(Pubrel(9))
    alice.take(Pubcomp)
    assert isinstance(alice.subscribe("other"), Suback)
    assert isinstance(alice.unsubscribe("other"), Unsuback)


@pytest.mark.spec("5.0:MQTT-3.3.4-9")
def test_one_full_client_does_not_hold_up_another() -> None:
    broker = MemoryBroker()
    full = broker.connect("full", properties={Property.RECEIVE_MAXIMUM: 1})
    free, bob = broker.connect("free"), broker.connect("bob")
    full.subscribe("t", qos=1)
    free.subscribe("t", qos=1)
    for _ in range(5):
        bob.publish("t", b"x", qos=1)
    assert len(full.take_all(Publish)) == 1
    assert len(free.take_all(Publish)) == 5
    assert len(bob.take_all(Puback)) == 5
