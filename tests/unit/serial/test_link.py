"""The link by its rules, one at a time, mostly on a wire without faults."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from bridges.serial import cobs
from bridges.serial.crc import Seal
from bridges.serial.events import Looped, Opened, Received, Restarted, Silent
from bridges.serial.frames import HELLO_HEADER, Capability, Channel, Control, Hello, encode_hello
from bridges.serial.framing import wrap
from bridges.serial.link import Link, LinkSettings, State
from tests.support.wire import Faults, errors
from tests.unit.serial.link_world import DEVICE, HOST, TINY, World
from tests.unit.serial.tiny_device import TinyDevice

NOON = 43_200.0


def raw_frames(data: bytes) -> list[bytes]:
    """The frames in what a link wrote, with their checks."""
    decoded = [cobs.decode(part) for part in data.split(b"\0") if part]
    return [each for each in decoded if each is not None]


# -- the session ----------------------------------------------------------------------------------


def test_both_ends_open_and_know_each_other() -> None:
    world = World().opened()
    assert world.opens(0) == world.opens(1) == [False]
    assert world.host.peer is not None
    assert (world.host.peer.uid, world.host.peer.firmware) == (DEVICE.uid, DEVICE.firmware)
    assert world.host.payload_limit == DEVICE.payload_limit


def test_the_host_may_start_long_before_the_device() -> None:
    world = World()
    world.bench.outward[0].cut(0)
    world.host.plugged(0)
    world.bench.run(86_400)
    assert world.host.state is State.OPENING
    assert not any(isinstance(event, Silent) for event in world.bench.events[0])
    world.opened()


def test_an_opened_link_is_quiet_but_for_asking_now_and_then() -> None:
    world = World().opened()
    before = world.bench.outward[0].carried
    world.bench.run(world.bench.now + 3600)
    assert world.is_open
    assert world.bench.outward[0].carried - before < 3600 / HOST.idle * 2 * 64


def test_a_device_that_sleeps_is_not_asked() -> None:
    world = World(device=replace(DEVICE, capabilities=Capability.SLEEPS, idle=0.0)).opened()
    before = world.bench.steps
    world.bench.run(world.bench.now + 86_400)
    assert world.bench.steps - before < 10
    assert world.host.state is State.OPEN


def exchange(one: Link, other: Link, seconds: float = 5.0) -> list[bytes]:
    """Carry bytes to and fro for a while; what has arrived at both."""
    arrived: list[bytes] = []
    for step in range(round(seconds / 0.05)):
        now = NOON + step * 0.05
        for here, there in ((one, other), (other, one)):
            here.tick(now)
            data = here.data_to_send()
            events = there.receive(data, now) if data else []
            arrived += [each[1] for each in events if type(each) in {Received, tuple}]
    return arrived


@pytest.mark.parametrize("kind", ["link", "smallest"])
def test_who_is_reset_to_the_nonce_it_had_does_not_go_on_with_the_session_before(kind: str) -> None:
    host = Link(HOST, Random(2))
    for _ in range(4):  # each time it is switched on just when the host says HELLO
        device: Any = Link(DEVICE, Random(1)) if kind == "link" else TinyDevice(1)
        say = device.send if kind == "link" else device.send_message
        host.plugged(NOON)
        device.plugged(NOON)
        device.receive(host.data_to_send(), NOON)
        exchange(host, device)
        assert host.send(Channel.MQTT_SN, b"down", NOON)
        assert say(Channel.MQTT_SN, b"up", NOON)
        assert sorted(exchange(host, device)) == [b"down", b"up"]
        host.receive(b"", NOON)


@pytest.mark.parametrize("device", [DEVICE, TINY])
@pytest.mark.parametrize("at", [0, 1])
def test_a_reset_of_either_end_is_noticed_by_the_other(at: int, device: LinkSettings) -> None:
    world = World(device=device).opened()
    world.bench.replace(at, world.link(at))
    world.bench.run(world.bench.now + 5, lambda: world.is_open)
    assert world.is_open
    assert len(world.restarts(1 - at)) == 1
    assert world.opens(1 - at) == [False, False]
    assert world.number(0)
    world.settle(5)
    assert len(world.arrived(1)) == 1


def test_a_reset_is_noticed_even_if_the_device_draws_the_same_nonce() -> None:
    world = World()
    world.device._nonce = 77
    world.opened()
    world.bench.run(world.bench.now + 1)
    again = Link(DEVICE, Random(1))
    again._nonce = 77
    world.bench.replace(1, again)
    world.bench.run(world.bench.now + 5, lambda: world.is_open)
    assert len(world.restarts(0)) == 1
    assert world.is_open


def test_both_ends_reset_at_once() -> None:
    world = World().opened()
    world.bench.replace(0, world.link(0))
    world.bench.replace(1, world.link(1))
    world.bench.run(world.bench.now + 5, lambda: world.is_open)
    assert world.is_open


def test_what_a_restarted_peer_may_not_have_is_given_back() -> None:
    world = World(device=TINY).opened()
    world.bench.outward[0].cut(world.bench.now)
    for _ in range(3):
        world.number(0)
    world.bench.pump()
    world.bench.outward[0].mend()
    world.bench.replace(1, world.link(1))
    world.bench.run(world.bench.now + 0.05, lambda: bool(world.restarts(0)))
    (restarted,) = world.restarts(0)
    told = [payload for _, payload in restarted.unacknowledged + restarted.unsent]
    assert told == world.sent[0]
    assert len(restarted.unacknowledged) == 1
    assert world.host.is_idle


def test_an_unplugged_session_is_resumed() -> None:
    world = World().opened()
    for _ in range(5):
        world.number(0)
    world.bench.pump()
    world.bench.unplug()
    assert world.host.state is State.DOWN
    assert world.host.data_to_send() == b""
    world.bench.run(100)
    world.bench.replug()
    world.settle(60)
    assert world.all_is_there()
    assert world.opens(0) == [False, True]
    assert world.restarts(0) == world.restarts(1) == []


def test_another_device_in_the_same_socket_is_another_session() -> None:
    world = World().opened()
    world.number(0)
    world.bench.unplug()
    world.settings = (HOST, replace(DEVICE, uid=b"other"))
    world.bench.replug()
    world.bench.replace(1, world.link(1))
    world.bench.run(world.bench.now + 5, lambda: world.is_open)
    (restarted,) = world.restarts(0)
    assert [payload for _, payload in restarted.unacknowledged + restarted.unsent] == world.sent[0]
    assert world.host.peer is not None
    assert world.host.peer.uid == b"other"


@pytest.mark.parametrize("seed", range(3))
def test_a_question_that_is_lost_on_a_bad_wire_makes_nobody_silent(seed: int) -> None:
    """Nothing was heard of an idle peer when it is asked: what counts is since when."""
    world = World(seed, errors(0.005)).opened()
    world.bench.run(world.bench.now + 3600)
    assert not any(isinstance(event, Silent) for end in world.bench.events for event in end)


def test_a_peer_that_falls_silent_is_reported_once_and_found_again() -> None:
    world = World().opened()
    for wire in world.bench.outward:
        wire.cut(world.bench.now)
    world.number(0)
    world.bench.pump()
    world.bench.run(world.bench.now + 600)
    assert [type(event) for event in world.bench.events[0]] == [Opened, Silent]
    for wire in world.bench.outward:
        wire.mend()
    world.settle(60)
    assert world.all_is_there()
    assert world.opens(0) == [False, True]


def test_what_was_held_for_an_earlier_session_is_not_delivered_in_the_next() -> None:
    world = World().opened()
    for text in (b"lost", b"held"):
        world.send(0, text)
    _, held, _ = world.host.data_to_send().split(b"\0")
    world.device.receive(held + b"\0", world.bench.now)
    world.bench.replace(0, world.link(0))
    world.bench.run(world.bench.now + 5, lambda: world.is_open)
    for text in (b"first", b"second"):
        world.send(0, text)
    world.settle(5)
    assert world.arrived(1) == [b"first", b"second"]


def test_a_constant_nonce_of_the_device_makes_no_old_frame_fit() -> None:
    world = World()
    world.device._nonce = 77
    world.opened()
    world.number(1)
    stale = world.device.data_to_send()
    world.bench.run(world.bench.now + 1)
    again = Link(DEVICE, Random(1))
    again._nonce = 77
    world.bench.replace(1, again)
    world.bench.run(world.bench.now + 5, lambda: world.is_open)
    assert again._nonce == 77
    damaged = world.host.counters.damaged
    assert world.host.receive(stale, world.bench.now) == []
    assert world.host.counters.damaged == damaged + 1


def test_ends_that_disagree_about_the_session_find_out() -> None:
    never = {"idle": 0.0, "timeouts": 1 << 30}  # it is the damage that tells them
    world = World(host=replace(HOST, **never), device=replace(DEVICE, **never)).opened()  # type: ignore[arg-type]
    world.bench.run(world.bench.now + 1)
    world.device._nonce ^= 1
    world.device._meet(Hello(world.host._nonce, window=8, payload_limit=1024))
    world.device.peer = replace(world.device.peer or Hello(1), mine=world.host._nonce)
    world.number(0)
    world.bench.pump()
    world.bench.run(world.bench.now + 60, lambda: bool(world.restarts(0) or world.restarts(1)))
    world.bench.run(world.bench.now + 60, lambda: world.is_open)
    assert world.is_open
    world.number(0)
    world.settle(60)
    assert world.host.is_idle


def test_a_port_that_echoes_is_no_peer() -> None:
    link = Link(HOST, Random(5))
    link.plugged(0.0)
    events = []
    now = 0.0
    for _ in range(50):
        events += link.receive(link.data_to_send() or b"\0", now)
        now = link.next_deadline() or now
        events += link.tick(now)
    assert link.state is State.OPENING
    assert {type(event) for event in events} == {Looped}


def test_bytes_of_an_earlier_session_are_not_taken_for_new_ones() -> None:
    world = World().opened()
    stale = []
    for _ in range(16):
        world.number(1)
        data = world.device.data_to_send()
        stale.append(data)
        world.bench.outward[1].put(data, world.bench.now)
        world.settle(5)
    world.bench.replace(0, world.link(0))
    world.bench.run(world.bench.now + 5, lambda: world.is_open)
    before = len(world.arrived(0))
    for data in stale:
        world.host.receive(data, world.bench.now)
    assert len(world.arrived(0)) == before
    assert world.host.counters.damaged == 16


# -- order, window, credit ------------------------------------------------------------------------


@pytest.mark.parametrize("device", [DEVICE, TINY])
def test_messages_arrive_in_order_both_ways(device: LinkSettings) -> None:
    world = World(device=device).opened()
    world.stream(0, 100, 1000)
    world.stream(1, 100, 1000)
    world.settle(100)
    assert len(world.sent[0]) == len(world.sent[1]) == 100
    assert world.all_is_there()
    assert world.host.resent == world.device.resent == 0


def test_the_queue_is_bounded_and_says_how_much_room_it_has() -> None:
    world = World().opened()
    for wire in world.bench.outward:
        wire.cut(world.bench.now)
    assert world.host.writable(Channel.MQTT_SN) == HOST.queue
    taken = 0
    while world.number(0):
        taken += 1
        world.bench.pump()
    assert taken == HOST.queue + DEVICE.window
    assert world.host.writable(Channel.MQTT_SN) == 0
    assert world.host.writable(Channel.FILES) == HOST.queue


@pytest.mark.parametrize("window", [1, 2, 5, 8])
def test_no_more_is_under_way_than_the_peer_takes(window: int) -> None:
    world = World(device=replace(DEVICE, window=window)).opened()
    for _ in range(12):
        world.number(0)
    assert len(raw_frames(world.host.data_to_send())) == window
    assert world.host.data_to_send() == b""


def test_no_more_bytes_are_under_way_than_the_peers_buffer_holds() -> None:
    world = World(device=replace(DEVICE, buffer=100)).opened()
    for _ in range(12):
        world.number(0)
    assert 28 < len(world.host.data_to_send()) <= 100


def test_a_receiver_without_room_stops_the_sender_and_starts_it_again() -> None:
    world = World().opened()
    world.device.allow(0, world.bench.now)
    world.number(1)  # the news travels with any frame
    world.settle(1)
    for _ in range(10):
        world.number(0)
    world.bench.pump()
    world.bench.run(world.bench.now + 30)
    assert world.arrived(1) == []
    assert world.bench.outward[0].carried < 3000  # it is asked, ever more rarely
    world.device.allow(3, world.bench.now)
    world.bench.pump()
    world.settle(5)
    assert world.all_is_there()


def test_new_room_is_announced_at_once() -> None:
    world = World().opened()
    world.device.allow(0, world.bench.now)
    assert world.device.data_to_send() == b""
    world.device.allow(2, world.bench.now)
    (frame,) = raw_frames(world.device.data_to_send())
    assert frame[0] == 2


def test_the_news_of_new_room_may_be_lost() -> None:
    world = World().opened()
    world.device.allow(0, world.bench.now)
    world.number(1)
    world.settle(1)
    world.number(0)
    world.device.allow(8, world.bench.now)
    world.device.data_to_send()  # lost
    world.bench.pump()
    world.bench.run(world.bench.now + 30, world.all_is_there)
    assert world.all_is_there()


def test_one_lost_frame_costs_one_frame_and_no_timeout() -> None:
    world = World().opened()
    for _ in range(8):
        world.number(0)
    frames = world.host.data_to_send().split(b"\0")[:-1]
    del frames[3]
    world.bench.outward[0].put(b"\0".join(frames) + b"\0", world.bench.now)
    world.settle(5)
    assert world.all_is_there()
    assert world.host.resent == 1
    assert world.device.duplicates == 0


def test_a_lost_window_costs_one_timeout() -> None:
    world = World().opened()
    for _ in range(8):
        world.number(0)
    world.host.data_to_send()
    start = world.bench.now
    world.settle(5)
    assert world.all_is_there()
    assert world.host.resent == 8
    assert world.bench.now - start < 0.5


def test_a_lost_acknowledgement_is_no_second_message() -> None:
    world = World().opened()
    world.number(0)
    world.device.receive(world.host.data_to_send(), world.bench.now)
    world.device.data_to_send()  # lost
    world.settle(5)
    assert world.device.duplicates == 1
    assert world.host.is_idle


# -- priority and pace ----------------------------------------------------------------------------


def test_what_is_urgent_overtakes_files_and_logs() -> None:
    world = World(device=replace(DEVICE, window=1)).opened()
    world.send(0, b"file", Channel.FILES)
    world.send(0, b"log", Channel.LOG)
    world.send(0, b"first", Channel.MQTT_SN)
    world.send(0, b"second", Channel.MQTT_SN)
    world.settle(5)
    assert world.arrived(1) == [b"first", b"second", b"log", b"file"]


def test_an_acknowledgement_does_not_wait_behind_data() -> None:
    slow = replace(HOST, rate=960.0)
    world = World(host=slow, rate=960.0).opened()
    for _ in range(16):
        world.number(0)
    world.bench.pump()
    world.number(1)
    start = world.bench.now
    world.bench.pump()
    world.bench.run(start + 5, lambda: not world.device._sending._flight)
    # 28 bytes there, at most 20 ms and a frame in front of it, 6 back: not eight frames.
    assert world.bench.now - start < 0.15


def test_a_paced_link_keeps_the_wire_busy_and_nothing_more() -> None:
    world = World(host=replace(HOST, rate=960.0), rate=960.0).opened()
    start = world.bench.now
    world.stream(0, 50, 100)
    world.settle(20)
    assert world.all_is_there()
    carried = 50 * 28
    assert carried / 960 <= world.bench.now - start < carried / 960 * 1.25
    assert world.host.resent == 0


def test_unreliable_messages_may_be_lost_and_are_never_late() -> None:
    world = World().opened()
    assert world.host.send_once(Channel.TIME, b"now", world.bench.now)
    world.bench.pump()
    world.bench.run(world.bench.now + 0.1)
    assert Received(Channel.TIME, b"now") in world.bench.events[1]
    world.bench.unplug()
    assert not world.host.send_once(Channel.TIME, b"then", world.bench.now)
    assert world.host.counters.dropped == 1


def test_unreliable_messages_are_bounded() -> None:
    world = World().opened()
    taken = sum(world.host.send_once(Channel.LOG, b"x", world.bench.now) for _ in range(100))
    assert taken == HOST.queue


def test_a_message_that_the_peer_cannot_take_is_a_mistake() -> None:
    world = World(device=TINY).opened()
    with pytest.raises(ValueError, match="the peer takes 48"):
        world.host.send(Channel.RAW, bytes(49), world.bench.now)


@pytest.mark.parametrize("size", [0, 1, 253, 254, 255, 300, 60_000])
def test_any_size_goes_through(size: int) -> None:
    large = replace(DEVICE, payload_limit=65_535, capabilities=Capability.NONE)
    world = World(device=large).opened()
    world.send(0, bytes(index % 251 for index in range(size)))
    world.settle(60)
    assert world.all_is_there()


# -- what it costs --------------------------------------------------------------------------------


@pytest.mark.parametrize(("device", "most"), [(TINY, 6), (DEVICE, 8)])
def test_twenty_bytes_cost_at_most_eight_more(device: LinkSettings, most: int) -> None:
    world = World(device=device).opened()
    world.send(0, b"\xff" * 20)
    assert len(world.host.data_to_send()) - 20 == most


def test_an_acknowledgement_has_six_bytes_at_the_least() -> None:
    world = World(device=TINY).opened()
    world.number(0)
    world.device.receive(world.host.data_to_send(), world.bench.now)
    assert len(world.device.data_to_send()) == 6


class NeverAcknowledges:
    """A device that answers HELLO, and then takes everything and says nothing."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.receive = link.receive
        self.tick = link.tick
        self.plugged = link.plugged
        self.next_deadline = link.next_deadline

    def data_to_send(self) -> bytes:
        frames = self.link.data_to_send().split(b"\0")
        hellos = [frame for frame in frames if (cobs.decode(frame) or b"").startswith(HELLO_HEADER)]
        return b"\0".join([*hellos, b""]) if hellos else b""


# -- hostile peers --------------------------------------------------------------------------------


def test_a_device_that_never_acknowledges_is_not_flooded() -> None:
    world = World().opened()
    world.bench.ends = (world.host, NeverAcknowledges(world.device))
    for _ in range(30):
        world.number(0)
    world.bench.pump()
    before = world.bench.outward[0].carried
    world.bench.run(world.bench.now + 3600)
    assert (world.bench.outward[0].carried - before) / 3600 < 60  # bytes per second


def test_an_unknown_control_frame_is_passed_over() -> None:
    world = World().opened()
    frame = wrap(world.host._tx.close(b"\x08\xf0anything"))
    world.device.receive(frame, world.bench.now)
    assert world.device.counters.foreign == 1
    assert world.device.state is State.OPEN


def test_an_acknowledgement_of_what_was_never_sent_changes_nothing() -> None:
    world = World().opened()
    world.number(0)
    world.host.data_to_send()
    for ack in range(2, 16):
        world.host.receive(wrap(world.device._tx.close(bytes((8, ack)))), world.bench.now)
        assert not world.host.is_idle
    world.host.receive(wrap(world.device._tx.close(bytes((8, 1)))), world.bench.now)
    assert world.host.is_idle


def test_every_frame_too_short_or_with_any_header_is_survived() -> None:
    world = World().opened()
    for first in range(256):
        for body in (b"", bytes((first,)), bytes((first, first)), bytes((first, 0x35, 0xFF, 1))):
            world.host.receive(wrap(world.device._tx.close(body)), world.bench.now)
            world.host.data_to_send()
    assert world.host.state is not State.DOWN


def test_a_hello_without_sense_is_damage() -> None:
    link = Link(HOST, Random(1))
    link.plugged(0.0)
    body = bytearray(encode_hello(Hello(5)))
    body[9] = 200  # the window
    assert link.receive(wrap(Seal().close(bytes(body))), 0.0) == []
    assert link.counters.damaged == 1
    assert link.peer is None


def test_a_newer_version_is_spoken_to_in_ours() -> None:
    link = Link(HOST, Random(1))
    link.plugged(0.0)
    hello = Hello(5, yours=link._nonce, version=9)
    events = link.receive(wrap(Seal().close(encode_hello(hello) + b"news")), 0.0)
    assert [type(event) for event in events] == [Opened]


def test_noise_is_not_answered_more_often_than_may_be() -> None:
    world = World().opened()
    now, written = world.bench.now, 0
    for at in range(1000):
        world.host.receive(b"\x05noise\0", now + at / 1000)
        written += len(raw_frames(world.host.data_to_send()))
    assert written <= 1 / HOST.nak_gap + 2


def test_control_kinds_and_hello_do_not_meet() -> None:
    assert bytes((0, Control.HELLO << 4)) == HELLO_HEADER


def test_a_restart_is_told_before_the_opening() -> None:
    world = World().opened()
    world.bench.replace(1, world.link(1))
    world.bench.run(world.bench.now + 5, lambda: world.is_open)
    kinds = [type(event) for event in world.bench.events[0]]
    assert kinds == [Opened, Restarted, Opened]


def test_a_wire_that_gives_a_byte_at_a_time_is_no_different() -> None:
    world = World(faults=Faults(piece=1)).opened()
    world.stream(0, 50, 100)
    world.settle(10)
    assert world.all_is_there()
