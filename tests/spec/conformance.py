"""Which test holds which normative statement of MQTT 3.1.1 and 5, and which statement has none.

The statements are in normative_3_1_1.csv and normative_5_0.csv, told in our own words. A test names
those that it would miss if they were broken: `@pytest.mark.spec("5.0:MQTT-3.1.0-2")`. Every
statement that binds a server has a test, or a reason in unobservable.toml why none can be.

    python -m tests.spec.conformance --write    writes docs/conformance.md
    python -m tests.spec.conformance --check    fails when a promise is open or the page is old
"""

import argparse
import contextlib
import csv
import io
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "conformance.md"
TABLES = {
    "3.1.1": HERE / "normative_3_1_1.csv",
    "5.0": HERE / "normative_5_0.csv",
}
REASONS = HERE / "unobservable.toml"
NAMED_TESTS = 3  # how many tests a row of the page names; the rest are counted

SECTIONS = {
    "1.5": "Data representation",
    "2.1": "Structure of a control packet",
    "2.2": "Variable header",
    "3.1": "CONNECT",
    "3.2": "CONNACK",
    "3.3": "PUBLISH",
    "3.4": "PUBACK",
    "3.5": "PUBREC",
    "3.6": "PUBREL",
    "3.7": "PUBCOMP",
    "3.8": "SUBSCRIBE",
    "3.9": "SUBACK",
    "3.10": "UNSUBSCRIBE",
    "3.11": "UNSUBACK",
    "3.12": "PINGREQ",
    "3.13": "PINGRESP",
    "3.14": "DISCONNECT",
    "3.15": "AUTH",
    "4.1": "Session state",
    "4.2": "Network connections",
    "4.3": "Quality of service",
    "4.4": "Message delivery retry",
    "4.5": "Message receipt",
    "4.6": "Message ordering",
    "4.7": "Topic names and filters",
    "4.8": "Subscriptions",
    "4.9": "Flow control",
    "4.10": "Request and response",
    "4.11": "Server redirection",
    "4.12": "Enhanced authentication",
    "4.13": "Handling errors",
    "6.0": "WebSocket",
    "7.0": "Conformance",
    "7.1": "Conformance targets",
}
SECTIONS_3_1_1 = {  # where the older standard counts otherwise
    "2.2": "Fixed header",
    "2.3": "Variable header",
    "4.8": "Handling errors",
}

INTRODUCTION = """\
# Conformance

Every normative statement of MQTT 3.1.1 and MQTT 5 by its number, in our own words, with the tests
that hold it. Where a statement binds only clients, none is due; where nothing a client or operator
sees could show it, the reason stands in place of a test.

Written by `make conformance` from the marks of the tests; `make check` refuses an old page and a
statement without test or reason.
"""


@dataclass(slots=True)
class Statement:
    """One normative statement; `tests` are node ids without their parameters."""

    version: str
    number: str
    binds: str  # client, server or both
    paraphrase: str
    tests: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def key(self) -> str:
        return f"{self.version}:{self.number}"

    @property
    def section(self) -> str:
        """Chapter and section: "3.1" for MQTT-3.1.2-24."""
        return ".".join(self.number.split("-")[1].split(".")[:2])

    @property
    def is_due(self) -> bool:
        return self.binds != "client"


class Collector:
    """A pytest plugin that notes which test carries which statement."""

    def __init__(self) -> None:
        self.marks: dict[str, dict[str, None]] = {}

    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        for item in items:
            test = item.nodeid.partition("[")[0]
            for mark in item.iter_markers("spec"):
                for key in mark.args:
                    self.marks.setdefault(key, {})[test] = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or say what is open."""
    parser = argparse.ArgumentParser(prog="python -m tests.spec.conformance")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="write docs/conformance.md")
    mode.add_argument("--check", action="store_true", help="say what is open or out of date")
    wanted = parser.parse_args(arguments)
    statements = read_statements()
    problems = assign(statements, collect_marks(), read_reasons())
    page = render(list(statements.values()))
    if wanted.write:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        problems.append("docs/conformance.md is out of date: make conformance writes it anew")
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


# -- reading ---------------------------------------------------------------------------------------


def read_statements() -> dict[str, Statement]:
    """Every statement of both versions by its key, in the order of the standards."""
    found = {}
    for version, path in TABLES.items():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                statement = Statement(version, row["id"], row["binds"], row["paraphrase"])
                found[statement.key] = statement
    return found


def read_reasons() -> dict[str, str]:
    """Why a statement has no test, by its key."""
    reasons: dict[str, str] = tomllib.loads(REASONS.read_text(encoding="utf-8"))["unobservable"]
    return reasons


def collect_marks() -> Mapping[str, Sequence[str]]:
    """The tests of the whole suite by the statement they carry, without running them."""
    collector = Collector()
    told = io.StringIO()
    arguments = [str(ROOT / "tests"), "--collect-only", "-qq", "-p", "no:cacheprovider"]
    with contextlib.redirect_stdout(told):
        code = pytest.main(arguments, plugins=[collector])
    if code != pytest.ExitCode.OK:
        sys.exit(f"{told.getvalue()}\nThe tests cannot be collected.")
    return {key: sorted(tests) for key, tests in collector.marks.items()}


def assign(
    statements: Mapping[str, Statement],
    marks: Mapping[str, Sequence[str]],
    reasons: Mapping[str, str],
) -> list[str]:
    """Give every statement its tests and its reason; return what does not go together."""
    problems = [
        f"{key}: no such statement, carried by {marks[key][0]}"
        for key in sorted(marks.keys() - statements)
    ]
    problems += [
        f"{key}: no such statement, in unobservable.toml"
        for key in sorted(reasons.keys() - statements)
    ]
    for key, statement in statements.items():
        statement.tests = list(marks.get(key, ()))
        statement.reason = reasons.get(key, "")
        if statement.reason and statement.tests:
            problems.append(f"{key}: unobservable, it says, yet observed by {statement.tests[0]}")
        if statement.reason and not statement.is_due:
            problems.append(f"{key}: binds clients only, so no reason is due")
        if statement.is_due and not statement.reason and not statement.tests:
            problems.append(f"{key}: neither test nor reason ({statement.paraphrase})")
    return problems


# -- writing ---------------------------------------------------------------------------------------


def render(statements: Sequence[Statement]) -> str:
    """The page, as Markdown."""
    return "\n".join([INTRODUCTION, *_summary(statements), *_sections(statements)]) + "\n"


def _summary(statements: Sequence[Statement]) -> Iterator[str]:
    yield "| version | statements | tested | not observable | bind only clients | open |"
    yield "|---|---:|---:|---:|---:|---:|"
    for version, group in groupby(statements, lambda each: each.version):
        rows = list(group)
        tested = sum(bool(each.tests) for each in rows)
        reasons = sum(bool(each.reason) for each in rows)
        clients = sum(not each.tests and not each.is_due for each in rows)
        left = len(rows) - tested - reasons - clients
        yield f"| MQTT {version} | {len(rows)} | {tested} | {reasons} | {clients} | {left} |"


def _sections(statements: Sequence[Statement]) -> Iterator[str]:
    for version, of_version in groupby(statements, lambda each: each.version):
        yield f"\n## MQTT {version}"
        titles = SECTIONS | SECTIONS_3_1_1 if version == "3.1.1" else SECTIONS
        for section, rows in groupby(of_version, lambda each: each.section):
            yield f"\n### {section} {titles[section]}\n"
            yield "| statement | binds | it says | held by |"
            yield "|---|---|---|---|"
            for row in rows:
                yield f"| {row.number} | {row.binds} | {_plain(row.paraphrase)} | {_status(row)} |"


def _status(statement: Statement) -> str:
    if statement.tests:
        return _tests(statement.tests)
    if statement.reason:
        return f"not observable: {_plain(statement.reason)}"
    return "**open**" if statement.is_due else "binds clients only"


def _tests(tests: Sequence[str]) -> str:
    named = "<br>".join(_link(test) for test in tests[:NAMED_TESTS])
    more = len(tests) - NAMED_TESTS
    return f"{named}<br>and {more} more" if more > 0 else named


def _link(test: str) -> str:
    path, _, name = test.partition("::")
    return f"[{Path(path).stem}::{name}](../{path})"


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is within a table."""
    for special in ("\\", "|", "*", "<", "$", "#"):
        text = text.replace(special, f"\\{special}")
    return text


if __name__ == "__main__":
    sys.exit(main())
