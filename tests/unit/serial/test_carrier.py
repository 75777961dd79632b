"""The Carrier with a port that is made up: what it asks of the machine, and when."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from bridges.serial import carrier as module
from bridges.serial.carrier import Carrier, PortInfo, PortSettings
from bridges.serial.events import Received
from bridges.serial.frames import Channel
from bridges.serial.port_names import Found, PortError
from bridges.serial.port_settings import LineErrors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from bridges.serial.events import Event
    from bridges.serial.port import PortUser

PATIENCE = 20.0


class FakePort:
    """A port whose wire is a list."""

    def __init__(self) -> None:
        self.info = PortInfo("/dev/fake", "usb:fake", 115_200)
        self.waiting = 0
        self.is_stuck = False
        self.written: list[bytes] = []
        self.lines: list[tuple[bool, bool]] = []
        self.has_lines = True
        self.errors: LineErrors | None = None
        self.bauds: list[int] = []
        self.is_closed = False
        self.user: PortUser | None = None

    def start(self, user: PortUser) -> None:
        self.user = user

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def hold(self, held: bool) -> None:
        pass

    def set_baud(self, baud: int) -> None:
        self.bauds.append(baud)

    def set_lines(self, dtr: bool, rts: bool) -> bool:
        self.lines.append((dtr, rts))
        return self.has_lines

    def line_errors(self) -> LineErrors | None:
        return self.errors

    async def close(self) -> None:
        self.is_closed = True


class FakeMachine:
    """Says what it is told to say, and counts how often it was asked."""

    def __init__(self) -> None:
        self.outbox: list[bytes] = []
        self.asked = 0
        self.ticks = 0
        self.deadline: float | None = None
        self.events: list[Event] = []
        self.verbs: list[str] = []

    def plugged(self, now: float) -> None:
        self.verbs.append("plugged")

    def receive(self, data: bytes, now: float) -> list[Event]:
        self.verbs.append("receive" if data else "unplugged")
        return self.events

    def tick(self, now: float) -> list[Event]:
        self.ticks += 1
        return []

    def next_deadline(self) -> float | None:
        return self.deadline

    def data_to_send(self) -> bytes:
        self.asked += 1
        return self.outbox.pop(0) if self.outbox else b""

    def writable(self, channel: Channel) -> int:
        return 1

    def send(self, channel: Channel, payload: bytes, now: float) -> bool:
        return True


class Bench:
    """A Carrier, its machine, and the ports it will find, one after the other."""

    def __init__(self, **settings: Any) -> None:
        self.machine = FakeMachine()
        self.ports: list[FakePort] = [FakePort()]
        self.left: list[FakePort] = []
        self.refusals: list[Exception] = []
        self.told: list[str] = []
        self.carrier = Carrier(
            PortSettings("/dev/fake", first_retry=0.001, longest_retry=0.001, **settings),
            self.machine,
            self,
            asyncio.get_running_loop(),
            random.Random(1),
        )

    @property
    def port(self) -> FakePort:
        return self.left[-1]

    async def open(self, *_: object) -> FakePort:
        if self.refusals:
            raise self.refusals.pop(0)
        if not self.ports:
            raise PortError("no more")
        self.left.append(self.ports.pop(0))
        return self.left[-1]

    async def plug(self) -> FakePort:
        self.carrier.start()
        await until(lambda: self.told.count("plugged") == len(self.left) > 0)
        await turns()
        return self.port

    def on_plugged(self, info: PortInfo) -> None:
        self.told.append("plugged")

    def on_unplugged(self, why: str) -> None:
        self.told.append(f"unplugged: {why}")

    def on_events(self, events: Sequence[Event], now: float) -> None:
        self.told.append(f"events: {len(events)}")


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_true():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.fixture
async def make(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def bench(**settings: Any) -> Bench:
        made.append(Bench(**settings))
        monkeypatch.setattr(module, "open_port", made[-1].open)
        return made[-1]

    monkeypatch.setattr(module, "find", lambda spec: Found(spec.text, "usb:fake"))
    yield bench
    for each in made:
        each.machine.deadline = None
        await each.carrier.close()
        assert all(port.is_closed for port in each.left)


async def test_many_wakes_in_one_turn_are_one_write(make: Callable[..., Bench]) -> None:
    bench = make()
    port = await bench.plug()
    asked = bench.machine.asked
    bench.machine.outbox = [b"all of it"]
    for _ in range(5):
        bench.carrier.wake()
    assert port.written == []
    await turns()
    assert port.written == [b"all of it"]
    assert bench.machine.asked == asked + 1


async def test_a_message_waits_in_the_machine_while_the_uart_is_full(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    port = await bench.plug()
    port.waiting = 400  # more than 20 ms of this wire
    asked = bench.machine.asked
    bench.machine.outbox = [b"later"]
    bench.carrier.wake()
    await turns()
    assert bench.machine.asked == asked
    port.waiting = 0
    await until(lambda: port.written == [b"later"])  # nobody wakes it: it reckons itself


async def test_a_stuck_port_is_not_written_to_until_it_says_that_there_is_room(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    port = await bench.plug()
    port.is_stuck = True
    bench.machine.outbox = [b"later"]
    bench.carrier.wake()
    await turns()
    assert port.written == []
    port.is_stuck = False
    bench.carrier.on_room()
    await turns()
    assert port.written == [b"later"]


async def test_after_a_write_the_owner_hears_that_there_may_be_room(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    await bench.plug()
    bench.told.clear()
    bench.machine.outbox = [b"x"]
    bench.carrier.wake()
    await turns()
    assert bench.told == ["events: 0"]


async def test_an_earlier_deadline_is_kept_and_a_later_one_costs_no_timer(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make()
    await bench.plug()
    loop = asyncio.get_running_loop()
    made: list[float] = []
    call_at = loop.call_at
    monkeypatch.setattr(
        loop, "call_at", lambda when, *args, **kw: made.append(when) or call_at(when, *args, **kw)
    )
    start = loop.time()
    for seconds in (1000, 2000, 3000, 500, 600):
        bench.machine.deadline = start + seconds
        bench.carrier.wake()
        await turns()
    assert made == [start + 1000, start + 500]
    bench.machine.deadline = start
    bench.carrier.wake()
    await until(lambda: bench.machine.ticks > 0)


async def test_a_deadline_that_stays_in_the_past_does_not_spin(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    port = await bench.plug()
    port.is_stuck = True
    bench.machine.deadline = 0.0
    bench.carrier.wake()
    await turns(500)
    assert bench.machine.ticks < 50


async def test_each_speed_is_set_and_the_machine_begins_anew(make: Callable[..., Bench]) -> None:
    bench = make(bauds=(9600, 19_200), probe=0.001)
    port = await bench.plug()
    await until(lambda: port.bauds[:2] == [19_200, 9600])
    assert bench.machine.verbs[:5] == ["plugged", "unplugged", "plugged", "unplugged", "plugged"]
    bench.machine.events = [Received(Channel.RAW, b"understood")]
    bench.carrier.on_bytes(b"x")
    assert bench.carrier.figures.is_met
    tried = len(port.bauds)
    bench.carrier.wake()
    await turns()
    assert len(port.bauds) == tried


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [(False, False), (True, True)]),
        ({"lines": "off"}, [(False, False), (True, True), (False, False)]),
        ({"reset": "esp32"}, [(False, True), (False, False)]),
    ],
)
async def test_a_reset_pulses_the_lines_and_leaves_them_as_they_are_kept(
    make: Callable[..., Bench], settings: dict[str, Any], steps: list[tuple[bool, bool]]
) -> None:
    bench = make(**settings)
    port = await bench.plug()
    assert bench.carrier.reset_device()
    await until(lambda: port.lines == steps)
    await turns()
    assert port.lines == steps


async def test_what_has_no_lines_cannot_be_reset(make: Callable[..., Bench]) -> None:
    bench = make()
    assert not bench.carrier.reset_device()
    port = await bench.plug()
    port.has_lines = False
    assert not bench.carrier.reset_device()


async def test_line_errors_are_counted_from_the_open_on_and_over_replugs(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    first, second = bench.ports[0], FakePort()
    bench.ports.append(second)
    first.errors = LineErrors(framing=100, overrun=10, parity=0, breaks=0, buffer_overrun=0)
    second.errors = LineErrors(0, 0, 0, 0, 0)
    await bench.plug()
    first.errors = LineErrors(framing=103, overrun=11, parity=0, breaks=1, buffer_overrun=2)
    assert bench.carrier.figures.framing == 3
    bench.carrier.on_gone("pulled")
    await until(lambda: bench.told.count("plugged") == 2)
    second.errors = LineErrors(framing=1, overrun=0, parity=4, breaks=0, buffer_overrun=0)
    figures = bench.carrier.figures
    assert (figures.framing, figures.overruns, figures.parity, figures.breaks) == (4, 3, 4, 1)


async def test_a_refusal_and_even_a_fault_at_opening_are_tried_again(
    make: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    bench = make()
    bench.refusals = [PortError("in use")] * 5 + [OSError(24, "Too many"), ZeroDivisionError()]
    await bench.plug()
    assert bench.told.count("plugged") == 1
    assert len(faults) == 1
    assert caplog.text.count("in use") == 1  # said once, not at every try


async def test_a_fault_of_the_machine_at_the_end_does_not_stop_the_next_try(
    make: Callable[..., Bench],
) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    bench = make()
    bench.ports.append(FakePort())
    await bench.plug()
    whole = bench.machine.receive

    def fail(data: bytes, now: float) -> list[Event]:
        bench.machine.receive = whole  # type: ignore[method-assign]
        raise ZeroDivisionError

    bench.machine.receive = fail  # type: ignore[method-assign]
    bench.carrier.on_gone("pulled")
    await until(lambda: bench.told.count("plugged") == 2)
    assert len(faults) == 1
