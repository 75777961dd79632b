"""SUBSCRIBE and SUBACK (MQTT 5 sections 3.8 and 3.9)."""

import pytest

from broker.engine.ports import Client
from broker.packets.codes import ReasonCode
from broker.packets.encode import encode
from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Disconnect,
    Puback,
    Publish,
    Suback,
    Subscribe,
    SubscriptionRequest,
)
from tests.support.broker import MemoryBroker, MemoryClient


class OnlyPublic:
    """An authorizer that lets everyone read public/ and write everything."""

    def may_publish(self, client: Client, topic: str) -> bool:
        return True

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:
        return topic_filter.startswith("public/")


def ask(client: MemoryClient, *requests: SubscriptionRequest, packet_id: int = 99) -> Suback:
    client.send(Subscribe(packet_id, list(requests)))
    return client.take(Suback)


# -- what is refused outright ---------------------------------------------------------------------


@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
@pytest.mark.spec("5.0:MQTT-3.8.1-1")
def test_a_subscribe_with_other_flags_than_0010_closes_the_connection(flags: int) -> None:
    client = MemoryBroker().connect()
    client.send_raw(bytes((0x80 | flags,)) + b"\7\0\1\0\0\1t\0")
    assert client.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert client.is_closed


@pytest.mark.parametrize("reserved", [0x40, 0x80, 0xC0])
@pytest.mark.spec("5.0:MQTT-3.8.3-5")
def test_reserved_bits_in_the_options_close_the_connection(reserved: int) -> None:
    client = MemoryBroker().connect()
    client.send_raw(b"\x82\7\0\1\0\0\1t" + bytes((reserved,)))
    assert client.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-3.8.3-4")
def test_no_local_on_a_shared_subscription_closes_the_connection() -> None:
    client = MemoryBroker().connect()
    client.send(Subscribe(1, [SubscriptionRequest("$share/g/t", no_local=True)]))
    assert client.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-3.8.3-2")
def test_a_subscribe_without_a_filter_closes_the_connection() -> None:
    client = MemoryBroker().connect()
    client.send_raw(b"\x82\3\0\1\0")
    assert client.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-3.8.3-1")
def test_a_filter_that_is_not_utf_8_closes_the_connection() -> None:
    client = MemoryBroker().connect()
    client.send_raw(b"\x82\7\0\1\0\0\1\xff\0")
    assert client.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert client.is_closed


# -- No Local -------------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.8.3-3")
def test_no_local_keeps_a_clients_messages_from_itself_and_from_nobody_else() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice"), broker.connect("bob")
    alice.subscribe("t", no_local=True)
    bob.subscribe("t")
    alice.publish("t", b"from alice")
    assert alice.received == []
    assert bob.messages() == [("t", b"from alice")]
    bob.publish("t", b"from bob")
    assert alice.messages() == [("t", b"from bob")]


@pytest.mark.spec("5.0:MQTT-3.8.3-3")
def test_no_local_holds_for_a_later_connection_with_the_same_client_id() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.SESSION_EXPIRY_INTERVAL: 60})
    alice.subscribe("t", no_local=True)
    alice.lose()
    alice = broker.connect("alice", clean_start=False)
    alice.publish("t", b"x")
    assert alice.received == []


@pytest.mark.spec("5.0:MQTT-3.8.3-3")
def test_a_second_filter_without_no_local_still_brings_a_clients_own_messages() -> None:
    client = MemoryBroker().connect()
    client.subscribe("a/b", qos=1, no_local=True)
    client.subscribe("a/+")
    client.publish("a/b", b"x", qos=1)
    publish, puback = client.received
    assert isinstance(publish, Publish)
    assert isinstance(puback, Puback)
    assert (publish.payload, publish.qos) == (b"x", 0)


# -- the answer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("packet_id", [1, 77, 65_535])
@pytest.mark.spec("5.0:MQTT-3.8.4-1", "5.0:MQTT-3.8.4-2")
def test_every_subscribe_is_answered_with_its_own_packet_id(packet_id: int) -> None:
    client = MemoryBroker().connect()
    answer = ask(client, SubscriptionRequest("t"), packet_id=packet_id)
    assert answer.packet_id == packet_id


@pytest.mark.spec("5.0:MQTT-3.8.4-1")
def test_subscribing_again_is_answered_again() -> None:
    client = MemoryBroker().connect()
    assert client.subscribe("t").reasons == [0]
    assert client.subscribe("t").reasons == [0]


@pytest.mark.spec("5.0:MQTT-3.8.4-5", "5.0:MQTT-3.8.4-6", "5.0:MQTT-3.8.4-7", "5.0:MQTT-3.9.3-1")
def test_one_answer_has_the_outcome_of_every_filter_in_their_order() -> None:
    client = MemoryBroker().connect()
    answer = ask(
        client,
        SubscriptionRequest("a", 2),
        SubscriptionRequest("b/#/c", 1),
        SubscriptionRequest("c", 0),
        SubscriptionRequest("$share//d", 1),
        SubscriptionRequest("e", 1),
    )
    invalid = ReasonCode.TOPIC_FILTER_INVALID
    assert answer.reasons == [2, invalid, 0, invalid, 1]
    assert client.received == []


@pytest.mark.spec("5.0:MQTT-3.8.4-5")
def test_several_filters_in_one_packet_act_like_several_packets() -> None:
    broker = MemoryBroker()
    client = broker.connect()
    broker.connect("other").publish("a", b"kept", retain=True)
    ask(client, SubscriptionRequest("a", 0), SubscriptionRequest("a", 1), SubscriptionRequest("b"))
    assert client.messages() == [("a", b"kept"), ("a", b"kept")]
    broker.connect("other").publish("a", b"new", qos=1)
    broker.connect("other").publish("b", b"new")
    first, second = client.take_all(Publish)
    assert (first.topic, first.qos, second.topic) == ("a", 1, "b")


@pytest.mark.spec("5.0:MQTT-3.8.4-7", "5.0:MQTT-3.9.3-2")
def test_each_kind_of_refusal_has_its_reason() -> None:
    broker = MemoryBroker(authorizer=OnlyPublic(), max_subscriptions_per_client=1)
    client = broker.connect()
    answer = ask(
        client,
        SubscriptionRequest("private/a"),
        SubscriptionRequest("public/a", 1),
        SubscriptionRequest("public/b"),
        SubscriptionRequest("public/c+"),
        SubscriptionRequest(""),
    )
    assert answer.reasons == [
        ReasonCode.NOT_AUTHORIZED,
        ReasonCode.GRANTED_QOS_1,
        ReasonCode.QUOTA_EXCEEDED,
        ReasonCode.TOPIC_FILTER_INVALID,
        ReasonCode.TOPIC_FILTER_INVALID,
    ]


def test_a_refused_filter_brings_no_message() -> None:
    broker = MemoryBroker(authorizer=OnlyPublic())
    client = broker.connect()
    client.subscribe("private/#")
    client.publish("private/a", b"x")
    assert client.received == []


def small_client(limit: int) -> MemoryClient:
    return MemoryBroker().connect(properties={Property.MAXIMUM_PACKET_SIZE: limit})


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(
            {Property.REASON_STRING: "w" * 60}, marks=pytest.mark.spec("5.0:MQTT-3.9.2-1")
        ),
        pytest.param(
            {Property.USER_PROPERTY: [("k", "w" * 60)]}, marks=pytest.mark.spec("5.0:MQTT-3.9.2-2")
        ),
    ],
)
def test_an_explanation_that_does_not_fit_is_left_out(properties: Properties) -> None:
    packet = Suback(1, [0x80], dict(properties))
    client = small_client(len(encode(packet, 5)) - 1)
    client.connection.send_packet(packet)
    client.flush()
    assert client.take(Suback) == Suback(1, [0x80])


# -- subscribing again ----------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.8.4-3")
def test_the_same_filter_again_replaces_qos_and_options() -> None:
    broker = MemoryBroker()
    client, other = broker.connect("client"), broker.connect("other")
    client.subscribe("t", qos=2, no_local=True)
    client.subscribe("t", qos=0, retain_as_published=True)
    other.publish("t", b"x", qos=2, retain=True)
    (publish,) = client.take_all(Publish)
    assert (publish.qos, publish.retain) == (0, True)
    client.publish("t", b"own")
    assert client.messages() == [("t", b"own")]


@pytest.mark.spec("5.0:MQTT-3.8.4-3")
def test_the_same_filter_again_replaces_the_identifier() -> None:
    client = MemoryBroker().connect()
    client.subscribe("t", properties={Property.SUBSCRIPTION_IDENTIFIER: [7]})
    client.subscribe("t", properties={Property.SUBSCRIPTION_IDENTIFIER: [8]})
    client.publish("t", b"x")
    assert client.take(Publish).properties[Property.SUBSCRIPTION_IDENTIFIER] == [8]
    client.subscribe("t")
    client.publish("t", b"x")
    assert Property.SUBSCRIPTION_IDENTIFIER not in client.take(Publish).properties


@pytest.mark.spec("5.0:MQTT-3.8.4-3")
def test_a_filter_that_matches_the_same_topics_is_another_subscription() -> None:
    client = MemoryBroker().connect()
    client.subscribe("a/+", qos=1)
    client.subscribe("a/#")
    assert client.unsubscribe("a/#").reasons == [0]
    client.publish("a/b", b"x")
    assert client.messages() == [("a/b", b"x")]


@pytest.mark.spec("5.0:MQTT-3.8.4-4")
@pytest.mark.parametrize(("handling", "copies"), [(0, 1), (1, 0), (2, 0)])
def test_replacing_sends_retained_messages_again_as_retain_handling_says(
    handling: int, copies: int
) -> None:
    client = MemoryBroker().connect()
    client.publish("t", b"kept", retain=True)
    client.subscribe("t")
    assert client.take(Publish).retain
    client.subscribe("t", retain_handling=handling)
    assert len(client.take_all(Publish)) == copies


@pytest.mark.spec("5.0:MQTT-3.8.4-4")
def test_replacing_loses_none_of_the_messages_that_wait() -> None:
    broker = MemoryBroker()
    client = broker.connect("client", properties={Property.RECEIVE_MAXIMUM: 1})
    other = broker.connect("other")
    client.subscribe("t", qos=1)
    for n in range(3):
        other.publish("t", bytes([n]), qos=1)
    client.send(Subscribe(50, [SubscriptionRequest("t", 1, retain_handling=2)]))
    other.publish("t", b"\3", qos=1)
    payloads = []
    while client.received:
        packet = client.received.pop(0)
        if isinstance(packet, Publish):
            payloads.append(packet.payload)
            client.acknowledge(packet)
    assert payloads == [b"\0", b"\1", b"\2", b"\3"]


# -- the QoS of what is delivered -----------------------------------------------------------------


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.spec("5.0:MQTT-3.8.4-8")
def test_delivered_is_the_lower_of_published_and_granted(published: int, granted: int) -> None:
    broker = MemoryBroker()
    client = broker.connect("client")
    client.subscribe("t", qos=granted)
    broker.connect("other").publish("t", b"x", qos=published)
    assert client.take(Publish).qos == min(published, granted)


@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.spec("5.0:MQTT-3.8.4-8")
def test_a_retained_message_is_delivered_with_the_lower_qos(published: int, granted: int) -> None:
    broker = MemoryBroker()
    broker.connect("other").publish("t", b"x", qos=published, retain=True)
    client = broker.connect("client")
    client.subscribe("t", qos=granted)
    assert client.take(Publish).qos == min(published, granted)
