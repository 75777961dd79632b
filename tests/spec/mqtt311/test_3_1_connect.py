"""MQTT 3.1.1, section 3.1: CONNECT, and what becomes of session, Will and keep alive."""

import string
from collections.abc import Callable

import pytest

from broker.connection.ports import Origin
from broker.engine.ports import Attempt, Verdict
from broker.packets.codes import ReasonCode
from broker.packets.encode import encode
from broker.packets.types import Connack, Connect, Pingreq, Pingresp, Puback, Publish, Suback
from tests.support.broker import MemoryBroker, MemoryClient, will

Answer = Callable[[Verdict], None]

KNOWN_CONNECT = b"\x10\x0d\0\4MQTT\4\2\0\0\0\1a"


class Refusing:
    """An Authenticator that refuses everybody, for one reason."""

    def __init__(self, reason: ReasonCode) -> None:
        self.reason = reason

    def authenticate(self, attempt: Attempt, answer: Answer) -> None:
        answer(Verdict(self.reason))


class Slow:
    """An Authenticator that notes who wants to come in and leaves the answer to the test."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.answers: list[Answer] = []

    def authenticate(self, attempt: Attempt, answer: Answer) -> None:
        self.attempts.append(attempt)
        self.answers.append(answer)


def wills_of(broker: MemoryBroker) -> MemoryClient:
    """Someone who gets every Will."""
    heir = broker.connect("heir", version=4)
    heir.subscribe("will/#", qos=2)
    return heir


# -- the packet ------------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-3.1.0-2")
def test_a_second_connect_ends_the_connection() -> None:
    broker = MemoryBroker()
    client = broker.connect("alice", version=4)
    client.send(Connect("alice", version=4))
    assert client.is_closed
    assert client.received == []


@pytest.mark.spec("3.1.1:MQTT-3.1.2-1")
@pytest.mark.parametrize("name", [b"MQTX", b"mqtt", b"MQTT2", b"", b"\xff\xfe"])
def test_a_client_with_another_protocol_name_is_not_served(name: bytes) -> None:
    client = MemoryBroker().client(version=4)
    body = bytes([0, len(name)]) + name + b"\4\2\0\0\0\1a"
    client.send_raw(bytes([0x10, len(body)]) + body)
    assert client.is_closed
    assert client.raw in {b"", b"\x20\2\0\1"}


@pytest.mark.spec("3.1.1:MQTT-3.1.2-2", "3.1.1:MQTT-3.2.2-5")
@pytest.mark.parametrize("level", [0, 1, 3, 6, 0x84, 0xFF])
def test_an_unknown_protocol_level_is_answered_with_1_and_the_connection_closed(level: int) -> None:
    client = MemoryBroker().client(version=4)
    client.send_raw(KNOWN_CONNECT.replace(b"MQTT\4", b"MQTT" + bytes([level])))
    assert client.raw == b"\x20\2\0\1"
    assert client.is_closed


@pytest.mark.spec("3.1.1:MQTT-3.1.2-3", "3.1.1:MQTT-3.1.4-1")
def test_a_reserved_connect_flag_closes_the_connection_without_a_connack() -> None:
    client = MemoryBroker().client(version=4)
    client.send_raw(KNOWN_CONNECT.replace(b"MQTT\4\2", b"MQTT\4\3"))
    assert client.is_closed
    assert client.raw == b""


@pytest.mark.spec("3.1.1:MQTT-3.1.4-1")
@pytest.mark.parametrize(
    "frame",
    [
        KNOWN_CONNECT.replace(b"\x10\x0d", b"\x11\x0d"),
        KNOWN_CONNECT.replace(b"\x10\x0d", b"\x10\x0e") + b"x",
        KNOWN_CONNECT.replace(b"\x10\x0d", b"\x10\x0c")[:-1],
        KNOWN_CONNECT.replace(b"MQTT\4\2", b"MQTT\4\x42"),
        KNOWN_CONNECT[:-1] + b"\xff",
        KNOWN_CONNECT[:-1] + b"\0",
    ],
    ids=["flags", "too long", "too short", "password without name", "not UTF-8", "U+0000"],
)
def test_a_malformed_connect_closes_the_connection_without_a_connack(frame: bytes) -> None:
    client = MemoryBroker().client(version=4)
    client.send_raw(frame)
    assert client.is_closed
    assert client.raw == b""


@pytest.mark.spec("3.1.1:MQTT-3.1.4-4")
def test_a_valid_connect_is_answered_with_code_0() -> None:
    client = MemoryBroker().client(version=4)
    client.send_raw(KNOWN_CONNECT)
    assert client.raw == b"\x20\2\0\0"
    assert not client.is_closed


@pytest.mark.spec("3.1.1:MQTT-3.1.4-5")
def test_what_follows_a_refused_connect_is_not_processed() -> None:
    broker = MemoryBroker(Refusing(ReasonCode.NOT_AUTHORIZED))
    client = broker.client(version=4)
    last = Publish("t", b"x", 1, retain=True, packet_id=1)
    client.send_raw(encode(Connect("a"), 4) + encode(last, 4))
    assert client.raw == b"\x20\2\0\5"
    assert len(broker.engine.retention) == 0


@pytest.mark.spec("3.1.1:MQTT-3.1.4-5")
def test_what_was_sent_while_a_connect_was_judged_is_not_processed_after_its_refusal() -> None:
    slow = Slow()
    broker = MemoryBroker(slow)
    client = broker.client(version=4)
    client.send(Connect("a", version=4))
    client.publish("t", b"x", qos=1, retain=True)
    slow.answers[0](Verdict(ReasonCode.BAD_USER_NAME_OR_PASSWORD))
    broker.flush()
    assert client.raw == b"\x20\2\0\4"
    assert len(broker.engine.retention) == 0


def test_what_was_sent_while_a_connect_was_judged_is_processed_in_order_after_its_acceptance() -> (
    None
):
    slow = Slow()
    broker = MemoryBroker(slow)
    client = broker.client(version=4)
    client.send(Connect("a", version=4))
    client.publish("t", b"x", qos=1)
    client.send(Pingreq())
    assert client.received == []
    slow.answers[0](Verdict())
    broker.flush()
    assert [type(each) for each in client.received] == [Connack, Puback, Pingresp]


# -- the client identifier -------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-3.1.3-2")
def test_each_client_identifier_has_a_session_of_its_own() -> None:
    broker = MemoryBroker()
    for name in ("alice", "Alice", "alice "):
        client = broker.connect(name, version=4, clean_start=False)
        client.subscribe(name)
        client.disconnect()
    for name in ("alice", "Alice", "alice "):
        client = broker.connect(name, version=4, clean_start=False)
        for topic in ("alice", "Alice", "alice "):
            client.publish(topic)
        assert client.messages() == [(name, b"")]
        client.disconnect()


@pytest.mark.spec("3.1.1:MQTT-3.1.3-5")
@pytest.mark.parametrize(
    "client_id",
    ["a", "0", "Z", string.digits + "abcdefghijklm", string.ascii_lowercase[3:], "ABCxyz789"],
)
def test_short_client_identifiers_of_letters_and_digits_are_accepted(client_id: str) -> None:
    MemoryBroker().connect(client_id, version=4)


def test_long_client_identifiers_with_other_characters_are_accepted_too() -> None:
    MemoryBroker().connect("Wetterstation/Süd#7 " + 500 * "x", version=4)


@pytest.mark.spec("3.1.1:MQTT-3.1.3-6")
def test_clients_without_an_identifier_each_get_one_of_their_own() -> None:
    broker = MemoryBroker()
    one, other = broker.connect("", version=4), broker.connect("", version=4)
    one.subscribe("t")
    other.subscribe("t")
    other.publish("t", b"x")
    assert one.messages() == other.messages() == [("t", b"x")]
    assert not one.is_closed
    assert one.connection.client_id != other.connection.client_id


@pytest.mark.spec(
    "3.1.1:MQTT-3.1.3-8", "3.1.1:MQTT-3.1.3-9", "3.1.1:MQTT-3.2.2-4", "3.1.1:MQTT-3.2.2-5"
)
def test_an_empty_identifier_without_clean_session_is_answered_with_2_and_closed() -> None:
    client = MemoryBroker().client(version=4)
    client.connect("", clean_start=False)
    assert client.raw == b"\x20\2\0\2"
    assert client.is_closed


@pytest.mark.spec("3.1.1:MQTT-3.1.3-9")
def test_an_identifier_refused_by_the_authenticator_is_answered_with_2_and_closed() -> None:
    broker = MemoryBroker(Refusing(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID))
    client = broker.client(version=4)
    client.connect("alice")
    assert client.raw == b"\x20\2\0\2"
    assert client.is_closed


@pytest.mark.spec("3.1.1:MQTT-3.1.4-2")
def test_a_connect_with_the_identifier_of_a_connected_client_ends_that_ones_connection() -> None:
    broker = MemoryBroker()
    older = broker.connect("alice", version=4)
    newer = broker.connect("alice", version=4)
    assert older.is_closed
    assert older.received == []
    newer.send(Pingreq())
    assert newer.take(Pingresp)
    older.lose()  # the news of its end changes nothing
    newer.send(Pingreq())
    assert newer.take(Pingresp)


# -- clean session ---------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-3.1.2-4", "3.1.1:MQTT-3.1.4-3", "3.1.1:MQTT-4.1.0-1")
@pytest.mark.parametrize("by_disconnect", [True, False])
def test_a_persistent_session_keeps_its_subscriptions(by_disconnect: bool) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4, clean_start=False)
    alice.subscribe("t", qos=1)
    if by_disconnect:
        alice.disconnect()
    else:
        alice.lose()
    alice = broker.connect("alice", version=4, clean_start=False)
    broker.connect("bob", version=4).publish("t", b"x", qos=1)
    assert alice.messages() == [("t", b"x")]


@pytest.mark.spec("3.1.1:MQTT-3.1.2-5", "3.1.1:MQTT-4.1.0-1", "3.1.1:MQTT-4.5.0-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_messages_for_an_absent_persistent_session_are_stored(qos: int) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4, clean_start=False)
    alice.subscribe("t", qos=2)
    alice.lose()
    bob = broker.connect("bob", version=4)
    bob.publish("t", b"1", qos=qos)
    bob.publish("t", b"2", qos=qos)
    broker.pass_time(86_400)
    alice = broker.connect("alice", version=4, clean_start=False)
    messages = alice.take_all(Publish)
    assert [(each.payload, each.qos, each.dup) for each in messages] == [
        (b"1", qos, False),
        (b"2", qos, False),
    ]


@pytest.mark.spec("3.1.1:MQTT-3.1.2-6", "3.1.1:MQTT-3.1.4-3")
def test_clean_session_throws_the_earlier_session_away() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4, clean_start=False)
    alice.subscribe("t", qos=1)
    alice.lose()
    bob = broker.connect("bob", version=4)
    bob.publish("t", b"stored", qos=1)
    alice = broker.connect("alice", version=4, clean_start=True)
    bob.publish("t", b"new", qos=1)
    assert alice.received == []
    alice.disconnect()
    assert broker.connect("alice", version=4, clean_start=False).received == []


@pytest.mark.spec("3.1.1:MQTT-3.1.2-6")
@pytest.mark.parametrize("by_disconnect", [True, False])
def test_a_clean_session_leaves_nothing_to_later_ones(by_disconnect: bool) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4, clean_start=True)
    alice.subscribe("t", qos=1)
    if by_disconnect:
        alice.disconnect()
    else:
        alice.lose()
    bob = broker.connect("bob", version=4)
    bob.publish("t", b"x", qos=1)
    alice = broker.connect("alice", version=4, clean_start=False)
    bob.publish("t", b"y", qos=1)
    assert alice.connack == Connack(False, 0)
    assert alice.received == []


@pytest.mark.spec("3.1.1:MQTT-3.1.2-6")
def test_a_clean_session_ends_a_persistent_one_that_is_connected() -> None:
    broker = MemoryBroker()
    older = broker.connect("alice", version=4, clean_start=False)
    older.subscribe("t", qos=1)
    newer = broker.connect("alice", version=4, clean_start=True)
    broker.connect("bob", version=4).publish("t", qos=1)
    assert older.is_closed
    assert newer.received == []


@pytest.mark.spec("3.1.1:MQTT-3.1.2-7")
@pytest.mark.parametrize("clean_start", [True, False])
def test_retained_messages_outlive_the_session_of_their_publisher(clean_start: bool) -> None:
    broker = MemoryBroker()
    bob = broker.connect("bob", version=4, clean_start=clean_start)
    bob.publish("t", b"kept", retain=True)
    bob.disconnect()
    broker.connect("bob", version=4, clean_start=True).disconnect()
    alice = broker.connect("alice", version=4)
    alice.subscribe("t")
    assert alice.messages() == [("t", b"kept")]


@pytest.mark.spec("3.1.1:MQTT-4.1.0-1")
def test_a_persistent_session_is_kept_for_as_long_as_the_settings_say() -> None:
    broker = MemoryBroker(session_expiry_3_1_1=3600)
    alice = broker.connect("alice", version=4, clean_start=False)
    alice.disconnect()
    broker.pass_time(3599)
    alice = broker.connect("alice", version=4, clean_start=False)
    assert alice.connack == Connack(True, 0)
    alice.disconnect()
    broker.pass_time(3601)
    alice = broker.connect("alice", version=4, clean_start=False)
    assert alice.connack == Connack(False, 0)


@pytest.mark.spec("3.1.1:MQTT-4.1.0-1")
def test_the_time_of_a_session_that_was_thrown_away_does_not_run_on() -> None:
    broker = MemoryBroker(session_expiry_3_1_1=3600)
    broker.connect("alice", version=4, clean_start=False).disconnect()
    broker.pass_time(3500)
    broker.connect("alice", version=4, clean_start=True).disconnect()
    alice = broker.connect("alice", version=4, clean_start=False)
    alice.subscribe("t", qos=1)
    alice.disconnect()
    broker.pass_time(3000)
    assert broker.connect("alice", version=4, clean_start=False).connack == Connack(True, 0)


@pytest.mark.spec("3.1.1:MQTT-4.1.0-2")
def test_a_session_lasts_at_least_as_long_as_its_connection() -> None:
    broker = MemoryBroker(session_expiry_3_1_1=10)
    clean = broker.connect("clean", version=4, clean_start=True)
    persistent = broker.connect("persistent", version=4, clean_start=False)
    clean.subscribe("t", qos=1)
    persistent.subscribe("t", qos=1)
    broker.pass_time(1_000_000)
    broker.connect("bob", version=4).publish("t", b"x", qos=1)
    assert clean.messages() == persistent.messages() == [("t", b"x")]


# -- the Will --------------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-3.1.2-8")
def test_the_will_of_a_lost_client_is_published() -> None:
    broker = MemoryBroker()
    heir = wills_of(broker)
    alice = broker.connect("alice", version=4, will=will("will/alice", b"gone"))
    assert heir.received == []
    alice.lose()
    assert heir.messages() == [("will/alice", b"gone")]


@pytest.mark.spec("3.1.1:MQTT-3.1.2-8")
def test_the_will_of_a_client_that_breaks_the_protocol_is_published() -> None:
    broker = MemoryBroker()
    heir = wills_of(broker)
    broker.connect("alice", version=4, will=will("will/alice")).send_raw(b"\x00\0")
    assert heir.messages() == [("will/alice", b"gone")]


@pytest.mark.spec("3.1.1:MQTT-3.1.2-8")
def test_the_will_of_a_silent_client_is_published() -> None:
    broker = MemoryBroker()
    heir = wills_of(broker)
    broker.connect("alice", version=4, keep_alive=10, will=will("will/alice"))
    broker.pass_time(14)
    assert heir.received == []
    broker.pass_time(2)
    assert heir.messages() == [("will/alice", b"gone")]


@pytest.mark.spec("3.1.1:MQTT-3.1.2-8")
def test_the_will_of_a_client_whose_identifier_is_taken_over_is_published() -> None:
    broker = MemoryBroker()
    heir = wills_of(broker)
    broker.connect("alice", version=4, will=will("will/alice"))
    broker.connect("alice", version=4)
    assert heir.messages() == [("will/alice", b"gone")]


@pytest.mark.spec("3.1.1:MQTT-3.1.2-8")
def test_the_will_of_a_refused_client_is_not_published() -> None:
    broker = MemoryBroker(maximum_qos=1)
    heir = wills_of(broker)
    client = broker.client(version=4)
    client.connect("alice", will=will("will/alice", qos=2))
    assert client.is_closed
    client.lose()
    assert heir.received == []


@pytest.mark.spec("3.1.1:MQTT-3.1.2-9")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_will_is_published_with_its_topic_message_and_qos(qos: int) -> None:
    broker = MemoryBroker()
    heir = wills_of(broker)
    broker.connect("alice", version=4, will=will("will/a/b", b"\0\xff", qos)).lose()
    message = heir.take(Publish)
    assert (message.topic, message.payload, message.qos) == ("will/a/b", b"\0\xff", qos)


@pytest.mark.spec("3.1.1:MQTT-3.1.2-9")
def test_a_will_may_be_empty() -> None:
    broker = MemoryBroker()
    heir = wills_of(broker)
    broker.connect("alice", version=4, will=will("will/a", b"")).lose()
    assert heir.messages() == [("will/a", b"")]


@pytest.mark.spec("3.1.1:MQTT-3.1.2-10", "3.1.1:MQTT-3.14.4-3")
def test_disconnect_removes_the_will() -> None:
    broker = MemoryBroker()
    heir = wills_of(broker)
    alice = broker.connect("alice", version=4, will=will("will/alice"))
    alice.disconnect()
    assert alice.is_closed
    alice.lose()
    assert heir.received == []


@pytest.mark.spec("3.1.1:MQTT-3.1.2-10")
def test_a_will_is_published_once_and_belongs_to_one_connection() -> None:
    broker = MemoryBroker()
    heir = wills_of(broker)
    alice = broker.connect("alice", version=4, clean_start=False, will=will("will/alice"))
    alice.lose()
    alice.lose()
    assert heir.messages() == [("will/alice", b"gone")]
    broker.connect("alice", version=4, clean_start=False).lose()
    assert heir.received == []


@pytest.mark.spec("3.1.1:MQTT-3.1.2-12")
def test_without_a_will_nothing_is_published_at_the_end() -> None:
    broker = MemoryBroker()
    everything = broker.connect("everything", version=4)
    everything.subscribe("#", qos=2)
    broker.connect("alice", version=4).lose()
    assert everything.received == []
    assert len(broker.engine.retention) == 0


@pytest.mark.spec("3.1.1:MQTT-3.1.2-16")
def test_a_will_without_retain_is_not_retained() -> None:
    broker = MemoryBroker()
    broker.connect("alice", version=4, will=will("will/alice")).lose()
    assert wills_of(broker).received == []


@pytest.mark.spec("3.1.1:MQTT-3.1.2-17")
def test_a_will_with_retain_is_retained() -> None:
    broker = MemoryBroker()
    broker.connect("alice", version=4, will=will("will/alice", qos=1, retain=True)).lose()
    message = wills_of(broker).take(Publish)
    assert (message.payload, message.qos, message.retain) == (b"gone", 1, True)


# -- keep alive ------------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-3.1.2-24")
def test_a_client_silent_for_one_and_a_half_keep_alives_is_disconnected() -> None:
    broker = MemoryBroker()
    client = broker.connect("alice", version=4, keep_alive=10)
    broker.pass_time(14.9)
    assert not client.is_closed
    broker.pass_time(1.1)
    assert client.is_closed


@pytest.mark.spec("3.1.1:MQTT-3.1.2-24")
def test_every_packet_of_the_client_prolongs_its_time() -> None:
    broker = MemoryBroker()
    client = broker.connect("alice", version=4, keep_alive=10)
    for _ in range(5):
        broker.pass_time(14)
        client.send(Pingreq())
        assert client.take(Pingresp)
    for _ in range(5):
        broker.pass_time(14)
        client.publish("t")
    assert not client.is_closed
    broker.pass_time(16)
    assert client.is_closed


@pytest.mark.spec("3.1.1:MQTT-3.1.2-24")
def test_what_the_broker_sends_does_not_prolong_the_time() -> None:
    broker = MemoryBroker()
    client = broker.connect("alice", version=4, keep_alive=10)
    client.subscribe("t")
    broker.pass_time(10)
    broker.connect("bob", version=4).publish("t")
    broker.pass_time(6)
    assert client.is_closed


def test_a_keep_alive_of_0_sets_no_limit() -> None:
    broker = MemoryBroker()
    client = broker.connect("alice", version=4, keep_alive=0)
    broker.pass_time(10_000_000)
    assert not client.is_closed


def test_a_client_that_never_says_connect_is_disconnected() -> None:
    broker = MemoryBroker(connect_timeout=10)
    client = broker.client(version=4)
    broker.pass_time(11)
    assert client.is_closed


# -- who it is -------------------------------------------------------------------------------------


def test_user_name_and_password_reach_the_authenticator() -> None:
    slow = Slow()
    broker = MemoryBroker(slow)
    broker.client(version=4).connect("alice", username="ünï", password=b"\0\xff")
    broker.client(version=4).connect("bob", username="", password=b"")
    broker.client(version=4).connect("carol")
    assert slow.attempts == [
        Attempt("alice", "ünï", b"\0\xff", Origin(), 4),
        Attempt("bob", "", b"", Origin(), 4),
        Attempt("carol", None, None, Origin(), 4),
    ]


def test_a_client_may_send_on_without_waiting_for_the_connack() -> None:
    client = MemoryBroker().client(version=4)
    client.send_raw(KNOWN_CONNECT + b"\x82\6\0\1\0\1t\0" + b"\x30\4\0\1tx")
    assert [type(each) for each in client.received] == [Connack, Suback, Publish]
