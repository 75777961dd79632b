"""Levels of truth in a scenario file: what real firmware can be told, and what it is told instead."""

# ruff: noqa: E501 - one mistake, one line

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmware_sim.scenario.checks import checked
from firmware_sim.scenario.file import load
from firmware_sim.scenario.levels import MOST_EMULATED
from firmware_sim.scenario.scenario import ScenarioError, scaled

if TYPE_CHECKING:
    from pathlib import Path

    from firmware_sim.scenario.scenario import Scenario

COMPILED = '[[devices]]\nkind = "c"\nway = "framed"\nlevel = "compiled"\n'
EMULATED = COMPILED.replace("compiled", "emulated")
VIRTUAL = '[scenario]\ntime = "virtual"\n'
MODEL = '[[devices]]\nkind = "m"\n'


def read(folder: Path, text: str) -> Scenario:
    path = folder / "levels.toml"
    path.write_text(text)
    return load(path)


def test_a_device_is_a_model_unless_another_level_is_written(tmp_path: Path) -> None:
    scenario = read(tmp_path, MODEL + COMPILED + EMULATED.replace('"c"', '"e"'))
    assert [kind.level for kind in scenario.kinds] == ["model", "compiled", "emulated"]
    assert scenario.kinds[2].part == "arduino-uno"


def test_what_the_firmware_can_be_told_is_read(tmp_path: Path) -> None:
    keys = 'part = "lm3s6965"\nqos = 2\ninterval = "250 ms"\nkeep_alive = 30\ncommands = 5\n'
    more = 'session = "clean"\ntopic = "x/{device}"\ncount = 3\nwire = { baud = 9600, errors = 0.01 }\n'
    (kind,) = read(tmp_path, EMULATED + keys + more).kinds
    assert (kind.part, kind.qos, kind.interval, kind.keep_alive) == ("lm3s6965", 2, 0.25, 30)
    assert (kind.commands, kind.is_durable, kind.count, kind.wire.baud) == (5.0, False, 3, 9600)


def test_compiled_firmware_runs_in_virtual_time(tmp_path: Path) -> None:
    assert read(tmp_path, VIRTUAL + COMPILED).time == "virtual"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (MODEL + 'level = "compield"\n', ':3: devices[1].level: "compield" is not known here: write "compiled"'),
        (MODEL + 'level = "compiled"\n', ':3: devices[1].level: the firmware in C speaks on a framed wire: write way = "framed", or level = "model"'),
        (MODEL + 'level = "emulated"\nway = "text"\nqos = 0\n', ':3: devices[1].level: the firmware in C speaks on a framed wire: write way = "framed"'),
        (MODEL + 'part = "arduino-uno"\n', ':3: devices[1].part: is for level = "emulated"'),
        (COMPILED + 'part = "arduino-uno"\n', ':5: devices[1].part: is for level = "emulated"'),
        (EMULATED + 'part = "uno"\n', ':5: devices[1].part: "uno" is not known here: write "atmega328p" or "lm3s6965" or "arduino-uno"'),
        (COMPILED + 'signals = ["temperature"]\n', ':5: devices[1].signals: is for level = "model"; the firmware has a sensor of its own'),
        (COMPILED + 'sleeps = true\ninterval = "10 h"\n', ":6: devices[1].interval: one that sleeps measures at least every 9 h"),
        (COMPILED + "flash = 256\n", ":5: devices[1].flash: is for level"),
        (COMPILED + "volatile = true\n", ":5: devices[1].volatile: is for level"),
        (COMPILED + "window = 4\n", ":5: devices[1].window: is for level"),
        (COMPILED + "drift_ppm = 20\n", ":5: devices[1].drift_ppm: is for level"),
        (EMULATED + "battery = { capacity = 5 }\n", ":5: devices[1].battery: is for level"),
        (EMULATED + 'bugs = ["sends_twice"]\n', ":5: devices[1].bugs: is for level"),
        (COMPILED + 'version = "5"\n', ":5: devices[1].version: is for level"),
        (COMPILED + 'broker = "mqtt://x"\n', ':5: devices[1].broker: is for way = "mqtt"'),
        (COMPILED + 'interval = "15 ms"\nwire = { baud = 921600 }\n', ":5: devices[1].interval: the firmware measures every 20 ms at most"),
        (EMULATED + "wire = { baud = 230400 }\n", ":5: devices[1].wire: baud: the controller's UART does 115200 bit/s"),
        (COMPILED.replace('"c"', '"greenhouse-1"'), ':2: devices[1].kind: "greenhouse-1-0001" is a client id, and the firmware takes 16 bytes: write a kind of at most 11 letters'),
        (COMPILED + f'topic = "{"a" * 109}/{{device}}"\n', ":5: devices[1].topic: takes 116 bytes, and the firmware has room for 114"),
        (VIRTUAL + MODEL + EMULATED, ':8: devices[2].level: an emulated controller has a clock of its own: write level = "compiled", or time = "real"'),
        (EMULATED + f"count = {MOST_EMULATED + 1}\n", ":1: devices: there are 65 emulated ones: at most 64 in one run"),
        (COMPILED + "count = 257\n", ":1: devices: there are 257 compiled ones: at most 256 in one run"),
    ],
)  # fmt: skip
def test_what_does_not_apply_is_refused_with_its_line_and_what_would_be_right(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(tmp_path, text)
    told = [
        problem.removeprefix(f"{tmp_path / 'levels.toml'}") for problem in caught.value.problems
    ]
    assert any(each.startswith(complaint) for each in told), told


def test_a_scenario_that_was_made_larger_keeps_to_what_is_possible(tmp_path: Path) -> None:
    scenario = read(tmp_path, MODEL + "count = 20\n" + EMULATED)
    with pytest.raises(ScenarioError, match="emulated ones: at most 64 in one run"):
        checked(scaled(scenario, 2000))
