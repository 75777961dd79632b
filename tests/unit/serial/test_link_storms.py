"""The link's promise in bad weather and virtual time, every storm from a seed: while both ends keep
their memory, each message arrives once and in order.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridges.serial.frames import Capability, Channel
from bridges.serial.link import LinkSettings
from tests.support.wire import Faults, errors
from tests.unit.serial.link_world import DEVICE, HOST, TINY, World

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR, DAY = 3600.0, 86_400.0


def talk(world: World, seconds: float, every: float) -> None:
    """Each end has something to say every so often; what finds no room waits."""
    start = world.bench.now
    owed = [0, 0]

    def speak(at: int) -> Callable[[], None]:
        def now() -> None:
            owed[at] += 1
            while owed[at] and world.number(at):
                owed[at] -= 1
            if world.bench.now + every < start + seconds:
                world.bench.at(world.bench.now + every, speak(at))

        return now

    world.bench.at(start + every / 3, speak(0))
    world.bench.at(start + every / 2, speak(1))
    world.bench.run(start + seconds)
    for at in (0, 1):
        while owed[at]:
            owed[at] -= world.number(at)
            world.settle(60)


@pytest.mark.parametrize("device", [DEVICE, TINY], ids=["full", "tiny"])
def test_a_day_with_one_per_cent_of_errors(device: LinkSettings) -> None:
    world = World(11, errors(0.01), device=device).opened()
    talk(world, DAY, every=20.0)
    world.settle(HOUR)
    assert world.all_is_there()
    assert len(world.sent[0]) == len(world.sent[1]) == 4320
    assert world.host.resent > 500
    assert world.restarts(0) == world.restarts(1) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_busy_wire_with_one_per_cent_of_errors(seed: int) -> None:
    world = World(seed, replace(errors(0.01), piece=16), host=replace(HOST, rate=11_520.0)).opened()
    start = world.bench.now
    world.stream(0, 1000, start + HOUR)
    world.settle(HOUR)
    assert world.all_is_there()
    # A frame has 28 bytes, and one in four is lost: at most 40 % above what then is possible.
    assert world.bench.now - start < 1000 * 28 / 11_520 / 0.99**28 * 1.4


def test_a_wire_without_faults_is_used_to_ninety_per_cent() -> None:
    world = World(1, Faults(piece=16), host=replace(HOST, rate=11_520.0)).opened()
    start = world.bench.now
    world.stream(0, 1000, start + HOUR)
    world.settle(HOUR)
    assert world.bench.now - start < 1000 * 28 / 11_520 / 0.9


@pytest.mark.parametrize("device", [DEVICE, TINY], ids=["full", "tiny"])
@pytest.mark.parametrize("seed", range(2))
def test_twenty_per_cent_of_errors_leave_progress(seed: int, device: LinkSettings) -> None:
    world = World(seed, errors(0.20), device=device).opened()
    start = world.bench.now
    for _ in range(10):
        while not world.number(0, size=12):
            world.bench.run(world.bench.now + 1)
    world.settle(2 * HOUR)
    assert world.all_is_there()
    assert world.bench.now - start < HOUR


@pytest.mark.parametrize("seed", range(6))
def test_random_unplugs_lose_and_repeat_nothing(seed: int) -> None:
    world = World(seed, errors(0.002)).opened()
    rng = Random(seed)
    for _ in range(100):
        for _ in range(rng.randrange(12)):
            world.number(rng.randrange(2), rng.choice((4, 20, 200)))
        world.bench.pump()
        world.bench.run(world.bench.now + rng.choice((0.0, 0.003, 0.02, 0.1, 3.0)))
        world.bench.unplug()
        world.bench.run(world.bench.now + rng.choice((0.0, 0.01, 1.0, 30.0)))
        world.bench.replug()
    world.settle(HOUR)
    assert len(world.sent[0]) > 100
    assert world.all_is_there()
    assert world.restarts(0) == world.restarts(1) == []


@pytest.mark.parametrize("seed", range(3))
def test_cuts_that_nobody_notices_lose_and_repeat_nothing(seed: int) -> None:
    world = World(seed).opened()
    rng = Random(seed)
    for _ in range(60):
        for _ in range(rng.randrange(6)):
            world.number(rng.randrange(2))
        world.bench.pump()
        world.bench.run(world.bench.now + rng.random() * 0.05)
        for wire in world.bench.outward:
            wire.cut(world.bench.now)
        world.bench.run(world.bench.now + rng.choice((0.01, 1.0, 20.0)))
        for wire in world.bench.outward:
            wire.mend()
    world.settle(HOUR)
    assert world.all_is_there()


@pytest.mark.parametrize("seed", range(4))
def test_random_resets_repeat_nothing_and_give_back_the_rest(seed: int) -> None:
    world = World(seed, errors(0.005)).opened()
    rng = Random(seed)
    for _ in range(40):
        for _ in range(rng.randrange(10)):
            world.number(0)
        world.bench.pump()
        world.bench.run(world.bench.now + rng.random() * 0.1)
        world.bench.replace(1, world.link(1))
        world.bench.run(world.bench.now + 60, lambda: world.is_open)
        assert world.is_open
    world.settle(HOUR)
    arrived = world.arrived(1)
    assert len(set(arrived)) == len(arrived)
    assert arrived == sorted(arrived)
    told = [each[1] for event in world.restarts(0) for each in event.unacknowledged + event.unsent]
    assert set(arrived) | set(told) == set(world.sent[0])


OVERRUN = Faults(read_every=0.002, ring=64)  # 64 bytes are 5.6 ms of a wire of 115,200 baud


def test_a_buffer_of_64_bytes_that_is_looked_at_in_time_loses_nothing() -> None:
    world = World(3, OVERRUN, device=replace(DEVICE, buffer=0)).opened()
    world.stream(0, 200, HOUR)
    world.settle(HOUR)
    assert world.all_is_there()
    assert world.bench.outward[0].lost_in_ring == 0


def test_a_slow_reader_with_64_bytes_says_so_and_loses_nothing() -> None:
    slow = Faults(read_every=0.02, ring=64)
    world = World(3, slow, device=replace(TINY, window=4)).opened()
    world.bench.run(world.bench.now + 1)  # HELLOs come on top of what the buffer is announced for
    lost = world.bench.outward[0].lost_in_ring
    world.stream(0, 200, HOUR)
    world.settle(HOUR)
    assert world.all_is_there()
    assert world.bench.outward[0].lost_in_ring == lost
    assert world.host.resent == 0


def test_one_that_does_not_say_so_loses_bytes_but_no_message() -> None:
    slow = Faults(read_every=0.02, ring=64)
    world = World(3, slow).opened()
    world.stream(0, 200, HOUR)
    world.settle(HOUR)
    assert world.bench.outward[0].lost_in_ring > 0
    assert world.all_is_there()


@pytest.mark.parametrize("jitter", [0.01, 0.1, 0.5])
def test_delays_are_learnt(jitter: float) -> None:
    world = World(5, Faults(jitter=jitter)).opened()
    world.stream(0, 300, HOUR)
    world.settle(HOUR)
    assert world.all_is_there()
    assert world.host.resent < 30


def test_a_wire_of_9600_baud_is_learnt() -> None:
    world = World(5, rate=960.0).opened()
    world.stream(0, 200, HOUR)
    world.settle(HOUR)
    assert world.all_is_there()
    assert world.host.resent < 20


def test_a_seed_repeats_exactly() -> None:
    def run() -> tuple[float, int, int]:
        world = World(21, errors(0.03)).opened()
        world.stream(0, 100, HOUR)
        world.settle(HOUR)
        return world.bench.now, world.bench.outward[0].carried, world.host.counters.damaged

    assert run() == run()


chances = st.sampled_from([0.0, 0.001, 0.01, 0.03])
weather = st.builds(
    Faults,
    drop=chances,
    flip=chances,
    duplicate=chances,
    burst=st.sampled_from([0.0, 0.0005, 0.003]),
    burst_length=st.integers(1, 60),
    jitter=st.sampled_from([0.0, 0.005, 0.05]),
    piece=st.sampled_from([0, 0, 1, 7]),
)
ends = st.builds(
    LinkSettings,
    uid=st.just(b"any"),
    window=st.integers(1, 8),
    payload_limit=st.sampled_from([48, 254, 2000]),
    buffer=st.sampled_from([0, 0, 64, 200]),
    queue=st.sampled_from([1, 16]),
    capabilities=st.sampled_from([Capability.NONE, Capability.CRC_32]),
)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 32),
    faults=weather,
    host=ends,
    device=ends,
    script=st.lists(
        st.sampled_from(["0", "1", "00000", "11111", "unplug", "wait", "hold", "free"]), max_size=25
    ),
)
def test_any_ends_in_any_weather_keep_their_word(
    seed: int, faults: Faults, host: LinkSettings, device: LinkSettings, script: list[str]
) -> None:
    world = World(seed, faults, host, device).opened()
    for act in script:
        if act == "unplug":
            world.bench.unplug()
            world.bench.run(world.bench.now + 0.5)
            world.bench.replug()
        elif act in {"hold", "free"}:
            world.device.allow(0 if act == "hold" else 8, world.bench.now)
        elif act == "wait":
            world.bench.run(world.bench.now + 0.3)
        else:
            for at in act:
                world.number(int(at), min(40, host.payload_limit))
            world.bench.pump()
            world.bench.run(world.bench.now + 0.01)
    world.device.allow(8, world.bench.now)
    world.settle(HOUR)
    assert world.all_is_there()


def test_channels_keep_their_own_order_through_noise() -> None:
    world = World(9, errors(0.01)).opened()
    channels = (Channel.MQTT_SN, Channel.RAW, Channel.LOG, Channel.FILES)
    for number in range(200):
        for channel in channels:
            while not world.host.send(channel, bytes((number,)), world.bench.now):
                world.bench.run(world.bench.now + 0.01)
        world.bench.pump()
    world.settle(HOUR)
    for channel in channels:
        mine = [e.payload for e in world.bench.events[1] if getattr(e, "channel", 0) == channel]
        assert mine == [bytes((number,)) for number in range(200)]


def test_the_host_of_the_tests_is_the_default() -> None:
    assert LinkSettings(uid=b"host", firmware="1.0") == HOST


def test_noise_is_no_silence() -> None:
    """As long as something is heard, it is worth more to repeat than to ask who is there."""
    world = World(1).opened()
    # Frames come, and not one of them is sound.
    world.bench.outward[0]._spoil = lambda data: bytes(byte and byte ^ 0x80 for byte in data)
    start = world.bench.now
    world.number(1)
    world.bench.pump()
    world.bench.run(start + 1.5)
    assert world.device.state.value == "open"
    assert world.device.resent > 8
    world.bench.run(start + 5.0, lambda: world.device.state.value == "asking")
    assert world.device.state.value == "asking"
