"""The C client against a scripted gateway, which is made from docs/serial-protocol.md by hand: what
the client does when the other end is slow, forgetful or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from bridges.mqttsn.codes import Flags
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
    Publish,
    Pubrec,
    Regack,
    Register,
    Suback,
    Subscribe,
    WillMsg,
    WillMsgReq,
    WillTopic,
    WillTopicReq,
)
from bridges.serial.files import FileMessage
from firmware_sim.firmware.compiled import CompiledDevice
from tests.support.mcu import built
from tests.unit.serial.tiny_device import crc, stuff, unstuff

MQTT_SN, FILES = 1, 4
DO, SAID, READING = 1, 2, 3  # the topic ids that this gateway gives
STEP = 0.01


@dataclass
class Frame:
    channel: int
    message: bytes


class Gateway:
    """Acknowledges every frame, and otherwise says what it is told to."""

    def __init__(self) -> None:
        self.device = CompiledDevice(built("host", "libhost.so"))
        self.now = 0.0
        self.nonce, self.theirs = 0x1234, 0
        self.sequence = self.expected = 0
        self.credit = 8
        self.is_acknowledging = True
        self.hellos: list[bytes] = []
        self.frames: list[Frame] = []
        self.device.plugged(0.0)
        self.pass_time(0.1)
        self.begin()

    def begin(self, is_open: int = 1) -> None:
        """Say HELLO to the device that is known; a new session if the nonce is new."""
        self.sequence = self.expected = 0
        self.hello(is_open)

    def hello(self, is_open: int) -> None:
        body = bytes((0, 0x10, 1, is_open)) + self.prefix(self.nonce, self.theirs)
        body += bytes((0, 8, 4, 0, 0, 0, 0, 0, 0, 0))
        self.put(body + crc(body).to_bytes(2, "big"))

    def say(self, packet: Packet, channel: int = MQTT_SN) -> None:
        self.send(channel, encode(packet))

    def send(self, channel: int, message: bytes) -> None:
        header = (channel << 5 | 0x10 | self.credit, self.sequence << 4 | self.expected)
        self.sequence = (self.sequence + 1) % 16
        self.seal(bytes(header) + message)

    def acknowledge(self) -> None:
        self.seal(bytes((self.credit, self.expected)))

    def hear(self, seconds: float = 0.1) -> list[Packet]:
        """The packets that come in that time."""
        self.frames.clear()
        self.pass_time(seconds)
        return [decode(frame.message) for frame in self.frames if frame.channel == MQTT_SN]

    def answer(self, packet: Packet, seconds: float = 0.1) -> list[Packet]:
        self.say(packet)
        return self.hear(seconds)

    def connected(self) -> Gateway:
        """Through all that comes first, up to the first thing it says."""
        assert [type(p) for p in self.hear()] == [Connect]
        assert self.answer(WillTopicReq()) == [WillTopic(Flags(qos=1), "plant/host/said")]
        assert self.answer(WillMsgReq()) == [WillMsg(b"gone")]
        [subscribe] = self.answer(Connack(0))
        assert isinstance(subscribe, Subscribe)
        assert subscribe.topic == "plant/host/do"
        [register] = self.answer(Suback(Flags(qos=2), DO, subscribe.msg_id, 0))
        assert isinstance(register, Register)
        return self

    def ready(self) -> Gateway:
        """It is up, has said so, and is told to be quiet for long."""
        self.connected()
        self.up = self.registered(SAID)
        self.say(Puback(SAID, self.up.msg_id, 0))
        [heard] = self.command(b"every 60000")
        assert isinstance(heard, Publish)
        self.answer(Puback(SAID, heard.msg_id, 0))
        reading = self.registered(READING)
        self.answer(Puback(READING, reading.msg_id, 0))
        return self

    def registered(self, topic_id: int) -> Publish:
        """Answer the REGISTER that has just come; the message behind it."""
        register = decode(self.frames[-1].message)
        assert isinstance(register, Register)
        [publish] = self.answer(Regack(topic_id, register.msg_id, 0))
        assert isinstance(publish, Publish)
        return publish

    def command(
        self, text: bytes, qos: int = 0, msg_id: int = 0, dup: bool = False
    ) -> list[Packet]:
        return self.answer(Publish(Flags(qos=qos, dup=dup), DO, msg_id, text))

    # -- the wire

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.now += STEP
            self.device.tick(self.now)
            for frame in self.device.data_to_send().split(b"\0"):
                if frame:
                    self.on_frame(unstuff(frame) or b"")

    def on_frame(self, data: bytes) -> None:
        body, check = data[:-2], int.from_bytes(data[-2:], "big")
        if body[:2] == b"\x00\x10":
            self.hellos.append(body[2:])
            self.theirs = int.from_bytes(body[4:6], "big")
            return
        assert crc(self.prefix(self.theirs, self.nonce) + body) == check
        if body[0] >> 5 and body[1] >> 4 == self.expected and self.is_acknowledging:
            self.expected = (self.expected + 1) % 16
            self.frames.append(Frame(body[0] >> 5, body[2:]))
            self.acknowledge()
        elif body[0] >> 5:
            self.frames.append(Frame(body[0] >> 5, body[2:]))

    def seal(self, body: bytes) -> None:
        check = crc(self.prefix(self.nonce, self.theirs) + body)
        self.put(body + check.to_bytes(2, "big"))

    def put(self, sealed: bytes) -> None:
        self.device.receive(b"\0" + stuff(sealed) + b"\0", self.now)

    @staticmethod
    def prefix(sender: int, receiver: int) -> bytes:
        return sender.to_bytes(2, "big") + receiver.to_bytes(2, "big")


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def test_what_is_not_answered_is_asked_again_with_dup_and_then_it_connects_anew(gateway):
    gateway.connected()
    first = gateway.registered(SAID)
    assert not first.flags.dup
    for _ in range(4):
        [again] = gateway.hear(10)
        assert again == Publish(Flags(qos=1, dup=True), SAID, first.msg_id, first.data)
    assert [type(packet) for packet in gateway.hear(10.2)] == [Connect]


def test_it_asks_to_be_let_in_for_as_long_as_it_takes(gateway):
    assert [type(packet) for packet in gateway.hear()] == [Connect]
    for _ in range(10):
        gateway.say(Connack(1))
        assert [type(packet) for packet in gateway.hear(10)] == [Connect]


def test_thrown_out_it_connects_and_takes_nothing_for_known(gateway):
    gateway.ready()
    assert [type(packet) for packet in gateway.answer(Disconnect())] == [Connect]
    gateway.answer(WillTopicReq())
    gateway.answer(WillMsgReq())
    [subscribe] = gateway.answer(Connack(0))
    assert isinstance(subscribe, Subscribe)
    [register] = gateway.answer(Suback(Flags(qos=2), DO, subscribe.msg_id, 0))
    assert isinstance(register, Register)


def test_a_new_session_of_the_link_begins_with_connect_and_not_with_what_was_under_way(gateway):
    gateway.ready()
    gateway.is_acknowledging = False
    gateway.command(b"say1 under way")
    gateway.is_acknowledging = True
    gateway.nonce += 1
    gateway.begin()
    assert [type(packet) for packet in gateway.hear(0.15)] == [Connect]


def test_of_qos_2_the_same_id_without_dup_is_another_message(gateway):
    gateway.ready()
    heard = gateway.command(b"say0 one", qos=2, msg_id=9)
    assert [type(packet) for packet in heard] == [Pubrec, Publish]
    assert gateway.command(b"say0 one", qos=2, msg_id=9, dup=True) == [Pubrec(9)]
    heard = gateway.command(b"say0 two", qos=2, msg_id=9)
    assert [type(packet) for packet in heard] == [Pubrec, Publish]


def test_a_topic_id_that_nobody_knows_is_refused(gateway):
    gateway.ready()
    answer = gateway.answer(Publish(Flags(qos=1), 99, 5, b"x"))
    assert answer == [Puback(99, 5, 2)]
    answer = gateway.answer(Register(77, 6, "plant/host/other"))
    assert answer == [Regack(77, 6, 3)]


def test_a_message_whose_id_is_refused_is_registered_again_but_not_for_ever(gateway):
    gateway.ready()
    [message] = gateway.command(b"say1 mine")
    for _ in range(4):
        assert isinstance(message, Publish)
        [register] = gateway.answer(Puback(SAID, message.msg_id, 2))
        assert isinstance(register, Register)
        message = gateway.registered(SAID)
    assert gateway.answer(Puback(SAID, message.msg_id, 2)) == []


def test_in_congestion_it_waits(gateway):
    gateway.ready()
    [message] = gateway.command(b"say1 mine")
    assert isinstance(message, Publish)
    assert gateway.answer(Puback(SAID, message.msg_id, 1), 8) == []
    [again] = gateway.hear(3)
    assert isinstance(again, Publish)
    assert again.data == b"mine"


def test_with_credit_0_it_is_silent_and_then_says_one_thing(gateway):
    gateway.ready()
    gateway.credit = 0
    gateway.acknowledge()
    gateway.command(b"say0 no room")
    assert gateway.hear(1) == []
    assert [type(packet) for packet in gateway.hear(2)] == [Publish]


def test_after_8_frames_without_acknowledgement_it_says_hello_and_then_goes_on(gateway):
    gateway.ready()
    gateway.is_acknowledging = False
    gateway.hellos.clear()
    gateway.command(b"say0 anybody")
    gateway.hear(1.5)
    assert not gateway.hellos
    gateway.hear(1.5)
    assert gateway.hellos
    gateway.is_acknowledging = True
    gateway.hello(1)
    assert [packet.data for packet in gateway.hear() if isinstance(packet, Publish)] == [b"anybody"]


def test_a_hello_that_is_not_open_is_answered_at_once(gateway):
    gateway.ready()
    gateway.hellos.clear()
    gateway.hello(0)
    gateway.pass_time(STEP)
    assert [hello[1] & 1 for hello in gateway.hellos] == [1]


def test_an_echo_makes_it_draw_another_nonce_before_it_is_open():
    gateway = Gateway.__new__(Gateway)
    gateway.__dict__.update(now=0.0, nonce=1, theirs=0, hellos=[], frames=[], credit=8)
    gateway.device = CompiledDevice(built("host", "libhost.so"))
    gateway.device.plugged(0.0)
    gateway.pass_time(0.1)
    before = gateway.nonce = gateway.theirs
    gateway.theirs = 0
    gateway.hello(0)
    gateway.pass_time(1)
    assert gateway.theirs not in (0, before)


def test_switched_on_into_a_session_from_before_its_reset_it_draws_another_nonce():
    gateway = Gateway.__new__(Gateway)
    gateway.__dict__.update(now=0.0, nonce=0x1234, hellos=[], frames=[], credit=8)
    before = Gateway().theirs  # it always begins with the same one
    gateway.device = CompiledDevice(built("host", "libhost.so"))
    gateway.device.plugged(0.0)
    gateway.theirs = before
    gateway.hello(is_open=2)  # used
    gateway.pass_time(0.1)
    assert gateway.theirs != before
    assert gateway.hellos[-1][1] & 1 == 0


def test_asleep_when_the_gateway_forgets_it_it_connects_and_sleeps_on(gateway):
    gateway.ready()
    [said] = gateway.command(b"sleep 5")
    assert isinstance(said, Publish)
    assert gateway.answer(Puback(SAID, said.msg_id, 0)) == [Disconnect(15)]
    gateway.say(Disconnect())
    gateway.pass_time(0.1)
    gateway.nonce += 1
    gateway.begin()
    assert [type(packet) for packet in gateway.hear()] == [Connect]
    gateway.answer(WillTopicReq())
    gateway.answer(WillMsgReq())
    [subscribe] = gateway.answer(Connack(0))
    assert isinstance(subscribe, Subscribe)
    gateway.answer(Suback(Flags(qos=2), DO, subscribe.msg_id, 0))
    up = gateway.registered(SAID)
    assert gateway.answer(Puback(SAID, up.msg_id, 0)) == [Disconnect(15)]


def test_collecting_it_asks_again_before_the_gateway_could_take_it_for_lost(gateway):
    gateway.ready()
    [said] = gateway.command(b"sleep 30")
    assert isinstance(said, Publish)
    gateway.answer(Puback(SAID, said.msg_id, 0))
    gateway.answer(Disconnect(), 0.05)
    [reading] = gateway.hear(30)
    assert isinstance(reading, Publish)
    assert gateway.answer(Puback(READING, reading.msg_id, 0)) == [Pingreq("host")]
    assert gateway.hear(9) == []
    assert gateway.hear(2) == [Pingreq("host")]  # of the 90 s that it has announced


def test_a_quiet_device_asks_whether_the_gateway_is_there(gateway):
    gateway.ready()
    assert gateway.hear(47.5) == []
    assert gateway.hear(1) == [Pingreq()]
    assert gateway.answer(Pingresp(), 5) == []
    [reading] = gateway.hear(10)
    assert isinstance(reading, Publish)
    gateway.say(Puback(READING, reading.msg_id, 0))
    assert gateway.hear(49) == [Pingreq()]
    assert gateway.hear(40) == [Pingreq()] * 4
    assert [type(packet) for packet in gateway.hear(10)] == [Connect]


def test_it_says_goodbye_shouts_without_a_connection_and_comes_back(gateway):
    gateway.ready()
    gateway.device.disconnect()
    assert gateway.hear() == [Disconnect()]
    gateway.say(Disconnect())
    assert gateway.hear(10) == []
    assert gateway.device.shout(b"help")
    assert gateway.hear(10) == [
        Publish(Flags(qos=-1, topic_id_type=2), int.from_bytes(b"hg", "big"), 0, b"help")
    ]
    gateway.device.connect()
    assert [type(packet) for packet in gateway.hear()] == [Connect]


def test_it_is_idle_when_nothing_is_open_on_any_level(gateway):
    gateway.ready()
    assert gateway.device.is_idle
    gateway.is_acknowledging = False
    [message] = gateway.command(b"say1 x")
    assert isinstance(message, Publish)
    assert not gateway.device.is_idle
    gateway.is_acknowledging = True
    gateway.hear(0.5)
    assert not gateway.device.is_idle  # the link is done, PUBACK is not there
    gateway.answer(Puback(SAID, message.msg_id, 0))
    assert gateway.device.is_idle


def test_a_chunk_at_another_place_is_answered_once(gateway):
    gateway.ready()
    gateway.send(FILES, bytes((FileMessage.OFFER, 3, 0, 0, 0, 100)) + bytes(32) + b"x")
    assert files(gateway) == [b"\x02\x03\0\0\0\0"]
    for _ in range(3):
        gateway.send(FILES, b"\x03\x03\0\0\0\x28" + bytes(8))
    assert files(gateway) == [b"\x02\x03\0\0\0\0"]
    gateway.send(FILES, b"\x03\x03\0\0\0\0HGFW" + bytes(30))
    assert files(gateway) == []
    gateway.send(FILES, b"\x03\x04\0\0\0\0HGFW")
    assert files(gateway) == [b"\x04\x04\x04"]


@pytest.mark.parametrize("name", [b".x", b"a/b", b"a\\b", b"a:b", b"a\x01", b"a|b", b"a\x7f"])
def test_a_file_whose_name_is_no_plain_one_is_refused(gateway, name):
    gateway.ready()
    gateway.send(FILES, bytes((FileMessage.OFFER, 3, 0, 0, 0, 100)) + bytes(32) + name)
    assert files(gateway) == [b"\x04\x03\x03"]


def files(gateway: Gateway) -> list[bytes]:
    """What it says of files now."""
    gateway.hear()
    return [frame.message for frame in gateway.frames if frame.channel == FILES]
