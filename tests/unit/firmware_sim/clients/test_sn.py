"""The MQTT-SN device as a machine for datagrams: with a scripted gateway, with the real one over a
lossy pipe, and with rubbish.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.mqttsn.codes import Flags, ReturnCode
from bridges.mqttsn.decode import decode
from bridges.mqttsn.encode import encode
from bridges.mqttsn.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Regack,
    Register,
    Suback,
    Subscribe,
)
from bridges.serial.frames import Channel
from bridges.serial.link import LinkSettings
from firmware_sim.clients.client import Acknowledged, Arrived, Collected, Down, Failed, Message, Up
from firmware_sim.clients.framed import FramedClient, FramedSettings
from firmware_sim.clients.sn import SnClient, SnSettings, State
from firmware_sim.clients.unframed import raw_client, slip_client
from tests.unit.mqttsn.engine_world import EngineWorld


class Desk:
    """A device and a gateway that says what the test says."""

    def __init__(self, **sn: Any) -> None:
        self.now = 100.0
        self.client = SnClient(SnSettings("dev", **sn), Random(1))

    def hear(self) -> list[Packet]:
        return [decode(data) for data in self.client.datagrams(self.now)]

    def say(self, *packets: Packet) -> list[Packet]:
        for packet in packets:
            self.client.receive_datagram(encode(packet), self.now)
        return self.hear()

    def pass_time(self, seconds: float) -> list[Packet]:
        end, heard = self.now + seconds, []
        while (when := self.client.next_deadline()) is not None and when <= end:
            self.now = max(self.now, when)
            self.client.tick(self.now)
            heard += self.hear()
        self.now = end
        return heard

    def connected(self) -> Desk:
        self.client.connect(self.now)
        (connect,) = self.hear()
        assert isinstance(connect, Connect)
        assert self.say(Connack(0)) == []
        assert list(self.client.take_events()) == [Up()]
        return self

    def publish(self, topic: str = "a/b", qos: int = 1, token: int = 1) -> bool:
        return self.client.publish(Message(topic, b"x", qos), token, self.now)

    def registered(self, qos: int = 1) -> Publish:
        """Publish, with the registration; return what was sent."""
        assert self.publish(qos=qos)
        (register,) = self.hear()
        assert isinstance(register, Register)
        (sent,) = self.say(Regack(9, register.msg_id, 0))
        assert isinstance(sent, Publish)
        return sent


def test_a_connect_is_repeated_and_then_rests_longer_and_longer() -> None:
    desk = Desk()
    desk.client.connect(desk.now)
    heard = desk.hear() + desk.pass_time(3600)
    assert all(isinstance(packet, Connect) for packet in heard)
    assert 5 * 5 < len(heard) < 3600 / 10 / 2
    assert desk.say(Connack(0)) == [] or desk.client.is_up


@pytest.mark.parametrize("code", [ReturnCode.CONGESTION, ReturnCode.NOT_SUPPORTED, 99])
def test_a_refusal_is_told_and_tried_again_after_t_wait(code: int) -> None:
    desk = Desk(t_wait=300.0)
    desk.client.connect(desk.now)
    desk.hear()
    assert desk.say(Connack(code)) == []
    (down,) = desk.client.take_events()
    assert isinstance(down, Down)
    assert down.why.startswith("refused: ")
    assert desk.pass_time(200) == []
    assert isinstance(desk.pass_time(101)[0], Connect)


def test_a_publish_is_repeated_with_dup_and_the_same_id() -> None:
    desk = Desk().connected()
    sent = desk.registered()
    again = desk.pass_time(10.0)
    assert again == [Publish(sent.flags._replace(dup=True), 9, sent.msg_id, b"x")]
    desk.say(Puback(9, sent.msg_id, 0))
    assert list(desk.client.take_events()) == [Acknowledged(1)]
    assert desk.client.is_idle


def test_qos_2_goes_through_its_four_steps_and_repeats_the_third() -> None:
    desk = Desk().connected()
    sent = desk.registered(qos=2)
    assert desk.say(Pubrec(sent.msg_id)) == [Pubrel(sent.msg_id)]
    assert desk.pass_time(10.0) == [Pubrel(sent.msg_id)]
    assert list(desk.client.take_events()) == []
    desk.say(Pubcomp(sent.msg_id))
    assert list(desk.client.take_events()) == [Acknowledged(1)]


def test_a_gateway_that_does_not_answer_is_left_and_the_message_is_kept() -> None:
    desk = Desk(clean_session=False).connected()
    sent = desk.registered()
    heard = desk.pass_time(10.0 * 5 + 1)
    assert [type(packet) for packet in heard] == [Publish] * 4 + [Connect]
    (down,) = desk.client.take_events()
    assert isinstance(down, Down)
    (register,) = desk.say(Connack(0))
    (again,) = desk.say(Regack(5, register.msg_id, 0))
    assert again == Publish(sent.flags._replace(dup=True), 5, sent.msg_id, b"x")


def test_a_number_that_the_gateway_has_forgotten_is_asked_for_again_a_few_times() -> None:
    desk = Desk().connected()
    sent = desk.registered()
    for topic_id in (10, 11, 12):
        (register,) = desk.say(Puback(sent.topic_id, sent.msg_id, ReturnCode.INVALID_TOPIC_ID))
        (sent,) = desk.say(Regack(topic_id, register.msg_id, 0))
        assert sent.topic_id == topic_id
    assert desk.say(Puback(sent.topic_id, sent.msg_id, ReturnCode.INVALID_TOPIC_ID)) == []
    (failed,) = desk.client.take_events()
    assert isinstance(failed, Failed)


def test_a_congested_gateway_gets_the_message_later_and_a_refusal_is_final() -> None:
    desk = Desk(t_wait=60.0, keep_alive=0).connected()
    sent = desk.registered()
    assert desk.say(Puback(9, sent.msg_id, ReturnCode.CONGESTION)) == []
    assert desk.pass_time(59.0) == []
    assert len(desk.pass_time(1.0)) == 1
    desk.say(Puback(9, sent.msg_id, ReturnCode.NOT_SUPPORTED))
    assert list(desk.client.take_events()) == [Failed(1, "refused: not supported")]


def test_a_topic_that_cannot_be_registered_fails_its_messages_only() -> None:
    desk = Desk().connected()
    desk.publish("bad/1", token=1)
    desk.publish("bad/1", token=2)
    desk.publish("good/1", token=3)
    (register,) = desk.hear()
    (other,) = desk.say(Regack(0, register.msg_id, ReturnCode.NOT_SUPPORTED))
    assert other == Register(0, other.msg_id, "good/1")
    assert [event.token for event in desk.client.take_events()] == [1, 2]


def test_the_device_has_room_for_so_many_topics() -> None:
    desk = Desk(topics=1).connected()
    desk.registered(qos=0)
    desk.publish("c/d", token=2)
    (register,) = desk.hear()
    desk.say(Regack(10, register.msg_id, 0))
    assert desk.client.take_events()[-1] == Failed(2, "no room for another topic")
    assert desk.say(Register(11, 1, "e/f")) == [Regack(11, 1, ReturnCode.CONGESTION)]


def test_messages_of_one_topic_stay_in_order_when_the_first_is_refused() -> None:
    desk = Desk(window=2).connected()
    first = desk.registered()
    desk.publish(token=2)
    (second,) = desk.hear()
    (register,) = desk.say(Puback(9, first.msg_id, ReturnCode.INVALID_TOPIC_ID))
    assert isinstance(register, Register)
    heard = desk.say(Regack(10, register.msg_id, 0))
    assert [packet.msg_id for packet in heard] == [first.msg_id]
    assert second.msg_id != first.msg_id


def test_no_message_overtakes_one_whose_topic_has_no_number_yet() -> None:
    desk = Desk(window=4, keep_alive=0).connected()
    desk.say(Puback(9, desk.registered().msg_id, 0))
    desk.publish("new/x", token=2)
    desk.publish("a/b", token=3)
    (register,) = desk.hear()
    first, second = desk.say(Regack(10, register.msg_id, 0))
    assert (first.topic_id, second.topic_id) == (10, 9)


def test_a_device_that_collects_is_patient_as_long_as_messages_come() -> None:
    desk = Desk(clean_session=False).connected()
    desk.say(Register(3, 1, "in/x"))
    desk.client.sleep(600.0, desk.now)
    assert desk.hear() == [Disconnect(600)]
    desk.say(Disconnect())
    desk.client.wake(desk.now)
    assert desk.hear() == [Pingreq("dev")]
    for number in range(20):
        assert set(map(type, desk.pass_time(12.0))) == {Pingreq}
        desk.say(Publish(Flags(), 3, 0, bytes((number,))))
    desk.pass_time(12.0)
    assert desk.say(Pingresp()) == []
    assert desk.client.take_events()[-1] == Collected()


def test_a_device_that_collects_gives_up_on_a_gateway_that_is_silent() -> None:
    desk = Desk(clean_session=False).connected()
    desk.client.sleep(600.0, desk.now)
    desk.hear()
    desk.say(Disconnect())
    desk.client.wake(desk.now)
    heard = desk.hear() + desk.pass_time(51.0)
    assert [type(packet) for packet in heard] == [Pingreq] * 5 + [Connect]


def test_a_subscription_is_made_again_after_a_loss() -> None:
    desk = Desk().connected()
    desk.client.subscribe("a/+", 1, desk.now)
    (subscribe,) = desk.hear()
    assert subscribe == Subscribe(Flags(qos=1), subscribe.msg_id, "a/+")
    desk.say(Suback(Flags(qos=1), 0, subscribe.msg_id, 0))
    desk.say(Disconnect())
    (again,) = desk.say(Connack(0))
    assert isinstance(again, Subscribe)


def test_what_comes_twice_at_qos_2_is_told_once() -> None:
    desk = Desk().connected()
    desk.say(Register(3, 1, "in/x"))
    publish = Publish(Flags(qos=2), 3, 44, b"once")
    assert desk.say(publish, publish) == [Pubrec(44), Pubrec(44)]
    assert desk.say(Pubrel(44)) == [Pubcomp(44)]
    assert list(desk.client.take_events()) == [Arrived(Message("in/x", b"once", 2))]
    assert desk.say(publish) == [Pubrec(44)]


def test_an_unknown_number_is_refused() -> None:
    desk = Desk().connected()
    heard = desk.say(Publish(Flags(qos=1), 77, 5, b"?"))
    assert heard == [Puback(77, 5, ReturnCode.INVALID_TOPIC_ID)]
    assert list(desk.client.take_events()) == []


def test_a_device_that_only_talks_notices_that_nobody_listens() -> None:
    desk = Desk(keep_alive=60).connected()
    desk.registered(qos=0)
    desk.client.take_events()
    for _ in range(200):
        desk.publish(qos=0)
        heard = desk.hear()
        heard += desk.pass_time(1.0)
        if any(isinstance(packet, Connect) for packet in heard):
            break
    assert [e for e in desk.client.take_events() if isinstance(e, Down)]


def test_pings_keep_the_connection_and_are_repeated_when_lost() -> None:
    desk = Desk(keep_alive=60).connected()
    heard = desk.pass_time(54.0)
    assert heard == [Pingreq()]
    heard = desk.pass_time(40.0)
    assert heard == [Pingreq()] * 4
    assert isinstance(desk.pass_time(10.0)[0], Connect)


class UdpDevice:
    """As the devices of an EngineWorld are."""

    def __init__(self, client_id: str, seed: int, **sn: Any) -> None:
        self.client_id = client_id
        self.client = SnClient(SnSettings(client_id, t_wait=60.0, **sn), Random(seed))
        self.receive = self.client.receive_datagram
        self.datagrams = self.client.datagrams
        self.next_deadline = self.client.next_deadline
        self.tick = self.client.tick


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("qos", [1, 2])
def test_datagrams_that_are_lost_and_doubled_lose_and_double_no_message(
    seed: int, qos: int
) -> None:
    world = EngineWorld(seed, loss=0.2, doubling=0.1)
    ends = [UdpDevice(name, seed, clean_session=False) for name in ("here", "there")]
    for device in ends:
        world.devices[device.client_id] = device  # type: ignore[assignment]
        device.client.connect(world.now)
    here, there = (device.client for device in ends)
    there.subscribe("a/#", qos, world.now)
    world.run_until(lambda: here.is_up and there.is_up and there.is_idle)
    for number in range(30):
        here.publish(Message("a/b", bytes((number,)), qos), number, world.now)
        world.run(30.0)
    world.run_until(lambda: here.is_idle)
    world.run(600.0)
    got = [e.message.payload[0] for e in there.take_events() if isinstance(e, Arrived)]
    assert (got if qos == 2 else list(dict.fromkeys(got))) == list(range(30))


junk = st.lists(st.binary(max_size=80), max_size=20)


@settings(max_examples=100)
@given(datagrams=junk)
def test_rubbish_in_datagrams_does_no_harm(datagrams: list[bytes]) -> None:
    desk = Desk().connected()
    for data in datagrams:
        desk.client.receive_datagram(data, desk.now)
        desk.hear()
    desk.pass_time(600.0)
    assert desk.client.state is not State.OFF


_KINDS = st.sampled_from([4, 5, 6, 8, 0xA, 0xB, 0xC, 0xD, 0xE, 0xF, 0x10, 0x13, 0x15, 0x16, 0x17])


@settings(max_examples=150)
@given(packets=st.lists(st.tuples(_KINDS, st.binary(max_size=9)), max_size=30))
def test_well_formed_nonsense_does_no_harm(packets: list[tuple[int, bytes]]) -> None:
    desk = Desk(clean_session=False).connected()
    desk.publish(qos=2)
    for kind, body in packets:
        desk.client.receive_datagram(bytes((len(body) + 2, kind)) + body, desk.now)
        desk.hear()
        desk.pass_time(1.0)
    assert desk.client.next_deadline() is not None


@settings(max_examples=60)
@given(data=junk, mode=st.sampled_from(["framed", "raw", "slip"]))
def test_rubbish_on_the_wire_does_no_harm(data: list[bytes], mode: str) -> None:
    rng = Random(1)
    client: Any = {
        "framed": lambda: FramedClient(FramedSettings(SnSettings("d"), LinkSettings()), rng),
        "raw": lambda: raw_client(SnSettings("d"), rng),
        "slip": lambda: slip_client(SnSettings("d"), rng),
    }[mode]()
    client.plugged(0.0)
    client.connect(0.0)
    now = 0.0
    for piece in data:
        if piece:
            client.receive(piece, now)
        assert len(client.data_to_send()) < 10_000
        now += 0.3
        if (when := client.next_deadline()) is not None and when <= now:
            client.tick(now)


def test_a_gateway_that_takes_little_gets_no_more_than_that() -> None:
    client = FramedClient(FramedSettings(SnSettings("d"), LinkSettings()), Random(1))
    client.publish(Message("a/b", bytes(500), 1), 1, 0.0)
    client.publish(Message("a/b", bytes(20), 1), 2, 0.0)
    client.sn.fit(48)
    assert list(client.take_events()) == [Failed(1, "larger than the gateway takes")]
    assert client.link.writable(Channel.MQTT_SN) > 0
