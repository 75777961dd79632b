"""Scenario files: what is read, and what is said of every mistake."""

# ruff: noqa: E501 - one mistake, one line

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bridges.serial.port_spec import Kind as PortKind
from bridges.serial.port_spec import parse_port
from firmware_sim.device.bugs import Bug
from firmware_sim.fleet.crew import topic_filter
from firmware_sim.scenario.file import load
from firmware_sim.scenario.scenario import Kind, Scenario, ScenarioError, scaled

ROOT = Path(__file__).parents[4]
SHIPPED = sorted((ROOT / "configs" / "scenarios").glob("*.toml"))
DEVICES = '[[devices]]\nkind = "soil"\n'


def read(folder: Path, text: str) -> Scenario:
    path = folder / "my farm.toml"
    path.write_text(text)
    return load(path)


def complaints(folder: Path, text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        read(folder, text)
    return [problem.removeprefix(f"{folder / 'my farm.toml'}") for problem in caught.value.problems]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_are_good(path: Path) -> None:
    scenario = load(path)
    assert scenario.name == path.stem
    assert scenario.about


def test_there_are_scenarios_for_every_purpose() -> None:
    names = {path.stem for path in SHIPPED}
    assert names >= {"farm", "factory", "brownout", "weather-week", "replay", "three-levels"}


@pytest.mark.parametrize(
    "page",
    [
        "docs/simulation.md",
        "configs/scenarios/farm.toml",
        "configs/scenarios/three-levels.toml",
    ],
)
def test_ports_that_are_shown_for_the_gateway_are_ports_to_it(page: str) -> None:
    shown = re.findall(r'^[# ]*port = "(.*)"', (ROOT / page).read_text(), re.MULTILINE)
    assert shown
    for port in shown:
        assert parse_port(port).kind is PortKind.PATH


def test_a_kind_and_nothing_else_is_a_scenario(tmp_path: Path) -> None:
    scenario = read(tmp_path, DEVICES)
    assert scenario == Scenario("my-farm", (Kind("soil"),))
    assert scenario.time == "real"


def test_durations_sizes_and_tables_are_read_as_people_write_them(tmp_path: Path) -> None:
    scenario = read(
        tmp_path,
        '[scenario]\nduration = "1.5 h"\nstarts_at = "06:30"\n'
        '[[devices]]\nkind = "x"\ninterval = "250 ms"\nbugs = ["sends_twice"]\n'
        'signals = ["door", { type = "drift", name = "bar", low = -1, high = 2 }]\n'
        "battery = { capacity = 5 }\nwire = { baud = 9600, errors = 0.01 }\n"
        '[[event]]\nat = "1 min"\nevery = 90\n',
    )
    kind = scenario.kinds[0]
    assert (scenario.duration, scenario.starts_at, kind.interval) == (5400.0, 23_400.0, 0.25)
    assert kind.bugs == {Bug.SENDS_TWICE}
    assert [signal.type for signal in kind.signals] == ["door", "drift"]
    assert (kind.battery and kind.battery.capacity, kind.wire.baud) == (5.0, 9600)
    assert kind.wire.faults.per_byte == pytest.approx(0.01, rel=0.1)
    assert (scenario.incidents[0].at, scenario.incidents[0].every) == (60.0, 90.0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", ": devices: there are none: add [[devices]]"),
        ("x = = 1", ":1: is not TOML: "),
        ("[scenarios]\n" + DEVICES, ":1: scenarios: there is no such section: did you mean scenario?"),
        ("scenario = 1\n" + DEVICES, ":1: scenario: is a section: write [scenario]"),
        ('[devices]\nkind = "a"\n', ":1: devices: is a list: write [[devices]], with two brackets"),
        ("[[devices]]\ncount = 1\n", ':1: devices[1]: has no kind: add kind = "soil"'),
        (DEVICES + "cuont = 4\n", ":3: devices[1].cuont: there is no such key: did you mean count?"),
        (DEVICES + "count = 0\n", ":3: devices[1].count: 0 is out of range: write a whole number"),
        (DEVICES + 'count = "4"\n', ':3: devices[1].count: "4" is not a whole number'),
        (DEVICES + "sleeps = 1\n", ":3: devices[1].sleeps: 1 is not true or false"),
        (DEVICES + 'interval = "soon"\n', ':3: devices[1].interval: "soon" is not a duration'),
        (DEVICES + "interval = 0\n", ":3: devices[1].interval: 0 is out of range: write 30 or"),
        (DEVICES + 'way = "tcp"\n', ':3: devices[1].way: "tcp" is not known here: write "mqtt"'),
        (DEVICES + "qos = 3\n", ":3: devices[1].qos: 3 is out of range"),
        (DEVICES + 'topic = "a/b"\n', ":3: devices[1].topic: \"a/b\" is not good here: write a topic"),
        (DEVICES + 'topic = "a/#/{device}"\n', ":3: devices[1].topic: "),
        (DEVICES + 'signals = "door"\n', ":3: devices[1].signals: is a list"),
        (DEVICES + 'signals = ["dor"]\n', ':3: devices[1].signals: there is no signal "dor": did you mean door?'),
        (DEVICES + 'signals = [{ type = "drift", lo = 1 }]\n', 'there is no "lo" of the signal "drift": did you mean low?'),
        (DEVICES + 'signals = [{ type = "drift", low = 5, high = 5 }]\n', "low, 5, is not below high, 5"),
        (DEVICES + 'signals = [{ type = "replay" }]\n', "a replay has no file: add file"),
        (DEVICES + 'signals = [{ type = "replay", file = "no.csv" }]\n', "no.csv: No such file"),
        (DEVICES + 'bugs = ["sends_twise"]\n', ':3: devices[1].bugs: "sends_twise" is not known here: write "sends_twice"'),
        (DEVICES + 'bugs = ["never_acks"]\n', '"never_acks" cannot be seen without commands'),
        (DEVICES + 'bugs = ["duplicate_ids"]\n', '"duplicate_ids" needs a second device'),
        (DEVICES + 'bugs = ["never_acks"]\nway = "raw"\n', '"never_acks" is for way = "mqtt"'),
        (DEVICES + 'way = "text"\nsleeps = true\n', ":1: devices[1].qos: lines of text are not acknowledged"),
        (DEVICES + "battery = { capacity = -1 }\n", ":3: devices[1].battery: capacity: -1 is out of range"),
        (DEVICES + "wire = { baud = 1 }\n", ":3: devices[1].wire: baud: 1 is out of range"),
        (DEVICES + "wire = { errors = 0.5, drop = 0.5, flip = 0.5 }\n", ":3: devices[1].wire: "),
        (DEVICES + 'way = "raw"\ninterval = "10 ms"\nwire = { baud = 9600 }\n', ":4: devices[1].interval: a wire of 9600 baud carries 960 bytes per second, and this wants 12000: write 125 ms or more"),
        (DEVICES + 'broker = "http://x"\n', ":3: devices[1].broker: this is no address of a broker"),
        (DEVICES + 'way = "raw"\nbroker = "mqtt://x"\n', 'is for way = "mqtt"'),
        (DEVICES + 'session = "durable"\nqos = 2\nversion = "3.1.1"\n', ":3: devices[1].session: QoS 2"),
        (DEVICES + DEVICES, ':4: devices[2].kind: "soil" is there twice'),
        (DEVICES + "[[event]]\n", ':3: event[1]: has no at: add at = "1 min"'),
        (DEVICES + '[[event]]\nat = 1\nwhat = "fire"\n', ':5: event[1].what: "fire" is not known here'),
        (DEVICES + '[[event]]\nat = 1\ndevices = "x*"\n', ":5: event[1].devices: there is no such kind: known here: soil"),
        (DEVICES + "[[event]]\nat = 1\nevery = 2\nlasts = 3\n", ":5: event[1].every: it begins anew before it ends"),
        ('[scenario]\nstarts_at = "24:00"\n' + DEVICES, ":2: scenario.starts_at: "),
        ('[scenario]\nseed = -1\n' + DEVICES, ":2: scenario.seed: -1 is out of range"),
        ('[scenario]\nname = "a b"\n' + DEVICES, ':2: scenario.name: "a b" is not good here'),
        ('[scenario]\nbroker = "localhost"\n' + DEVICES, ":2: scenario.broker: this is no address"),
        (DEVICES + "count = 50000\ninterval = 1\n", "they would send 50000 messages per second: at most 20000"),
        ('[scenario]\nduration = "300 days"\ntime = "virtual"\n' + DEVICES + "interval = 1\n", ":2: scenario.duration: that makes 25920000 messages: at most"),
        (DEVICES + 'way = "slip"\ncount = 2000\n', "there are 2000 on wires: at most 1024"),
        (DEVICES + "drift_ppm = 1" + 400 * "0", ":3: devices[1].drift_ppm: 1000"),
        (DEVICES + "interval = 1" + 400 * "0", ":3: devices[1].interval: 1000"),
        (DEVICES + "interval = nan\n", ":3: devices[1].interval: nan is out of range"),
        (DEVICES + "drift_ppm = -inf\n", ":3: devices[1].drift_ppm: -inf is out of range"),
        (DEVICES + "count = 1" + 5000 * "0", ": has a number of thousands of digits"),
        ("a = " + 5000 * "[", ": lists or tables are nested too deep"),
        (DEVICES + '"\\u001b[31m" = 1\n', ": devices[1].?[31m: there is no such key"),
        (DEVICES + "signals = [{ low = 1 }]\n", ':3: devices[1].signals: there is no signal ""'),
        (DEVICES + "signals = [{ type = [1] }]\n", ":3: devices[1].signals: there is no signal [1]"),
        (
            '[[devices]]\nkind = "1"\ntopic = "x/a-000{device}"\n[[devices]]\nkind = "a-0001"\ntopic = "x/{device}"\n',
            ':6: devices[2].topic: "x/a-0001-0001" is that of 1-0001: write another one',
        ),
    ],
)  # fmt: skip
def test_every_mistake_is_told_with_its_line_and_what_would_be_right(
    tmp_path: Path, text: str, complaint: str
) -> None:
    assert any(complaint in told for told in complaints(tmp_path, text)), complaints(tmp_path, text)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    told = complaints(tmp_path, "[scenario]\nseeed = 1\n" + DEVICES + "count = 0\nqos = 9\n")
    assert [text.split(":")[1] for text in told] == ["2", "5", "6"]


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match="is not UTF-8 text"):
        load(tmp_path / "b.toml")


@pytest.mark.parametrize(
    ("recording", "complaint"),
    [
        (b"t,x\n0,1\n0,2\n", "all readings have the same time"),
        (b"t,x\n0," + 200_000 * b"9", "line 2: field larger than field limit"),
        (b"t,x\n0,\xff", "is not UTF-8 text"),
        (b"t,x\n0,1\n0.00001,2\n", "they would send 200000 "),
    ],
)
def test_a_recording_that_cannot_be_played_is_refused(
    tmp_path: Path, recording: bytes, complaint: str
) -> None:
    (tmp_path / "it.csv").write_bytes(recording)
    replay = 'signals = [{ type = "replay", file = "it.csv", speed = 2 }]\n'
    assert any(complaint in told for told in complaints(tmp_path, DEVICES + replay))


def test_a_scenario_is_scaled_with_something_of_each_kind(tmp_path: Path) -> None:
    scenario = read(tmp_path, DEVICES + 'count = 90\n[[devices]]\nkind = "mast"\ncount = 10\n')
    assert [kind.count for kind in scaled(scenario, 1000).kinds] == [900, 100]
    assert [kind.count for kind in scaled(scenario, 2).kinds] == [2, 1]


@pytest.mark.parametrize(
    ("topic", "expected"),
    [("a/{device}/b", "a/+/b"), ("{kind}/x-{device}", "soil/+"), ("a/{kind}/{device}", "a/soil/+")],
)
def test_subscribers_ask_for_all_devices_of_a_kind(topic: str, expected: str) -> None:
    assert topic_filter(Kind("soil", topic=topic)) == expected
