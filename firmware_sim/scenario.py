"""A scenario file: which devices there are, what they do, what happens to them, and for how long.

One key, one line: its rule and its default. `load` finds every problem before it raises.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from firmware_sim import wires
from firmware_sim.battery import BatterySettings
from firmware_sim.bugs import Bug
from firmware_sim.endpoint import parse_endpoint
from firmware_sim.rules import (
    DAY,
    HOUR,
    NAME,
    Choice,
    Choices,
    Duration,
    Flag,
    Number,
    Range,
    Rule,
    Text,
    TimeOfDay,
    Whole,
    did_you_mean,
    in_words,
    show,
)
from firmware_sim.signals import SIGNALS, Row, read_recording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

WAYS: Final = ("mqtt", *wires.WAYS)
MOST_DEVICES, MOST_WIRES = 50_000, 1024
MOST_PER_SECOND = 20_000.0  # messages of a whole fleet; one process makes no more
MOST_MESSAGES = 20_000_000  # of a whole run, 19 bytes each in the ledger
TYPICAL_MESSAGE = 120  # bytes of a reading on a wire
LONGEST = 400 * DAY


class ScenarioError(Exception):
    """The scenario cannot be run; `problems` has every reason as "file:line: key: what"."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


@dataclass(frozen=True, slots=True)
class SignalSettings:
    """One signal: its type in `SIGNALS` and its keywords, or the rows of a recording."""

    type: str
    keywords: Mapping[str, Any]
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """One [[devices]]. Times in seconds; `interval` None: only when its signals have news."""

    kind: str
    count: int = 1
    way: str = "mqtt"
    broker: str = ""  # another one than the scenario's
    version: str = "5"
    topic: str = "sim/{kind}/{device}"
    signals: tuple[SignalSettings, ...] = (SignalSettings("temperature", {}),)
    interval: float | None = 60.0
    qos: int = 1
    sleeps: bool = False
    session: str = ""  # "": durable if it sleeps or has QoS 2, else clean
    keep_alive: int = 60
    commands: float | None = None  # how often each is sent one
    flash: int = 256
    volatile: bool = False  # what waits is in RAM
    window: int = 4
    drift_ppm: float = 0.0  # at most, in either direction
    battery: BatterySettings | None = None
    bugs: frozenset[Bug] = frozenset()
    wire: wires.WireSettings = field(default_factory=wires.WireSettings)

    @property
    def is_durable(self) -> bool:
        """Whether its session outlives its connection."""
        if self.session:
            return self.session == "durable"
        return self.sleeps or (self.qos == 2 and self.version == "5")


@dataclass(frozen=True, slots=True)
class Incident:
    """One [[event]]: at `at`, for `lasts` seconds, some devices have no power, or no wire."""

    at: float
    what: str = "brown-out"
    devices: str = "*"  # kinds, with * and ?
    lasts: float = 5.0
    every: float | None = None

    def meets(self, kind: str) -> bool:
        """Whether it happens to devices of this kind."""
        return fnmatchcase(kind, self.devices)


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it."""

    name: str
    kinds: tuple[Kind, ...]
    incidents: tuple[Incident, ...] = ()
    seed: int = 1
    duration: float = 60.0
    time: str = "real"
    starts_at: float = 8 * HOUR
    drain: float = 20.0  # seconds for what is under way at the end
    ramp: float = 2.0  # seconds over which the devices are switched on
    broker: str = "mqtt://127.0.0.1:1883"
    ports: str = "ports"
    subscribers: int = 1
    subscriber_qos: int = 2
    about: str = ""

    @property
    def devices(self) -> int:
        """How many there are."""
        return sum(kind.count for kind in self.kinds)


def load(path: Path) -> Scenario:
    """Read a scenario file. Raises ScenarioError with every problem."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise ScenarioError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ScenarioError([f"{path}: is not UTF-8 text"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError([_not_toml(path, error)]) from None
    return _Reading(path, text).read(document)


def scaled(scenario: Scenario, devices: int) -> Scenario:
    """The scenario with about this many devices, at least one of each kind."""
    ratio = devices / scenario.devices
    kinds = [replace(kind, count=max(round(kind.count * ratio), 1)) for kind in scenario.kinds]
    return replace(scenario, kinds=tuple(kinds))


def checked(scenario: Scenario) -> Scenario:
    """The scenario, if it can be run as it is now. Raises ScenarioError."""
    problems = [f"{key}: {wrong}" for key, wrong in _scenario_problems(scenario)]
    if problems:
        raise ScenarioError(problems)
    return scenario


# ---- the keys ----

_TOPIC = Text(
    r"(?=[^#+$\0]*\{device\})[^#+$\0]+",
    'write a topic with {device} in it, without # and +, such as "farm/{device}/climate"',
)
_FIELD = Text(r"[a-z][a-z0-9_]*", "write small letters, digits and _", 30)
_INTERVAL = Duration(0.001, 30 * DAY)

_SCENARIO: Final[Mapping[str, Rule]] = {
    "name": NAME,
    "about": Text(r"[^\0]*", "write a sentence", 2000),
    "seed": Whole(0, 2**63 - 1),
    "duration": Duration(0.1, LONGEST, '60 or "10 min"'),
    "time": Choice(("real", "virtual")),
    "starts_at": TimeOfDay(),
    "drain": Duration(0.0, HOUR),
    "ramp": Duration(0.0, DAY),
    "broker": Text(r".+", 'write a URL such as "mqtt://127.0.0.1"'),
}
_VERIFY: Final[Mapping[str, Rule]] = {"subscribers": Whole(1, 16), "qos": Whole(1, 2)}
_UART: Final[Mapping[str, Rule]] = {"ports": Text(r"[^\0]+", "write the path of a folder", 1000)}
_BATTERY = Range(
    "a battery",
    {
        "capacity": Number(0.001, 1e6),
        "asleep": Number(0.0, 1e5),
        "awake": Number(0.0, 1e5),
        "sending": Number(0.0, 1e5),
        "rate": Number(1.0, 1e9),
        "start": Number(0.0, 60.0),
    },
)
_SIGNAL_KEYS: Final[Mapping[str, Mapping[str, Rule]]] = {
    "temperature": {
        "mean": Number(-100, 200),
        "swing": Number(0, 100),
        "weather": Number(0, 100),
    },
    "drift": {
        "name": _FIELD,
        "start": Number(),
        "per_hour": Number(0, 1e9),
        "low": Number(),
        "high": Number(),
    },
    "door": {"per_hour": Number(0.001, 3600), "open_for": Duration(0.1, DAY)},
    "vibration": {
        "rest": Number(0, 1e6),
        "burst": Number(0, 1e6),
        "per_hour": Number(0.001, 3600),
    },
    "counter": {"name": _FIELD, "per_hour": Number(0, 1e9)},
    "replay": {
        "file": Text(r"[^\0]+", "write the path of a CSV file", 1000),
        "speed": Number(0.001, 1e5),
    },
}
_DEVICES: Final[Mapping[str, Rule]] = {
    "kind": NAME,
    "count": Whole(1, MOST_DEVICES),
    "way": Choice(WAYS),
    "broker": Text(r".+", 'write a URL such as "wss://127.0.0.1"'),
    "version": Choice(("3.1.1", "5")),
    "topic": _TOPIC,
    "interval": _INTERVAL,
    "qos": Whole(0, 2),
    "sleeps": Flag(),
    "session": Choice(("durable", "clean")),
    "keep_alive": Whole(1, 65_535),
    "commands": _INTERVAL,
    "flash": Whole(1, 1_000_000),
    "volatile": Flag(),
    "window": Whole(1, 20),
    "drift_ppm": Number(0, 100_000),
    "battery": _BATTERY,
    "bugs": Choices(tuple(Bug)),
    "wire": Range("a wire", wires.RULES),
}
_EVENT: Final[Mapping[str, Rule]] = {
    "at": Duration(0.0, LONGEST),
    "what": Choice(("brown-out", "unplug")),
    "devices": Text(r"[A-Za-z0-9_*?-]+", 'write a kind, or several with *, such as "hall-*"'),
    "lasts": Duration(0.001, DAY),
    "every": Duration(0.1, LONGEST),
}
_SECTIONS: Final = {"scenario": _SCENARIO, "verify": _VERIFY, "uart": _UART}
_LISTS: Final = {"devices": _DEVICES, "event": _EVENT}
_NEEDED: Final = {"devices": {"kind": '"soil"'}, "event": {"at": '"1 min"'}}


class _Reading:
    """One file while it is read: good values so far, and every problem met."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = _lines_of_keys(text)
        self._problems: list[tuple[int, str]] = []

    def read(self, document: dict[str, Any]) -> Scenario:
        for name in document:
            if name not in _SECTIONS and name not in _LISTS:
                known = did_you_mean(name, [*_SECTIONS, *_LISTS])
                self._complain(name, f"there is no such section: {known}")
        sections = {name: self._section(name, document.get(name, {})) for name in _SECTIONS}
        kinds = tuple(self._kinds(document))
        incidents = tuple(
            Incident(**values) for _, values in self._entries("event", document) if "at" in values
        )
        scenario = _assembled(self._path, sections, kinds, incidents)
        self._check(scenario)
        self._raise()
        return scenario

    def _section(self, name: str, table: object) -> dict[str, Any]:
        if isinstance(table, dict):
            return self._table(name, table, _SECTIONS[name])
        self._complain(name, f"is a section: write [{name}] on a line of its own")
        return {}

    def _entries(self, name: str, document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        tables = document.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._complain(name, f"is a list: write [[{name}]], with two brackets")
            return
        for number, table in enumerate(tables, 1):
            place = f"{name}[{number}]"
            for key, example in _NEEDED[name].items():
                if key not in table:
                    self._complain(place, f"has no {key}: add {key} = {example}")
            yield place, self._table(place, table, _LISTS[name])

    def _table(
        self, place: str, table: dict[str, Any], rules: Mapping[str, Rule]
    ) -> dict[str, Any]:
        values = {}
        for key, value in table.items():
            dotted = f"{place}.{key}"
            if key == "signals" and rules is _DEVICES:
                values[key] = tuple(self._signals(dotted, value))
            elif key not in rules:
                known = did_you_mean(key, [*rules, *(("signals",) if rules is _DEVICES else ())])
                self._complain(dotted, f"there is no such key: {known}")
            else:
                self._keep(values, dotted, key, rules[key], value)
        return values

    def _keep(
        self, values: dict[str, Any], dotted: str, key: str, rule: Rule, value: object
    ) -> None:
        try:
            values[key] = rule.read(value)
        except ValueError as error:
            self._complain(dotted, str(error))

    def _kinds(self, document: dict[str, Any]) -> Iterator[Kind]:
        seen: set[str] = set()
        for place, values in self._entries("devices", document):
            if "kind" not in values:
                continue
            if values["kind"] in seen:
                self._complain(f"{place}.kind", f"{show(values['kind'])} is there twice")
            seen.add(values["kind"])
            kind = _kind_of(values)
            for key, wrong in _kind_problems(kind):
                self._complain(f"{place}.{key}", wrong)
            yield kind

    def _signals(self, dotted: str, value: object) -> Iterator[SignalSettings]:
        if not isinstance(value, list) or not value:
            self._complain(dotted, 'is a list: write one such as ["temperature"]')
            return
        for entry in value:
            table = {"type": entry} if isinstance(entry, str) else entry
            if not isinstance(table, dict) or table.get("type") not in _SIGNAL_KEYS:
                name = table.get("type") if isinstance(table, dict) else table
                known = did_you_mean(str(name), _SIGNAL_KEYS)
                self._complain(dotted, f"there is no signal {show(name)}: {known}")
                continue
            yield self._signal(dotted, table)

    def _signal(self, dotted: str, table: dict[str, Any]) -> SignalSettings:
        name = table["type"]
        given = {key: value for key, value in table.items() if key != "type"}
        try:
            keywords = Range(f'the signal "{name}"', _SIGNAL_KEYS[name]).read(given)
            check_span(keywords)
            return self._recording(keywords) if name == "replay" else SignalSettings(name, keywords)
        except ValueError as error:
            self._complain(dotted, str(error))
            return SignalSettings("temperature", {})

    def _recording(self, keywords: dict[str, Any]) -> SignalSettings:
        if "file" not in keywords:
            raise ValueError('a replay has no file: add file = "recording.csv"')
        path = self._path.parent / keywords.pop("file")
        try:
            return SignalSettings("replay", keywords, read_recording(path))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"{path}: {why}") from None

    def _check(self, scenario: Scenario) -> None:
        for key, wrong in _scenario_problems(scenario):
            self._complain(key, wrong)

    def _complain(self, key: str, wrong: str) -> None:
        line = self._line(key)
        place = f"{self._path}:{line}" if line else str(self._path)
        self._problems.append((line, f"{place}: {key}: {wrong}"))

    def _line(self, key: str) -> int:
        """Where a key stands, or else what it belongs to."""
        while key not in self._lines and "." in key:
            key = key.rpartition(".")[0]
        return self._lines.get(key, 0)

    def _raise(self) -> None:
        if self._problems:
            raise ScenarioError([text for _, text in sorted(self._problems)])


def _assembled(
    path: Path,
    sections: Mapping[str, dict[str, Any]],
    kinds: tuple[Kind, ...],
    incidents: tuple[Incident, ...],
) -> Scenario:
    verify = {
        name: sections["verify"][key]
        for key, name in (("subscribers", "subscribers"), ("qos", "subscriber_qos"))
        if key in sections["verify"]
    }
    name = re.sub(r"[^A-Za-z0-9_-]", "-", path.stem) or "scenario"
    values = {"name": name, **sections["scenario"], **verify, **sections["uart"]}
    return Scenario(**values, kinds=kinds, incidents=incidents)


def _kind_of(values: dict[str, Any]) -> Kind:
    kept = dict(values)
    if "battery" in kept:
        kept["battery"] = BatterySettings(**kept["battery"])
    if "wire" in kept:
        kept["wire"] = wires.WireSettings(**kept["wire"])
    kept["bugs"] = frozenset(map(Bug, kept.get("bugs", ())))
    return Kind(**_with_interval(kept))


def _with_interval(values: dict[str, Any]) -> dict[str, Any]:
    """A replay comes at its own times unless there is an interval as well."""
    replays = any(signal.type == "replay" for signal in values.get("signals", ()))
    return {"interval": None, **values} if replays else values


# ---- what no single key can tell ----


def check_span(keywords: Mapping[str, Any]) -> None:
    """A range has room. Raises ValueError."""
    low, high = keywords.get("low", 0.0), keywords.get("high", 100.0)
    if low >= high:
        raise ValueError(f"low, {low:g}, is not below high, {high:g}: write a range with room")


def _kind_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    for check in (_way_problems, _bug_problems, _wire_problems, _rate_problems):
        yield from check(kind)


def _way_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    if kind.broker:
        try:
            parse_endpoint(kind.broker)
        except ValueError as error:
            yield "broker", str(error)
    if kind.way != "mqtt" and kind.broker:
        yield (
            "broker",
            f'is for way = "mqtt": a "{kind.way}" device reaches its broker by a gateway',
        )
    if kind.way == "text" and kind.qos != 0:
        yield "qos", "lines of text are not acknowledged: write qos = 0"
    if kind.sleeps and kind.way == "text":
        yield "sleeps", "lines of text know no sleep: leave it out"
    if kind.way == "mqtt" and kind.session == "durable" and kind.qos == 2 and kind.version != "5":
        yield "session", 'QoS 2 in a durable session needs version = "5" here'


def _bug_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    if Bug.NEVER_ACKS in kind.bugs and kind.way != "mqtt":
        yield "bugs", '"never_acks" is for way = "mqtt"'
    if Bug.NEVER_ACKS in kind.bugs and kind.commands is None:
        yield "bugs", '"never_acks" cannot be seen without commands: add commands = "5 s"'
    if Bug.DUPLICATE_IDS in kind.bugs and kind.count < 2:
        yield "bugs", '"duplicate_ids" needs a second device: write count = 2 or more'


def _wire_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    try:
        _ = kind.wire.faults
    except ValueError as error:
        yield "wire", str(error)


def _rate_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    if kind.way not in wires.WAYS or kind.interval is None:
        return
    capacity = kind.wire.baud / 10
    wanted = TYPICAL_MESSAGE / kind.interval
    if wanted > capacity:
        yield (
            "interval",
            (
                f"a wire of {kind.wire.baud} baud carries {capacity:.0f} bytes per second, and "
                f"this wants {wanted:.0f}: "
                f"write {in_words(_round_up(TYPICAL_MESSAGE / capacity))} or more"
            ),
        )


def _round_up(seconds: float) -> float:
    return -(-seconds * 1000 // 1) / 1000


def _scenario_problems(scenario: Scenario) -> Iterator[tuple[str, str]]:
    if not scenario.kinds:
        yield "devices", 'there are none: add [[devices]] with kind = "soil"'
    try:
        parse_endpoint(scenario.broker)
    except ValueError as error:
        yield "scenario.broker", str(error)
    yield from _size_problems(scenario)
    for number, incident in enumerate(scenario.incidents, 1):
        place = f"event[{number}]"
        if not any(incident.meets(kind.kind) for kind in scenario.kinds):
            kinds = ", ".join(kind.kind for kind in scenario.kinds)
            yield f"{place}.devices", f"there is no such kind: known here: {kinds}"
        if incident.every is not None and incident.every <= incident.lasts:
            yield f"{place}.every", "it begins anew before it ends: write more than lasts"


def _size_problems(scenario: Scenario) -> Iterator[tuple[str, str]]:
    wired = sum(kind.count for kind in scenario.kinds if kind.way in wires.WAYS)
    if scenario.devices > MOST_DEVICES:
        yield "devices", f"there are {scenario.devices}: at most {MOST_DEVICES} in one run"
    if wired > MOST_WIRES:
        yield "devices", f"there are {wired} on wires: at most {MOST_WIRES} in one run"
    rate = sum(kind.count / kind.interval for kind in scenario.kinds if kind.interval)
    if scenario.time == "real" and rate > MOST_PER_SECOND:
        yield (
            "devices",
            (
                f"they would send {rate:.0f} messages per second: at most {MOST_PER_SECOND:.0f}, "
                "so write longer intervals or fewer devices"
            ),
        )
    if rate * scenario.duration > MOST_MESSAGES:
        yield (
            "scenario.duration",
            (
                f"that makes {rate * scenario.duration:.0f} messages: at most {MOST_MESSAGES} in "
                "one run, so write a shorter duration or longer intervals"
            ),
        )


# ---- lines ----


def _lines_of_keys(text: str) -> dict[str, int]:
    """The line of each section and plainly written key, such as "devices[2].count"."""
    lines: dict[str, int] = {}
    section, entries = "", Counter[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line):
            section = header[1]
            lines.setdefault(section, number)
            if section in _LISTS:
                entries[section] += 1
                section = f"{section}[{entries[section]}]"
            lines.setdefault(section, number)
        elif key := re.match(r"\s*([\w.-]+)\s*=", line):
            lines.setdefault(f"{section}.{key[1]}".lstrip("."), number)
    return lines


def _not_toml(path: Path, error: tomllib.TOMLDecodeError) -> str:
    """The parser's complaint, with the line where all our others have it."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", str(error))
    if found is None:
        return f"{path}: is not TOML: {error}"
    return f"{path}:{found[2]}: is not TOML: {found[1]}"


assert set(_SIGNAL_KEYS) == {*SIGNALS, "replay"}, "every signal has its keys"
