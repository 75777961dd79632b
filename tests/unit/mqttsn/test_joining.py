"""CONNECT and the will exchange (sections 6.2 to 6.4)."""

import pytest

from bridges.mqttsn.codes import Flags, ReturnCode
from bridges.mqttsn.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    WillMsg,
    WillMsgReq,
    WillMsgResp,
    WillMsgUpd,
    WillTopic,
    WillTopicReq,
    WillTopicResp,
    WillTopicUpd,
)
from bridges.mqttsn.ports import Address, Identity, Opening, Will
from tests.unit.mqttsn.world import World

CLEAN = Connect(Flags(clean_session=True), 60, "dev")
DURABLE = Connect(Flags(), 60, "dev")
WITH_WILL = Connect(Flags(clean_session=True, will=True), 60, "dev")
WILL = Will("w/t", b"gone", 1, True)
TOPIC = WillTopic(Flags(qos=1, retain=True), "w/t")


def test_a_connect_is_answered_when_the_broker_has_answered() -> None:
    world = World()
    assert world.say(CLEAN) == []
    assert world.session.opening == Opening(Identity("dev"), True, None, 4, Address("1"))
    world.session.receiver.on_opened(False)
    assert world.hear() == [Connack(0)]


def test_the_will_is_asked_for_before_the_session_opens() -> None:
    world = World()
    assert world.say(WITH_WILL) == [WillTopicReq()]
    assert world.say(TOPIC) == [WillMsgReq()]
    assert world.broker.sessions == []
    assert world.say(WillMsg(b"gone")) == []
    assert world.session.opening.will == WILL


def test_an_empty_will_topic_means_no_will() -> None:
    world = World()
    assert world.say(WITH_WILL, WillTopic()) == [WillTopicReq()]
    assert world.session.opening.will is None


def test_a_question_about_the_will_is_repeated_n_retry_times() -> None:
    world = World(n_retry=3)
    world.say(WITH_WILL)
    for _ in range(3):
        world.pass_time(10)
        assert world.hear() == [WillTopicReq()]
    world.pass_time(10)
    assert world.hear() == []
    assert world.device() is None
    assert world.counts == {"lost: it does not send its will": 1}


def test_a_will_with_wildcards_is_refused() -> None:
    world = World()
    world.say(WITH_WILL)
    assert world.say(WillTopic(Flags(), "a/#")) == [Connack(ReturnCode.NOT_SUPPORTED)]
    assert world.device() is None


def test_a_repeated_connect_is_answered_again_and_changes_nothing() -> None:
    world = World()
    assert world.say(CLEAN, CLEAN) == []
    world.session.receiver.on_opened(False)
    assert world.hear() == [Connack(0)]
    assert world.say(CLEAN) == [Connack(0)]
    assert len(world.broker.sessions) == 1


def test_a_connect_after_other_messages_starts_anew() -> None:
    world = World()
    first = world.join()
    world.say(Pingreq())
    world.say(CLEAN)
    assert first.closed is False
    assert len(world.broker.sessions) == 2


def test_a_durable_session_goes_on_with_another_connect() -> None:
    world = World()
    world.join(clean=False)
    world.say(Pingreq())
    assert world.say(DURABLE) == [Connack(0)]
    assert len(world.broker.sessions) == 1


def test_another_connect_does_not_get_ahead_of_the_broker() -> None:
    world = World()
    world.say(DURABLE)
    assert world.say(Connect(Flags(), 90, "dev")) == []
    assert world.broker.sessions[0].closed is False
    world.session.receiver.on_refused(0x87)
    assert world.hear() == [Connack(ReturnCode.NOT_SUPPORTED)]


def test_a_will_lasts_as_long_as_the_durable_session() -> None:
    world = World()
    world.say(Connect(Flags(will=True), 60, "dev"), TOPIC, WillMsg(b"gone"))
    world.session.receiver.on_opened(False)
    world.say(Disconnect())
    world.say(DURABLE)
    assert world.session.opening == Opening(Identity("dev"), False, WILL, 4, Address("1"))
    world.session.receiver.on_opened(True)
    world.say(CLEAN)
    assert world.session.opening.will is None


@pytest.mark.parametrize(
    ("reason", "code"),
    [(0x87, ReturnCode.NOT_SUPPORTED), (0x88, ReturnCode.CONGESTION), (0x97, 1)],
)
def test_a_refusal_of_the_broker_reaches_the_device(reason: int, code: int) -> None:
    world = World()
    world.say(CLEAN)
    world.session.receiver.on_refused(reason)
    assert world.hear() == [Connack(code)]
    assert world.device() is None


def test_a_broker_that_does_not_answer_is_congestion() -> None:
    world = World(open_timeout=30)
    world.say(CLEAN)
    world.pass_time(31)
    assert world.hear() == [Connack(ReturnCode.CONGESTION)]
    assert world.session.closed is False


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (Connect(Flags(), 60, "dev", protocol_id=2), ReturnCode.NOT_SUPPORTED),
        (Connect(Flags(), 60, ""), ReturnCode.NOT_SUPPORTED),
        (Connect(Flags(), 60, "x" * 65), ReturnCode.NOT_SUPPORTED),
        (Connect(Flags(), 60, "a\nb"), ReturnCode.NOT_SUPPORTED),
    ],
    ids=["protocol", "no client id", "a long one", "control characters"],
)
def test_a_connect_that_cannot_be_is_refused(packet: Packet, code: int) -> None:
    world = World()
    assert world.say(packet) == [Connack(code)]
    assert world.broker.sessions == []


def test_there_is_room_for_so_many_devices() -> None:
    world = World(max_devices=1)
    world.join("one", peer="1")
    assert world.say(CLEAN, peer="2") == [Connack(ReturnCode.CONGESTION)]
    world.say(Disconnect(), peer="1")
    assert world.say(CLEAN, peer="2") == []
    assert len(world.broker.sessions) == 2


def test_a_will_can_be_changed_and_removed() -> None:
    world = World()
    session = world.join()
    assert world.say(WillTopicUpd(Flags(qos=1, retain=True), "w/t")) == [WillTopicResp(0)]
    assert world.say(WillMsgUpd(b"gone")) == [WillMsgResp(0)]
    assert session.take() == [("will", Will("w/t", b"", 1, True)), ("will", WILL)]
    assert world.say(WillTopicUpd()) == [WillTopicResp(0)]
    assert session.take() == [("will", None)]
    assert world.say(WillMsgUpd(b"x")) == [WillMsgResp(ReturnCode.NOT_SUPPORTED)]
    assert world.say(WillTopicUpd(Flags(), "+")) == [WillTopicResp(ReturnCode.INVALID_TOPIC_ID)]
    assert session.take() == []


def test_the_end_of_a_session_is_told() -> None:
    world = World()
    session = world.join()
    session.receiver.on_closed()
    assert world.hear() == [Disconnect()]
    assert world.device() is None
    assert session.closed is None


def test_a_disconnect_ends_the_session_without_its_will() -> None:
    world = World()
    session = world.join()
    assert world.say(Disconnect()) == [Disconnect()]
    assert session.closed is False
    assert world.say(Disconnect()) == []  # two gateways must not chat for ever


@pytest.mark.parametrize(("keep_alive", "limit"), [(60, 90), (100, 110)])
def test_a_silent_device_is_lost_after_its_keep_alive_and_a_tolerance(
    keep_alive: int, limit: int
) -> None:
    world = World()
    session = world.join(keep_alive=keep_alive)
    world.pass_time(limit - 1)
    assert session.closed is None
    world.say(Pingreq())
    world.pass_time(limit - 1)
    assert session.closed is None
    world.pass_time(2)
    assert session.closed is True
    assert world.counts == {"lost: silent for too long": 1}
    assert world.gateway.next_deadline() is None


def test_a_will_that_cannot_be_changed_stays_and_the_device_is_told() -> None:
    world = World()
    world.say(WITH_WILL, TOPIC, WillMsg(b"gone"))
    world.session.receiver.on_opened(False)
    world.hear()
    world.session.may_change_will = False
    assert world.say(WillMsgUpd(b"other")) == [WillMsgResp(ReturnCode.NOT_SUPPORTED)]
    assert world.say(WillTopicUpd(Flags(), "w/u")) == [WillTopicResp(ReturnCode.NOT_SUPPORTED)]
    assert world.counts["will refused"] == 2
    note = world.notebook.read("dev")
    assert note is not None
    assert note.will == WILL
