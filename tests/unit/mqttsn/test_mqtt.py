"""Sessions over MQTT packets: what goes to the broker, and what a broken pipe leaves."""

import pytest

from bridges.mqttsn.mqtt import GRACE
from bridges.mqttsn.ports import Identity, Message, Opening, Will
from broker.packets.codes import ReasonCode
from broker.packets.encode import encode
from broker.packets.properties import Property
from broker.packets.types import (
    Connack,
    Connect,
    Disconnect,
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
    Unsubscribe,
)
from broker.packets.types import Will as MqttWill
from tests.unit.mqttsn.mqtt_world import CLEAN, Wire, opened, read


def test_a_device_becomes_a_client_of_its_own() -> None:
    wire = Wire(Opening(Identity("dev", "user", b"secret"), False, Will("w", b"x", 1, True), 3))
    assert wire.sent() == []
    wire.session.connected()
    properties = {Property.SESSION_EXPIRY_INTERVAL: 1000, Property.RECEIVE_MAXIMUM: 3}
    will = MqttWill("w", b"x", 1, True, {Property.WILL_DELAY_INTERVAL: 10})
    assert wire.sent() == [Connect("dev", False, 0, "user", b"secret", will, properties)]


def test_a_clean_session_survives_a_broken_pipe_and_not_its_device() -> None:
    wire = Wire(CLEAN)
    wire.session.connected()
    [connect] = wire.sent()
    assert connect.clean_start
    assert connect.properties[Property.SESSION_EXPIRY_INTERVAL] == GRACE
    wire.answer(Connack())
    wire.session.lost()
    wire.session.connected()
    [connect] = wire.sent()
    assert not connect.clean_start
    wire.answer(Connack(session_present=True))
    wire.session.close(publish_will=True)
    expiry = {Property.SESSION_EXPIRY_INTERVAL: 0}
    assert wire.sent() == [Disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE, expiry)]
    assert wire.pipe.is_closed


@pytest.mark.parametrize(("will", "reason"), [(False, 0), (True, 4)])
def test_the_end_says_whether_the_will_is_to_be_published(will: bool, reason: int) -> None:
    wire = opened()
    wire.session.close(publish_will=will)
    assert wire.sent() == [Disconnect(reason)]
    wire.session.receive(encode(Publish("a"), 5))
    wire.session.lost()
    assert wire.heard.take() == []


def test_every_request_is_a_packet_and_every_answer_a_call() -> None:
    wire = opened()
    session = wire.session
    session.publish(Message("a", b"0", 0, True))
    session.publish(Message("a", b"1", 1, msg_id=1))
    session.publish(Message("a", b"2", 2, msg_id=2, dup=True))
    session.subscribe(3, "b/#", 1)
    session.unsubscribe(4, "c")
    for word in ("puback", "pubrec", "pubcomp"):
        getattr(session, word)(5)
    assert wire.sent() == [
        Publish("a", b"0", 0, retain=True),
        Publish("a", b"1", 1, packet_id=1),
        Publish("a", b"2", 2, dup=True, packet_id=2),
        Subscribe(3, [SubscriptionRequest("b/#", 1)]),
        Unsubscribe(4, ["c"]),
        Puback(5),
        Pubrec(5),
        Pubcomp(5),
    ]
    wire.answer(Puback(1, 0x10), Pubrec(2), Suback(3, [1]), Unsuback(4, [0]))
    session.pubrel(2)
    assert wire.answer(Pubcomp(2)) == [Pubrel(2)]
    wire.answer(Publish("d", b"x", 2, True, True, 9), Pubrel(9))
    assert wire.heard.take() == [
        ("puback", 1, 0x10),
        ("pubrec", 2, 0),
        ("suback", 3, 1),
        ("unsuback", 4),
        ("pubcomp", 2),
        ("publish", Message("d", b"x", 2, True, 9, True)),
        ("pubrel", 9),
    ]


def test_a_refusal_ends_the_session() -> None:
    wire = Wire()
    wire.session.connected()
    wire.answer(Connack(False, ReasonCode.NOT_AUTHORIZED))
    assert wire.heard.take() == [("refused", ReasonCode.NOT_AUTHORIZED)]
    assert wire.pipe.is_closed


def test_a_broker_that_cannot_be_reached_is_unavailable() -> None:
    wire = Wire()
    wire.session.lost()
    assert wire.heard.take() == [("refused", ReasonCode.SERVER_UNAVAILABLE)]
    assert len(wire.pipes) == 1


def test_after_a_broken_pipe_what_has_no_answer_is_repeated_in_order() -> None:
    wire = opened()
    session = wire.session
    session.publish(Message("a", b"1", 1, msg_id=1))
    session.publish(Message("a", b"2", 2, msg_id=2))
    session.publish(Message("a", b"3", 1, msg_id=3))
    wire.answer(Puback(1), Pubrec(2))
    session.pubrel(2)
    session.subscribe(4, "b", 0)
    session.fence(lambda has_more: wire.heard.calls.append(("fence", has_more)))
    wire.heard.take()
    assert wire.reopen() == [
        Publish("a", b"3", 1, dup=True, packet_id=3),
        Pubrel(2),
        Subscribe(4, [SubscriptionRequest("b", 0)]),
        Pingreq(),
    ]
    wire.answer(Pingresp())
    assert wire.heard.take() == [("fence", False)]


def test_a_fence_tells_whether_the_broker_is_known_to_have_more() -> None:
    wire = opened()
    wire.session.fence(lambda has_more: wire.heard.calls.append(("fence", has_more)))
    wire.pipe.owes = True
    wire.answer(Pingresp())
    assert wire.heard.take() == [("fence", True)]


def test_without_a_connection_answers_are_dropped_and_messages_wait() -> None:
    wire = opened()
    wire.session.lost()
    wire.session.puback(9)
    wire.session.publish(Message("a", b"1", 1, msg_id=1))
    for n in range(150):
        wire.session.publish(Message("a", b"%d" % n))
    sent = wire.open(session_present=True)
    assert [packet.payload for packet in sent] == [b"%d" % n for n in range(50, 150)] + [b"1"]
    assert wire.heard.take() == []


def test_a_session_that_the_broker_has_lost_is_over() -> None:
    wire = opened()
    wire.session.lost()
    wire.open(session_present=False)
    assert wire.heard.take() == [("closed",)]
    assert wire.pipe.is_closed


def test_a_refusal_after_a_broken_pipe_is_the_end() -> None:
    wire = opened()
    wire.session.lost()
    wire.session.connected()
    wire.answer(Connack(False, ReasonCode.NOT_AUTHORIZED))
    assert wire.heard.take() == [("closed",)]


@pytest.mark.parametrize(
    ("reason", "calls"),
    [(ReasonCode.SESSION_TAKEN_OVER, [("closed",)]), (ReasonCode.SERVER_SHUTTING_DOWN, [])],
)
def test_a_disconnect_of_the_broker_is_final_or_not(
    reason: ReasonCode, calls: list[tuple[str]]
) -> None:
    wire = opened()
    wire.answer(Disconnect(reason))
    wire.session.lost()
    assert wire.heard.take() == calls
    assert len(wire.pipes) == (1 if calls else 2)


def test_the_receive_maximum_of_the_broker_is_kept() -> None:
    wire = opened(receive_maximum=2)
    for n in range(1, 6):
        wire.session.publish(Message("a", b"x", 2, msg_id=n))
    assert [packet.packet_id for packet in wire.sent()] == [1, 2]
    assert wire.answer(Pubrec(1)) == []
    wire.session.pubrel(1)
    assert [packet.packet_id for packet in wire.answer(Pubcomp(1))] == [1, 3]
    [packet] = wire.answer(Pubrec(2, 0x87))
    assert packet.packet_id == 4


def test_a_changed_will_comes_with_another_connection_to_the_same_session() -> None:
    wire = opened()
    first = wire.pipe
    wire.session.publish(Message("a", b"1", 1, msg_id=1))
    wire.sent()
    wire.session.change_will(Will("w", b"new"))
    assert read(first.sent) == [Disconnect()]
    assert first.is_closed
    wire.session.connected()
    [connect] = wire.sent()
    assert connect.will.payload == b"new"
    assert not connect.clean_start
    assert wire.answer(Connack(session_present=True)) == [
        Publish("a", b"1", 1, dup=True, packet_id=1)
    ]
    assert wire.heard.take() == []


def test_a_hold_lasts_through_a_broken_pipe() -> None:
    wire = opened()
    wire.session.hold(True)
    assert wire.pipe.is_held
    wire.session.lost()
    assert not wire.pipe.is_held
    wire.session.connected()
    assert wire.pipe.is_held
    wire.session.hold(False)
    assert not wire.pipe.is_held


@pytest.mark.parametrize("garbage", [b"\x00\x00", b"\x36\x00", b"\x40\xff\xff\xff\xff\xff"])
def test_garbage_of_the_broker_breaks_the_pipe(garbage: bytes) -> None:
    wire = opened()
    wire.session.receive(garbage)
    assert wire.pipes[0].is_closed
    assert len(wire.pipes) == 2
    assert wire.heard.take() == []


def test_answers_to_nothing_are_ignored() -> None:
    wire = opened()
    wire.answer(Puback(9), Pubrec(9), Suback(9, [0]), Unsuback(9, [0]), Pingresp())
    assert wire.heard.take() == []


def test_a_ping_shows_that_the_client_is_there() -> None:
    wire = opened()
    wire.session.ping()
    assert wire.sent() == [Pingreq()]
    assert wire.answer(Pingresp()) == []


def test_what_the_brokers_maximum_qos_forbids_is_refused_and_not_sent() -> None:
    wire = Wire()
    wire.open(maximum_qos=1)
    wire.session.publish(Message("a/b", b"2", 2, msg_id=7))
    wire.session.publish(Message("a/b", b"1", 1, msg_id=8))
    assert wire.sent() == [Pingreq(), Publish("a/b", b"1", 1, packet_id=8)]
    wire.heard.take()
    wire.answer(Pingresp())
    assert wire.heard.take() == [("puback", 7, ReasonCode.QOS_NOT_SUPPORTED)]


# -- when it was sent ------------------------------------------------------------------------------


def test_each_message_says_when_it_was_sent_and_says_the_same_when_it_is_repeated() -> None:
    times = iter(("1.000", "2.000"))
    wire = Wire(stamp=lambda: next(times))
    wire.open()
    wire.session.publish(Message("a", b"x"))
    wire.session.publish(Message("a", b"y", 1, msg_id=7))
    stamped = [(each.payload, each.properties) for each in wire.sent()]
    said = {Property.USER_PROPERTY: [("sent-at", "2.000")]}
    assert stamped == [(b"x", {Property.USER_PROPERTY: [("sent-at", "1.000")]}), (b"y", said)]
    again = [each for each in wire.reopen() if isinstance(each, Publish)]
    assert [(each.payload, each.properties, each.dup) for each in again] == [(b"y", said, True)]


def test_a_device_that_asks_again_and_again_while_the_broker_is_away_makes_nothing_grow() -> None:
    wire = opened()
    wire.session.lost()
    for number in range(1000):
        wire.session.fence(lambda _more, number=number: wire.heard.calls.append((number,)))  # type: ignore[misc]
    wire.session.connected()
    wire.sent()
    pings = wire.answer(Connack(True, 0, {}))
    assert 0 < len(pings) < 100
    wire.answer(*[Pingresp() for _ in pings])
    assert wire.heard.take() == [(number,) for number in range(len(pings))]
