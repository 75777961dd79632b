"""A wire passes on what comes, by channel and by mode, and gives the wire no more than it takes."""

import json
import struct
from pathlib import Path
from random import Random

import pytest

from bridges.gateway.wire import HOLD_FROM, LOG_LINES, longest_payload
from bridges.mqttsn.codes import Flags
from bridges.mqttsn.decode import decode
from bridges.mqttsn.encode import encode
from bridges.mqttsn.packets import (
    Connack,
    Connect,
    Pingreq,
    Puback,
    Publish,
    Regack,
    Register,
    Subscribe,
)
from bridges.mqttsn.policy import Policy
from bridges.mqttsn.ports import Address, Message, Note, Stage
from bridges.serial.carrier import PortInfo
from bridges.serial.detection import LISTEN
from bridges.serial.frames import Channel
from bridges.serial.link import Link, State
from tests.unit.gateway.gateway_world import WireWorld

CONNECT = encode(Connect(Flags(clean_session=True), 60, "dev"))


def joined(world: WireWorld) -> None:
    world.send(Channel.MQTT_SN, CONNECT)
    world.side.broker.sessions[-1].receiver.on_opened(False)
    world.exchange()
    assert [decode(each) for each in world.take(Channel.MQTT_SN)] == [Connack(0)]


def test_a_device_joins_over_frames(tmp_path: Path) -> None:
    world = WireWorld(tmp_path)
    joined(world)
    assert [str(each.address) for each in world.wire.gateway.devices] == ["bench"]


@pytest.mark.parametrize("mode", ["mqtt-sn", "slip"])
def test_a_device_joins_without_frames(tmp_path: Path, mode: str) -> None:
    world = WireWorld(tmp_path, mode)
    world.say(CONNECT if mode == "mqtt-sn" else b"\xc0" + CONNECT + b"\xc0")
    world.side.broker.sessions[-1].receiver.on_opened(False)
    connack = encode(Connack(0))
    assert world.hear() == (connack if mode == "mqtt-sn" else b"\xc0" + connack + b"\xc0")


def test_a_reading_is_published_by_the_ports_own_client_and_let_go_by_its_ack(
    tmp_path: Path,
) -> None:
    world = WireWorld(tmp_path, "text", prefix="site/{port}/", retain=True)
    world.say(b"temp/1 21.5\n")
    session = world.side.broker.sessions[-1]
    assert session.opening.identity.client_id == "serial-bench"
    session.receiver.on_opened(False)
    assert session.take() == [("publish", Message("site/bench/temp/1", b"21.5", 1, True, 1))]
    session.receiver.on_closed()
    world.loop.run(2)
    again = world.side.broker.sessions[-1]
    assert again is not session
    again.receiver.on_opened(False)
    assert [asked.payload for _, asked in again.take()] == [b"21.5"]
    again.receiver.on_puback(2, 0)
    again.receiver.on_closed()
    world.loop.run(5)
    world.side.broker.sessions[-1].receiver.on_opened(False)
    assert world.side.broker.sessions[-1].take() == []


def test_of_a_device_that_babbles_few_lines_are_passed_on(tmp_path: Path) -> None:
    world = WireWorld(tmp_path, "text")
    world.say(b"Hello\n" * 100)
    session = world.side.broker.sessions[-1]
    session.receiver.on_opened(False)
    assert len(session.take()) == LOG_LINES
    assert world.wire.counts["log lines left out"] == 100 - LOG_LINES
    assert world.wire.log_lines == 100


def test_commands_go_to_the_device_as_lines(tmp_path: Path) -> None:
    world = WireWorld(tmp_path, "text", commands="to/#")
    session = world.side.broker.sessions[-1]
    session.receiver.on_opened(False)
    assert session.take() == [("subscribe", 1, "to/#", 1)]
    session.receiver.on_publish(Message("to/a", b"led on", 1, msg_id=5))
    session.receiver.on_publish(Message("to/a", b"two\nlines", 1, msg_id=6))
    assert world.hear() == b"led on\n"
    assert session.take() == [("puback", 5), ("puback", 6)]
    assert world.wire.counts["command of several lines"] == 1


def test_a_device_that_is_reset_again_and_again_does_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world = WireWorld(tmp_path)
    for number in range(100):
        world.device_link = Link(world.device_link.settings, Random(number + 10))
        world.device_link.plugged(world.loop.now)
        world.exchange()
    assert world.wire.link is not None
    assert world.wire.link.counters.restarts == 100
    assert caplog.text.count("firmware") == LOG_LINES


def test_the_log_channel_goes_to_the_log_topic(tmp_path: Path) -> None:
    world = WireWorld(tmp_path)
    world.send(Channel.LOG, b"one\ntwo")
    session = world.side.broker.sessions[-1]
    session.receiver.on_opened(False)
    told = [message for _, message in session.take()]
    assert [(each.topic, each.payload, each.qos) for each in told] == [
        ("serial/bench/log", b"one", 0),
        ("serial/bench/log", b"two", 0),
    ]


def test_a_device_that_asks_is_told_the_time(tmp_path: Path) -> None:
    world = WireWorld(tmp_path)
    (told,) = world.send(Channel.TIME, b"\x01\x2a")
    assert struct.unpack(">BBQ", told)[:2] == (2, 0x2A)
    shy = WireWorld(tmp_path, time=False)
    assert shy.send(Channel.TIME, b"\x01\x2a") == []


def test_nothing_is_given_to_a_link_that_is_not_open(tmp_path: Path) -> None:
    world = WireWorld(tmp_path)
    joined(world)
    world.wire.on_events(world.wire.machine.receive(b"", world.loop.now), world.loop.now)
    world.wire.on_unplugged("gone")
    assert world.wire.gateway.is_writable is False
    receiver = world.side.broker.sessions[-1].receiver
    for value in (b"1", b"2", b"3"):
        receiver.on_publish(Message("a1", value))
    assert world.wire.gateway.counts["QoS 0 replaced by a newer value"] == 2


def test_a_message_that_the_device_cannot_take_is_done_with_and_the_next_one_comes(
    tmp_path: Path,
) -> None:
    world = WireWorld(tmp_path, payload_limit=60)
    assert world.wire.gateway.longest_message == longest_payload(60) == 53
    joined(world)
    session = world.side.broker.sessions[-1]
    session.receiver.on_publish(Message("a1", b"x" * 54, 1, msg_id=1))
    session.receiver.on_publish(Message("a1", b"x" * 53, 1, msg_id=2))
    session.receiver.on_publish(Message("long/" * 12, b"x", 1, msg_id=3))
    world.exchange()
    (got,) = world.take(Channel.MQTT_SN)
    assert decode(got).msg_id == 2
    assert ("puback", 1) in session.take()
    world.send(Channel.MQTT_SN, encode(Puback(decode(got).topic_id, 2, 0)))
    assert session.take() == [("puback", 2), ("puback", 3)]


def test_a_wire_takes_up_the_devices_that_are_noted(tmp_path: Path) -> None:
    note = Note("dev", Address("bench"), Stage.ASLEEP, False, 60, 3600)
    world = WireWorld(tmp_path, notes=[note])
    (device,) = world.wire.gateway.devices
    assert (device.client_id, device.sleep) == ("dev", 3600)
    assert world.side.broker.sessions[0].opening.clean_session is False


def test_a_slow_wire_gets_no_more_than_it_can_send_soon(tmp_path: Path) -> None:
    world = WireWorld(tmp_path, path="/dev/ttyUSB0", baud=(9600,))
    joined(world)
    receiver = world.side.broker.sessions[-1].receiver
    for number in range(100):
        receiver.on_publish(Message(f"{number:02}", b"x" * 40))
    world.loop.run()
    sent = world.wire.machine.data_to_send()
    assert len(sent) <= 2 * 60 + 115_200 / 10 * 0.02
    assert world.wire.gateway.is_writable is False


def test_a_rate_that_was_found_by_hello_is_the_pace(tmp_path: Path) -> None:
    world = WireWorld(tmp_path, path="/dev/ttyUSB0", baud=(115_200, 9600))
    world.carrier.figures.baud = 9600
    world.device_link = Link(world.device_link.settings, Random(9))
    world.device_link.plugged(world.loop.now)
    world.exchange()
    world.loop.now += 1
    world.wire.on_events(world.wire.machine.tick(world.loop.now), world.loop.now)
    world.exchange()
    assert world.wire.link is not None
    assert world.wire.link.settings.rate == 960


def test_a_device_whose_answers_wait_is_held_and_goes_on_later(tmp_path: Path) -> None:
    world = WireWorld(tmp_path, "mqtt-sn", path="/dev/ttyUSB0")
    for _ in range(HOLD_FROM + 200):
        world.wire.gateway.receive(encode(Pingreq("nobody")), world.loop.now, "bench")
    world.wire.on_events((), world.loop.now)
    assert world.carrier.is_held
    world.hear()
    assert not world.carrier.is_held


def test_a_device_that_was_held_is_heard_when_it_is_plugged_in_again(tmp_path: Path) -> None:
    world = WireWorld(tmp_path, "auto", path="/dev/ttyUSB0")
    world.say(CONNECT)
    assert world.wire.mode == "mqtt-sn"
    for _ in range(HOLD_FROM + 200):
        world.wire.gateway.receive(encode(Pingreq("nobody")), world.loop.now, "bench")
    world.wire.on_events((), world.loop.now)
    assert world.carrier.is_held
    world.wire.on_unplugged("gone")
    assert not world.carrier.is_held


def test_a_command_that_came_while_the_port_was_closed_goes_out_when_it_is_open(
    tmp_path: Path,
) -> None:
    world = WireWorld(tmp_path, "text", commands="do")
    session = world.side.broker.sessions[-1]
    session.receiver.on_opened(False)
    world.wire.on_unplugged("gone")
    session.receiver.on_publish(Message("do", b"1", 1, msg_id=1))
    assert world.hear() == b""
    world.wire.on_plugged(PortInfo("/dev/pts/0", "key", 115_200))
    assert world.hear() == b"1\n"


def test_plain_mqtt_is_a_stream_and_another_connect_is_another_stream(tmp_path: Path) -> None:
    world = WireWorld(tmp_path, "mqtt")
    connect = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03dev"
    world.say(connect)
    world.say(b"\xc0\x00")
    (first,) = world.side.streams
    assert first.sent == connect + b"\xc0\x00"
    first.on_data(b"\xd0\x00")
    assert world.hear() == b"\xd0\x00"
    world.say(connect)
    assert first.is_closed
    assert world.side.streams[1].sent == connect
    world.wire.on_unplugged("gone")
    assert world.side.streams[1].is_closed


def test_plain_mqtt_waits_in_the_broker_when_the_wire_is_slow(tmp_path: Path) -> None:
    world = WireWorld(tmp_path, "mqtt", path="/dev/ttyUSB0")
    world.say(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03dev")
    (stream,) = world.side.streams
    stream.on_data(b"x" * 5000)
    assert stream.is_held
    assert world.hear() == b"x" * 5000
    assert not stream.is_held


def test_auto_finds_the_mode_and_forgets_it_when_unplugged(tmp_path: Path) -> None:
    world = WireWorld(tmp_path, "auto")
    world.loop.now += LISTEN / 2
    world.say(b"temp/1 21.5\n")
    assert world.wire.mode == "text"
    world.wire.on_unplugged("gone")
    assert world.wire.mode is None


def test_a_file_goes_to_the_device_and_its_progress_is_told(tmp_path: Path) -> None:
    world = WireWorld(tmp_path)
    progress: list[tuple[int, bool, str]] = []
    data = bytes(range(256)) * 4
    told = lambda each: progress.append((each.sent, each.is_done, each.text))  # noqa: E731
    assert world.wire.send_file("app.bin", data, told) == ""
    assert "another file" in world.wire.send_file("b", b"", told)
    world.exchange()
    (offer,) = world.take(Channel.FILES)
    assert offer.endswith(b"app.bin")
    world.send(Channel.FILES, b"\x02" + offer[1:2] + b"\0\0\0\0")
    world.exchange()
    world.send(Channel.FILES, b"\x04" + offer[1:2] + b"\0")
    assert progress == [(len(data), True, "done")]
    session = world.side.broker.sessions[-1]
    session.receiver.on_opened(False)
    ((_, message),) = session.take()
    assert (message.topic, json.loads(message.payload)["state"]) == ("serial/bench/file", "done")


def test_a_file_is_offered_again_when_the_device_was_reset(tmp_path: Path) -> None:
    world = WireWorld(tmp_path)
    world.wire.send_file("app.bin", b"x" * 100, lambda each: None)
    world.exchange()
    assert len(world.take(Channel.FILES)) == 1
    world.device_link = Link(world.device_link.settings, Random(9))
    world.device_link.plugged(world.loop.now)
    world.exchange()
    world.loop.now += 1
    world.wire.on_events(world.wire.machine.tick(world.loop.now), world.loop.now)
    world.exchange()
    assert world.device_link.state is State.OPEN
    assert len(world.take(Channel.FILES)) == 1


def test_a_file_that_does_not_move_is_given_up(tmp_path: Path) -> None:
    world = WireWorld(tmp_path)
    ends: list[str] = []
    world.wire.send_file("app.bin", b"x" * 100, lambda each: ends.append(each.text))
    world.exchange()
    for _ in range(13):
        world.loop.run(10.0)
    (end,) = ends
    assert "not answered" in end


def test_budget_spreads_messages_to_one_device_over_time(tmp_path: Path) -> None:
    world = WireWorld(tmp_path)
    gateway = world.wire.gateway
    gateway.policy = Policy(t_adv=0, device_rate=50)
    joined(world)
    receiver = world.side.broker.sessions[-1].receiver
    for number in range(4):
        receiver.on_publish(Message(f"0{number}", b"x" * 43))
    world.exchange()
    assert len(world.take(Channel.MQTT_SN)) == 1
    world.loop.run(1.01)
    world.exchange()
    assert len(world.take(Channel.MQTT_SN)) == 1
    assert world.send(Channel.MQTT_SN, encode(Pingreq()))  # answers are not held back


def test_what_is_out_of_turn_is_counted_and_harms_nothing(tmp_path: Path) -> None:
    world = WireWorld(tmp_path)
    joined(world)
    world.send(Channel.MQTT_SN, b"\x02\xfc")
    world.send(Channel.MQTT_SN, encode(Publish(Flags(qos=1), 999, 7, b"x")))
    world.send(Channel.RAW, b"anything")
    world.take(Channel.MQTT_SN)
    assert world.wire.counts["raw: nobody wants it"] == 1
    (answer,) = world.send(Channel.MQTT_SN, encode(Register(0, 3, "a/b")))
    assert isinstance(decode(answer), Regack)
    assert world.send(Channel.MQTT_SN, encode(Subscribe(Flags(), 4, "#"))) == []


@pytest.mark.parametrize("mode", ["mqtt-sn", "slip"])
def test_what_was_for_the_device_before_is_not_told_to_the_next(tmp_path: Path, mode: str) -> None:
    world = WireWorld(tmp_path, mode)
    wire, now = world.wire, world.loop.now
    wire.on_events(wire.machine.receive(b"", now), now)
    wire.on_unplugged("pulled")
    wire.gateway.receive(encode(Connect(Flags(will=True), 60, "before")), now, "bench")
    assert wire.gateway.answers == 1
    wire.machine.plugged(now)
    wire.on_plugged(PortInfo("/dev/pts/1", "key", 115_200))
    assert world.hear() == b""
    assert wire.gateway.answers == 0
