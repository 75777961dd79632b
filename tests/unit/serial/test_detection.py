"""Finding out how a device speaks, from whatever it happens to say first."""

from __future__ import annotations

from random import Random

import pytest

from bridges.serial.detection import HELD, LINES_ONLY, LISTEN, Detector
from bridges.serial.events import Event, LogLine, Reading, Received, Recognised
from bridges.serial.frames import Channel
from bridges.serial.link import Link
from bridges.serial.modes import Mode, slip
from tests.support.wire import Bench, Faults, Wire
from tests.unit.serial.link_world import DEVICE, HOST

CONNECT = bytes.fromhex("0a040c01003c74657374")
PINGREQ = bytes.fromhex("0216")
SEARCHGW = bytes.fromhex("030100")
QOS_MINUS_1 = bytes.fromhex("090c610001000031 32".replace(" ", ""))
MQTT_CONNECT = bytes.fromhex("100c00044d5154540402003c0000")
MQTT_5_CONNECT = bytes.fromhex("101000044d5154540502003c00000161") + b"xx"
SPOKEN = [
    (Mode.MQTT, MQTT_CONNECT),
    (Mode.MQTT, MQTT_5_CONNECT),
    (Mode.SLIP, slip(CONNECT)),
    (Mode.SLIP, slip(SEARCHGW)),
    (Mode.MQTT_SN, CONNECT),
    (Mode.MQTT_SN, SEARCHGW),
    (Mode.MQTT_SN, QOS_MINUS_1),
    (Mode.MQTT_SN, SEARCHGW + CONNECT),
    (Mode.TEXT, b"temp/1 21.5\r\n"),
    (Mode.TEXT, b"Booting ...\r\nversion 7\r\n"),
]


def detector() -> Detector:
    machine = Detector(Link(HOST, Random(1)))
    machine.plugged(0.0)
    return machine


def run_until(machine: Detector, until: float) -> tuple[list[Event], bytes]:
    """Let time pass; return what happened and what was written."""
    events, written = [], machine.data_to_send()
    while (deadline := machine.next_deadline()) is not None and deadline <= until:
        events += machine.tick(deadline)
        written += machine.data_to_send()
    return events, written


@pytest.mark.parametrize(("mode", "spoken"), SPOKEN)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_mode_is_recognised_and_nothing_is_lost(mode: Mode, spoken: bytes, size: int) -> None:
    machine = detector()
    events: list[Event] = []
    for at in range(0, len(spoken), size):
        events += machine.receive(spoken[at : at + size], 0.1)
    assert events[0] == Recognised(mode)
    assert machine.mode is mode
    assert len(events) > 1
    raw = b"".join(event.payload for event in events if isinstance(event, Received))
    if mode in {Mode.MQTT, Mode.MQTT_SN}:
        assert raw == spoken


def test_plain_mqtt_is_found_behind_the_noise_of_a_reset() -> None:
    machine = detector()
    assert machine.receive(b"\xfe\x00\xf0garbage\xff" + MQTT_CONNECT, 0.1) == [
        Recognised(Mode.MQTT),
        Received(Channel.RAW, MQTT_CONNECT),
    ]


def test_framed_is_recognised_by_a_hello() -> None:
    machine = detector()
    device = Link(DEVICE, Random(2))
    device.plugged(0.0)
    events = machine.receive(b"\x7fets Jun  8 2016\r\n" + device.data_to_send(), 0.1)
    assert events == [Recognised(Mode.FRAMED)]
    device.receive(machine.data_to_send(), 0.2)
    assert device.state.value == "open"


def test_a_framed_device_that_prints_while_it_boots_is_not_taken_for_text() -> None:
    machine = detector()
    machine.receive(b"wifi/0 ready\r\n", 0.1)
    assert machine.mode is Mode.TEXT
    device = Link(DEVICE, Random(2))
    device.plugged(0.2)
    assert machine.receive(device.data_to_send(), 0.2) == [Recognised(Mode.FRAMED)]


def test_a_framed_device_that_is_in_a_session_is_asked() -> None:
    rng = Random(3)
    machine, device = Detector(Link(HOST, Random(4))), Link(DEVICE, Random(5))
    other = Link(HOST, Random(6))
    bench = Bench(other, device, Wire(rng, Faults()), Wire(rng, Faults()))
    bench.plug()
    bench.run(1.0)
    bench.ends = (machine, device)  # the gateway is restarted
    machine.plugged(bench.now)
    bench.pump()
    bench.run(20.0, lambda: machine.mode is not None)
    assert machine.mode is Mode.FRAMED


def test_it_listens_before_it_speaks() -> None:
    _, written = run_until(detector(), LISTEN - 0.1)
    assert written == b""
    _, written = run_until(detector(), LISTEN + 5.0)
    assert written.count(b"\0") > 1


def test_a_sketch_that_sends_readings_is_never_spoken_to() -> None:
    machine = detector()
    machine.receive(b"temp/1 21.5\n", 1.0)
    _, written = run_until(machine, 1000.0)
    assert written == b""


def test_nothing_but_lines_is_text_after_a_while() -> None:
    machine = detector()
    assert machine.receive(b"Hello world\nall is well\n", 0.1) == []
    events, _ = run_until(machine, LINES_ONLY + 3)
    assert events == [Recognised(Mode.TEXT), LogLine("Hello world"), LogLine("all is well")]
    assert machine.receive(b"temp/1 2\n", 9.0) == [Reading("temp/1", b"2")]


def test_readings_are_found_behind_the_noise_of_a_boot_loader() -> None:
    machine = detector()
    noise = bytes(Random(7).randbytes(400))
    events = machine.receive(noise + b"\r\nready\r\nheap 100\r\ntemp/1 21.5\r\n", 0.5)
    assert events == [
        Recognised(Mode.TEXT),
        LogLine("ready"),
        Reading("heap", b"100"),
        Reading("temp/1", b"21.5"),
    ]


def test_one_line_behind_noise_may_be_chance() -> None:
    machine = detector()
    assert machine.receive(b"\xff\x00\ntemp/1 21.5\r\n", 0.5) == []
    assert machine.mode is None


def test_nothing_but_lines_behind_noise_is_text_after_a_while() -> None:
    machine = detector()
    machine.receive(b"\xff\x00\n" + 3 * b"waiting\r\n", 0.5)
    events, _ = run_until(machine, LINES_ONLY + 3)
    assert events == [Recognised(Mode.TEXT), *3 * [LogLine("waiting")]]


def test_slip_is_recognised_in_the_middle_of_a_talk_by_its_second_packet() -> None:
    machine = detector()
    assert machine.receive(slip(PINGREQ), 0.1) == []
    assert machine.receive(slip(PINGREQ), 0.2) == [
        Recognised(Mode.SLIP),
        Received(Channel.MQTT_SN, PINGREQ),
        Received(Channel.MQTT_SN, PINGREQ),
    ]


@pytest.mark.parametrize("kind", range(256))
def test_every_message_without_a_body_is_survived(kind: int) -> None:
    assert detector().receive(bytes((2, kind)), 0.1) == []
    assert detector().receive(slip(bytes((2, kind))), 0.1) == []


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_nothing_and_is_not_held(seed: int) -> None:
    machine, rng = detector(), Random(seed)
    for at in range(500):
        machine.receive(rng.randbytes(rng.randint(1, 100)), at / 100)
        assert len(machine._held) <= HELD
    assert machine.mode is None


def test_before_it_is_known_how_nothing_can_be_sent() -> None:
    machine = detector()
    assert machine.writable(Channel.MQTT_SN) == 0
    assert not machine.send(Channel.MQTT_SN, SEARCHGW, 0.0)
    machine.receive(CONNECT, 0.1)
    assert machine.send(Channel.MQTT_SN, SEARCHGW, 0.2)
    assert machine.data_to_send() == SEARCHGW


def test_another_device_may_speak_otherwise() -> None:
    machine = detector()
    machine.receive(CONNECT, 0.1)
    machine.receive(b"", 0.2)
    machine.plugged(0.3)
    assert machine.mode is None
    assert machine.receive(b"temp/1 2\n", 0.4)[0] == Recognised(Mode.TEXT)
