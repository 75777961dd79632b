"""Signals, batteries and flash: what a simulated device is made of."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest

from firmware_sim.books.books import number_in
from firmware_sim.device.battery import Battery, BatterySettings
from firmware_sim.device.bugs import Bug, spoil
from firmware_sim.device.flash import Flash, Reading
from firmware_sim.device.signals import (
    DAY,
    HOUR,
    Counter,
    Door,
    Drift,
    Replay,
    Row,
    Signal,
    Temperature,
    Vibration,
    folded,
    read_recording,
)

if TYPE_CHECKING:
    from pathlib import Path


def events(signal: Signal, seconds: float) -> list[float]:
    """When the signal has something to tell, in the first seconds of a day."""
    signal.read(0.0)
    times = []
    while (at := signal.next_event()) is not None and at < seconds:
        times.append(at)
        signal.read(at)
    return times


def reading(seq: int) -> Reading:
    return Reading("topic", seq, b"")


# ---- signals ----


def test_afternoons_are_warmer_than_nights() -> None:
    signal = Temperature(Random(1), mean=10, swing=8, weather=0.5)
    values = [signal.read(hour * HOUR)["temperature"] for hour in range(240)]
    by_hour = [sum(map(float, values[hour::24])) for hour in range(24)]
    assert by_hour.index(max(by_hour)) in range(13, 18)
    assert by_hour.index(min(by_hour)) in range(1, 6)


def test_the_weather_changes_slowly() -> None:
    signal = Temperature(Random(2), swing=0, weather=3)
    values = [float(signal.read(minute * 60.0)["temperature"]) for minute in range(600)]
    assert max(abs(one - other) for one, other in pairwise(values)) < 1.0
    assert max(values) - min(values) > 1.0


def test_a_drifting_value_stays_in_its_range() -> None:
    signal = Drift(Random(3), start=1, per_hour=40, low=0, high=10)
    values = [float(signal.read(hour * HOUR)["level"]) for hour in range(500)]
    assert 0 <= min(values) < 2
    assert 8 < max(values) <= 10


@pytest.mark.parametrize(("value", "expected"), [(5, 5), (12, 8), (-3, 3), (23, 3), (40, 0)])
def test_a_range_reflects_at_its_ends(value: float, expected: float) -> None:
    assert folded(value, 0, 10) == pytest.approx(expected)


def test_doors_open_by_day_and_close_again() -> None:
    door = Door(Random(4), per_hour=20)
    times = events(door, 10 * DAY)
    by_day = [at for at in times if 7 * HOUR < at % DAY < 19 * HOUR]
    assert len(by_day) > 0.8 * len(times) > 400
    states = Door(Random(4), per_hour=20)
    states.read(0.0)
    assert [states.read(at)["open"] for at in times[:6]] == [True, False] * 3


def test_a_burst_of_vibration_is_told_when_it_begins() -> None:
    signal = Vibration(Random(5), rest=0.1, burst=5, per_hour=10)
    signal.read(0.0)
    before = float(signal.read(signal.next_event() - 0.01)["rms"])  # type: ignore[operator]
    at = signal.next_event()
    assert at is not None
    assert float(signal.read(at)["rms"]) > 10 * before


def test_a_counter_counts_at_its_rate_and_never_back() -> None:
    counter = Counter(Random(6), per_hour=3600)
    values = [int(counter.read(float(second))["count"]) for second in range(0, 3600, 10)]
    assert values == sorted(values)
    assert 3200 < values[-1] < 4000


def test_a_recording_comes_at_its_times_and_begins_anew() -> None:
    rows = [Row(0.0, {"x": 1}), Row(10.0, {"x": 2}), Row(20.0, {"x": 3})]
    signal = Replay(rows, started=100.0, speed=10.0)
    times, values = [], []
    for _ in range(5):
        at = signal.next_event()
        times.append(at)
        values.append(signal.read(at)["x"])
    assert times == pytest.approx([100, 101, 102, 103, 104])
    assert values == [1, 2, 3, 1, 2]


def test_a_recording_is_read_with_the_types_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,x,y,z\n0,1,2.5,open\n\n1.5,2,3.0,nan\n")
    assert read_recording(path) == (
        Row(0.0, {"x": 1, "y": 2.5, "z": "open"}),
        Row(1.5, {"x": 2, "y": 3.0, "z": "nan"}),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: has no columns"),
        ("t\n1\n", "line 1: has no columns"),
        ("t,x\n", "line 2: there are no readings"),
        ("t,x\nnow,1\n", 'line 2: "now" is not a time'),
        ("t,x\ninf,1\n", 'line 2: "inf" is not a time'),
        ("t,x\n0,1,2\n", "line 2: has 3 columns, and there are 2 names"),
        ("t,x\n5,1\n4,1\n", "line 3: goes back in time"),
    ],
)
def test_a_bad_recording_is_refused_with_its_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_recording(path)


# ---- battery ----


def test_sleep_saves_the_battery_and_airtime_costs() -> None:
    settings = BatterySettings(capacity=100, asleep=0.01, awake=10, sending=100, rate=1000, start=0)
    awake, asleep, sending = Battery(settings), Battery(settings), Battery(settings)
    for battery, is_asleep in ((awake, False), (asleep, True), (sending, False)):
        battery.asleep(is_asleep, 0.0)
    for battery in (awake, asleep, sending):
        battery.advance(HOUR)
    for _ in range(360):
        sending.send(100)
    assert awake.left == pytest.approx(0.9)
    assert asleep.left == pytest.approx(0.9999)
    assert sending.left == pytest.approx(0.9 - 0.01)


def test_a_battery_falls_to_its_end_and_not_below() -> None:
    battery = Battery(BatterySettings(capacity=1, awake=1))
    battery.asleep(False, 0.0)
    volts = []
    for part in range(11):
        battery.advance(part * HOUR / 10)
        volts.append(battery.volts)
    assert volts == sorted(volts, reverse=True)
    assert (volts[0], volts[-1]) == (pytest.approx(4.18), pytest.approx(3.0))
    battery.advance(2 * HOUR)
    assert (battery.left, battery.is_empty) == (0.0, True)


def test_a_device_without_power_takes_nothing_from_its_battery() -> None:
    battery = Battery(BatterySettings(capacity=10, awake=1))
    battery.advance(HOUR)
    assert battery.left == 1.0
    battery.asleep(False, HOUR)
    battery.off(2 * HOUR)
    battery.advance(5 * HOUR)
    assert battery.left == pytest.approx(0.9)


# ---- flash ----


def test_what_is_on_its_way_is_kept_over_a_brown_out_in_order() -> None:
    flash = Flash(10, window=2)
    for seq in range(4):
        assert flash.store(reading(seq)) is None
    for _ in range(2):
        assert flash.offer() is not None
        flash.handed_over()
    assert flash.offer() is None  # the window is full
    assert flash.reset() == []
    order = []
    while (offered := flash.offer()) is not None:
        flash.handed_over()
        order.append(offered[1].seq)
        flash.settle(offered[0])
    assert order == [0, 1, 2, 3]


def test_the_oldest_that_is_not_on_its_way_makes_room() -> None:
    flash = Flash(3, window=1)
    for seq in range(3):
        flash.store(reading(seq))
    flash.handed_over()
    assert [flash.store(reading(seq)) for seq in (3, 4)] == [reading(1), reading(2)]
    assert len(flash) == 3


def test_ram_forgets_everything() -> None:
    flash = Flash(3, window=1, volatile=True)
    for seq in range(2):
        flash.store(reading(seq))
    flash.handed_over()
    assert flash.reset() == [reading(0), reading(1)]
    assert flash.is_empty


def test_an_answer_from_before_the_brown_out_settles_nothing() -> None:
    flash = Flash(3)
    flash.store(reading(0))
    token, _ = flash.offer() or (0, None)
    flash.handed_over()
    flash.reset()
    assert flash.settle(token) is None
    flash.handed_over()
    assert flash.settle(token) is None
    assert not flash.is_empty


# ---- bugs ----


@pytest.mark.parametrize("bug", list(Bug))
@pytest.mark.parametrize("seq", [0, 1, 12, 123_456])
def test_a_spoilt_payload_still_has_its_number(bug: Bug, seq: int) -> None:
    payload = b'{"seq":%d,"t":1.0,"temperature":21.5}' % seq
    assert number_in(spoil(payload, seq, frozenset({bug}), Random(seq))) == seq


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b'{"seq":-1}', b'{"seq":"1"}', b"x" * 99 + b'"seq":1']
)
def test_payloads_of_others_have_no_number(payload: bytes) -> None:
    assert number_in(payload) == -1
