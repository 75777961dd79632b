"""Reading a scenario file: every problem is found, and told with its line, before it is refused."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Any

from firmware_sim.device.battery import BatterySettings
from firmware_sim.device.bugs import Bug
from firmware_sim.device.signals import read_recording
from firmware_sim.scenario import wires
from firmware_sim.scenario.checks import check_span, kind_problems, scenario_problems
from firmware_sim.scenario.keys import DEVICES, LISTS, NEEDED, SECTIONS, SIGNAL_KEYS
from firmware_sim.scenario.levels import given_problems
from firmware_sim.scenario.rules import Range, Rule, did_you_mean, show
from firmware_sim.scenario.scenario import Incident, Kind, Scenario, ScenarioError, SignalSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


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
    except ValueError:  # Python's, of a number
        raise ScenarioError([f"{path}: has a number of thousands of digits"]) from None
    except RecursionError:
        raise ScenarioError([f"{path}: lists or tables are nested too deep"]) from None
    return _Reading(path, text).read(document)


class _Reading:
    """One file while it is read: good values so far, and every problem met."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = _lines_of_keys(text)
        self._problems: list[tuple[int, str]] = []

    def read(self, document: dict[str, Any]) -> Scenario:
        for name in document:
            if name not in SECTIONS and name not in LISTS:
                known = did_you_mean(name, [*SECTIONS, *LISTS])
                self._complain(name, f"there is no such section: {known}")
        sections = {name: self._section(name, document.get(name, {})) for name in SECTIONS}
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
            return self._table(name, table, SECTIONS[name])
        self._complain(name, f"is a section: write [{name}] on a line of its own")
        return {}

    def _entries(self, name: str, document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        tables = document.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._complain(name, f"is a list: write [[{name}]], with two brackets")
            return
        for number, table in enumerate(tables, 1):
            place = f"{name}[{number}]"
            for key, example in NEEDED[name].items():
                if key not in table:
                    self._complain(place, f"has no {key}: add {key} = {example}")
            yield place, self._table(place, table, LISTS[name])

    def _table(
        self, place: str, table: dict[str, Any], rules: Mapping[str, Rule]
    ) -> dict[str, Any]:
        values = {}
        for key, value in table.items():
            dotted = f"{place}.{key}"
            if key == "signals" and rules is DEVICES:
                values[key] = tuple(self._signals(dotted, value))
            elif key not in rules:
                known = did_you_mean(key, [*rules, *(("signals",) if rules is DEVICES else ())])
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
            for key, wrong in (*given_problems(kind, values), *kind_problems(kind)):
                self._complain(f"{place}.{key}", wrong)
            yield kind

    def _signals(self, dotted: str, value: object) -> Iterator[SignalSettings]:
        if not isinstance(value, list) or not value:
            self._complain(dotted, 'is a list: write one such as ["temperature"]')
            return
        for entry in value:
            table = entry if isinstance(entry, dict) else {"type": entry}
            name = table.get("type", "")
            if isinstance(name, str) and name in SIGNAL_KEYS:
                yield self._signal(dotted, table)
            else:
                known = did_you_mean(str(name), SIGNAL_KEYS)
                self._complain(dotted, f"there is no signal {show(name)}: {known}")

    def _signal(self, dotted: str, table: dict[str, Any]) -> SignalSettings:
        name = table["type"]
        given = {key: value for key, value in table.items() if key != "type"}
        try:
            keywords = Range(f'the signal "{name}"', SIGNAL_KEYS[name]).read(given)
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
        for key, wrong in scenario_problems(scenario):
            self._complain(key, wrong)

    def _complain(self, key: str, wrong: str) -> None:
        line = self._line(key)
        place = f"{self._path}:{line}" if line else str(self._path)
        self._problems.append((line, _printable(f"{place}: {key}: {wrong}")))

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


def _lines_of_keys(text: str) -> dict[str, int]:
    """The line of each section and plainly written key, such as "devices[2].count"."""
    lines: dict[str, int] = {}
    section, entries = "", Counter[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line):
            section = header[1]
            lines.setdefault(section, number)
            if section in LISTS:
                entries[section] += 1
                section = f"{section}[{entries[section]}]"
            lines.setdefault(section, number)
        elif key := re.match(r"\s*([\w.-]+)\s*=", line):
            lines.setdefault(f"{section}.{key[1]}".lstrip("."), number)
    return lines


def _printable(text: str) -> str:
    """A key may hold anything, also what a terminal obeys."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _not_toml(path: Path, error: tomllib.TOMLDecodeError) -> str:
    """The parser's complaint, with the line where all our others have it."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column \d+\)", str(error))
    if found is None:
        return f"{path}: is not TOML: {error}"
    return f"{path}:{found[2]}: is not TOML: {found[1]}"
