"""MQTT 5 section 3.1, CONNECT: what the broker checks, whose session it takes up, and what it
promises the client. Wills have a file of their own.
"""

from string import ascii_lowercase, ascii_uppercase, digits

import pytest

from broker.connection.ports import Origin
from broker.engine.notices import ConnectRefused
from broker.engine.ports import Verdict
from broker.packets.codes import ReasonCode
from broker.packets.encode import encode
from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
)
from tests.support.authentication import Judge, Ponderer
from tests.support.broker import MemoryBroker, MemoryClient

KEPT: Properties = {Property.SESSION_EXPIRY_INTERVAL: 3600}
FOR_EVER = 0xFFFFFFFF


def connect_frame(
    name: bytes = b"MQTT", level: int = 5, flags: int = 2, payload: bytes = b"\0\1c"
) -> bytes:
    """A CONNECT without properties and keep alive."""
    body = len(name).to_bytes(2, "big") + name + bytes((level, flags, 0, 0, 0)) + payload
    return bytes((0x10, len(body))) + body


def refusal(broker: MemoryBroker) -> ConnectRefused:
    """The one refusal that the broker told its operator."""
    (notice,) = [each for each in broker.notices if isinstance(each, ConnectRefused)]
    return notice


# -- the packet and its place ----------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.1.0-2", "3.1.1:MQTT-3.1.0-2")
@pytest.mark.parametrize("version", [4, 5])
def test_a_second_connect_closes_the_connection(version: int) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version)
    alice.send(Connect("alice", version=version))
    assert alice.is_closed
    if version == 5:
        assert alice.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert alice.received == []


@pytest.mark.parametrize(
    "packet",
    [
        Publish("t"),
        Puback(1),
        Subscribe(1, [SubscriptionRequest("t")]),
        Pingreq(),
        Disconnect(),
        Auth(),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_what_comes_before_connect_closes_the_connection_without_an_answer(packet: Packet) -> None:
    broker = MemoryBroker()
    watcher = broker.connect("watcher")
    watcher.subscribe("#")
    stranger = broker.client()
    stranger.send(packet)
    assert stranger.is_closed
    assert stranger.raw == b""
    assert watcher.received == []


def test_a_client_that_says_nothing_is_closed_after_the_connect_timeout() -> None:
    broker = MemoryBroker(connect_timeout=10)
    silent, dribbling = broker.client(), broker.client()
    dribbling.send_raw(connect_frame()[:5])
    broker.pass_time(9)
    assert not silent.is_closed
    dribbling.send_raw(connect_frame()[5:6])
    broker.pass_time(1.5)
    assert silent.is_closed
    assert dribbling.is_closed


@pytest.mark.spec("5.0:MQTT-3.1.2-1", "5.0:MQTT-3.1.2-2", "5.0:MQTT-3.1.4-1")
@pytest.mark.parametrize(
    "frame",
    [
        connect_frame(b"MQTX"),
        connect_frame(b"mqtt"),
        connect_frame(b""),
        connect_frame(level=6),
        connect_frame(level=2),
        connect_frame(level=0),
        connect_frame(b"MQIsdp", level=5),
    ],
)
def test_an_unknown_protocol_name_or_version_is_refused_and_closed(frame: bytes) -> None:
    broker = MemoryBroker()
    stranger = broker.client(version=4)  # the broker cannot know how the stranger reads CONNACK
    stranger.send_raw(frame)
    assert stranger.take(Connack).reason == 1
    assert stranger.is_closed
    assert refusal(broker).reason == ReasonCode.UNSUPPORTED_PROTOCOL_VERSION
    assert len(broker.engine.sessions) == 0


@pytest.mark.spec("5.0:MQTT-3.1.2-3", "5.0:MQTT-3.1.4-1", "5.0:MQTT-3.2.2-7")
@pytest.mark.parametrize(
    "frame",
    [
        connect_frame(flags=0x03),  # reserved
        connect_frame(flags=0x0A),  # Will QoS without Will
        connect_frame(flags=0x22),  # Will Retain without Will
        connect_frame(flags=0x1E, payload=b"\0\1c\0\0\1w\0\0"),  # Will QoS 3
        connect_frame(payload=b""),  # no client id
        connect_frame(payload=b"\0\1\xff"),  # client id is no text
        connect_frame(flags=0x82),  # user name announced and missing
        connect_frame(flags=0x42),  # password announced and missing
        connect_frame(payload=b"\0\1c\0\1u"),  # user name not announced
    ],
)
def test_a_malformed_connect_is_told_so_and_closed(frame: bytes) -> None:
    broker = MemoryBroker()
    stranger = broker.client()
    stranger.send_raw(frame)
    assert stranger.take(Connack).reason == ReasonCode.MALFORMED_PACKET
    assert stranger.is_closed
    assert len(broker.engine.sessions) == 0


@pytest.mark.parametrize(
    "properties",
    [
        {Property.AUTHENTICATION_DATA: b"without a method"},
        {Property.RECEIVE_MAXIMUM: 0},
        {Property.MAXIMUM_PACKET_SIZE: 0},
        {Property.REQUEST_PROBLEM_INFORMATION: 2},
        {Property.REQUEST_RESPONSE_INFORMATION: 2},
    ],
    ids=lambda properties: Property(*properties).name,
)
def test_a_connect_property_that_makes_no_sense_is_a_protocol_error(properties: Properties) -> None:
    wire = {
        Property.AUTHENTICATION_DATA: b"\x16\0\1x",
        Property.RECEIVE_MAXIMUM: b"\x21\0\0",
        Property.MAXIMUM_PACKET_SIZE: b"\x27\0\0\0\0",
        Property.REQUEST_PROBLEM_INFORMATION: b"\x17\2",
        Property.REQUEST_RESPONSE_INFORMATION: b"\x19\2",
    }[Property(*properties)]
    body = b"\0\4MQTT\5\2\0\0" + bytes((len(wire),)) + wire + b"\0\1c"
    stranger = MemoryBroker().client()
    stranger.send_raw(bytes((0x10, len(body))) + body)
    assert stranger.take(Connack).reason == ReasonCode.PROTOCOL_ERROR
    assert stranger.is_closed


def test_a_password_without_a_user_name_is_allowed() -> None:
    judge = Judge(Verdict())
    MemoryBroker(judge).connect("c", password=b"token")
    assert (judge.attempts[0].username, judge.attempts[0].password) == (None, b"token")


# -- Clean Start and the session -------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.1.2-4", "5.0:MQTT-3.1.4-4")
def test_clean_start_discards_subscriptions_messages_and_packet_identifiers() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=1)
    alice.publish("elsewhere", qos=2, packet_id=7)
    alice.lose()
    bob = broker.connect("bob")
    bob.publish("t", b"waits", qos=1)
    alice = broker.connect("alice", properties=KEPT)
    bob.publish("t", b"new", qos=1)
    assert alice.received == []
    alice.send(Pubrel(7))
    assert alice.take(Pubcomp).reason == ReasonCode.PACKET_IDENTIFIER_NOT_FOUND


@pytest.mark.spec("5.0:MQTT-3.1.2-4", "5.0:MQTT-3.1.4-4", "5.0:MQTT-3.2.2-2")
def test_clean_start_discards_the_session_of_a_client_that_is_still_connected() -> None:
    broker = MemoryBroker()
    first = broker.connect("alice", properties=KEPT)
    first.subscribe("t", qos=1)
    second = broker.connect("alice", properties=KEPT)
    assert second.connack == Connack(False, 0, second.connack.properties)
    broker.connect("bob").publish("t", b"x", qos=1)
    assert second.received == []


@pytest.mark.spec("5.0:MQTT-3.1.2-5", "5.0:MQTT-3.1.2-23")
def test_without_clean_start_the_session_is_resumed() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=1)
    alice.publish("elsewhere", b"once", qos=2, packet_id=7)
    alice.disconnect()
    bob = broker.connect("bob")
    bob.subscribe("elsewhere")
    bob.publish("t", b"waited", qos=1)
    bob.take(Puback)
    alice = broker.connect("alice", clean_start=False, properties=KEPT)
    assert alice.messages() == [("t", b"waited")]
    alice.publish("elsewhere", b"once", qos=2, packet_id=7)  # not a second time
    alice.take(Pubrec)
    assert bob.received == []
    alice.send(Pubrel(7))
    assert alice.take(Pubcomp).reason == 0


@pytest.mark.spec("5.0:MQTT-3.1.2-6")
def test_without_clean_start_and_without_a_session_one_begins() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", clean_start=False, properties=KEPT)
    assert alice.connack is not None
    assert not alice.connack.session_present
    alice.subscribe("t", qos=1)
    alice.lose()
    alice = broker.connect("alice", clean_start=False, properties=KEPT)
    assert alice.connack is not None
    assert alice.connack.session_present


@pytest.mark.spec("5.0:MQTT-3.1.2-23")
@pytest.mark.parametrize("how", ["lost", "disconnect", "will"])
def test_a_session_lasts_for_its_expiry_interval_after_the_connection(how: str) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.SESSION_EXPIRY_INTERVAL: 60})
    broker.pass_time(1000)  # counts from the end of the connection
    _end(alice, how)
    broker.pass_time(59)
    alice = broker.connect(
        "alice", clean_start=False, properties={Property.SESSION_EXPIRY_INTERVAL: 60}
    )
    assert alice.connack is not None
    assert alice.connack.session_present
    _end(alice, how)
    broker.pass_time(61)
    assert len(broker.engine.sessions) == 0


def _end(client: MemoryClient, how: str) -> None:
    if how == "lost":
        client.lose()
    else:
        client.disconnect(0x04 if how == "will" else 0)


@pytest.mark.parametrize("properties", [{}, {Property.SESSION_EXPIRY_INTERVAL: 0}])
def test_a_session_without_an_expiry_interval_ends_with_its_connection(
    properties: Properties,
) -> None:
    broker = MemoryBroker()
    broker.connect("alice", clean_start=False, properties=properties).lose()
    assert len(broker.engine.sessions) == 0


@pytest.mark.spec("5.0:MQTT-3.1.2-23")
def test_the_largest_expiry_interval_means_for_ever() -> None:
    broker = MemoryBroker()
    broker.connect("alice", properties={Property.SESSION_EXPIRY_INTERVAL: FOR_EVER}).lose()
    broker.pass_time(FOR_EVER + 1.0)
    assert len(broker.engine.sessions) == 1


@pytest.mark.spec("5.0:MQTT-3.1.2-23")
def test_each_connect_sets_the_expiry_interval_anew() -> None:
    broker = MemoryBroker()
    broker.connect("alice", properties={Property.SESSION_EXPIRY_INTERVAL: FOR_EVER}).lose()
    alice = broker.connect("alice", clean_start=False)
    assert alice.connack is not None
    assert alice.connack.session_present
    alice.lose()
    assert len(broker.engine.sessions) == 0


@pytest.mark.spec("5.0:MQTT-3.1.2-23")
def test_a_session_that_was_resumed_does_not_end_by_its_former_deadline() -> None:
    broker = MemoryBroker()
    broker.connect("alice", properties={Property.SESSION_EXPIRY_INTERVAL: 10}).lose()
    broker.pass_time(9)
    alice = broker.connect(
        "alice", clean_start=False, properties={Property.SESSION_EXPIRY_INTERVAL: 10}
    )
    alice.subscribe("t")
    broker.pass_time(5)
    alice.publish("t", b"still here")
    assert alice.messages() == [("t", b"still here")]
    alice.lose()
    broker.pass_time(9)
    assert len(broker.engine.sessions) == 1


@pytest.mark.spec("5.0:MQTT-3.1.2-23")
def test_a_broker_that_limits_the_expiry_interval_says_so_and_keeps_to_it() -> None:
    broker = MemoryBroker(max_session_expiry=100)
    alice = broker.connect("alice", properties={Property.SESSION_EXPIRY_INTERVAL: FOR_EVER})
    assert alice.connack is not None
    assert alice.connack.properties[Property.SESSION_EXPIRY_INTERVAL] == 100
    alice.lose()
    broker.pass_time(99)
    assert len(broker.engine.sessions) == 1
    broker.pass_time(2)
    assert len(broker.engine.sessions) == 0


def test_an_expired_session_leaves_no_subscription_behind() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.SESSION_EXPIRY_INTERVAL: 10})
    alice.subscribe("t", qos=1)
    alice.subscribe("$share/g/t", qos=1)
    alice.lose()
    broker.pass_time(11)
    bob = broker.connect("bob")
    bob.publish("t", qos=1)
    assert bob.take(Puback).reason == ReasonCode.NO_MATCHING_SUBSCRIBERS


# -- keep alive ------------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.1.2-22", "5.0:MQTT-3.2.2-22")
def test_a_client_silent_for_one_and_a_half_keep_alives_is_closed() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", keep_alive=10)
    broker.pass_time(14.9)
    assert not alice.is_closed
    broker.pass_time(0.6)
    assert alice.take(Disconnect).reason == ReasonCode.KEEP_ALIVE_TIMEOUT
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.1.2-22")
@pytest.mark.parametrize("packet", [Pingreq(), Publish("t"), Puback(9)])
def test_any_packet_of_the_client_starts_the_keep_alive_anew(packet: Packet) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", keep_alive=10)
    broker.pass_time(14)
    alice.send(packet)
    broker.pass_time(14)
    assert not alice.is_closed
    broker.pass_time(2)
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.1.2-22")
def test_what_the_broker_sends_does_not_keep_a_silent_client_alive() -> None:
    broker = MemoryBroker()
    alice, bob = broker.connect("alice", keep_alive=10), broker.connect("bob")
    alice.subscribe("t")
    for _ in range(4):
        broker.pass_time(4)
        bob.publish("t")
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.1.2-22", "5.0:MQTT-3.2.2-22")
def test_keep_alive_0_means_no_limit() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", keep_alive=0)
    broker.pass_time(1_000_000)
    alice.send(Pingreq())
    alice.take(Pingresp)


# -- Receive Maximum and Maximum Packet Size ------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.1.2-24", "5.0:MQTT-3.1.2-25")
def test_a_message_is_sent_up_to_the_very_byte_that_the_client_accepts() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.MAXIMUM_PACKET_SIZE: 40})
    alice.subscribe("t")
    bob = broker.connect("bob")
    alice.raw = b""
    bob.publish("t", b"x" * 34)
    assert len(alice.raw) == 40
    bob.publish("t", b"x" * 35)
    assert len(alice.take_all(Publish)) == 1


@pytest.mark.spec("5.0:MQTT-3.1.2-24", "5.0:MQTT-3.1.2-25")
@pytest.mark.parametrize(
    "properties",
    [
        {Property.MESSAGE_EXPIRY_INTERVAL: 9},
        {Property.CONTENT_TYPE: "12"},
        {Property.USER_PROPERTY: [("", "")]},
    ],
    ids=lambda properties: Property(*properties).name,
)
def test_the_properties_of_a_message_count_towards_its_size(properties: Properties) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.MAXIMUM_PACKET_SIZE: 40})
    alice.subscribe("t")
    bob = broker.connect("bob")
    bob.publish("t", b"x" * 29, properties=properties)
    assert len(alice.take_all(Publish)) == 1
    bob.publish("t", b"x" * 30, properties=properties)
    assert alice.received == []


@pytest.mark.spec("5.0:MQTT-3.1.2-24")
def test_a_subscription_identifier_counts_towards_the_size() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.MAXIMUM_PACKET_SIZE: 40})
    alice.subscribe("t", properties={Property.SUBSCRIPTION_IDENTIFIER: [300]})
    bob = broker.connect("bob")
    bob.publish("t", b"x" * 32)
    assert alice.received == []
    bob.publish("t", b"x" * 31)
    assert len(alice.take_all(Publish)) == 1


@pytest.mark.spec("5.0:MQTT-3.1.2-25")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_too_large_for_one_client_counts_as_delivered(qos: int) -> None:
    broker = MemoryBroker()
    small = broker.connect(
        "small", properties={Property.MAXIMUM_PACKET_SIZE: 40, Property.RECEIVE_MAXIMUM: 1}
    )
    large, bob = broker.connect("large"), broker.connect("bob")
    small.subscribe("t", qos=qos)
    large.subscribe("t", qos=qos)
    bob.publish("t", b"x" * 100, qos=qos)
    assert bob.take(Puback if qos == 1 else Pubrec).reason == 0
    bob.publish("t", b"small", qos=qos)
    assert small.messages() == [("t", b"small")]  # its only place in flight was free
    assert [payload for _, payload in large.messages()] == [b"x" * 100, b"small"]
    assert broker.engine.traffic.lost == {"too_large_for_client": 1}


@pytest.mark.spec("5.0:MQTT-3.1.2-25")
def test_a_waiting_message_too_large_for_the_returning_client_counts_as_delivered() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=1)
    alice.lose()
    bob = broker.connect("bob")
    bob.publish("t", b"x" * 100, qos=1)
    bob.publish("t", b"small", qos=1)
    limits = {Property.MAXIMUM_PACKET_SIZE: 40, Property.RECEIVE_MAXIMUM: 1}
    alice = broker.connect("alice", clean_start=False, properties=KEPT | limits)
    assert alice.messages() == [("t", b"small")]


@pytest.mark.spec("5.0:MQTT-3.1.2-24", "5.0:MQTT-3.1.2-25")
def test_a_message_in_flight_too_large_for_the_returning_client_counts_as_delivered() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=1)
    bob = broker.connect("bob")
    bob.publish("t", b"x" * 100, qos=1)
    alice.lose()
    limits = {Property.MAXIMUM_PACKET_SIZE: 40, Property.RECEIVE_MAXIMUM: 1}
    alice = broker.connect("alice", clean_start=False, properties=KEPT | limits)
    bob.publish("t", b"small", qos=1)
    assert alice.messages() == [("t", b"small")]


@pytest.mark.spec("5.0:MQTT-3.1.2-24")
def test_an_answer_too_large_for_the_client_is_not_sent() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.MAXIMUM_PACKET_SIZE: 40})
    alice.send(Subscribe(1, [SubscriptionRequest(f"t/{n}") for n in range(36)]))
    assert alice.received == []
    alice.send(Subscribe(2, [SubscriptionRequest(f"t/{n}") for n in range(35)]))
    assert len(alice.take(Suback).reasons) == 35


@pytest.mark.spec("5.0:MQTT-3.1.2-24", "5.0:MQTT-3.2.0-1")
@pytest.mark.parametrize("size", [1, 4, 5, 15])
def test_a_client_that_cannot_even_take_the_connack_is_closed(size: int) -> None:
    broker = MemoryBroker()
    tiny = broker.client()
    tiny.connect("tiny", properties={Property.MAXIMUM_PACKET_SIZE: size} | KEPT)
    assert tiny.is_closed
    assert len(tiny.raw) <= size
    if size >= 5:
        assert tiny.connack == Connack(False, ReasonCode.PACKET_TOO_LARGE)


@pytest.mark.spec("5.0:MQTT-3.1.2-24")
def test_the_goodbye_fits_the_client_too() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.MAXIMUM_PACKET_SIZE: 16})
    alice.send(Connect("alice"))
    assert alice.take(Disconnect) == Disconnect(ReasonCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_packet_over_the_brokers_own_maximum_is_refused_before_its_body_comes(qos: int) -> None:
    broker = MemoryBroker(maximum_packet_size=1000)
    alice = broker.connect("alice")
    assert alice.connack is not None
    assert alice.connack.properties[Property.MAXIMUM_PACKET_SIZE] == 1000
    alice.publish("t", b"x" * 900, qos=qos)
    assert not alice.is_closed
    alice.received.clear()
    alice.send_raw(bytes((0x30 | qos << 1,)) + b"\xe6\x07")  # announces 998 bytes
    assert alice.take(Disconnect).reason == ReasonCode.PACKET_TOO_LARGE
    assert alice.is_closed


def test_a_packet_of_exactly_the_brokers_maximum_is_accepted() -> None:
    broker = MemoryBroker(maximum_packet_size=1000)
    alice = broker.connect("alice")
    alice.subscribe("t")
    frame = encode(Publish("t", b"x" * 993), 5)
    assert len(frame) == 1000
    alice.send_raw(frame)
    assert alice.messages() == [("t", b"x" * 993)]


# -- topic aliases towards the client --------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.1.2-26", "5.0:MQTT-3.3.2-11", "5.0:MQTT-3.3.2-8")
def test_the_brokers_aliases_stay_within_the_clients_maximum_and_stand_for_the_topics() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.TOPIC_ALIAS_MAXIMUM: 2})
    alice.subscribe("#")
    bob = broker.connect("bob")
    sent = ["a", "b", "a", "c", "b", "a", "c", "c", "d"]
    for topic in sent:
        bob.publish(topic)
    known: dict[int, str] = {}
    for expected, publish in zip(sent, alice.take_all(Publish), strict=True):
        alias = publish.properties[Property.TOPIC_ALIAS]
        assert 1 <= alias <= 2
        if publish.topic:
            known[alias] = publish.topic
        assert known[alias] == expected


@pytest.mark.spec("5.0:MQTT-3.1.2-26")
def test_a_topic_is_sent_once_and_then_only_its_alias() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.TOPIC_ALIAS_MAXIMUM: 10})
    alice.subscribe("#", qos=1)
    bob = broker.connect("bob")
    for qos in (0, 1, 0):
        bob.publish("long/topic", qos=qos)
    first, *others = alice.take_all(Publish)
    assert first.topic == "long/topic"
    alias = first.properties[Property.TOPIC_ALIAS]
    assert [(each.topic, each.properties[Property.TOPIC_ALIAS]) for each in others] == [
        ("", alias),
        ("", alias),
    ]


@pytest.mark.spec("5.0:MQTT-3.1.2-27")
@pytest.mark.parametrize("properties", [{}, {Property.TOPIC_ALIAS_MAXIMUM: 0}])
def test_a_client_that_takes_no_aliases_gets_none(properties: Properties) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=properties)
    alice.subscribe("#")
    for _ in range(2):
        alice.publish("t", properties={Property.TOPIC_ALIAS: 1})
    for publish in alice.take_all(Publish):
        assert publish.topic == "t"
        assert Property.TOPIC_ALIAS not in publish.properties


def test_an_alias_that_got_lost_with_a_packet_too_large_is_not_used() -> None:
    broker = MemoryBroker()
    limits = {Property.TOPIC_ALIAS_MAXIMUM: 5, Property.MAXIMUM_PACKET_SIZE: 40}
    alice = broker.connect("alice", properties=limits)
    alice.subscribe("#")
    bob = broker.connect("bob")
    bob.publish("t", b"x" * 100)
    bob.publish("t", b"x")
    assert alice.messages() == [("t", b"x")]


# -- what the client wants to be told --------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.1.2-28")
@pytest.mark.parametrize(
    ("wanted", "told"),
    [(None, None), (0, None), (1, "answers/alice")],
)
def test_response_information_is_given_only_on_request(
    wanted: int | None, told: str | None
) -> None:
    broker = MemoryBroker(response_information="answers/{client_id}")
    properties = {} if wanted is None else {Property.REQUEST_RESPONSE_INFORMATION: wanted}
    alice = broker.connect("alice", properties=properties)
    assert alice.connack is not None
    assert alice.connack.properties.get(Property.RESPONSE_INFORMATION) == told


EXPLANATION: Properties = {Property.REASON_STRING: "because", Property.USER_PROPERTY: [("a", "b")]}


@pytest.mark.spec("5.0:MQTT-3.1.2-29")
@pytest.mark.parametrize("wanted", [0, 1])
@pytest.mark.parametrize(
    "packet",
    [
        Puback(1, 0x87),
        Pubrec(1, 0x87),
        Pubrel(1, 0x92),
        Pubcomp(1, 0x92),
        Suback(1, [0x87]),
        Unsuback(1, [0x87]),
        Auth(0x18),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_without_problem_information_answers_carry_no_explanation(
    packet: Packet, wanted: int
) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.REQUEST_PROBLEM_INFORMATION: wanted})
    packet.properties = dict(EXPLANATION)  # type: ignore[union-attr]  # all of these have them
    alice.connection.send_packet(packet)
    broker.flush()
    (answer,) = alice.received
    assert answer.properties == (EXPLANATION if wanted else {})  # type: ignore[union-attr]


@pytest.mark.spec("5.0:MQTT-3.1.2-29")
def test_without_problem_information_publish_still_carries_its_user_properties() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties={Property.REQUEST_PROBLEM_INFORMATION: 0})
    alice.subscribe("t")
    alice.publish("t", properties={Property.USER_PROPERTY: [("a", "b")]})
    assert alice.take(Publish).properties == {Property.USER_PROPERTY: [("a", "b")]}


# -- client identifiers ----------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.1.3-2")
def test_every_client_identifier_has_its_own_session() -> None:
    broker = MemoryBroker()
    for name in ("alice", "Alice", "alice "):
        broker.connect(name, properties=KEPT).subscribe(f"to/{name}", qos=1)
    broker.connect("bob").publish("to/Alice", b"x", qos=1)
    again = broker.connect("Alice", clean_start=False, properties=KEPT)
    assert len(again.take_all(Publish)) == 1
    assert broker.connect("alice", clean_start=False, properties=KEPT).received == []


@pytest.mark.spec("5.0:MQTT-3.1.3-5")
@pytest.mark.parametrize(
    "client_id", ["a", "0", "Z", digits + "abcABC", ascii_lowercase[:23], ascii_uppercase[3:]]
)
def test_the_client_identifiers_that_every_server_must_accept_are_accepted(client_id: str) -> None:
    assert MemoryBroker().connect(client_id).connack is not None


@pytest.mark.parametrize("client_id", ["x" * 65_535, "a/b#+$", "größe", "\ufeff", " "])
def test_other_client_identifiers_are_accepted_too(client_id: str) -> None:
    broker = MemoryBroker()
    broker.connect(client_id, properties=KEPT).lose()
    again = broker.connect(client_id, clean_start=False)
    assert again.connack is not None
    assert again.connack.session_present


@pytest.mark.spec("5.0:MQTT-3.1.3-6", "5.0:MQTT-3.1.3-7", "5.0:MQTT-3.2.2-16")
@pytest.mark.parametrize("clean_start", [True, False])
def test_a_client_without_an_identifier_is_given_one_that_is_its_own(clean_start: bool) -> None:
    broker = MemoryBroker()
    clients = [broker.connect("", clean_start=clean_start, properties=KEPT) for _ in range(50)]
    assigned = {_assigned(each) for each in clients}
    assert len(assigned) == 50
    assert not any(each.is_closed for each in clients)


@pytest.mark.spec("5.0:MQTT-3.1.3-7")
def test_an_assigned_identifier_is_good_for_resuming_the_session() -> None:
    broker = MemoryBroker()
    nameless = broker.connect("", properties=KEPT)
    nameless.subscribe("t", qos=1)
    nameless.lose()
    broker.connect("bob").publish("t", b"x", qos=1)
    again = broker.connect(_assigned(nameless), clean_start=False, properties=KEPT)
    assert again.messages() == [("t", b"x")]
    assert again.connack is not None
    assert Property.ASSIGNED_CLIENT_IDENTIFIER not in again.connack.properties


@pytest.mark.spec("5.0:MQTT-3.2.2-16")
def test_an_identifier_that_a_session_has_is_not_assigned() -> None:
    twin = MemoryBroker(seed=7).connect("")  # the same randomness comes to the same identifier
    broker = MemoryBroker(seed=7)
    broker.connect(_assigned(twin), properties=KEPT).lose()
    assert _assigned(broker.connect("")) != _assigned(twin)


def _assigned(client: MemoryClient) -> str:
    assert client.connack is not None
    client_id: str = client.connack.properties[Property.ASSIGNED_CLIENT_IDENTIFIER]
    return client_id


@pytest.mark.spec("5.0:MQTT-3.1.3-8")
def test_a_client_identifier_that_is_not_wanted_is_refused_and_closed() -> None:
    broker = MemoryBroker(Judge(Verdict(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)))
    alice = broker.client()
    assert alice.connect("alice") == Connack(False, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)
    assert alice.is_closed


# -- decisions -------------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.1.4-2", "5.0:MQTT-3.2.2-7")
@pytest.mark.parametrize(
    "reason",
    [
        ReasonCode.BAD_USER_NAME_OR_PASSWORD,
        ReasonCode.NOT_AUTHORIZED,
        ReasonCode.BANNED,
        ReasonCode.SERVER_BUSY,
        ReasonCode.USE_ANOTHER_SERVER,
    ],
)
def test_a_client_that_the_authenticator_rejects_is_told_why_and_closed(reason: ReasonCode) -> None:
    broker = MemoryBroker(Judge(Verdict(reason, why="a secret of the operator")))
    alice = broker.client()
    assert alice.connect("alice", username="u", password=b"p") == Connack(False, reason)
    assert alice.is_closed
    assert b"secret" not in alice.raw
    assert refusal(broker).why == "a secret of the operator"
    assert len(broker.engine.sessions) == 0


@pytest.mark.spec("5.0:MQTT-3.1.4-2")
def test_a_client_over_the_limit_of_connections_is_refused_and_the_others_stay() -> None:
    broker = MemoryBroker(max_connections=1)
    alice, bob = broker.connect("alice"), broker.client()
    assert bob.connect("bob") == Connack(False, ReasonCode.QUOTA_EXCEEDED)
    assert bob.is_closed
    alice.send(Pingreq())
    alice.take(Pingresp)


@pytest.mark.spec("5.0:MQTT-3.1.4-2")
def test_an_anonymous_stranger_is_refused_where_only_this_machine_may_come_in() -> None:
    broker = MemoryBroker()
    stranger = broker.client(origin=Origin("tcp", "192.0.2.1", 1234, "loopback"))
    assert stranger.connect("c") == Connack(False, ReasonCode.NOT_AUTHORIZED)
    assert stranger.is_closed


def test_a_rejected_client_does_not_disturb_the_one_that_has_the_identifier() -> None:
    judge = Judge(Verdict())
    broker = MemoryBroker(judge)
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t")
    judge.verdict = Verdict(ReasonCode.NOT_AUTHORIZED)
    broker.client().connect("alice")
    alice.publish("t", b"x")
    assert alice.messages() == [("t", b"x")]


@pytest.mark.spec("5.0:MQTT-3.1.4-3")
def test_a_second_connection_with_the_same_identifier_takes_over() -> None:
    broker = MemoryBroker()
    older = broker.connect("alice", properties=KEPT)
    older.subscribe("t")
    newer = broker.connect("alice", clean_start=False, properties=KEPT)
    assert older.take(Disconnect).reason == ReasonCode.SESSION_TAKEN_OVER
    assert older.is_closed
    newer.publish("t", b"x")
    assert newer.messages() == [("t", b"x")]
    assert older.received == []


@pytest.mark.spec("5.0:MQTT-3.1.4-3")
def test_what_the_older_connection_still_sends_is_ignored_and_its_end_ends_nothing() -> None:
    broker = MemoryBroker()
    older = broker.connect("alice", properties=KEPT)
    newer = broker.connect("alice", clean_start=False, properties=KEPT)
    newer.subscribe("t")
    older.publish("t", b"late")
    older.lose()
    assert newer.received == []
    newer.publish("t", b"x")
    assert newer.messages() == [("t", b"x")]


@pytest.mark.spec("5.0:MQTT-3.1.4-5", "5.0:MQTT-3.2.2-1", "5.0:MQTT-3.2.2-2")
def test_a_valid_connect_is_acknowledged_with_reason_0() -> None:
    alice = MemoryBroker().client()
    connack = alice.connect("alice")
    assert connack is not None
    assert (connack.session_present, connack.reason) == (False, ReasonCode.SUCCESS)
    assert alice.raw[2] == 0  # all of the flags


EAGER = (Publish("t", b"x"), Subscribe(1, [SubscriptionRequest("t")]), Pingreq())


@pytest.mark.spec("5.0:MQTT-3.1.4-6")
def test_nothing_is_processed_after_a_rejected_connect() -> None:
    judge = Judge(Verdict())
    broker = MemoryBroker(judge)
    watcher = broker.connect("watcher")
    watcher.subscribe("#")
    judge.verdict = Verdict(ReasonCode.NOT_AUTHORIZED)
    alice = broker.client()
    alice.send(Connect("alice"), *EAGER)
    assert alice.take(Connack).reason == ReasonCode.NOT_AUTHORIZED
    assert alice.is_closed
    assert alice.received == watcher.received == []


@pytest.mark.spec("5.0:MQTT-3.1.4-6", "5.0:MQTT-3.2.0-1")
@pytest.mark.parametrize("reason", [ReasonCode.SUCCESS, ReasonCode.NOT_AUTHORIZED])
def test_what_comes_before_the_decision_waits_for_it(reason: ReasonCode) -> None:
    ponderer = Ponderer()
    broker = MemoryBroker(ponderer)
    alice = broker.client()
    alice.send(Connect("alice"), *EAGER)
    alice.send(Publish("t", b"y"))
    assert alice.received == []
    assert alice.held  # nor is more read from it
    ponderer.decide(Verdict(reason))
    broker.flush()
    assert alice.take(Connack).reason == reason
    if reason:
        assert alice.is_closed
    else:
        alice.take(Suback)
        alice.take(Pingresp)
        assert alice.messages() == [("t", b"y")]
        assert not alice.held
    assert alice.received == []


def test_a_client_that_leaves_before_the_decision_leaves_nothing_behind() -> None:
    ponderer = Ponderer()
    broker = MemoryBroker(ponderer)
    alice = broker.client()
    alice.send(Connect("alice", properties=KEPT))
    alice.lose()
    ponderer.decide()
    assert len(broker.engine.sessions) == 0
    assert alice.received == []


def test_a_resumed_session_goes_first_and_what_the_client_sent_meanwhile_second() -> None:
    ponderer = Ponderer()
    broker = MemoryBroker(ponderer)
    alice = broker.client()
    alice.send(Connect("alice", properties=KEPT))
    ponderer.decide()
    alice.send(Subscribe(1, [SubscriptionRequest("t", 1)]), Publish("t", b"1", 1, packet_id=1))
    alice.lose()
    alice = broker.client()
    alice.send(Connect("alice", clean_start=False, properties=KEPT), Publish("t", b"2"))
    ponderer.decide()
    broker.flush()
    alice.take(Connack)
    assert alice.messages() == [("t", b"1"), ("t", b"2")]


@pytest.mark.parametrize("clean_start", [False, True])
def test_a_session_is_not_given_to_another_user_who_knows_its_client_id(clean_start: bool) -> None:
    broker = MemoryBroker()
    forever: Properties = {Property.SESSION_EXPIRY_INTERVAL: 600}
    owner = broker.connect("meter", username="alice", properties=forever)
    owner.subscribe("t", 1)
    stranger = broker.client()
    answer = stranger.connect("meter", username="mallory", clean_start=clean_start)
    assert answer is not None
    assert answer.reason == ReasonCode.CLIENT_IDENTIFIER_NOT_VALID
    assert stranger.is_closed
    assert not owner.is_closed
    owner.lose()
    again = broker.connect("meter", username="alice", clean_start=False, properties=forever)
    assert again.connack is not None
    assert again.connack.session_present
