"""Discovery, forwarders, and who may be whom."""

from random import Random

import pytest

from bridges.mqttsn.admission import Rule, Rules
from bridges.mqttsn.codes import Flags, MessageType, ReturnCode
from bridges.mqttsn.encode import encode
from bridges.mqttsn.notebook import MemoryNotebook
from bridges.mqttsn.packets import (
    Advertise,
    Connack,
    Connect,
    Disconnect,
    Encapsulated,
    GwInfo,
    Pingreq,
    Pingresp,
    Publish,
    SearchGw,
)
from bridges.mqttsn.policy import same_host
from bridges.mqttsn.ports import Address, Datagram, Identity, Message, Note, Stage
from bridges.mqttsn.states import PERMITTED, State
from tests.unit.mqttsn.vectors import UNREADABLE, VECTORS
from tests.unit.mqttsn.world import World

CLEAN = Connect(Flags(clean_session=True), 60, "dev")


def test_whoever_searches_a_gateway_finds_it() -> None:
    assert World(gateway_id=7).say(SearchGw(2)) == [GwInfo(7)]


def test_the_gateway_advertises_itself_to_everybody() -> None:
    world = World(t_adv=900, gateway_id=7)
    for _ in range(3):
        world.gateway.tick(world.now)
        sent = world.gateway.data_to_send(world.now)
        assert sent == [Datagram(None, encode(Advertise(7, 900)))]
        world.gateway.tick(world.now + 899)
        assert world.gateway.data_to_send(world.now) == []
        world.now += 900


def test_other_gateways_are_counted_and_not_answered() -> None:
    world = World()
    assert world.say(Advertise(9, 900), GwInfo(9), Pingresp(), Disconnect()) == []
    assert world.counts == {"another gateway": 2, "unknown sender": 2}


def test_devices_behind_a_forwarder_are_told_apart() -> None:
    world = World()
    for node in (b"\1", b"\2\3"):
        connect = Connect(Flags(clean_session=True), 60, f"dev{node.hex()}")
        world.say(Encapsulated(1, node, encode(connect)), peer="radio")
        world.session.receiver.on_opened(False)
        assert world.hear("radio") == [Encapsulated(0, node, encode(Connack(0)))]
    world.broker.sessions[0].receiver.on_publish(Message("ab", b"x"))
    [sent] = world.hear("radio")
    assert isinstance(sent, Encapsulated)
    assert sent.node_id == b"\1"
    assert str(Address("radio", b"\2\3")) == "radio/0203"


def test_a_forwarder_within_a_forwarder_is_refused() -> None:
    world = World()
    inner = encode(Encapsulated(0, b"\1", encode(CLEAN)))
    assert world.say(Encapsulated(0, b"\2", inner)) == []
    assert world.counts == {"unreadable: a forwarder's header within another": 1}


def test_a_client_id_in_use_cannot_be_claimed_from_elsewhere() -> None:
    world = World()
    session = world.join(peer="1")
    assert world.say(CLEAN, peer="2") == [Connack(ReturnCode.CONGESTION)]
    assert world.say(Pingreq("dev"), peer="2") == [Disconnect()]
    assert world.counts == {"claims another device's client id": 2}
    assert session.closed is None
    assert world.say(Pingreq(), peer="1") == [Pingresp()]


def test_who_sleeps_is_not_woken_by_another() -> None:
    world = World()
    world.join("dev", peer="1")
    world.join("other", peer="2")
    world.say(Disconnect(600), peer="1")
    world.broker.sessions[0].receiver.on_publish(Message("ab", b"secret", 1, msg_id=1))
    assert world.say(Pingreq("dev"), peer="2") == [Disconnect()]
    assert world.device("1").state is State.ASLEEP
    assert world.device("2").state is State.ACTIVE


def test_on_udp_a_device_may_come_from_another_port_of_its_host() -> None:
    world = World(may_move=same_host)
    session = world.join(peer="10.0.0.1:1000", clean=False)
    world.say(Disconnect(600), peer="10.0.0.1:1000")
    session.receiver.on_publish(Message("ab", b"x"))
    assert len(world.say(Pingreq("dev"), peer="10.0.0.1:2000")) == 1
    assert world.say(CLEAN, peer="10.0.0.2:1000") == [Connack(ReturnCode.CONGESTION)]
    assert len(world.say(Connect(Flags(), 60, "dev"), peer="10.0.0.1:3000")) == 1
    assert len(world.broker.sessions) == 1
    assert [str(device.address) for device in world.gateway.devices] == ["10.0.0.1:3000"]


def test_another_device_at_an_address_takes_the_place_of_the_one_before() -> None:
    world = World(max_devices=1)
    session = world.join("old")
    world.join("new")
    assert session.closed is True
    assert [device.client_id for device in world.gateway.devices] == ["new"]


@pytest.mark.parametrize("frame", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_unreadable_is_counted_and_harms_nobody(frame: bytes) -> None:
    world = World()
    world.join()
    world.gateway.receive(frame, world.now, "1")
    assert world.hear() == []
    assert sum(world.counts.values()) == 1
    assert world.say(Pingreq()) == [Pingresp()]


@pytest.mark.parametrize("state", [state for state in State if state is not State.GONE])
def test_every_message_in_every_state_is_permitted_or_counted(state: State) -> None:
    for vector in VECTORS:
        world = World(t_retry=1)
        bring_to(world, state)
        device = world.device()
        assert device.state is state
        if type(vector.packet) in PERMITTED[state] or isinstance(vector.packet, Encapsulated):
            continue
        device.receive(vector.packet, world.now)
        assert world.counts == {"out of turn": 1}
        assert device.state is state


@pytest.mark.parametrize("state", [state for state in State if state is not State.GONE])
def test_every_message_cut_or_with_every_length_or_type_is_survived(state: State) -> None:
    world = World()
    frames = [vector.frame for vector in VECTORS if len(vector.frame) < 300]
    for frame in frames:
        bad = [frame[:size] for size in range(len(frame))]
        bad += [bytes([length]) + frame[1:] for length in range(256)]
        bad += [frame[:1] + bytes([kind]) + frame[2:] for kind in [*MessageType, 3, 17, 200]]
        for each in bad:
            if world.device() is None:
                bring_to(world, state)
            world.gateway.receive(each, world.now, "1")
            world.hear()
    assert len(list(world.gateway.devices)) <= 1


def test_answers_for_a_link_that_takes_none_are_bounded() -> None:
    world = World(max_control=10)
    for _ in range(100):
        world.gateway.receive(encode(SearchGw(0)), world.now, "1")
    assert len(world.hear()) == 10
    assert world.counts == {"answer dropped: the link is too slow": 90}


def test_a_thousand_claimants_leave_nothing_behind() -> None:
    world = World(max_devices=10)
    rng = Random(3)
    for n in range(1000):
        flags = Flags(will=rng.random() < 0.5, clean_session=rng.random() < 0.5)
        world.say(Connect(flags, 10, f"dev{n}"), peer=str(n))
        for session in world.broker.sessions:
            if session.closed is None:
                session.take()
    assert len(list(world.gateway.devices)) == 10
    world.pass_time(1000)
    assert list(world.gateway.devices) == []
    assert world.gateway.next_deadline() is None
    assert list(world.notebook.notes()) == []


def test_rules_say_who_a_device_is_to_the_broker() -> None:
    rules = Rules(
        [
            Rule("pump-*", "radio/*", "plant/{client_id}", "pumps", b"secret"),
            Rule("*", "usb*", "{address}-{client_id}", "{client_id}"),
        ]
    )
    assert rules.admit(Address("radio", b"\1"), "pump-1") == Identity(
        "plant/pump-1", "pumps", b"secret"
    )
    assert rules.admit(Address("usb0"), "{address}") == Identity("usb0-{address}", "{address}")
    assert rules.admit(Address("radio"), "pump-1") is ReturnCode.NOT_SUPPORTED


def test_unknown_devices_are_quarantined_until_they_are_accepted() -> None:
    rules = Rules(approval=True, unconnected=Identity("gateway"), most_quarantined=2)
    world = World(rules)
    for _ in range(2):
        assert world.say(CLEAN) == [Connack(ReturnCode.CONGESTION)]
    assert rules.quarantine["dev"].attempts == 2
    assert rules.quarantine["dev"].address == Address("1")
    assert world.say(Publish(Flags(qos=-1, topic_id_type=2), 0x6162, 0, b"x")) == []
    assert world.broker.sessions == []
    rules.accept("dev", Address("1"))
    assert world.say(CLEAN, peer="2") == [Connack(ReturnCode.CONGESTION)]
    world.join()
    world.say(Disconnect())
    rules.reject("dev")
    assert world.say(CLEAN) == [Connack(ReturnCode.NOT_SUPPORTED)]


def test_a_device_is_accepted_from_places_that_fit_a_pattern() -> None:
    rules = Rules(approval=True, unconnected=Identity("gateway"))
    for client_id, pattern in (("any", "10.0.0.?:*"), ("six", "[::1]:5"), ("radio", "usb/*")):
        rules.accept(client_id, pattern)
    for client_id, address in (
        ("any", Address("10.0.0.7:4000")),
        ("six", Address("[::1]:5")),
        ("radio", Address("usb", b"\7")),
    ):
        assert rules.admit(address, client_id) == Identity(client_id)
        assert rules.admit(Address("10.0.1.7:4000"), client_id) is ReturnCode.CONGESTION
        assert rules.admit_unconnected(address) == Identity("gateway")
    assert rules.admit_unconnected(Address("10.0.1.7:4000")) is None
    rules.undecide("any")
    assert rules.admit(Address("10.0.0.7:4000"), "any") is ReturnCode.CONGESTION


def test_a_rejected_device_is_a_stranger_again_when_it_is_forgotten() -> None:
    rules = Rules()
    rules.reject("dev")
    assert rules.admit(Address("1"), "dev") is ReturnCode.NOT_SUPPORTED
    rules.undecide("dev")
    assert rules.admit(Address("1"), "dev") == Identity("dev")


def test_an_expelled_device_hears_of_it_and_its_will_is_published() -> None:
    world = World()
    world.join()
    assert world.gateway.expel("dev")
    assert world.hear() == [Disconnect()]
    assert world.broker.sessions[-1].closed is True
    assert list(world.gateway.devices) == []
    assert not world.gateway.expel("dev")


def test_who_says_connect_and_no_more_keeps_nobody_out() -> None:
    world = World(max_devices=3)
    world.join("here", "here")
    for number in range(10):
        world.say(Connect(Flags(will=True), 60, f"dev{number}"), peer=f"{number}")
    world.join("new", "new")
    assert {device.client_id for device in world.gateway.devices} == {"here", "dev9", "new"}
    world.join("newer", "newer")
    refused = world.say(Connect(Flags(), 60, "one too many"), peer="late")
    assert refused == [Connack(ReturnCode.CONGESTION)]
    assert {device.client_id for device in world.gateway.devices} == {"here", "new", "newer"}


def test_a_password_is_not_shown_by_accident() -> None:
    rule = Rule(username="u", password=b"secret")
    assert "secret" not in repr((rule, rule.identity(Address("1"), "dev")))


def test_the_quarantine_is_bounded() -> None:
    rules = Rules(approval=True, most_quarantined=3)
    for n in range(100):
        rules.admit(Address("1"), f"dev{n}")
    assert list(rules.quarantine) == ["dev97", "dev98", "dev99"]


def test_the_notebook_forgets_those_longest_away() -> None:
    notebook = MemoryNotebook(most=2)
    for n in range(4):
        notebook.write(Note(f"dev{n}", Address("1"), Stage.AWAY, False, 60))
    notebook.write(Note("here", Address("1"), Stage.ACTIVE, False, 60))
    assert [note.client_id for note in notebook.notes()] == ["dev2", "dev3", "here"]


def test_alarms_of_devices_that_have_gone_are_let_go_although_one_is_always_due_before_them() -> (
    None
):
    world = World()
    world.join("here", "here", keep_alive=60)
    for _ in range(10):
        for n in range(50):
            world.join(f"dev{n}", f"{n}", keep_alive=65_535)
        world.pass_time(31)
        assert world.say(Pingreq(), peer="here") == [Pingresp()]
        for n in range(50):
            world.say(Disconnect(), peer=f"{n}")
    assert len(world.gateway._alarms) < 200
    world.pass_time(95)
    assert world.device("here") is None


def bring_to(world: World, state: State) -> None:
    """A device "dev" at "1" in that state."""
    flags = Flags(will=state in (State.AWAITING_WILLTOPIC, State.AWAITING_WILLMSG))
    world.say(Connect(flags, 60, "dev"))
    if state is State.AWAITING_WILLMSG:
        world.gateway.receive(b"\x04\x07\x00w", world.now, "1")
    if state in (State.ACTIVE, State.ASLEEP, State.AWAKE):
        world.session.receiver.on_opened(False)
    if state in (State.ASLEEP, State.AWAKE):
        world.say(Disconnect(600))
    if state is State.AWAKE:
        world.say(Pingreq("dev"))
    world.hear()
