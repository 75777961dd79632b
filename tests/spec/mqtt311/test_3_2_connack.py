"""MQTT 3.1.1, section 3.2: CONNACK."""

from collections.abc import Callable

import pytest

from broker.engine.ports import Attempt, Verdict
from broker.packets.codes import ReasonCode
from broker.packets.encode import encode
from broker.packets.types import Connack, Connect, Pingreq, Publish, Subscribe, SubscriptionRequest
from tests.support.broker import MemoryBroker, will


class Refusing:
    """An Authenticator that refuses everybody, for one reason."""

    def __init__(self, reason: ReasonCode) -> None:
        self.reason = reason

    def authenticate(self, attempt: Attempt, answer: Callable[[Verdict], None]) -> None:
        answer(Verdict(self.reason))


@pytest.mark.spec("3.1.1:MQTT-3.2.0-1")
def test_the_connack_comes_before_everything_else() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4, clean_start=False)
    alice.subscribe("t", qos=2)
    bob = broker.connect("bob", version=4)
    bob.publish("t", b"in flight", qos=1)
    alice.lose()
    bob.publish("t", b"stored", qos=2)
    alice = broker.client(version=4)
    alice.send_raw(
        encode(Connect("alice", clean_start=False), 4)
        + encode(Pingreq(), 4)
        + encode(Subscribe(1, [SubscriptionRequest("t")]), 4)
    )
    assert alice.raw.startswith(b"\x20\2\1\0")
    assert [type(each) for each in alice.received].count(Connack) == 1
    assert [type(each) for each in alice.received].count(Publish) == 2


@pytest.mark.spec("3.1.1:MQTT-3.2.0-1")
@pytest.mark.parametrize(
    "packet",
    [Pingreq(), Publish("t", b"x", 1, packet_id=1), Subscribe(1, [SubscriptionRequest("t")])],
)
def test_a_client_that_does_not_begin_with_connect_is_told_nothing(packet: Pingreq) -> None:
    client = MemoryBroker().client(version=4)
    client.send(packet)
    assert client.is_closed
    assert client.raw == b""


@pytest.mark.spec("3.1.1:MQTT-3.2.2-1")
@pytest.mark.parametrize("there_was_a_session", [True, False])
def test_clean_session_finds_no_session_present(there_was_a_session: bool) -> None:
    broker = MemoryBroker()
    if there_was_a_session:
        broker.connect("alice", version=4, clean_start=False).lose()
    assert broker.connect("alice", version=4, clean_start=True).raw == b"\x20\2\0\0"


@pytest.mark.spec("3.1.1:MQTT-3.2.2-2")
@pytest.mark.parametrize("is_connected", [True, False])
def test_a_session_that_is_resumed_is_present(is_connected: bool) -> None:
    broker = MemoryBroker()
    older = broker.connect("alice", version=4, clean_start=False)
    if not is_connected:
        older.disconnect()
    assert broker.connect("alice", version=4, clean_start=False).raw == b"\x20\2\1\0"


@pytest.mark.spec("3.1.1:MQTT-3.2.2-3")
@pytest.mark.parametrize("earlier", ["none", "clean", "clean and connected", "other"])
def test_without_stored_state_no_session_is_present(earlier: str) -> None:
    broker = MemoryBroker()
    if earlier == "other":
        broker.connect("bob", version=4, clean_start=False)
    elif earlier != "none":
        client = broker.connect("alice", version=4, clean_start=True)
        if earlier == "clean":
            client.disconnect()
    assert broker.connect("alice", version=4, clean_start=False).raw == b"\x20\2\0\0"


@pytest.mark.spec("3.1.1:MQTT-3.2.2-4", "3.1.1:MQTT-3.2.2-5")
@pytest.mark.parametrize(
    ("reason", "return_code"),
    [
        (ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, 2),
        (ReasonCode.SERVER_UNAVAILABLE, 3),
        (ReasonCode.SERVER_BUSY, 3),
        (ReasonCode.QUOTA_EXCEEDED, 3),
        (ReasonCode.CONNECTION_RATE_EXCEEDED, 3),
        (ReasonCode.UNSPECIFIED_ERROR, 3),
        (ReasonCode.BAD_USER_NAME_OR_PASSWORD, 4),
        (ReasonCode.NOT_AUTHORIZED, 5),
        (ReasonCode.BANNED, 5),
    ],
)
def test_a_refusal_has_its_code_and_no_session_present_and_closes(
    reason: ReasonCode, return_code: int
) -> None:
    broker = MemoryBroker(Refusing(reason))
    broker.engine.sessions.begin("alice", None)
    client = broker.client(version=4)
    client.connect("alice", clean_start=False)
    assert client.raw == bytes([0x20, 2, 0, return_code])
    assert client.is_closed


@pytest.mark.spec("3.1.1:MQTT-3.2.2-6")
def test_a_refusal_that_no_code_tells_closes_without_a_connack() -> None:
    broker = MemoryBroker(maximum_qos=1)
    client = broker.client(version=4)
    client.connect("alice", will=will("w", qos=2))
    assert client.is_closed
    assert client.raw == b""


def test_a_refused_client_leaves_the_connected_one_alone() -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4)
    intruder = broker.client(version=4)
    intruder.connect("alice", will=will("w/#"))
    assert intruder.is_closed
    assert not alice.is_closed


def test_as_many_sessions_as_allowed_and_no_more() -> None:
    broker = MemoryBroker(max_sessions=1)
    alice = broker.connect("alice", version=4, clean_start=False)
    client = broker.client(version=4)
    client.connect("bob")
    assert client.raw == b"\x20\2\0\3"
    alice.lose()
    broker.connect("alice", version=4, clean_start=False)
