"""Sessions with a broker that speaks MQTT 3.1.1: what has no word there."""

import pytest

from bridges.mqttsn.mqtt import MqttBroker, MqttSession
from bridges.mqttsn.ports import Identity, Message, Opening, Will
from bridges.mqttsn.versions import Versions
from broker.packets.codes import MQTT_3_1_1, ReasonCode
from broker.packets.encode import encode
from broker.packets.types import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    SubscriptionRequest,
    Unsuback,
    Unsubscribe,
)
from broker.packets.types import Will as MqttWill
from tests.unit.mqttsn.mqtt_world import CLEAN, DURABLE, Heard, ScriptedPipe, Wire, read

WITH_WILL = Opening(Identity("dev"), clean_session=False, will=Will("w", b"gone", 1))
CLEAN_WITH_WILL = Opening(Identity("dev"), will=Will("w", b"gone", 1))
NO = ReasonCode.NOT_AUTHORIZED


def wired(opening: Opening = DURABLE) -> Wire:
    return Wire(opening, versions=Versions(MQTT_3_1_1))


def opened(opening: Opening = DURABLE) -> Wire:
    wire = wired(opening)
    wire.open()
    wire.heard.take()
    return wire


def test_a_connect_has_no_properties_and_asks_for_a_session_that_lasts() -> None:
    wire = wired(WITH_WILL)
    wire.session.connected()
    will = MqttWill("w", b"gone", 1)
    assert wire.sent() == [Connect("dev", False, 0, None, None, will, {}, version=4)]


def test_a_password_needs_a_user_name() -> None:
    wire = wired(Opening(Identity("dev", None, b"secret")))
    wire.session.connected()
    [connect] = wire.sent()
    assert connect.username == ""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (2, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID),
        (3, ReasonCode.SERVER_UNAVAILABLE),
        (4, ReasonCode.BAD_USER_NAME_OR_PASSWORD),
        (5, ReasonCode.NOT_AUTHORIZED),
    ],
)
def test_a_return_code_is_told_as_the_reason_it_stands_for(code: int, reason: int) -> None:
    wire = wired()
    wire.session.connected()
    wire.answer(Connack(False, code))
    assert wire.heard.take() == [("refused", reason)]


def test_a_disconnect_keeps_the_will_back_and_the_lack_of_one_publishes_it() -> None:
    wire = opened(WITH_WILL)
    wire.session.close(publish_will=False)
    assert wire.sent() == [Disconnect()]
    wire = opened(WITH_WILL)
    wire.session.close(publish_will=True)
    assert wire.sent() == []
    assert wire.pipe.is_closed


def test_a_durable_session_goes_on_after_a_broken_pipe() -> None:
    wire = opened(WITH_WILL)
    wire.session.publish(Message("a", b"1", 1, msg_id=1))
    wire.session.lost()
    wire.session.connected()
    [connect] = wire.sent()
    assert not connect.clean_start
    assert connect.will is not None
    assert wire.answer(Connack(True)) == [Publish("a", b"1", 1, dup=True, packet_id=1)]
    assert wire.heard.take() == []


def test_a_clean_session_ends_with_its_pipe_and_its_will_is_not_published_twice() -> None:
    wire = opened(CLEAN_WITH_WILL)
    wire.session.lost()
    wire.session.connected()
    [connect] = wire.sent()
    assert connect.clean_start
    assert connect.will is None  # the broker has published it
    wire.answer(Connack(False))
    assert wire.heard.take() == [("closed",)]


def test_the_will_of_a_durable_session_can_be_changed_and_that_of_a_clean_one_cannot() -> None:
    wire = opened(WITH_WILL)
    assert wire.session.change_will(Will("w", b"new"))
    assert read(wire.pipes[0].sent, 4) == [Disconnect()]
    wire.session.connected()
    [connect] = wire.sent()
    assert connect.will.payload == b"new"
    wire = opened(CLEAN_WITH_WILL)
    assert not wire.session.change_will(Will("w", b"new"))
    assert wire.sent() == []
    assert not wire.pipe.is_closed


def test_the_answers_have_no_reasons_but_subscriptions_may_be_refused() -> None:
    wire = opened()
    wire.session.publish(Message("a", b"1", 1, msg_id=1))
    wire.session.subscribe(2, "b/#", 1)
    wire.session.subscribe(3, "c/#", 1)
    wire.answer(Puback(1), Suback(2, [0x80]), Suback(3, [1]))
    assert wire.heard.take() == [("puback", 1, 0), ("suback", 2, 0x80), ("suback", 3, 1)]


def test_nobody_is_told_when_a_message_was_sent() -> None:
    wire = Wire(DURABLE, stamp=lambda: "1.000", versions=Versions(MQTT_3_1_1))
    wire.open()
    wire.session.publish(Message("a", b"x"))
    assert wire.sent() == [Publish("a", b"x")]


# -- a broker that can only close -----------------------------------------------------------------


def closed(wire: Wire) -> list[Packet]:
    """The broker closes, and is there again; what comes to it."""
    wire.session.lost()
    return wire.open(session_present=True)


def test_a_message_over_which_the_broker_closes_three_times_is_refused() -> None:
    wire = opened()
    wire.session.publish(Message("secret", b"1", 1, msg_id=1))
    again = [Publish("secret", b"1", 1, dup=True, packet_id=1)]
    assert closed(wire) == again
    assert closed(wire) == again
    assert closed(wire) == [Pingreq()]
    assert wire.heard.take() == []
    wire.answer(Pingresp())
    assert wire.heard.take() == [("puback", 1, NO)]
    wire.session.publish(Message("secret", b"2", 1, msg_id=2))  # it may be allowed meanwhile
    assert wire.sent() == [Publish("secret", b"2", 1, packet_id=2)]


@pytest.mark.parametrize("qos", [1, 2])
def test_the_others_wait_for_the_suspect_and_are_not_refused_with_it(qos: int) -> None:
    wire = opened()
    wire.session.publish(Message("secret", b"1", qos, msg_id=1))
    wire.session.publish(Message("open", b"2", qos, msg_id=2))
    wire.session.subscribe(3, "b", 0)
    assert closed(wire) == [Publish("secret", b"1", qos, dup=True, packet_id=1)]
    wire.session.publish(Message("open", b"4", qos, msg_id=4))
    wire.session.subscribe(5, "c", 0)
    assert wire.sent() == []
    closed(wire)
    assert closed(wire) == [Pingreq()]
    assert wire.answer(Pingresp()) == [
        Publish("open", b"2", qos, dup=True, packet_id=2),
        Subscribe(3, [SubscriptionRequest("b", 0)]),
        Subscribe(5, [SubscriptionRequest("c", 0)]),
        Publish("open", b"4", qos, packet_id=4),
    ]
    assert wire.heard.take() == [("puback", 1, NO)]


def test_one_that_is_innocent_is_answered_alone_and_the_others_follow() -> None:
    wire = opened()
    wire.session.publish(Message("open", b"1", 1, msg_id=1))
    wire.session.publish(Message("secret", b"2", 1, msg_id=2))
    assert closed(wire) == [Publish("open", b"1", 1, dup=True, packet_id=1)]
    assert wire.answer(Puback(1)) == [Publish("secret", b"2", 1, dup=True, packet_id=2)]
    for _ in range(3):
        closed(wire)
    wire.answer(Pingresp())
    assert wire.heard.take() == [("puback", 1, 0), ("puback", 2, NO)]


@pytest.mark.parametrize(
    ("request_", "verdict"), [("subscribe", ("suback", 1, NO)), ("unsubscribe", ("unsuback", 1))]
)
def test_a_subscription_over_which_the_broker_closes_is_refused(
    request_: str, verdict: tuple[object, ...]
) -> None:
    wire = opened()
    if request_ == "subscribe":
        wire.session.subscribe(1, "secret/#", 1)
    else:
        wire.session.unsubscribe(1, "secret/#")
    for _ in range(3):
        closed(wire)
    wire.answer(Pingresp())
    assert wire.heard.take() == [verdict]


def test_an_answer_that_comes_after_all_is_the_answer() -> None:
    wire = opened()
    wire.session.subscribe(1, "a", 1)
    wire.session.unsubscribe(2, "a")
    for _ in range(3):
        closed(wire)
    wire.answer(Suback(1, [1]), Pingresp(), Unsuback(2, []))
    assert wire.heard.take() == [("suback", 1, 1), ("unsuback", 2)]


def test_a_connection_that_breaks_for_another_reason_accuses_nobody() -> None:
    wire = opened()
    for number in range(1, 10):
        wire.session.publish(Message("a", b"x", 1, msg_id=number))
        closed(wire)
        wire.answer(Puback(number))
    assert wire.heard.take() == [("puback", number, 0) for number in range(1, 10)]


def test_a_wire_that_is_cut_or_a_broker_that_hangs_accuses_nobody() -> None:
    wire = opened()
    wire.session.publish(Message("a", b"1", 1, msg_id=1))
    for _ in range(10):
        wire.pipe.is_cut = True
        assert closed(wire) == [Publish("a", b"1", 1, dup=True, packet_id=1)]
    assert wire.heard.take() == []


def test_what_is_released_is_not_suspected_and_goes_with_the_suspect() -> None:
    wire = opened()
    wire.session.publish(Message("a", b"1", 2, msg_id=1))
    wire.answer(Pubrec(1))
    wire.session.pubrel(1)
    wire.session.unsubscribe(2, "a")
    wire.sent()
    assert closed(wire) == [Pubrel(1), Unsubscribe(2, ["a"])]


class Broker:
    """A 3.1.1 broker that closes at whatever is called `secret`; sessions of one client."""

    def __init__(self) -> None:
        self.pipes: list[ScriptedPipe] = []
        self.sessions: list[MqttSession] = []
        self.broker = MqttBroker(self._dial, versions=Versions(MQTT_3_1_1))

    def _dial(self, session: MqttSession) -> ScriptedPipe:
        self.pipes.append(ScriptedPipe())
        self.sessions.append(session)
        return self.pipes[-1]

    def go_on(self) -> None:
        """Connect, accept, and answer all that comes until there is no more."""
        session, pipe = self.sessions[-1], self.pipes[-1]
        session.connected()
        session.receive(encode(Connack(), MQTT_3_1_1))
        while pipe.sent and not pipe.is_closed:
            packets, pipe.sent = read(pipe.sent, 4), b""
            for packet in packets:
                if "secret" in str(packet):
                    session.lost()
                    return
                if isinstance(packet, Pingreq):
                    session.receive(encode(Pingresp(), 4))


def test_a_clean_session_that_comes_again_and_again_is_refused_in_the_end() -> None:
    """A reading of a serial port is said again in another session: it must not be said for ever."""
    broker, said = Broker(), []
    while not said and len(broker.pipes) < 20:
        heard = Heard()
        session = broker.broker.open(CLEAN, heard)
        session.publish(Message("secret", b"1", 1, msg_id=len(broker.pipes)))
        while ("closed",) not in heard.calls and not said:
            broker.go_on()
            said = [call for call in heard.calls if call[0] == "puback"]
    assert said[0][2] == NO
    assert len(broker.pipes) == 7  # three times: the session, and the one that finds it gone


# -- the end of a durable session -----------------------------------------------------------------


def test_the_session_of_a_forgotten_device_is_ended_by_a_clean_one() -> None:
    wire = opened()
    wire.broker.end_session(Identity("old", "user", b"secret"))
    wire.dialled[-1].connected()
    assert wire.sent() == [Connect("old", True, 0, "user", b"secret", None, {}, version=4)]
    wire.dialled[-1].receive(encode(Connack(), 4))
    assert wire.sent() == [Disconnect()]
    assert wire.pipe.is_closed
    assert len(wire.pipes) == 2


def test_a_session_is_ended_when_the_broker_is_there_again() -> None:
    wire = opened()
    wire.broker.end_session(Identity("old"))
    for _ in range(3):
        wire.dialled[-1].lost()
    assert len(wire.pipes) == 5
    wire.dialled[-1].connected()
    wire.dialled[-1].receive(encode(Connack(False, 5), 4))  # not authorised: that is its last word
    assert len(wire.pipes) == 5


def test_a_broker_that_always_refuses_is_not_asked_for_ever() -> None:
    wire = opened()
    wire.broker.end_session(Identity("old"))
    while not wire.pipe.is_closed and len(wire.pipes) < 100:
        wire.dialled[-1].connected()
        wire.dialled[-1].receive(encode(Connack(False, 3), 4))
    assert len(wire.pipes) == 21


@pytest.mark.parametrize(("connack", "pipes"), [("20020000", 4), ("2003000000", 1)])
def test_a_session_is_ended_when_it_is_known_that_it_must_be(connack: str, pipes: int) -> None:
    wire = Wire(versions=Versions())
    wire.broker.end_session(Identity("old"))
    wire.broker.end_session(Identity("older"))
    assert len(wire.pipes) == 1
    wire.session.connected()
    wire.session.receive(bytes.fromhex(connack))  # MQTT 5 or not
    if pipes > 1:
        wire.session.connected()
        wire.session.receive(bytes.fromhex(connack))
    assert len(wire.pipes) == pipes
    for session in wire.dialled[2:]:
        session.connected()
    last_words = [read(pipe.sent, 4) for pipe in wire.pipes[2:]]
    names = [packet.client_id for [packet] in last_words if isinstance(packet, Connect)]
    assert names == ["old", "older"][: pipes - 1]


def test_a_session_of_mqtt_5_ends_by_its_expiry() -> None:
    wire = Wire()
    wire.broker.end_session(Identity("old"))
    assert len(wire.pipes) == 1
