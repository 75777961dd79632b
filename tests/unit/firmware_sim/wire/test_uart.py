"""The virtual wire: its arithmetic, and that it loses exactly what a real one would."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.wire.faults import Faults, errors
from firmware_sim.wire.uart import DEVICE, FIFOS, HOST, LaneSettings, VirtualUart

BYTE = 10 / 115_200


def wire(seed: int = 1, **settings: object) -> VirtualUart:
    """The settings are those of the way to the device."""
    return VirtualUart(LaneSettings(**settings), LaneSettings(), Random(seed))  # type: ignore[arg-type]


def drain(uart: VirtualUart, end: int = DEVICE) -> tuple[bytes, float]:
    """Read when the wire says so: (all of it, when the last byte was read)."""
    out, now = b"", 0.0
    while (time := uart.next_arrival(end)) is not None:
        now = max(now, time)
        data = uart.read(end, now)
        assert data, "nothing was there at the time it named"
        out += data
    return out, now


@given(size=st.integers(1, 3000), baud=st.sampled_from([1200, 9600, 115_200, 12_000_000]))
def test_bytes_take_ten_bits_each(size: int, baud: int) -> None:
    uart = wire(baud=baud)
    uart.write(HOST, bytes(size), 0.0)
    assert drain(uart) == (bytes(size), pytest.approx(size * 10 / baud))


@given(
    pieces=st.lists(st.tuples(st.floats(0, 0.01), st.binary(min_size=1)), max_size=20),
    settings=st.fixed_dictionaries(
        {
            "baud": st.sampled_from([0, 9600, 115_200, 3_000_000]),
            "latency": st.sampled_from([0.0, 0.001, 0.016]),
            "delay": st.sampled_from([0.0, 0.003]),
            "faults": st.builds(
                Faults, jitter=st.sampled_from([0.0, 0.05]), piece=st.sampled_from([0, 1, 7])
            ),
        }
    ),
    start=st.sampled_from([0.0, 1e5, 1.7e9]),
)
def test_a_wire_without_byte_errors_carries_every_byte_in_order(
    pieces: list[tuple[float, bytes]], settings: dict[str, object], start: float
) -> None:
    uart = wire(**settings)
    now = start
    for pause, data in pieces:
        now += pause
        uart.write(HOST, data, now)
    assert drain(uart)[0] == b"".join(data for _, data in pieces)


def test_bytes_come_one_after_the_other() -> None:
    uart = wire()
    uart.write(HOST, b"abc", 1.0)
    assert uart.read(DEVICE, 1.0 + 0.99 * BYTE) == b""
    assert uart.read(DEVICE, 1.0 + BYTE) == b"a"
    assert uart.unsent(HOST, 1.0 + BYTE) == 2
    assert uart.read(DEVICE, 1.0 + 2.5 * BYTE) == b"b"
    assert uart.read(DEVICE, 2.0) == b"c"
    assert uart.unsent(HOST, 2.0) == 0


def test_both_directions_are_independent() -> None:
    uart = wire(baud=9600)
    uart.write(HOST, b"down", 0.0)
    uart.write(DEVICE, b"up", 0.0)
    assert uart.read(HOST, 2.5 * BYTE) == b"up"
    assert uart.read(DEVICE, 2.5 * BYTE) == b""
    assert uart.next_deadline() == pytest.approx(10 / 9600)


@pytest.mark.parametrize("depth", FIFOS)
def test_a_full_buffer_loses_what_comes_next(depth: int) -> None:
    uart = wire(fifo=depth)
    data = bytes(range(256)) * 2
    uart.write(HOST, data, 0.0)
    assert uart.read(DEVICE, 1.0) == data[:depth]
    assert uart.lanes[HOST].counters.overrun == len(data) - depth


def test_a_buffer_that_is_read_in_time_loses_nothing() -> None:
    uart = wire(fifo=64)
    uart.write(HOST, bytes(10_000), 0.0)
    assert len(drain(uart)[0]) == 10_000
    assert uart.lanes[HOST].counters.overrun == 0


def test_who_looks_too_seldom_loses_bytes() -> None:
    uart = wire(fifo=64, poll=0.010)  # 115 bytes come in 10 ms
    uart.write(HOST, bytes(1150), 0.0)
    data, _ = drain(uart)
    assert len(data) == pytest.approx(64 * 10, abs=64)
    assert uart.lanes[HOST].counters.overrun == 1150 - len(data)


@pytest.mark.parametrize("latency", [0.001, 0.016])
def test_usb_shows_bytes_in_frames(latency: float) -> None:
    uart = wire(latency=latency)
    uart.write(HOST, b"x", 0.0)
    assert uart.next_arrival(DEVICE) == latency
    assert uart.read(DEVICE, latency * 0.99) == b""
    assert uart.read(DEVICE, latency) == b"x"


def test_a_plug_pulled_in_mid_frame_leaves_the_first_bytes() -> None:
    uart = wire()
    uart.write(HOST, b"a whole frame", 0.0)
    uart.unplug(7.5 * BYTE)
    uart.write(HOST, b"lost", 8 * BYTE)
    assert uart.read(DEVICE, 1.0) == b"a whole"
    uart.plug()
    uart.write(HOST, b"again", 2.0)
    assert uart.read(DEVICE, 3.0) == b"again"
    assert uart.lanes[HOST].counters.cut == len(b" frame" + b"lost")


def test_what_the_host_has_not_read_goes_with_the_port() -> None:
    uart = wire()
    uart.write(DEVICE, b"unread", 0.0)
    uart.unplug(1.0)
    assert uart.read(HOST, 2.0) == b""


def test_a_late_write_delays_those_after_it() -> None:
    uart = wire(3, faults=Faults(jitter=0.5))
    arrivals = []
    for turn in range(20):
        uart.write(HOST, b"x", turn * 0.01)
    while (time := uart.next_arrival(DEVICE)) is not None:
        arrivals.append(time)
        uart.read(DEVICE, time)
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] > 0.3


def test_a_line_held_low_is_read_as_one_break() -> None:
    uart = wire()
    uart.write(HOST, b"before", 0.0)
    uart.write(HOST, b"in the middle", 1.0)
    uart.read(DEVICE, 0.9)
    uart.stick(1.0 + 2 * BYTE, 3 * BYTE)
    assert uart.read(DEVICE, 2.0) == b"in\0e middle"
    assert uart.lanes[HOST].counters.stuck == 3


def test_a_device_without_power_stops_in_mid_byte_and_forgets_what_it_held() -> None:
    uart = wire()
    uart.write(HOST, b"abc", 0.0)
    uart.write(DEVICE, b"xyz", 0.0)
    uart.power_off(DEVICE, 1.5 * BYTE)
    assert uart.read(HOST, 1.0) == b"x"
    uart.write(HOST, b"def", 2.0)
    uart.write(DEVICE, b"boot", 2.0)
    assert uart.read(HOST, 3.0) == b"boot"
    assert b"def" in uart.read(DEVICE, 3.0)


def test_a_device_that_was_off_has_heard_nothing_of_what_came_meanwhile() -> None:
    uart = wire(fifo=4)
    uart.write(HOST, b"come", 0.0)
    uart.power_off(DEVICE, 1.0)
    assert uart.next_arrival(DEVICE) is None
    uart.write(HOST, b"while it was off", 1.0)
    uart.write(HOST, b"half", 2.0)
    uart.power_on(DEVICE, 2.0 + 1.5 * BYTE)
    assert uart.read(DEVICE, 3.0) == b"alf"
    counters = uart.lanes[HOST].counters
    assert (counters.cut, counters.overrun) == (len(b"comewhile it was offh"), 0)


def test_power_that_comes_and_goes_does_not_mend_a_wire() -> None:
    uart = wire()
    uart.unplug(0.0)
    uart.power_off(DEVICE, 1.0)
    uart.power_on(DEVICE, 2.0)
    uart.write(DEVICE, b"boot", 2.0)
    assert uart.read(HOST, 3.0) == b""


def test_the_same_seed_does_the_same_to_the_same_traffic() -> None:
    def run(seed: int) -> list[tuple[bytes, float]]:
        uart = wire(seed, fifo=64, faults=errors(0.05, Faults(jitter=0.001)))
        seen = []
        for turn in range(50):
            uart.write(HOST, bytes(range(200)), turn * 0.1)
            seen.append(drain(uart))
        return seen

    assert run(7) == run(7)
    assert run(7) != run(8)


@pytest.mark.parametrize("wrong", [{"baud": -1}, {"fifo": 0}, {"latency": -1.0}, {"delay": -1.0}])
def test_what_no_wire_can_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="negative"):
        LaneSettings(**wrong)  # type: ignore[arg-type]
