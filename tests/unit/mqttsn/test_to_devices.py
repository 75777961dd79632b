"""Messages on their way to a device: registration, retries, back-pressure (sections 6.10, 6.13)."""

import pytest

from bridges.mqttsn.codes import Flags, ReturnCode, TopicIdType
from bridges.mqttsn.packets import (
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Regack,
    Register,
)
from bridges.mqttsn.ports import Message
from tests.unit.mqttsn.world import World

QOS_1, QOS_2 = Flags(qos=1), Flags(qos=2)


def arrive(world: World, *messages: Message) -> None:
    for message in messages:
        world.session.receiver.on_publish(message)


def knowing(**policy: object) -> World:
    """A device that knows "a/b" as 1."""
    world = World(**policy)
    world.join()
    world.say(Register(0, 1, "a/b"))
    return world


def test_a_new_name_is_registered_before_its_message() -> None:
    world = World()
    world.join()
    arrive(world, Message("a/b", b"x"))
    assert world.hear() == [Register(1, 1, "a/b")]
    assert world.say(Regack(1, 1, 0)) == [Publish(Flags(), 1, 0, b"x")]
    arrive(world, Message("a/b", b"y", retain=True))
    assert world.hear() == [Publish(Flags(retain=True), 1, 0, b"y")]


def test_short_and_predefined_names_need_no_registration() -> None:
    world = World(predefined={3: "p/q"})
    world.join()
    arrive(world, Message("ab", b"x"), Message("p/q", b"y"))
    assert world.hear() == [
        Publish(Flags(topic_id_type=TopicIdType.SHORT), 0x6162, 0, b"x"),
        Publish(Flags(topic_id_type=TopicIdType.PREDEFINED), 3, 0, b"y"),
    ]


def test_qos_1_is_answered_to_the_broker_when_the_device_has_answered() -> None:
    world = knowing()
    arrive(world, Message("a/b", b"x", 1, msg_id=9))
    assert world.hear() == [Publish(QOS_1, 1, 9, b"x")]
    assert world.session.take() == []
    world.say(Puback(1, 9, 0))
    assert world.session.take() == [("puback", 9)]


def test_qos_2_takes_its_four_steps() -> None:
    world = knowing()
    arrive(world, Message("a/b", b"x", 2, msg_id=9))
    assert world.hear() == [Publish(QOS_2, 1, 9, b"x")]
    assert world.say(Pubrec(9)) == []
    assert world.session.take() == [("pubrec", 9)]
    world.session.receiver.on_pubrel(9)
    assert world.hear() == [Pubrel(9)]
    assert world.say(Pubcomp(9)) == []
    assert world.session.take() == [("pubcomp", 9)]


def test_one_exchange_at_a_time() -> None:
    world = knowing()
    arrive(world, *[Message("a/b", b"x", 1, msg_id=n) for n in (1, 2, 3)])
    assert world.hear() == [Publish(QOS_1, 1, 1, b"x")]
    assert world.say(Puback(1, 1, 0)) == [Publish(QOS_1, 1, 2, b"x")]


def test_qos_0_does_not_wait_for_an_answer_to_another_message() -> None:
    world = knowing()
    arrive(world, Message("a/b", b"x", 1, msg_id=1), Message("a/b", b"y"))
    assert world.hear() == [Publish(QOS_1, 1, 1, b"x"), Publish(Flags(), 1, 0, b"y")]


def test_what_has_no_answer_is_repeated_as_a_duplicate_until_the_device_is_lost() -> None:
    world = knowing(n_retry=2)
    session = world.session
    arrive(world, Message("a/b", b"x", 1, msg_id=9))
    world.hear()
    for _ in range(2):
        world.pass_time(10)
        assert world.hear() == [Publish(Flags(dup=True, qos=1), 1, 9, b"x")]
    world.pass_time(10)
    assert session.closed is True
    assert world.counts == {"lost: it does not answer": 1}
    assert session.take() == []  # the broker keeps it


def test_a_registration_and_a_release_are_repeated_too() -> None:
    world = World()
    world.join()
    arrive(world, Message("a/b", b"x", 2, msg_id=9))
    world.hear()
    world.pass_time(10)
    assert world.hear() == [Register(1, 1, "a/b")]
    world.say(Regack(1, 1, 0))
    world.say(Pubrec(9))
    world.session.receiver.on_pubrel(9)
    world.hear()
    world.pass_time(10)
    assert world.hear() == [Pubrel(9)]
    assert world.say(Pubrec(9)) == [Pubrel(9)]  # it has not heard it either


def test_a_device_that_has_forgotten_an_id_is_told_again() -> None:
    world = knowing()
    arrive(world, Message("a/b", b"x", 1, msg_id=9))
    world.hear()
    assert world.say(Puback(1, 9, ReturnCode.INVALID_TOPIC_ID)) == [Register(1, 1, "a/b")]
    assert world.say(Regack(1, 1, 0)) == [Publish(QOS_1, 1, 9, b"x")]
    world.say(Puback(1, 9, 0))
    assert world.session.take() == [("puback", 9)]


def test_a_device_that_insists_does_not_get_the_message() -> None:
    world = World()
    session = world.join()
    arrive(world, Message("ab", b"x", 1, msg_id=9))
    world.hear()
    for _ in range(2):
        assert len(world.say(Puback(0x6162, 9, ReturnCode.INVALID_TOPIC_ID))) == 1
    assert world.say(Puback(0x6162, 9, ReturnCode.INVALID_TOPIC_ID)) == []
    assert session.take() == [("puback", 9)]
    assert world.counts == {"refused by the device": 1}


@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_the_device_refuses_is_done_with_and_counted(qos: int) -> None:
    world = knowing()
    arrive(world, Message("a/b", b"x", qos, msg_id=9))
    world.hear()
    world.say(Puback(1, 9, ReturnCode.NOT_SUPPORTED))
    assert world.session.take() == [("puback" if qos == 1 else "pubrec", 9)]
    assert world.counts == {"refused by the device": 1}
    if qos == 2:
        world.session.receiver.on_pubrel(9)
        assert world.session.take() == [("pubcomp", 9)]
        assert world.hear() == []


def test_a_device_may_ask_for_time() -> None:
    world = knowing(n_retry=1)
    arrive(world, Message("a/b", b"x", 1, msg_id=9))
    world.hear()
    for _ in range(5):
        assert world.say(Puback(1, 9, ReturnCode.CONGESTION)) == []
        world.pass_time(10)
        assert world.hear() == [Publish(Flags(dup=True, qos=1), 1, 9, b"x")]
    assert world.session.take() == []


def test_a_name_the_device_refuses_takes_its_messages_along() -> None:
    world = World()
    session = world.join()
    arrive(world, Message("a/b", b"x", 1, msg_id=9), Message("a/b", b"y"), Message("ab", b"z"))
    world.hear()
    [rest] = world.say(Regack(1, 1, ReturnCode.NOT_SUPPORTED))
    assert isinstance(rest, Publish)
    assert rest.data == b"z"
    assert session.take() == [("puback", 9)]
    assert world.counts == {"registration refused by the device": 2}


def test_without_room_for_another_id_messages_are_lost_and_counted() -> None:
    world = knowing(max_topics=1)
    arrive(world, Message("a/c", b"x", 1, msg_id=9), Message("a/d", b"x"), Message("a/b", b"x"))
    assert world.hear() == [Publish(Flags(), 1, 0, b"x")]
    assert world.session.take() == [("puback", 9)]
    assert world.counts == {"no room for another topic id": 2}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_is_too_large_for_devices_is_lost_and_counted(qos: int) -> None:
    world = knowing(longest_message=10)
    arrive(world, Message("a/b", bytes(11), qos, msg_id=9 * bool(qos)))
    assert world.hear() == []
    assert world.session.take() == [[], [("puback", 9)], [("pubrec", 9)]][qos]
    assert world.counts == {"too large for the device": 1}


def test_the_longest_message_fits_into_the_wire_and_longer_ones_never_reach_it() -> None:
    world = knowing(device_bytes=1_000_000)
    arrive(world, Message("a/b", bytes(65526)), Message("a/b", bytes(65527)))
    assert len(world.hear()) == 1


def test_qos_0_is_the_last_value_per_topic_while_the_link_is_shut() -> None:
    world = knowing()
    world.gateway.is_writable = False
    arrive(world, *[Message("a/b", b"%d" % n) for n in range(100)], Message("ab", b"other"))
    world.gateway.is_writable = True
    assert [packet.data for packet in world.hear()] == [b"99", b"other"]
    assert world.counts == {"QoS 0 replaced by a newer value": 99}


def test_nothing_is_coalesced_while_the_link_is_open() -> None:
    world = knowing()
    arrive(world, *[Message("a/b", b"%d" % n) for n in range(100)])
    assert [packet.data for packet in world.hear()] == [b"%d" % n for n in range(100)]


def test_beyond_its_budget_a_device_loses_the_oldest_of_qos_0() -> None:
    world = knowing(device_bytes=1000)
    arrive(world, *[Message("a/b", bytes([n]) * 200) for n in range(10)])
    assert world.device() is not None
    assert world.device().held <= 1000
    assert [packet.data[0] for packet in world.hear()] == [7, 8, 9]
    assert world.counts == {"QoS 0 dropped: the device is too slow": 7}


def test_beyond_its_budget_messages_wait_in_the_broker() -> None:
    world = knowing(device_bytes=1000)
    arrive(world, *[Message("a/b", bytes(400), 1, msg_id=n) for n in (1, 2)])
    assert world.session.is_held
    world.hear()
    world.say(Puback(1, 1, 0))
    assert world.session.is_held
    world.say(Puback(1, 2, 0))
    assert not world.session.is_held


def test_the_room_of_the_link_is_not_exceeded_by_more_than_one_message() -> None:
    world = knowing()
    arrive(world, *[Message("a/b", bytes(20)) for _ in range(10)])
    assert world.hear(room=0) == []
    assert len(world.hear(room=1)) == 1
    assert len(world.hear(room=28)) == 2
    assert len(world.hear()) == 7


def test_answers_go_before_messages() -> None:
    world = knowing()
    arrive(world, *[Message("a/b", bytes(20)) for _ in range(3)])
    world.gateway.receive(b"\x02\x16", world.now, "1")
    assert world.hear(room=1) == [Pingresp()]


def test_devices_take_turns() -> None:
    world = World()
    sessions = [world.join(f"dev{peer}", peer=peer) for peer in "12"]
    for session in sessions:
        for _ in range(3):
            session.receiver.on_publish(Message("ab", b"x"))
    peers = [world.gateway.data_to_send(world.now, room=1)[0].peer for _ in range(6)]
    assert peers == ["1", "2"] * 3


def test_a_broker_that_repeats_what_has_no_answer_yet_is_understood() -> None:
    world = knowing()
    message = Message("a/b", b"x", 2, msg_id=9)
    arrive(world, message, message)
    assert world.hear() == [Publish(QOS_2, 1, 9, b"x")]
    world.say(Pubrec(9))
    arrive(world, Message("a/b", b"x", 2, msg_id=9, dup=True))
    assert world.session.take() == [("pubrec", 9), ("pubrec", 9)]
    world.session.receiver.on_pubrel(9)
    world.session.receiver.on_pubrel(9)
    assert world.hear() == [Pubrel(9)]
    assert world.say(Pubcomp(9)) == []
    assert world.session.take() == [("pubcomp", 9)]


def test_a_release_from_before_a_restart_reaches_the_device() -> None:
    world = knowing()
    world.session.receiver.on_pubrel(9)
    assert world.hear() == [Pubrel(9)]


@pytest.mark.parametrize(
    "packet", [Puback(1, 9, 0), Pubrec(9), Pubcomp(9), Regack(1, 9, 0)], ids=lambda p: str(type(p))
)
def test_answers_to_nothing_are_counted_and_harmless(packet: Puback) -> None:
    world = knowing()
    assert world.say(packet) == []
    assert world.session.take() == []
    assert world.counts == {"stray answer": 1}
    arrive(world, Message("a/b", b"x", 1, msg_id=4))
    assert world.say(packet) == [Publish(QOS_1, 1, 4, b"x")]
    assert world.session.take() == []


def test_a_device_that_starts_anew_gets_the_open_message_again_with_its_name() -> None:
    world = World()
    world.join(clean=False)
    world.say(Register(0, 1, "a/b"))
    arrive(world, Message("a/b", b"x", 1, msg_id=9))
    world.hear()
    connect = world.device()._joining.connect
    assert world.say(connect)[1:] == [Register(1, 1, "a/b")]
    assert world.say(Regack(1, 1, 0)) == [Publish(Flags(dup=True, qos=1), 1, 9, b"x")]


def test_the_round_trip_and_the_repetitions_are_measured() -> None:
    world = knowing()
    arrive(world, Message("a/b", b"x", 1, msg_id=9), Message("a/b", b"y", 1, msg_id=10))
    world.hear()
    world.pass_time(2)
    world.say(Puback(1, 9, 0), Pingreq())
    world.pass_time(12)
    world.hear()
    world.say(Puback(1, 10, 0))
    device = world.device()
    assert device.round_trip == pytest.approx(2.0)
    assert device.repeats == 1
