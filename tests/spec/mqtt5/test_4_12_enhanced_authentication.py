"""MQTT 5 sections 3.15 and 4.12: the AUTH packet, the exchange before the CONNACK, and
re-authentication.
"""

import pytest

from broker.engine.notices import ViolationSeen
from broker.engine.ports import Attempt, Step, Verdict
from broker.packets.codes import ReasonCode
from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    SubscriptionRequest,
)
from tests.support.authentication import Judge, Script
from tests.support.broker import MemoryBroker, MemoryClient, will

CONTINUE = ReasonCode.CONTINUE_AUTHENTICATION
AGAIN = ReasonCode.RE_AUTHENTICATE
NO = ReasonCode.NOT_AUTHORIZED
ACCEPTED = Step(verdict=Verdict())
REJECTED = Step(verdict=Verdict(NO, why="a secret of the operator"))


def wants(method: str = "M", data: bytes | None = None) -> Properties:
    """The properties of a CONNECT or AUTH that names a method."""
    properties: Properties = {Property.AUTHENTICATION_METHOD: method}
    if data is not None:
        properties[Property.AUTHENTICATION_DATA] = data
    return properties


def start(broker: MemoryBroker, data: bytes | None = None, **fields: object) -> MemoryClient:
    """A client that has sent a CONNECT with the method M."""
    client = broker.client()
    client.send(Connect("alice", properties=wants(data=data), **fields))  # type: ignore[arg-type]
    return client


def connected(script: Script, **policy: object) -> tuple[MemoryBroker, MemoryClient]:
    """A broker, and a client that has been accepted by the script's single step."""
    broker = MemoryBroker(methods={"M": script}, **policy)
    alice = start(broker)
    if script.slow:
        script.go_on()
        broker.flush()
    assert alice.take(Connack).reason == 0
    return broker, alice


# -- before the CONNACK ----------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-4.12.0-1", "5.0:MQTT-3.1.4-2", "5.0:MQTT-3.2.2-7")
@pytest.mark.parametrize("method", ["X", "m", "", "M "])
def test_an_unknown_method_is_refused_and_closed(method: str) -> None:
    alice = MemoryBroker(methods={"M": Script()}).client()
    alice.send(Connect("alice", properties=wants(method)))
    assert alice.take(Connack).reason == ReasonCode.BAD_AUTHENTICATION_METHOD
    assert alice.is_closed


def test_a_method_that_needs_no_more_accepts_at_once() -> None:
    script = Script(ACCEPTED)
    broker = MemoryBroker(methods={"M": script})
    alice = start(broker, b"token", username="u", password=b"p")
    assert alice.take(Connack).reason == 0
    assert script.seen == [b"token"]
    assert script.begun == [Attempt("alice", "u", b"p", alice.connection.origin, 5)]


@pytest.mark.spec("5.0:MQTT-4.12.0-2", "5.0:MQTT-4.12.0-5", "5.0:MQTT-3.2.0-1")
@pytest.mark.parametrize("slow", [False, True])
def test_a_challenge_is_an_auth_and_its_answer_leads_to_the_connack(slow: bool) -> None:
    script = Script(Step(b"who?"), Step(b"prove!"), Step(b"welcome", Verdict()), slow=slow)
    broker = MemoryBroker(methods={"M": script})
    alice = start(broker, b"hello")

    def answer() -> Packet:
        if slow:
            assert alice.received == []
            script.go_on()
            broker.flush()
        return alice.received.pop(0)

    assert answer() == Auth(CONTINUE, wants(data=b"who?"))
    alice.send(Auth(CONTINUE, wants(data=b"alice")))
    assert answer() == Auth(CONTINUE, wants(data=b"prove!"))
    alice.send(Auth(CONTINUE, wants(data=b"proof")))
    connack = answer()
    assert isinstance(connack, Connack)
    assert connack.reason == 0
    assert connack.properties.items() >= wants(data=b"welcome").items()
    assert script.seen == [b"hello", b"alice", b"proof"]


@pytest.mark.spec("5.0:MQTT-4.12.0-5")
def test_auth_and_connack_repeat_the_method_even_without_data() -> None:
    broker = MemoryBroker(methods={"M": Script(Step(), ACCEPTED)})
    alice = start(broker)
    assert alice.take(Auth) == Auth(CONTINUE, wants())
    alice.send(Auth(CONTINUE, wants()))
    connack = alice.take(Connack)
    assert connack.properties[Property.AUTHENTICATION_METHOD] == "M"
    assert Property.AUTHENTICATION_DATA not in connack.properties


@pytest.mark.spec("5.0:MQTT-4.12.0-4", "5.0:MQTT-3.2.2-7")
@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("steps", [(REJECTED,), (Step(b"?"), REJECTED)])
def test_a_rejection_during_the_exchange_is_a_connack_and_closes(
    steps: tuple[Step, ...], slow: bool
) -> None:
    script = Script(*steps, slow=slow)
    broker = MemoryBroker(methods={"M": script})
    alice = start(broker)
    for step in steps:
        if slow:
            script.go_on()
            broker.flush()
        if step is not REJECTED:
            alice.take(Auth)
            alice.send(Auth(CONTINUE, wants(data=b"!")))
    assert alice.take(Connack) == Connack(False, NO)
    assert alice.is_closed
    assert b"secret" not in alice.raw
    assert len(broker.engine.sessions) == 0


def test_the_identity_that_the_method_found_is_the_clients_user_name() -> None:
    broker = MemoryBroker(methods={"M": Script(Step(verdict=Verdict(username="found")))})
    alice = start(broker)
    assert alice.connection.username == "found"


@pytest.mark.spec("5.0:MQTT-4.12.0-5")
@pytest.mark.parametrize("properties", [wants("X"), {}])
def test_another_method_in_the_middle_of_the_exchange_ends_it(properties: Properties) -> None:
    script = Script(Step(b"?"), ACCEPTED)
    alice = start(MemoryBroker(methods={"M": script}))
    alice.take(Auth)
    alice.send(Auth(CONTINUE, properties))
    assert alice.take(Connack).reason == ReasonCode.PROTOCOL_ERROR
    assert alice.is_closed
    assert len(script.seen) == 1


@pytest.mark.parametrize("reason", [ReasonCode.SUCCESS, AGAIN])
def test_an_auth_that_does_not_continue_the_exchange_ends_it(reason: ReasonCode) -> None:
    script = Script(Step(b"?"), ACCEPTED)
    alice = start(MemoryBroker(methods={"M": script}))
    alice.take(Auth)
    alice.send(Auth(reason, wants()))
    assert alice.take(Connack).reason == ReasonCode.PROTOCOL_ERROR
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.1.2-30", "5.0:MQTT-3.2.0-1")
@pytest.mark.parametrize(
    "packet",
    [
        Publish("t"),
        Subscribe(1, [SubscriptionRequest("#")]),
        Pingreq(),
        Connect("alice"),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_during_the_exchange_only_auth_and_disconnect_may_come(packet: Packet) -> None:
    broker = MemoryBroker(methods={"M": Script(Step(b"?"), ACCEPTED)})
    watcher = broker.connect("watcher")
    watcher.subscribe("#")
    alice = start(broker)
    alice.take(Auth)
    alice.send(packet)
    assert alice.take(Connack).reason == ReasonCode.PROTOCOL_ERROR
    assert alice.is_closed
    assert alice.received == watcher.received == []


def test_a_second_answer_while_the_method_is_at_work_ends_the_exchange() -> None:
    script = Script(Step(b"?"), ACCEPTED, slow=True)
    alice = start(MemoryBroker(methods={"M": script}))
    alice.send(Auth(CONTINUE, wants(data=b"too soon")))
    assert alice.take(Connack).reason == ReasonCode.PROTOCOL_ERROR
    assert alice.is_closed
    script.go_on()
    assert alice.received == []


def test_a_client_that_gives_up_during_the_exchange_leaves_nothing_behind() -> None:
    script = Script(Step(b"?"), ACCEPTED, slow=True)
    broker = MemoryBroker(methods={"M": script})
    watcher = broker.connect("watcher")
    watcher.subscribe("#")
    gone, said = start(broker, will=will("w")), start(broker, will=will("w"))
    gone.lose()
    said.disconnect(0x04)
    for _ in range(2):
        script.go_on()
    assert said.is_closed
    assert gone.received == said.received == watcher.received == []
    assert len(broker.engine.sessions) == 1


def test_an_exchange_without_an_end_is_closed_after_the_connect_timeout() -> None:
    broker = MemoryBroker(methods={"M": Script(*[Step(b"?")] * 9)}, connect_timeout=10)
    alice = start(broker)
    for _ in range(3):
        broker.pass_time(3)
        alice.send(Auth(CONTINUE, wants(data=b"!")))
    assert not alice.is_closed
    broker.pass_time(1.5)
    assert alice.is_closed


def test_the_earlier_connection_stays_until_the_exchange_has_succeeded() -> None:
    broker = MemoryBroker(methods={"M": Script(Step(b"?"), ACCEPTED)})
    earlier = broker.connect("alice")
    later = start(broker)
    assert not earlier.is_closed
    later.send(Auth(CONTINUE, wants()))
    assert earlier.take(Disconnect).reason == ReasonCode.SESSION_TAKEN_OVER
    assert not later.is_closed


def test_a_method_does_without_the_other_authenticator() -> None:
    judge = Judge(Verdict(NO))
    broker = MemoryBroker(judge, methods={"M": Script(ACCEPTED)})
    assert start(broker).take(Connack).reason == 0
    assert judge.attempts == []


# -- without a method ------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-4.12.0-6")
def test_who_names_no_method_gets_neither_auth_nor_method() -> None:
    alice = MemoryBroker(methods={"M": Script(Step(b"?"))}).client()
    connack = alice.connect("alice")
    assert connack is not None
    assert connack.reason == 0
    assert not connack.properties.keys() & {
        Property.AUTHENTICATION_METHOD,
        Property.AUTHENTICATION_DATA,
    }
    assert alice.received == []


@pytest.mark.spec("5.0:MQTT-4.12.0-7", "5.0:MQTT-4.12.0-6")
@pytest.mark.parametrize("reason", [CONTINUE, AGAIN, ReasonCode.SUCCESS])
def test_who_named_no_method_may_not_send_auth(reason: ReasonCode) -> None:
    broker = MemoryBroker(methods={"M": Script(ACCEPTED)})
    alice = broker.connect("alice")
    alice.send(Auth(reason, wants()))
    assert alice.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert alice.is_closed


# -- the packet ------------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.15.1-1")
@pytest.mark.parametrize("flags", [1, 2, 4, 8, 15])
def test_auth_with_flags_ends_the_connection(flags: int) -> None:
    _, alice = connected(Script(ACCEPTED))
    alice.send_raw(bytes((0xF0 | flags,)) + b"\x06\x19\x04\x15\0\1M")
    assert alice.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-3.15.2-1")
@pytest.mark.parametrize("reason", [0x01, 0x17, 0x1A, 0x80, 0x87])
def test_auth_with_another_reason_ends_the_connection(reason: int) -> None:
    _, alice = connected(Script(ACCEPTED))
    alice.send(Auth(reason, wants()))
    assert alice.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert alice.is_closed


def test_an_auth_without_anything_means_success_which_a_client_may_not_say() -> None:
    _, alice = connected(Script(ACCEPTED))
    alice.send_raw(b"\xf0\0")
    assert alice.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR


@pytest.mark.spec("5.0:MQTT-3.15.2-2", "5.0:MQTT-3.15.2-3", "5.0:MQTT-3.1.2-24")
@pytest.mark.parametrize(
    "explanation",
    [
        {Property.REASON_STRING: "for a very good reason"},
        {Property.USER_PROPERTY: [("a long name", "and a long value")]},
    ],
    ids=lambda properties: Property(*properties).name,
)
@pytest.mark.parametrize("fits", [True, False])
def test_an_explanation_in_auth_that_does_not_fit_the_client_is_left_out(
    explanation: Properties, fits: bool
) -> None:
    broker = MemoryBroker()
    limits = {Property.MAXIMUM_PACKET_SIZE: 100 if fits else 20}
    alice = broker.connect("alice", properties=limits)
    alice.connection.send_packet(Auth(CONTINUE, wants() | explanation))
    broker.flush()
    assert alice.take(Auth) == Auth(CONTINUE, wants() | (explanation if fits else {}))


def test_a_challenge_that_the_client_cannot_take_ends_the_exchange() -> None:
    broker = MemoryBroker(methods={"M": Script(Step(b"x" * 100), ACCEPTED)})
    alice = broker.client()
    limits = {Property.MAXIMUM_PACKET_SIZE: 50}
    alice.send(Connect("alice", properties=wants() | limits))
    assert alice.take(Connack).reason == ReasonCode.PACKET_TOO_LARGE
    assert alice.is_closed


# -- re-authentication -----------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-4.12.1-1", "5.0:MQTT-4.12.0-5")
@pytest.mark.parametrize("slow", [False, True])
def test_a_client_can_authenticate_anew(slow: bool) -> None:
    script = Script(ACCEPTED, slow=slow)
    broker, alice = connected(script)
    script.steps = (Step(b"again?"), Step(b"fine", Verdict()))

    def answer() -> Packet:
        if slow:
            assert alice.received == []
            script.go_on()
            broker.flush()
        return alice.received.pop(0)

    alice.send(Auth(AGAIN, wants(data=b"me")))
    assert answer() == Auth(CONTINUE, wants(data=b"again?"))
    alice.send(Auth(CONTINUE, wants(data=b"yes")))
    assert answer() == Auth(ReasonCode.SUCCESS, wants(data=b"fine"))
    assert script.seen == [None, b"me", b"yes"]
    assert not alice.is_closed


@pytest.mark.spec("5.0:MQTT-4.12.1-1")
def test_a_client_can_authenticate_anew_more_than_once() -> None:
    script = Script(ACCEPTED)
    _, alice = connected(script)
    for _ in range(3):
        alice.send(Auth(AGAIN, wants()))
        assert alice.take(Auth).reason == ReasonCode.SUCCESS
    assert len(script.begun) == 4


@pytest.mark.parametrize("properties", [wants("X"), {}])
@pytest.mark.spec("5.0:MQTT-4.12.1-1", "5.0:MQTT-4.12.0-5")
def test_re_authentication_keeps_to_the_method_of_the_connect(properties: Properties) -> None:
    script = Script(ACCEPTED)
    broker = MemoryBroker(methods={"M": script, "X": script})
    alice = start(broker)
    alice.take(Connack)
    alice.send(Auth(AGAIN, properties))
    assert alice.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert alice.is_closed


@pytest.mark.spec("5.0:MQTT-4.12.1-2")
@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("reason", [NO, ReasonCode.BAD_USER_NAME_OR_PASSWORD, ReasonCode.BANNED])
def test_a_failed_re_authentication_ends_the_connection(reason: ReasonCode, slow: bool) -> None:
    script = Script(ACCEPTED, slow=slow)
    broker, alice = connected(script)
    script.steps = (Step(verdict=Verdict(reason, why="a secret of the operator")),)
    alice.send(Auth(AGAIN, wants()))
    if slow:
        script.go_on()
        broker.flush()
    assert alice.take(Disconnect).reason == NO
    assert alice.is_closed
    assert b"secret" not in alice.raw
    (seen,) = [each for each in broker.notices if isinstance(each, ViolationSeen)]
    assert "secret" in str(seen.violation)


@pytest.mark.spec("5.0:MQTT-4.12.1-2")
def test_a_failed_re_authentication_publishes_the_will() -> None:
    script = Script(ACCEPTED)
    broker = MemoryBroker(methods={"M": script})
    watcher = broker.connect("watcher")
    watcher.subscribe("w")
    alice = start(broker, will=will("w"))
    alice.take(Connack)
    script.steps = (REJECTED,)
    alice.send(Auth(AGAIN, wants()))
    assert watcher.messages() == [("w", b"gone")]


@pytest.mark.parametrize("slow", [False, True])
def test_messages_flow_on_during_re_authentication(slow: bool) -> None:
    script = Script(ACCEPTED, slow=slow)
    broker, alice = connected(script)
    alice.subscribe("t")
    script.steps = (Step(b"?"), ACCEPTED)
    alice.send(Auth(AGAIN, wants()))
    alice.received.clear()
    broker.connect("bob").publish("t", b"1")
    alice.publish("t", b"2")
    alice.send(Pingreq())
    assert isinstance(alice.received.pop(), Pingresp)
    assert alice.messages() == [("t", b"1"), ("t", b"2")]


def test_a_re_authentication_within_a_re_authentication_ends_the_connection() -> None:
    script = Script(ACCEPTED)
    _, alice = connected(script)
    script.steps = (Step(b"?"), ACCEPTED)
    alice.send(Auth(AGAIN, wants()))
    alice.take(Auth)
    alice.send(Auth(AGAIN, wants()))
    assert alice.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert alice.is_closed


def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    _, alice = connected(Script(ACCEPTED))
    alice.send(Auth(CONTINUE, wants()))
    assert alice.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert alice.is_closed


def test_a_late_outcome_of_a_re_authentication_finds_the_connection_gone() -> None:
    script = Script(ACCEPTED, slow=True)
    broker, alice = connected(script)
    alice.send(Auth(AGAIN, wants()))
    alice.lose()
    script.steps = (REJECTED,)
    script.go_on()
    broker.flush()
    assert alice.received == []
