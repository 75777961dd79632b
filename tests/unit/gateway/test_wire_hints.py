"""What a port says to the person who has set it up, when a device is not understood."""

from __future__ import annotations

import logging
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from bridges.gateway.wire import DOUBT, DOUBTFUL, Wire
from bridges.mqttsn.ports import Identity, Message
from bridges.serial.carrier import PortFigures, PortInfo
from bridges.serial.events import Recognised
from bridges.serial.modes import Mode
from broker.settings import SerialSettings

if TYPE_CHECKING:
    from pathlib import Path


class Loop:
    """A clock, and timers that never come."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return Mock(name=name)


class Bench:
    """A Wire whose port is made of figures."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.loop = Loop()
        gateway = Mock(answers=0, devices=(), data_to_send=Mock(return_value=()))
        port = SerialSettings("/dev/ttyUSB0", **settings)
        self.wire = Wire(
            port,
            gateway,
            Mock(),
            Identity("me"),
            folder,
            self.loop,
            Random(1),  # type: ignore[arg-type]
        )
        self.figures = PortFigures(baud=9600)
        self.wire.start(SimpleNamespace(figures=self.figures, start=Mock(), wake=Mock()))  # type: ignore[arg-type]
        self.wire.on_plugged(PortInfo("/dev/ttyUSB0", "key", 115_200))

    def hears(self, size: int, after: float) -> None:
        self.loop.now += after
        self.figures.bytes_in += size
        self.wire.on_events((), self.loop.now)


@pytest.fixture(autouse=True)
def _heard(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "heliograph")


def hints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "what comes" in each.getMessage()]


def test_bytes_that_mean_nothing_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, baud=(115_200, 9600))
    bench.hears(DOUBTFUL, 2 * DOUBT - 1)
    assert hints(caplog) == []
    for _ in range(3):
        bench.hears(DOUBTFUL, 1)
    (hint,) = hints(caplog)
    assert hint.startswith("ttyUSB0: what comes means nothing at 115200 or 9600 baud: set baud")


def test_silence_and_a_device_that_is_understood_are_no_reason_for_doubt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent, text = Bench(tmp_path), Bench(tmp_path)
    silent.hears(DOUBTFUL - 1, 2 * DOUBT)
    text.wire.on_events([Recognised(Mode.TEXT)], text.loop.now)
    text.hears(1000, 2 * DOUBT)
    assert hints(caplog) == []


@pytest.mark.parametrize("mode", ["text", "framed", "slip", "mqtt-sn"])
def test_a_mode_that_is_set_and_never_spoken_raises_the_same_doubt(
    mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, mode=mode)
    bench.hears(DOUBTFUL, DOUBT)
    (hint,) = hints(caplog)
    assert f"is no {mode} at 115200 baud: set mode and baud" in hint


def test_the_pace_is_that_of_the_speed_that_was_found(tmp_path: Path) -> None:
    bench = Bench(tmp_path, baud=(115_200, 9600))
    assert bench.wire._rate == 11_520
    bench.wire.on_events([Recognised(Mode.TEXT)], bench.loop.now)
    assert bench.wire._rate == 960


def test_a_device_without_frames_has_no_figures_of_a_link(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.wire.figures().state != ""
    bench.wire.on_events([Recognised(Mode.TEXT)], bench.loop.now)
    assert bench.wire.figures().state == ""


def test_a_command_of_several_lines_is_said_to_be_dropped_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, mode="text", commands="c")
    bench.wire.machine.send = Mock(return_value=False)  # type: ignore[method-assign]
    for _ in range(2):
        bench.wire._speaker.on_publish(Message("c", b"a\nb", 0))
        bench.wire.on_events((), bench.loop.now)
    assert caplog.text.count("a command of several lines is dropped") == 1
    assert bench.wire.counts["command of several lines"] == 2
