"""What a listener at a device's end knows of it: each thing once, whatever is repeated."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.mqttsn.codes import Flags, ReturnCode
from bridges.mqttsn.encode import encode
from bridges.mqttsn.packets import (
    Connack,
    Connect,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)
from bridges.serial.frames import Channel
from bridges.serial.link import Link, LinkSettings
from firmware_sim.clients.client import Acknowledged, Arrived, Asleep, Down, Failed, Message, Up
from firmware_sim.clients.overheard import Overheard, Published

if TYPE_CHECKING:
    from bridges.mqttsn.packets import Packet
    from firmware_sim.clients.overheard import OverheardEvent

READING = b'{"seq":0,"temperature":21.4}'


class Wire:
    """A device's link and a gateway's, with the listener between them."""

    def __init__(self) -> None:
        self.listener = Overheard()
        self.device, self.gateway = Link(LinkSettings(), Random(1)), Link(LinkSettings(), Random(2))
        self.device.plugged(0.0)
        self.gateway.plugged(0.0)
        self.last = b""  # what the device has said last
        self.exchange()

    def exchange(self) -> None:
        for _ in range(4):
            if data := self.device.data_to_send():
                self.last = data
                self.listener.said(data)
                self.gateway.receive(data, 1.0)
            if data := self.gateway.data_to_send():
                self.listener.heard(data)
                self.device.receive(data, 1.0)

    def say(self, *packets: Packet) -> list[OverheardEvent]:
        """The device says something; what the listener makes of it."""
        return self._send(self.device, packets)

    def tell(self, *packets: Packet) -> list[OverheardEvent]:
        """The gateway does."""
        return self._send(self.gateway, packets)

    def _send(self, end: Link, packets: tuple[Packet, ...]) -> list[OverheardEvent]:
        for packet in packets:
            assert end.send(Channel.MQTT_SN, encode(packet), 1.0)
            self.exchange()
        return self.listener.take_events()


def published(
    msg_id: int = 7, qos: int = 1, *, dup: bool = False, data: bytes = READING
) -> Publish:
    return Publish(Flags(dup=dup, qos=qos), 1, msg_id, data)


def command(msg_id: int = 3, qos: int = 1) -> Publish:
    return Publish(Flags(qos=qos), 2, msg_id, b"do")


def test_a_message_is_handed_over_when_it_leaves_and_acknowledged_when_the_device_is_told() -> None:
    wire = Wire()
    assert wire.say(published()) == [Published(1, READING)]
    assert wire.tell(Puback(1, 7, ReturnCode.ACCEPTED)) == [Acknowledged(1)]
    assert wire.tell(Puback(1, 7, ReturnCode.ACCEPTED)) == []


def test_of_quality_0_it_is_the_other_sides_when_it_has_left() -> None:
    assert Wire().say(published(0, 0)) == [Published(1, READING), Acknowledged(1)]


def test_of_quality_2_the_last_answer_counts() -> None:
    wire = Wire()
    assert wire.say(published(qos=2)) == [Published(1, READING)]
    assert wire.tell(Pubrec(7)) == []
    assert wire.say(Pubrel(7)) == []
    assert wire.tell(Pubcomp(7)) == [Acknowledged(1)]


def test_what_the_link_repeats_is_heard_once() -> None:
    wire = Wire()
    assert len(wire.say(published(0, 0))) == 2
    wire.listener.said(wire.last)
    assert wire.listener.take_events() == []


@pytest.mark.parametrize("is_settled", [False, True])
def test_what_the_device_repeats_is_handed_over_once(is_settled: bool) -> None:
    wire = Wire()
    wire.say(published())
    if is_settled:  # the device has not heard that
        wire.tell(Puback(1, 7, ReturnCode.ACCEPTED))
    assert wire.say(published(dup=True)) == []


def test_an_id_that_comes_again_is_another_message() -> None:
    wire = Wire()
    wire.say(published())
    wire.tell(Puback(1, 7, ReturnCode.ACCEPTED))
    assert wire.say(published(data=b"other")) == [Published(2, b"other")]


@pytest.mark.parametrize("code", [ReturnCode.CONGESTION, ReturnCode.INVALID_TOPIC_ID])
def test_an_answer_that_asks_for_patience_settles_nothing(code: ReturnCode) -> None:
    wire = Wire()
    wire.say(published())
    assert wire.tell(Puback(1, 7, code)) == []
    assert wire.tell(Puback(1, 7, ReturnCode.ACCEPTED)) == [Acknowledged(1)]


def test_a_refusal_is_one() -> None:
    wire = Wire()
    wire.say(published())
    assert wire.tell(Puback(1, 7, ReturnCode.NOT_SUPPORTED)) == [Failed(1, "refused")]


def test_a_command_has_arrived_when_the_device_says_so() -> None:
    wire = Wire()
    assert wire.tell(command()) == []
    assert wire.say(Puback(2, 3, ReturnCode.CONGESTION)) == []
    assert wire.tell(command()) == []
    assert wire.say(Puback(2, 3, ReturnCode.ACCEPTED)) == [Arrived(Message("", b"do", 1))]
    assert wire.say(Puback(2, 3, ReturnCode.ACCEPTED)) == []


def test_commands_of_all_qualities_are_heard() -> None:
    wire = Wire()
    assert wire.tell(command(0, 0)) == [Arrived(Message("", b"do", 0))]
    wire.tell(command(qos=2))
    assert wire.say(Pubrec(3)) == [Arrived(Message("", b"do", 2))]


def test_it_is_up_when_the_gateway_says_so_and_down_when_it_connects_anew() -> None:
    wire = Wire()
    asks, answer = Connect(Flags(clean_session=True), 60, "c"), Connack(ReturnCode.ACCEPTED)
    assert wire.say(asks) == []
    assert wire.tell(Connack(ReturnCode.CONGESTION)) == [Down("refused")]
    assert wire.tell(answer, answer) == [Up(session_present=False)]
    assert wire.say(asks) == [Down("the device connected anew")]
    assert wire.say(Connect(Flags(), 60, "c")) == []
    assert wire.tell(answer) == [Up(session_present=True)]
    assert wire.tell(Disconnect()) == [Down("the gateway had lost it")]


def test_a_goodbye_to_one_that_goes_to_sleep_is_none() -> None:
    wire = Wire()
    wire.say(Connect(Flags(), 60, "c"))
    wire.tell(Connack(ReturnCode.ACCEPTED))
    assert wire.say(Disconnect(60)) == []
    assert wire.tell(Disconnect()) == [Asleep()]
    assert wire.say(published()) == [Published(1, READING)]
    assert wire.say(Connect(Flags(), 60, "c")) == []
    assert wire.tell(Connack(ReturnCode.ACCEPTED)) == [Up(session_present=True)]
    assert wire.tell(Disconnect()) == [Down("the gateway had lost it")]


def test_what_is_damaged_or_of_no_session_is_nothing() -> None:
    wire = Wire()
    wire.device.send(Channel.MQTT_SN, encode(published()), 1.0)
    data = wire.device.data_to_send()
    wire.listener.said(bytes((*data[:4], data[4] ^ 0x10, *data[5:])))
    assert wire.listener.take_events() == []
    stranger = Overheard()  # who has not heard how the session began
    stranger.said(data)
    assert stranger.take_events() == []


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=80)), max_size=10))
def test_whatever_comes_it_only_listens(pieces: list[tuple[bool, bytes]]) -> None:
    listener = Overheard()
    for is_said, data in pieces:
        (listener.said if is_said else listener.heard)(data + b"\0")
    assert all(isinstance(event, tuple) for event in listener.take_events())
