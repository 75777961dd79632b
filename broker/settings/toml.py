"""One settings file on its way into a draft."""

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker.settings.problems import Entry, Place, Problem
from broker.settings.tables import LISTS, NEEDED, RULES, SECTIONS
from broker.settings.words import did_you_mean

if TYPE_CHECKING:
    from broker.settings.loading import Draft


class TomlFile:
    """One settings file on its way into a draft: knows its lines, and where its paths start."""

    def __init__(self, draft: "Draft", path: Path, text: str) -> None:
        self.draft = draft
        self.source = str(path)
        self.folder = path.parent
        self.lines = _lines_of_keys(text)

    def read(self, document: dict[str, Any]) -> None:
        for name, table in _lifted(document).items():
            if name in LISTS:
                self._read_list(name, table)
            elif name in SECTIONS:
                self._read_section(name, table)
            else:
                known = did_you_mean(name, [*SECTIONS, *LISTS])
                self._complain(name, f"there is no such section: {known}")

    def _read_section(self, name: str, table: object) -> None:
        if isinstance(table, dict):
            self._read_table(name, table, self.draft.values[name], name)
        else:
            self._complain(name, f"is a section: write [{name}] on a line of its own")

    def _read_list(self, name: str, tables: object) -> None:
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._complain(name, f"is a list: write [[{name}]], with two brackets")
            return
        for number, table in enumerate(tables, 1):
            self._read_entry(name, table, f"{name}[{number}]")

    def _read_entry(self, name: str, table: dict[str, object], place: str) -> None:
        for key, example in NEEDED[name].items():
            if key not in table:
                self._complain(place, f'has no {key}: add {key} = "{example}"')
        values: dict[str, Any] = {}
        self._read_table(name, table, values, place)
        lines = {key: self._line(f"{place}.{key}") for key in table} | {"": self._line(place)}
        where = Place(self.source, place, lines)
        self.draft.lists[name].append(Entry(self.source, lines[""], values, where))

    def _read_table(
        self, section: str, table: dict[str, object], values: dict[str, Any], place: str
    ) -> None:
        for key, value in table.items():
            rule = RULES[section].get(key)
            if rule is None:
                known = did_you_mean(key, RULES[section])
                self._complain(f"{place}.{key}", f"there is no such key: {known}")
                continue
            where = Problem(self.source, f"{place}.{key}", "", self._line(f"{place}.{key}"))
            self.draft.keep(values, key, rule.read, value, where)
            if isinstance(values.get(key), Path):
                values[key] = self.folder / values[key]

    def _complain(self, key: str, wrong: str) -> None:
        self.draft.problems.append(Problem(self.source, key, wrong, self._line(key)))

    def _line(self, dotted: str) -> int:
        return self.lines.get(dotted, 0)


def _lifted(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the lists that stand inside sections, [[http.token]], beside those."""
    lifted = dict(document)
    for dotted in (name for name in LISTS if "." in name):
        section, _, key = dotted.partition(".")
        table = lifted.get(section)
        if isinstance(table, dict) and key in table:
            lifted[section] = {name: value for name, value in table.items() if name != key}
            lifted[dotted] = table[key]
    return lifted


def _lines_of_keys(text: str) -> dict[str, int]:
    """The line of each section and plainly written key, such as "listener[2].url"."""
    lines: dict[str, int] = {}
    section, entries = "", Counter[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line):
            section = header[1]
            if section in LISTS:
                entries[section] += 1
                section = f"{section}[{entries[section]}]"
            lines.setdefault(section, number)
        elif key := re.match(r"\s*([\w.-]+)\s*=", line):
            lines.setdefault(f"{section}.{key[1]}".lstrip("."), number)
    return lines
