"""What devices publish and ask about topics (sections 6.5 to 6.9)."""

import pytest

from bridges.mqttsn.codes import Flags, ReturnCode, TopicIdType
from bridges.mqttsn.notebook import MemoryNotebook
from bridges.mqttsn.packets import (
    Packet,
    Pingreq,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Regack,
    Register,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from bridges.mqttsn.ports import Identity, Message, Opening
from tests.unit.mqttsn.world import World

QOS_1, QOS_2 = Flags(qos=1), Flags(qos=2)
SHORT = Flags(topic_id_type=TopicIdType.SHORT)
PREDEFINED = Flags(topic_id_type=TopicIdType.PREDEFINED)
AB = 0x6162


def registered(**policy: int) -> World:
    """A device that has registered "a/b" as 1."""
    world = World(**policy)
    world.join()
    assert world.say(Register(0, 1, "a/b")) == [Regack(1, 1, 0)]
    return world


def test_qos_0_goes_to_the_broker_and_nothing_comes_back() -> None:
    world = registered()
    assert world.say(Publish(Flags(retain=True), 1, 0, b"x")) == []
    assert world.session.take() == [("publish", Message("a/b", b"x", 0, True))]


@pytest.mark.parametrize("qos", [0, -1])
def test_without_an_assurance_nothing_is_a_duplicate(qos: int) -> None:
    world = registered()
    assert world.say(Publish(Flags(dup=True, qos=qos), 1, 9, b"x")) == []
    assert world.session.take() == [("publish", Message("a/b", b"x"))]


def test_qos_1_is_answered_when_the_broker_has_answered() -> None:
    world = registered()
    assert world.say(Publish(QOS_1, 1, 7, b"x")) == []
    assert world.session.take() == [("publish", Message("a/b", b"x", 1, False, 7))]
    world.session.receiver.on_puback(7, 0)
    assert world.hear() == [Puback(1, 7, 0)]


def test_qos_2_takes_its_four_steps() -> None:
    world = registered()
    world.say(Publish(QOS_2, 1, 7, b"x"))
    world.session.receiver.on_pubrec(7, 0)
    assert world.hear() == [Pubrec(7)]
    world.session.take()
    assert world.say(Pubrel(7)) == []
    assert world.session.take() == [("pubrel", 7)]
    world.session.receiver.on_pubcomp(7)
    assert world.hear() == [Pubcomp(7)]


def test_a_message_repeated_before_its_answer_goes_to_the_broker_once() -> None:
    world = registered()
    world.say(Publish(QOS_1, 1, 7, b"x"), Publish(Flags(dup=True, qos=1), 1, 7, b"x"))
    assert len(world.session.take()) == 1
    world.session.receiver.on_puback(7, 0)
    assert world.hear() == [Puback(1, 7, 0)]


def test_a_qos_2_message_repeated_after_its_answer_is_only_answered() -> None:
    world = registered()
    world.say(Publish(QOS_2, 1, 7, b"x"))
    world.session.receiver.on_pubrec(7, 0)
    world.hear()
    world.session.take()
    assert world.say(Publish(Flags(dup=True, qos=2), 1, 7, b"x")) == [Pubrec(7)]
    assert world.session.take() == []
    world.say(Pubrel(7), Pubrel(7))
    assert world.session.take() == [("pubrel", 7)]


def test_another_message_under_the_same_id_is_not_taken_for_a_repetition() -> None:
    """A device that has started anew counts from 1 again."""
    world = registered()
    world.say(Publish(QOS_1, 1, 1, b"old"), Publish(QOS_1, 1, 1, b"new"))
    world.session.receiver.on_puback(1, 0)
    assert world.hear() == []  # the answer is that of the old one: the new one comes again
    world.session.take()
    world.say(Publish(Flags(dup=True, qos=1), 1, 1, b"new"))
    assert world.session.take() == [("publish", Message("a/b", b"new", 1, False, 1, True))]


def test_another_qos_2_message_under_the_same_id_releases_the_one_before() -> None:
    world = registered()
    world.say(Publish(QOS_2, 1, 1, b"old"))
    world.session.receiver.on_pubrec(1, 0)
    assert world.hear() == [Pubrec(1)]
    world.session.take()
    world.say(Publish(QOS_2, 1, 1, b"new"))
    assert world.session.take() == [
        ("pubrel", 1),
        ("publish", Message("a/b", b"new", 2, False, 1)),
    ]
    world.session.receiver.on_pubcomp(1)
    assert world.hear() == []  # nobody has asked


def test_another_qos_2_message_before_the_answer_to_the_one_before_waits_for_its_own() -> None:
    world = registered()
    world.say(Publish(QOS_2, 1, 1, b"old"), Publish(QOS_2, 1, 1, b"new"))
    world.session.take()
    world.session.receiver.on_pubrec(1, 0)
    assert world.hear() == []
    assert world.session.take() == [("pubrel", 1)]
    world.say(Publish(Flags(dup=True, qos=2), 1, 1, b"new"))
    assert [asked[1].payload for asked in world.session.take()] == [b"new"]


def test_so_many_messages_may_be_under_way() -> None:
    world = registered(max_requests=2)
    world.say(*[Publish(QOS_1, 1, msg_id, b"x") for msg_id in (1, 2, 3)])
    assert [asked[1].msg_id for asked in world.session.take()] == [1, 2]
    assert world.counts == {"too many messages at once": 1}
    world.session.receiver.on_puback(1, 0)
    world.say(Publish(QOS_1, 1, 3, b"x"))
    assert len(world.session.take()) == 1


def test_a_device_that_never_releases_does_not_fill_the_session() -> None:
    world = registered(max_requests=2)
    released = []
    for msg_id in range(1, 100):
        world.say(Publish(QOS_2, 1, msg_id, b"x"))
        world.session.receiver.on_pubrec(msg_id, 0)
        released += [asked[1] for asked in world.session.take() if asked[0] == "pubrel"]
        for each in released[-1:]:
            world.session.receiver.on_pubcomp(each)
    assert released == list(range(1, 98))


@pytest.mark.parametrize(("reason", "code"), [(0x87, 3), (0x97, 1)])
@pytest.mark.parametrize("qos", [1, 2])
def test_a_refusal_of_the_broker_reaches_the_device(reason: int, code: int, qos: int) -> None:
    world = registered()
    world.say(Publish(Flags(qos=qos), 1, 7, b"x"))
    receiver = world.session.receiver
    (receiver.on_puback if qos == 1 else receiver.on_pubrec)(7, reason)
    assert world.hear() == [Puback(1, 7, code)]


def test_short_and_predefined_topics_need_no_registration() -> None:
    world = World(predefined={3: "p/q"})
    world.join()
    world.say(Publish(SHORT, AB, 0, b"x"), Publish(PREDEFINED, 3, 0, b"y"))
    topics = [asked[1].topic for asked in world.session.take()]
    assert topics == ["ab", "p/q"]


@pytest.mark.parametrize(
    "packet",
    [
        Publish(QOS_1, 9, 7, b"x"),
        Publish(QOS_1, 0, 7, b"x"),
        Publish(QOS_1, 0xFFFF, 7, b"x"),
        Publish(Flags(qos=1, topic_id_type=1), 4, 7, b"x"),
        Publish(Flags(qos=1, topic_id_type=2), 0x2B2B, 7, b"x"),
        Publish(Flags(qos=1, topic_id_type=2), 0x6100, 7, b"x"),
        Publish(Flags(qos=1, topic_id_type=2), 0xFFFF, 7, b"x"),
    ],
    ids=["unregistered", "0", "0xffff", "not predefined", "wildcard", "U+0000", "not UTF-8"],
)
def test_an_id_that_means_nothing_is_an_invalid_topic_id(packet: Publish) -> None:
    world = registered()
    assert world.say(packet) == [Puback(packet.topic_id, 7, ReturnCode.INVALID_TOPIC_ID)]
    assert world.session.take() == []


def test_an_assured_message_needs_an_id() -> None:
    world = registered()
    assert world.say(Publish(QOS_1, 1, 0, b"x")) == [Puback(1, 0, ReturnCode.NOT_SUPPORTED)]


def test_a_name_keeps_its_id() -> None:
    world = registered()
    assert world.say(Register(0, 2, "a/c"), Register(0, 3, "a/b")) == [
        Regack(2, 2, 0),
        Regack(1, 3, 0),
    ]


@pytest.mark.parametrize("topic", ["a/+", "#", "", "/".join("x" * 40)])
def test_no_id_for_what_cannot_be_published_to(topic: str) -> None:
    world = World()
    world.join()
    assert world.say(Register(0, 1, topic)) == [Regack(0, 1, ReturnCode.INVALID_TOPIC_ID)]


@pytest.mark.parametrize(
    "policy", [{"max_topics": 1}, {"max_topic_bytes": 4}, {"longest_topic": 3}]
)
def test_registrations_are_bounded(policy: dict[str, int]) -> None:
    world = registered(**policy)
    assert world.say(Register(0, 2, "a/bc")) == [Regack(0, 2, ReturnCode.CONGESTION)]
    assert world.say(Subscribe(Flags(), 3, "a/bc")) == [Suback(Flags(), 0, 3, 1)]
    assert world.say(Register(0, 4, "a/b")) == [Regack(1, 4, 0)]


def test_an_id_is_told_when_it_is_kept() -> None:
    kept = []

    class SlowNotebook(MemoryNotebook):
        def add_topic(self, client_id: str, topic_id: int, topic: str, done: object) -> None:
            kept.append(done)

    world = World(notebook=SlowNotebook())
    session = world.join()
    assert world.say(Register(0, 1, "a/b")) == []
    kept.pop()()
    assert world.hear() == [Regack(1, 1, 0)]
    session.receiver.on_publish(Message("a/c", b"x"))
    assert world.hear() == []
    kept.pop()()
    assert world.hear() == [Register(2, 1, "a/c")]


def test_an_id_that_is_kept_late_is_not_told_to_a_device_that_has_started_anew() -> None:
    kept = []

    class SlowNotebook(MemoryNotebook):
        def add_topic(self, client_id: str, topic_id: int, topic: str, done: object) -> None:
            kept.append(done)

    world = World(notebook=SlowNotebook())
    world.join()
    assert world.say(Register(0, 1, "a/b")) == []
    world.join()
    kept.pop()()
    assert world.hear() == []


def test_a_subscription_to_a_name_brings_its_id() -> None:
    world = World()
    session = world.join()
    assert world.say(Subscribe(QOS_1, 5, "a/b")) == []
    assert session.take() == [("subscribe", 5, "a/b", 1)]
    session.receiver.on_suback(5, 1)
    assert world.hear() == [Suback(QOS_1, 1, 5, 0)]


@pytest.mark.parametrize(
    ("packet", "topic_filter", "topic_id"),
    [
        (Subscribe(Flags(), 5, "a/#"), "a/#", 0),
        (Subscribe(Flags(), 5, "$share/g/a"), "$share/g/a", 0),
        (Subscribe(SHORT, 5, "ab"), "ab", 0),
        (Subscribe(PREDEFINED, 5, 3), "p/q", 3),
    ],
    ids=["wildcard", "shared", "short", "predefined"],
)
def test_other_subscriptions_bring_no_new_id(
    packet: Subscribe, topic_filter: str, topic_id: int
) -> None:
    world = World(predefined={3: "p/q"})
    session = world.join()
    world.say(packet)
    assert session.take() == [("subscribe", 5, topic_filter, 0)]
    session.receiver.on_suback(5, 0)
    assert world.hear() == [Suback(Flags(), topic_id, 5, 0)]


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (Subscribe(Flags(), 5, "a/#/b"), ReturnCode.INVALID_TOPIC_ID),
        (Subscribe(Flags(), 5, ""), ReturnCode.INVALID_TOPIC_ID),
        (Subscribe(Flags(), 5, "$share/g"), ReturnCode.INVALID_TOPIC_ID),
        (Subscribe(PREDEFINED, 5, 9), ReturnCode.INVALID_TOPIC_ID),
        (Subscribe(Flags(), 0, "a"), ReturnCode.NOT_SUPPORTED),
    ],
    ids=["filter", "empty", "share", "predefined", "no message id"],
)
def test_a_subscription_that_cannot_be_is_refused(packet: Subscribe, code: int) -> None:
    world = World()
    session = world.join()
    [suback] = world.say(packet)
    assert isinstance(suback, Suback)
    assert (suback.msg_id, suback.return_code) == (packet.msg_id, code)
    assert session.take() == []


def test_a_subscription_the_broker_refuses_is_refused() -> None:
    world = World()
    session = world.join()
    world.say(Subscribe(QOS_1, 5, "secret"))
    session.receiver.on_suback(5, 0x87)
    assert world.hear() == [Suback(Flags(), 0, 5, ReturnCode.NOT_SUPPORTED)]


def test_requests_are_bounded_and_repeated_ones_are_one() -> None:
    world = World(max_requests=2)
    session = world.join()
    world.say(*[Subscribe(Flags(), msg_id, "a/#") for msg_id in (1, 1, 2, 3)])
    assert len(session.take()) == 2
    assert world.counts == {"repeated by the device": 1, "too many requests at once": 1}


def test_an_unsubscription_is_answered_when_the_broker_has_answered() -> None:
    world = World()
    session = world.join()
    assert world.say(Unsubscribe(Flags(), 5, "a/#")) == []
    assert session.take() == [("unsubscribe", 5, "a/#")]
    session.receiver.on_unsuback(5)
    assert world.hear() == [Unsuback(5)]
    assert world.say(Unsubscribe(PREDEFINED, 6, 9)) == [Unsuback(6)]


def test_qos_minus_1_needs_no_connection() -> None:
    world = World(predefined={3: "p/q"})
    without = Flags(qos=-1, topic_id_type=1)
    assert world.say(Publish(without, 3, 0, b"x")) == []
    assert world.session.opening == Opening(Identity("gateway"))
    world.session.receiver.on_opened(False)
    assert world.say(Publish(without, 3, 0, b"y")) == []
    assert [asked[1].payload for asked in world.session.take()] == [b"x", b"y"]
    assert len(world.broker.sessions) == 1


@pytest.mark.parametrize("flags", [Flags(qos=-1), Flags(qos=-1, topic_id_type=1)])
def test_qos_minus_1_without_a_topic_is_dropped_silently(flags: Flags) -> None:
    world = World()
    assert world.say(Publish(flags, 3, 0, b"x")) == []
    assert world.counts == {"QoS -1 refused: no topic": 1}


def test_messages_of_qos_minus_1_wait_for_their_session_in_bounds() -> None:
    world = World()
    packet = Publish(Flags(qos=-1, topic_id_type=2), AB, 0, b"x")
    world.say(*[packet] * 150)
    assert world.counts == {"QoS -1 dropped: no session yet": 50}
    world.session.receiver.on_refused(0x87)
    assert world.counts["QoS -1 dropped: no session"] == 100
    world.say(packet)
    assert len(world.broker.sessions) == 2


@pytest.mark.parametrize(
    "packet",
    [
        Publish(Flags(), 1, 0, b"x"),
        Publish(QOS_1, 1, 7, b"x"),
        Register(0, 1, "a"),
        Subscribe(Flags(), 1, "a"),
        Pingreq(),
        Pingreq("dev"),
        Pubrel(7),
    ],
)
def test_who_is_unknown_is_told_to_connect(packet: Packet) -> None:
    world = World()
    [answer] = world.say(packet)
    assert type(answer).__name__ == "Disconnect"
    assert world.broker.sessions == []
