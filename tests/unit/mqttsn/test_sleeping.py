"""Sleeping devices (section 6.14), and what a restart of the gateway leaves of them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bridges.mqttsn.admission import Rules
from bridges.mqttsn.codes import Flags
from bridges.mqttsn.notebook import MemoryNotebook
from bridges.mqttsn.packets import (
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
    Regack,
    Register,
    WillMsgResp,
    WillMsgUpd,
    WillTopicResp,
    WillTopicUpd,
)
from bridges.mqttsn.ports import Message, Note, Stage, Will
from bridges.mqttsn.states import State
from tests.unit.mqttsn.world import ScriptedSession, World


def asleep(duration: int = 600, clean: bool = False, **policy: object) -> World:
    world = World(**policy)
    world.join(clean=clean)
    assert world.say(Disconnect(duration)) == [Disconnect()]
    return world


def pass_fence(session: ScriptedSession) -> None:
    """The broker has nothing more."""
    asked(session)(False)


def asked(session: ScriptedSession) -> Callable[[bool], None]:
    """The broker is asked whether it has more: how to answer."""
    [(word, done)] = session.take()
    assert word == "fence"
    return done


def test_nothing_is_sent_to_one_that_sleeps() -> None:
    world = asleep()
    world.session.receiver.on_publish(Message("ab", b"x", 1, msg_id=1))
    assert world.hear() == []
    assert world.device().state is State.ASLEEP


def test_one_that_wakes_gets_what_waits_and_then_pingresp() -> None:
    world = asleep()
    session = world.session
    session.receiver.on_publish(Message("ab", b"x", 1, msg_id=1))
    [publish] = world.say(Pingreq("dev"))
    assert isinstance(publish, Publish)
    assert world.say(Puback(0x6162, 1, 0)) == []
    assert session.take()[0] == ("puback", 1)
    assert world.device().state is State.AWAKE


def test_pingresp_waits_for_what_the_broker_still_has() -> None:
    world = asleep()
    session = world.session
    assert world.say(Pingreq("dev")) == []
    [(_, first)] = session.take()
    session.receiver.on_publish(Message("ab", b"x"))
    assert len(world.hear()) == 1
    first(False)  # of before the message: it says nothing any more
    assert world.hear() == []
    pass_fence(session)
    assert world.hear() == [Pingresp()]
    assert world.device().state is State.ASLEEP


def test_with_nothing_waiting_pingresp_comes_at_once() -> None:
    world = asleep()
    world.say(Pingreq("dev"))
    pass_fence(world.session)
    assert world.hear() == [Pingresp()]


def test_a_broker_that_says_nothing_keeps_nobody_awake() -> None:
    world = asleep(fence_timeout=2.0)
    assert world.say(Pingreq("dev")) == []
    world.pass_time(1.9)
    assert world.hear() == []
    world.pass_time(0.1)
    assert world.hear() == [Pingresp()]
    assert world.device().state is State.ASLEEP
    assert world.gateway.next_deadline() == 1000.0 + 660


def test_a_broker_that_has_more_is_asked_again_until_it_has_not() -> None:
    world = asleep()
    session = world.session
    world.say(Pingreq("dev"))
    for _ in range(20):
        asked(session)(True)
        assert world.hear() == []
        world.pass_time(0.1)
        assert world.hear() == []
    session.receiver.on_publish(Message("ab", b"x", 1, msg_id=1))
    asked(session)(False)  # of before the message
    [publish] = world.hear()
    assert isinstance(publish, Publish)
    assert world.say(Puback(0x6162, 1, 0)) == []
    assert session.take()[0] == ("puback", 1)


def test_what_the_broker_has_and_does_not_send_keeps_nobody_awake() -> None:
    world = asleep(collect_timeout=8.0)
    world.say(Pingreq("dev"))
    world.pass_time(1.0)
    while world.hear() == []:
        assert world.now <= 1008.2
        asked(world.session)(True)
        world.pass_time(0.1)
    assert world.device().state is State.ASLEEP
    assert world.now > 1007.9


def test_a_broker_that_could_not_be_heard_for_a_while_has_not_been_silent() -> None:
    world = asleep(fence_timeout=2.0)
    world.say(Pingreq("dev"))
    world.now += 30  # the process did not run
    world.gateway.tick(world.now)
    assert world.hear() == []
    pass_fence(world.session)
    assert world.hear() == [Pingresp()]


def test_a_connect_ends_the_wait_for_what_the_broker_has() -> None:
    world = asleep()
    world.say(Pingreq("dev"))
    asked(world.session)(True)
    assert world.say(Connect(Flags(), 60, "dev")) == [Connack(0)]
    world.pass_time(10)
    assert world.hear() == world.session.take() == []
    assert world.gateway.next_deadline() == 1000.0 + 90


def test_a_pingreq_repeated_gets_its_pingresp_again() -> None:
    world = asleep()
    for _ in range(3):
        world.say(Pingreq("dev"))
        pass_fence(world.session)
        assert world.hear() == [Pingresp()]


def test_a_disconnect_repeated_gets_its_answer_again() -> None:
    world = asleep()
    assert world.say(Disconnect(600)) == [Disconnect()]
    assert world.session.closed is None


def test_qos_0_is_kept_as_the_last_value_of_each_topic() -> None:
    world = asleep()
    for n in range(10):
        world.session.receiver.on_publish(Message("ab", b"%d" % n))
    [publish] = world.say(Pingreq("dev"))
    assert isinstance(publish, Publish)
    assert publish.data == b"9"


@pytest.mark.parametrize(("duration", "limit"), [(60, 90), (3600, 3960)])
def test_one_that_oversleeps_is_lost_and_its_will_published(duration: int, limit: int) -> None:
    world = asleep(duration)
    session = world.session
    world.pass_time(limit - 1)
    assert session.closed is None
    world.pass_time(2)
    assert session.closed is True
    assert world.notebook.read("dev").stage is Stage.AWAY


def test_one_that_wakes_in_time_sleeps_on() -> None:
    world = asleep(100)
    for _ in range(20):
        world.pass_time(100)
        world.say(Pingreq("dev"))
        pass_fence(world.session)
        assert world.hear() == [Pingresp()]


def test_one_that_does_not_answer_is_taken_to_sleep_again() -> None:
    world = asleep(600, n_retry=1)
    world.session.receiver.on_publish(Message("ab", b"x", 1, msg_id=1))
    world.say(Pingreq("dev"))
    world.pass_time(10)
    world.hear()
    world.pass_time(10)
    assert world.device().state is State.ASLEEP
    assert world.session.closed is None
    [publish] = world.say(Pingreq("dev"))
    assert isinstance(publish, Publish)
    assert publish.flags.dup


def test_one_pingreq_fetches_so_many_messages() -> None:
    world = asleep(collect_most=3)
    for n in range(1, 6):
        world.session.receiver.on_publish(Message("ab", b"x", 1, msg_id=n))
    world.say(Pingreq("dev"))
    world.say(Puback(0x6162, 1, 0))
    world.say(Puback(0x6162, 2, 0))
    assert world.say(Puback(0x6162, 3, 0)) == [Pingresp()]
    assert len(world.say(Pingreq("dev"))) == 1


def test_a_release_without_an_answer_comes_again_after_the_sleep() -> None:
    world = World()
    session = world.join()
    for msg_id in (1, 2):
        session.receiver.on_publish(Message("ab", b"x", 2, msg_id=msg_id))
    world.hear()
    world.say(Pubrec(1))
    session.receiver.on_pubrel(1)
    assert world.hear() == [Pubrel(1)]
    world.say(Disconnect(600))
    assert world.say(Pingreq("dev")) == [Pubrel(1)]
    [publish] = world.say(Pubcomp(1))
    assert isinstance(publish, Publish)
    assert publish.msg_id == 2


def test_a_connect_ends_the_sleep_and_ids_are_still_known() -> None:
    world = World()
    world.join(clean=False)
    world.say(Register(0, 1, "a/b"), Disconnect(600))
    world.session.receiver.on_publish(Message("a/b", b"x"))
    assert world.say(Connect(Flags(), 60, "dev")) == [
        Connack(0),
        Publish(Flags(), 1, 0, b"x"),
    ]
    assert len(world.broker.sessions) == 1


def test_one_that_sleeps_may_publish() -> None:
    world = asleep()
    world.say(Publish(Flags(qos=1, topic_id_type=2), 0x6162, 7, b"x"))
    world.session.receiver.on_puback(7, 0)
    assert world.hear() == [Puback(0x6162, 7, 0)]
    assert world.device().state is State.ASLEEP


def test_a_disconnect_of_zero_seconds_is_the_end() -> None:
    world = World()
    session = world.join()
    assert world.say(Disconnect(0)) == [Disconnect()]
    assert session.closed is False


# -- after a restart ------------------------------------------------------------------------------


def restarted(world: World) -> World:
    """Another gateway with the same notebook."""
    after = World(notebook=world.notebook)
    after.gateway.resume(after.now)
    return after


def test_a_sleeping_device_does_not_notice_a_restart() -> None:
    world = asleep(600)
    after = restarted(world)
    assert not after.session.opening.clean_session
    after.session.receiver.on_opened(True)
    after.session.receiver.on_publish(Message("ab", b"x", 1, msg_id=1))
    assert after.hear() == []
    assert len(after.say(Pingreq("dev"))) == 1
    after.pass_time(659)
    assert after.session.closed is None
    after.pass_time(2)
    assert after.session.closed is True


def test_after_a_restart_pingresp_waits_for_the_session_and_what_comes_of_it() -> None:
    world = asleep(600)
    after = restarted(world)
    session = after.session
    assert after.say(Pingreq("dev")) == []
    after.pass_time(5.0)
    assert after.hear() == []
    assert session.take() == []
    session.receiver.on_opened(True)
    assert after.hear() == []
    pass_fence(session)
    assert after.hear() == [Pingresp()]


def test_after_a_restart_a_session_that_does_not_open_keeps_nobody_awake() -> None:
    world = asleep(600)
    after = restarted(world)
    after.say(Pingreq("dev"))
    after.pass_time(8.0)
    assert after.hear() == [Pingresp()]
    assert after.device().state is State.ASLEEP


def test_an_active_device_and_its_ids_survive_a_restart() -> None:
    world = World()
    world.join(clean=False, keep_alive=100)
    world.say(Register(0, 1, "a/b"))
    after = restarted(world)
    after.session.receiver.on_opened(True)
    after.session.receiver.on_publish(Message("a/b", b"y"))
    assert after.hear() == [Publish(Flags(), 1, 0, b"y")]
    assert after.say(Publish(Flags(qos=1), 1, 7, b"x")) == []
    assert after.session.take() == [("publish", Message("a/b", b"x", 1, msg_id=7))]
    after.pass_time(111)
    assert after.session.closed is True


def test_a_will_survives_a_restart() -> None:
    world = World()
    world.notebook.write(world_note := _note_with_will(world))
    after = restarted(world)
    assert after.session.opening.will == world_note.will


def test_a_device_whose_session_the_broker_has_lost_is_told() -> None:
    world = World()
    world.join(clean=False)
    after = restarted(world)
    after.session.receiver.on_opened(False)
    assert after.hear() == [Disconnect()]
    assert after.device() is None
    assert after.session.closed is False


@pytest.mark.parametrize("clean", [True, False])
def test_a_will_stands_although_the_broker_has_lost_the_session(clean: bool) -> None:
    world = World()
    note = _note_with_will(world)
    world.notebook.write(replace(note, stage=Stage.ASLEEP, sleep=600, clean_session=clean))
    after = restarted(world)
    after.session.receiver.on_opened(False)
    assert after.hear() == []
    assert after.session.closed is None
    after.pass_time(661)
    assert after.session.closed is True


@pytest.mark.parametrize("clean", [True, False])
def test_a_device_whose_session_the_broker_has_lost_connects_anew(clean: bool) -> None:
    world = World()
    note = _note_with_will(world)
    world.notebook.write(replace(note, stage=Stage.ASLEEP, sleep=600, clean_session=clean))
    after = restarted(world)
    after.session.receiver.on_opened(False)
    peer = note.address.peer
    assert after.say(Pingreq(note.client_id), peer=peer) == [Disconnect()]
    assert after.session.closed is False
    after.join(note.client_id, peer, clean)
    assert after.say(Pingreq(), peer=peer) == [Pingresp()]


def test_a_broker_that_starts_later_than_the_gateway_is_waited_for() -> None:
    after = restarted(asleep(600))
    for tries in range(1, 4):
        after.session.receiver.on_refused(0x88)
        assert after.hear() == []
        assert len(after.broker.sessions) == tries
        after.pass_time(11)
        assert len(after.broker.sessions) == tries + 1
    after.session.receiver.on_opened(True)
    assert len(after.say(Pingreq("dev"))) == 0
    assert after.session.take()[-1][0] == "fence"


def test_clean_sessions_and_those_that_are_away_are_not_resumed() -> None:
    world = World()
    world.join("clean", peer="1")
    world.join("away", peer="2", clean=False)
    world.say(Disconnect(), peer="2")
    after = restarted(world)
    assert after.broker.sessions == []
    assert [note.client_id for note in world.notebook.notes()] == ["away"]


def test_one_that_is_not_admitted_any_more_must_ask_and_its_note_stays() -> None:
    world = World()
    world.join(clean=False)
    after = World(Rules(approval=True), world.notebook)
    after.gateway.resume(after.now)
    assert after.broker.sessions == []
    assert after.say(Pingreq()) == [Disconnect()]
    assert world.notebook.read("dev") is not None


def test_registrations_of_a_durable_session_outlive_the_connection() -> None:
    world = World()
    world.join(clean=False)
    world.say(Register(0, 1, "a/b"), Disconnect())
    after = restarted(world)
    after.join(clean=False)
    assert after.say(Register(0, 1, "a/c"), Register(0, 2, "a/b")) == [
        Regack(2, 1, 0),
        Regack(1, 2, 0),
    ]
    after.say(Disconnect())
    after.join(clean=True)
    assert after.say(Register(0, 1, "a/x")) == [Regack(1, 1, 0)]


def test_a_connect_that_the_broker_refuses_leaves_the_notes_alone() -> None:
    world = World()
    world.join(clean=False)
    world.say(Register(0, 1, "a/b"), Disconnect())
    world.say(Connect(Flags(clean_session=True), 60, "dev"), peer="2")
    world.session.receiver.on_refused(0x87)
    assert world.notebook.topics("dev") == {1: "a/b"}
    assert world.notebook.read("dev").stage is Stage.AWAY


def _note_with_will(world: World) -> Note:
    world.join(clean=False)
    note = world.notebook.read("dev")
    assert note is not None
    return replace(note, will=Will("w", b"x"))


# -- what is kept before it is said ----------------------------------------------------------------


class SlowNotebook(MemoryNotebook):
    """Nothing is kept until `keep` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], None]] = []

    def when_kept(self, done: Callable[[], None]) -> None:
        self.waiting.append(done)

    def keep(self) -> None:
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done()


def test_a_device_hears_that_it_may_sleep_when_that_is_kept_and_hears_it_once() -> None:
    notebook = SlowNotebook()
    world = World(notebook=notebook)
    world.join(clean=False)
    assert world.say(Disconnect(60)) == []
    assert world.say(Disconnect(60)) == []
    notebook.keep()
    assert world.hear() == [Disconnect()]


def test_who_has_come_back_meanwhile_is_not_told_to_sleep() -> None:
    notebook = SlowNotebook()
    world = World(notebook=notebook)
    world.join(clean=False)
    world.say(Disconnect(60))
    assert world.say(Connect(Flags(clean_session=False), 60, "dev")) == [Connack(0)]
    notebook.keep()
    assert world.hear() == []


def test_another_will_is_confirmed_when_it_is_kept() -> None:
    notebook = SlowNotebook()
    world = World(notebook=notebook)
    world.join(clean=False)
    assert world.say(WillTopicUpd(Flags(qos=1), "will")) == []
    notebook.keep()
    assert world.hear() == [WillTopicResp(0)]
    assert world.say(WillMsgUpd(b"gone")) == []
    notebook.keep()
    assert world.hear() == [WillMsgResp(0)]
