"""Virtual time jumps, repeats exactly and does not stand still; real time runs the same parts."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from bridges.serial.events import Received
from bridges.serial.frames import Channel
from bridges.serial.link import Link, LinkSettings
from firmware_sim.wire.faults import Faults, Incident, What, errors
from firmware_sim.wire.uart import HOST, LaneSettings, VirtualUart
from firmware_sim.wire.worlds import Heard, Line, RealWorld, VirtualWorld

DAY = 86_400.0


class Ticker:
    """A part that does something every so often."""

    def __init__(self, name: str, every: float, log: list[tuple[float, str]]) -> None:
        self.name = name
        self.every = every
        self.log = log
        self.at = every

    def step(self, now: float) -> None:
        if now >= self.at:
            self.log.append((now, self.name))
            self.at += self.every

    def next_deadline(self) -> float:
        return self.at


def test_deadlines_come_in_order_and_at_the_same_time_as_they_were_added() -> None:
    log: list[tuple[float, str]] = []
    world = VirtualWorld()
    world.add(Ticker("b", 2.0, log))
    world.add(Ticker("a", 2.0, log))
    world.add(Ticker("c", 3.0, log))
    world.run(6.0)
    assert log == [(2, "b"), (2, "a"), (3, "c"), (4, "b"), (4, "a"), (6, "c"), (6, "b"), (6, "a")]
    assert world.now == 6.0


def test_a_part_that_is_removed_is_not_asked_any_more() -> None:
    log: list[tuple[float, str]] = []
    world = VirtualWorld()
    part = Ticker("a", 2.0, log)
    world.add(part)
    world.at(5.0, lambda: world.remove(part))
    world.run(100.0)
    assert [time for time, _ in log] == [2, 4]


def test_time_that_stands_still_is_reported() -> None:
    class Restless:
        def step(self, now: float) -> None: ...

        def next_deadline(self) -> float:
            return 0.0

    world = VirtualWorld()
    world.add(Restless())
    with pytest.raises(RuntimeError, match="stands still"):
        world.run(1.0)


class Broken(Ticker):
    """A part that fails when its time comes."""

    def step(self, now: float) -> None:
        if now >= self.at:
            raise ArithmeticError(self.name)


def test_a_part_that_fails_stops_alone() -> None:
    log: list[tuple[float, str]] = []
    world = VirtualWorld()
    world.add(Broken("x", 2.0, log))
    world.add(Ticker("a", 2.0, log))
    with pytest.raises(ArithmeticError):
        world.run(6.0)
    world.run(6.0 - world.now)
    assert log == [(2, "a"), (4, "a"), (6, "a")]


class Talk:
    """Two links on a line; what each end has received."""

    def __init__(self, world: Any, faults: Faults, seed: int = 1, baud: int = 115_200) -> None:
        self.rng = Random(seed)
        self.world = world
        self.got: tuple[list[bytes], list[bytes]] = ([], [])
        self.host = Link(LinkSettings(uid=b"host"), Random(seed + 1))
        self.device = self.new_device(0.0).machine
        lane = LaneSettings(baud=baud, faults=faults)
        uart = VirtualUart(lane, lane, self.rng)
        ends = self.heard(0, self.host), self.heard(1, self.device)
        self.line = Line.with_faults(
            uart, *ends, faults, rng=self.rng, reset=self.new_device, now=world.now
        )
        self.line.plug(world.now)
        self.line.power_on(world.now)
        world.add(self.line)

    def new_device(self, _now: float) -> Heard:
        self.device = Link(LinkSettings(uid=b"dev"), Random(self.rng.random()))
        return self.heard(1, self.device)

    def heard(self, end: int, link: Link) -> Heard:
        return Heard(link, lambda events, _: self.hear(end, events))

    def hear(self, end: int, events: list[Any]) -> None:
        self.got[end].extend(event.payload for event in events if isinstance(event, Received))

    def say(self, payload: bytes) -> None:
        while not self.device.send(Channel.MQTT_SN, payload, self.world.now):
            self.world.run(0.01)
        self.world.wake(self.line)


def test_a_day_of_talk_over_a_bad_line_arrives_and_repeats_exactly() -> None:
    def day(seed: int) -> tuple[list[bytes], int, int]:
        world = VirtualWorld()
        talk = Talk(world, errors(0.01, Faults(unplug_every=600.0, stuck_every=300.0)), seed)
        for number in range(500):
            talk.say(number.to_bytes(2, "big"))
            world.run(DAY / 500)
        assert world.run(3600.0, lambda: talk.device.is_idle)
        return talk.got[0], world.steps, talk.host.counters.bytes_received

    first = day(4)
    assert first[0] == [number.to_bytes(2, "big") for number in range(500)]
    assert day(4) == first
    assert day(5)[1:] != first[1:]


def test_what_is_scheduled_happens_to_the_line() -> None:
    schedule = (
        Incident(10.0, What.UNPLUG, 5.0),
        Incident(30.0, What.RESET),
        Incident(50.0, What.BROWN_OUT, 7.0),
    )
    world = VirtualWorld()
    talk = Talk(world, Faults(schedule=schedule))
    world.run(11.0)
    assert (talk.host.state.value, talk.line.uart.is_plugged) == ("down", False)
    before = talk.device
    world.run(14.0)
    assert (talk.host.state.value, talk.device) == ("open", before)
    world.run(10.0)
    assert talk.device is not before
    assert talk.host.counters.restarts == 1
    world.run(20.0)
    assert not talk.line.is_powered
    world.run(10.0)
    assert (talk.line.is_powered, talk.host.counters.restarts) == (True, 2)
    assert talk.line.happened == list(schedule)


class Notebook:
    """An end that notes what comes and says what it was told to."""

    def __init__(self, says: bytes = b"") -> None:
        self.got: list[bytes] = []
        self._says = says

    def plugged(self, now: float) -> None: ...

    def receive(self, data: bytes, now: float) -> None:
        self.got.append(data)

    def tick(self, now: float) -> None: ...

    def next_deadline(self) -> None: ...

    def data_to_send(self) -> bytes:
        data, self._says = self._says, b""
        return data


def test_the_host_gets_the_first_part_of_a_frame_and_then_the_end() -> None:
    world = VirtualWorld()
    host, device = Notebook(), Notebook(b"a whole frame")
    byte = 10 / 115_200
    faults = Faults(schedule=(Incident(7.5 * byte, What.UNPLUG, 1.0),))
    uart = VirtualUart(LaneSettings(), LaneSettings(), Random(1))
    world.add(Line.with_faults(uart, host, device, faults, rng=Random(1)))
    world.run(5.0)
    assert host.got[-1] == b""
    assert b"".join(host.got) == b"a whole"


def test_a_device_that_is_switched_on_late_does_not_hear_what_came_before() -> None:
    world = VirtualWorld()
    host, device = Notebook(b"is somebody there?"), Notebook()
    line = Line(VirtualUart(LaneSettings(), LaneSettings(), Random(1)), host, device)
    line.power_off(0.0)
    world.add(line)
    world.run(5.0)
    line.power_on(5.0)
    line.uart.write(HOST, b"now", 5.0)
    world.wake(line)
    world.run(5.0)
    assert b"".join(device.got) == b"now"


def test_a_thousand_idle_lines_cost_a_day_little() -> None:
    world = VirtualWorld()
    log: list[tuple[float, str]] = []
    for number in range(1000):
        world.add(Ticker(str(number), DAY / 4, log))
    world.run(DAY)
    assert (len(log), world.steps) == (4000, 5)  # the first step, and one for each time


def test_real_time_runs_the_same_line() -> None:
    async def talk_a_little() -> list[bytes]:
        world = RealWorld(asyncio.get_running_loop(), speed=50.0)
        talk = Talk(world, errors(0.01))
        done = asyncio.Event()
        for number in range(10):
            talk.device.send(Channel.MQTT_SN, bytes((number,)), world.now)
        world.wake(talk.line)
        hear = talk.hear

        def watch(end: int, events: list[Any]) -> None:
            hear(end, events)
            if len(talk.got[0]) == 10:
                done.set()

        talk.hear = watch  # type: ignore[method-assign]
        async with asyncio.timeout(20):
            await done.wait()
        world.close()
        return talk.got[0]

    assert asyncio.run(talk_a_little()) == [bytes((number,)) for number in range(10)]
