"""MQTT 5 section 3.2, CONNACK: what the broker answers and announces."""

import pytest

from broker.engine.ports import Verdict
from broker.packets.codes import REASONS, PacketType, ReasonCode
from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Pubrec,
    Subscribe,
    SubscriptionRequest,
)
from tests.support.authentication import Judge
from tests.support.broker import MemoryBroker, MemoryClient

KEPT: Properties = {Property.SESSION_EXPIRY_INTERVAL: 3600}


def announced(client: MemoryClient) -> Properties:
    """The properties of the CONNACK."""
    assert client.connack is not None
    return client.connack.properties


# -- its place -------------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.2.0-1")
def test_the_connack_comes_before_everything_that_waits_in_the_session() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", properties=KEPT)
    alice.subscribe("t", qos=2)
    bob = broker.connect("bob")
    bob.publish("t", b"in flight", qos=2)
    alice.take(Publish)
    alice.lose()
    bob.publish("t", b"waiting", qos=1)
    alice = broker.client()
    alice.send(Connect("alice", clean_start=False, properties=KEPT))
    assert alice.take(Connack).session_present
    assert alice.messages() == [("t", b"in flight"), ("t", b"waiting")]


@pytest.mark.spec("5.0:MQTT-3.2.0-1")
def test_a_client_that_subscribed_in_the_same_write_gets_the_connack_first() -> None:
    broker = MemoryBroker()
    broker.connect("bob").publish("t", b"retained", retain=True)
    alice = broker.client()
    alice.send(Connect("alice"), Subscribe(1, [SubscriptionRequest("t")]), Pingreq())
    alice.take(Connack)


@pytest.mark.spec("5.0:MQTT-3.2.0-2")
def test_there_is_one_connack_for_a_connection() -> None:
    broker = MemoryBroker()
    alice = broker.client()
    alice.send(Connect("alice"), Pingreq(), Connect("alice"))
    alice.take(Connack)
    alice.take(Pingresp)
    alice.take(Disconnect)
    assert alice.received == []


# -- session present -------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.2.2-2")
def test_session_present_is_0_after_clean_start() -> None:
    broker = MemoryBroker()
    broker.connect("alice", properties=KEPT).lose()
    assert broker.connect("alice", clean_start=True, properties=KEPT).connack == Connack(
        False, 0, announced(broker.connect("other"))
    )


@pytest.mark.spec("5.0:MQTT-3.2.2-3")
def test_session_present_says_whether_there_was_a_session() -> None:
    broker = MemoryBroker()
    for expected in (False, True, True):
        alice = broker.connect("alice", clean_start=False, properties=KEPT)
        assert alice.connack is not None
        assert alice.connack.session_present is expected
        alice.lose()
    broker.pass_time(4000)
    alice = broker.connect("alice", clean_start=False, properties=KEPT)
    assert alice.connack is not None
    assert alice.connack.session_present is False


@pytest.mark.spec("5.0:MQTT-3.2.2-3")
def test_session_present_is_told_when_a_connection_is_taken_over() -> None:
    broker = MemoryBroker()
    broker.connect("alice", properties=KEPT)
    alice = broker.connect("alice", clean_start=False, properties=KEPT)
    assert alice.connack is not None
    assert alice.connack.session_present is True


@pytest.mark.spec("5.0:MQTT-3.2.2-3")
def test_a_session_that_ends_by_being_taken_over_is_not_present() -> None:
    broker = MemoryBroker()
    older = broker.connect("alice")  # without expiry interval
    older.subscribe("t")
    alice = broker.connect("alice", clean_start=False)
    assert alice.connack is not None
    assert alice.connack.session_present is False
    alice.publish("t")
    assert alice.received == []


@pytest.mark.spec("5.0:MQTT-3.2.2-6")
def test_session_present_is_0_in_a_refusal_even_if_there_is_a_session() -> None:
    judge = Judge(Verdict())
    broker = MemoryBroker(judge)
    broker.connect("alice", properties=KEPT).lose()
    judge.verdict = Verdict(ReasonCode.NOT_AUTHORIZED)
    alice = broker.client()
    assert alice.connect("alice", clean_start=False) == Connack(False, ReasonCode.NOT_AUTHORIZED)


# -- reason codes ----------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.2.2-7", "5.0:MQTT-3.2.2-8")
@pytest.mark.parametrize("reason", [each for each in ReasonCode if each >= 0x80])
def test_every_refusal_is_a_connack_with_a_connect_reason_code_and_closes(
    reason: ReasonCode,
) -> None:
    alice = MemoryBroker(Judge(Verdict(reason))).client()
    connack = alice.connect("alice")
    assert connack is not None
    assert connack.reason in REASONS[PacketType.CONNACK]
    assert connack.reason >= 0x80
    assert alice.is_closed
    if reason in REASONS[PacketType.CONNACK]:
        assert connack.reason == reason


def test_a_redirected_client_is_told_where_to_go() -> None:
    broker = MemoryBroker(
        Judge(Verdict(ReasonCode.USE_ANOTHER_SERVER)), server_reference="other.example:1883"
    )
    alice = broker.client()
    connack = alice.connect("alice")
    assert connack is not None
    assert connack.properties == {Property.SERVER_REFERENCE: "other.example:1883"}


def test_a_full_broker_that_knows_another_one_sends_clients_there() -> None:
    broker = MemoryBroker(max_connections=1, server_reference="other.example:1883")
    broker.connect("first")
    late = broker.client()
    answer = late.connect("late")
    assert answer == Connack(
        False,
        ReasonCode.USE_ANOTHER_SERVER,
        {Property.SERVER_REFERENCE: "other.example:1883"},
    )
    assert late.is_closed


def test_other_refusals_do_not_tell_of_another_server() -> None:
    broker = MemoryBroker(
        Judge(Verdict(ReasonCode.NOT_AUTHORIZED)), server_reference="other.example:1883"
    )
    assert broker.client().connect("alice") == Connack(False, ReasonCode.NOT_AUTHORIZED)


# -- what is announced -----------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.2.2-9")
@pytest.mark.parametrize(("offered", "told"), [(0, 0), (1, 1), (2, None)])
def test_a_broker_without_the_higher_qos_says_so(offered: int, told: int | None) -> None:
    alice = MemoryBroker(maximum_qos=offered).connect("alice")
    assert announced(alice).get(Property.MAXIMUM_QOS) == told


@pytest.mark.spec("5.0:MQTT-3.2.2-10")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_broker_without_the_higher_qos_accepts_all_subscriptions(qos: int) -> None:
    broker = MemoryBroker(maximum_qos=0)
    alice = broker.connect("alice")
    assert alice.subscribe("t", qos=qos).reasons[0] in (0, 1, 2)
    alice.publish("t", b"x")
    assert alice.messages() == [("t", b"x")]


@pytest.mark.spec("5.0:MQTT-3.2.2-11")
@pytest.mark.parametrize(("offered", "qos"), [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("properties", [{}, {Property.CONTENT_TYPE: "x"}])
def test_a_publish_above_the_announced_qos_ends_the_connection(
    offered: int, qos: int, properties: Properties
) -> None:
    broker = MemoryBroker(maximum_qos=offered)
    watcher = broker.connect("watcher")
    watcher.subscribe("#")
    alice = broker.connect("alice")
    for _ in range(2):  # on a known topic, too
        watcher.publish("t", b"x")
    watcher.received.clear()
    alice.publish("t", qos=qos, properties=properties)
    assert alice.take(Disconnect).reason == ReasonCode.QOS_NOT_SUPPORTED
    assert alice.is_closed
    assert watcher.received == []


def test_a_broker_that_retains_nothing_says_so_and_ends_a_connection_that_tries() -> None:
    broker = MemoryBroker(retain_available=False)
    alice = broker.connect("alice")
    assert announced(alice)[Property.RETAIN_AVAILABLE] == 0
    alice.publish("t", b"x", retain=True)
    assert alice.take(Disconnect).reason == ReasonCode.RETAIN_NOT_SUPPORTED
    assert alice.is_closed


def test_what_the_broker_can_do_it_does_not_say_it_cannot() -> None:
    told = announced(MemoryBroker().connect("alice"))
    for absent in (
        Property.MAXIMUM_QOS,
        Property.RETAIN_AVAILABLE,
        Property.WILDCARD_SUBSCRIPTION_AVAILABLE,
        Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        Property.SHARED_SUBSCRIPTION_AVAILABLE,
        Property.ASSIGNED_CLIENT_IDENTIFIER,
        Property.SERVER_KEEP_ALIVE,
        Property.SESSION_EXPIRY_INTERVAL,
        Property.REASON_STRING,
        Property.RESPONSE_INFORMATION,
        Property.AUTHENTICATION_METHOD,
    ):
        assert told.get(absent, 1) == 1, absent


def test_the_limits_of_the_broker_are_announced() -> None:
    broker = MemoryBroker(receive_maximum=7, maximum_packet_size=1234, topic_alias_maximum=5)
    assert announced(broker.connect("alice")) == {
        Property.RECEIVE_MAXIMUM: 7,
        Property.MAXIMUM_PACKET_SIZE: 1234,
        Property.TOPIC_ALIAS_MAXIMUM: 5,
    }


def test_the_expiry_interval_is_told_only_if_it_is_not_what_the_client_asked_for() -> None:
    broker = MemoryBroker(max_session_expiry=100)
    assert Property.SESSION_EXPIRY_INTERVAL not in announced(
        broker.connect("a", properties={Property.SESSION_EXPIRY_INTERVAL: 100})
    )
    told = announced(broker.connect("b", properties={Property.SESSION_EXPIRY_INTERVAL: 101}))
    assert told[Property.SESSION_EXPIRY_INTERVAL] == 100


# -- server keep alive -----------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.2.2-22")
@pytest.mark.parametrize(("asked", "told"), [(30, None), (60, None), (61, 60), (0, 60)])
def test_a_broker_that_limits_the_keep_alive_tells_those_who_ask_for_more(
    asked: int, told: int | None
) -> None:
    alice = MemoryBroker(maximum_keep_alive=60).connect("alice", keep_alive=asked)
    assert announced(alice).get(Property.SERVER_KEEP_ALIVE) == told


@pytest.mark.spec("5.0:MQTT-3.1.2-22")
def test_the_server_keep_alive_counts_where_one_was_sent() -> None:
    broker = MemoryBroker(maximum_keep_alive=60)
    alice = broker.connect("alice", keep_alive=1000)
    broker.pass_time(89)
    assert not alice.is_closed
    broker.pass_time(2)
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.2.2-22")
def test_the_keep_alive_of_the_client_counts_where_none_was_sent() -> None:
    broker = MemoryBroker(maximum_keep_alive=60)
    alice = broker.connect("alice", keep_alive=20)
    broker.pass_time(31)
    assert alice.is_closed


@pytest.mark.parametrize("asked", [0, 1000])
def test_the_older_version_cannot_be_told_of_another_keep_alive_so_its_own_counts(
    asked: int,
) -> None:
    broker = MemoryBroker(maximum_keep_alive=60)
    alice = broker.connect("alice", 4, keep_alive=asked)
    broker.pass_time(1000)
    assert not alice.is_closed


# -- explanations that do not fit ------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.2.2-19", "5.0:MQTT-3.2.2-20", "5.0:MQTT-3.1.2-24")
@pytest.mark.parametrize(
    "explanation",
    [
        {Property.REASON_STRING: "for a very good reason"},
        {Property.USER_PROPERTY: [("a long name", "and a long value")]},
    ],
    ids=lambda properties: Property(*properties).name,
)
@pytest.mark.parametrize("fits", [True, False])
def test_an_explanation_that_does_not_fit_the_client_is_left_out(
    explanation: Properties, fits: bool
) -> None:
    broker = MemoryBroker()
    limits = {Property.MAXIMUM_PACKET_SIZE: 100 if fits else 20}
    alice = broker.connect("alice", properties=limits)
    alice.connection.send_packet(Connack(False, 0x87, dict(explanation)))
    broker.flush()
    assert alice.take(Connack) == Connack(False, 0x87, explanation if fits else {})


def test_an_assigned_identifier_makes_the_connack_longer_and_still_must_fit() -> None:
    broker = MemoryBroker()
    alice = broker.client()
    connack = alice.connect("", properties={Property.MAXIMUM_PACKET_SIZE: 20})
    assert connack == Connack(False, ReasonCode.PACKET_TOO_LARGE)
    assert alice.is_closed


# -- Receive Maximum and Topic Alias Maximum of the broker -----------------------------------------


@pytest.mark.spec("5.0:MQTT-3.3.4-7")
def test_a_client_that_exceeds_the_receive_maximum_is_told_so_and_closed() -> None:
    broker = MemoryBroker(receive_maximum=2)
    alice = broker.connect("alice")
    for packet_id in (1, 2):
        alice.publish("t", qos=2, packet_id=packet_id)
        alice.take(Pubrec)
    alice.publish("t", qos=2, packet_id=3)
    assert alice.take(Disconnect).reason == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.3.4-7")
def test_repetitions_qos_0_and_acknowledged_messages_do_not_count_towards_it() -> None:
    broker = MemoryBroker(receive_maximum=1)
    alice = broker.connect("alice")
    alice.publish("t", qos=2, packet_id=1)
    for _ in range(3):
        alice.publish("t", qos=2, packet_id=1, dup=True)
        alice.publish("t", qos=0)
        alice.publish("t", qos=1)
    assert not alice.is_closed
    assert [type(each) for each in alice.received].count(Puback) == 3


def test_every_message_of_a_burst_that_the_client_may_send_at_once_is_acknowledged() -> None:
    broker = MemoryBroker(receive_maximum=50)
    alice = broker.connect("alice")
    alice.send(*(Publish("t", b"", 2, packet_id=n) for n in range(1, 51)))
    assert [each.packet_id for each in alice.take_all(Pubrec)] == list(range(1, 51))


@pytest.mark.parametrize("alias", [1, 64])
def test_a_broker_without_aliases_announces_none_and_takes_none(alias: int) -> None:
    broker = MemoryBroker(topic_alias_maximum=0)
    alice = broker.connect("alice")
    assert announced(alice).get(Property.TOPIC_ALIAS_MAXIMUM, 0) == 0
    alice.publish("t", properties={Property.TOPIC_ALIAS: alias})
    assert alice.take(Disconnect).reason == ReasonCode.TOPIC_ALIAS_INVALID
    assert alice.is_closed
