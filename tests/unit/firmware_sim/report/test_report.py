"""The report in its three forms."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from firmware_sim.device.battery import BatterySettings
from firmware_sim.device.bugs import Bug
from firmware_sim.report import svg
from firmware_sim.report.figures import Figures, as_json, figures_of, percentile
from firmware_sim.report.page import page
from firmware_sim.report.text import table, text_report
from firmware_sim.report.words import count, short, span, wait
from firmware_sim.scenario.scenario import Incident, Kind
from firmware_sim.scenario.wires import WireSettings
from tests.unit.firmware_sim.fleets import run

if TYPE_CHECKING:
    from collections.abc import Callable

EVIL = "<script>alert(1)</script>&\"'"


@pytest.fixture(scope="module")
def figures() -> Figures:
    kinds = (
        Kind("plain", 4, interval=10.0, commands=60.0, battery=BatterySettings(capacity=5)),
        Kind("zero", 1, interval=10.0, qos=0),
        Kind("wired", 1, "framed", interval=10.0, wire=WireSettings(errors=0.01)),
        Kind("broken", 1, interval=10.0, bugs=frozenset({Bug.PAYLOAD_GARBAGE})),
    )
    dark = (Incident(200.0, devices="plain", lasts=20.0),)
    return figures_of(run(*kinds, incidents=dark, about="For tests."))


class Tags(HTMLParser):
    """The tags that are open, and every one that was."""

    VOID = frozenset({"meta", "rect", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "section",
    [
        "Messages over time",
        "Connections",
        "Latency",
        "Battery",
        "Link quality",
        "Loss and duplicates",
        "Broken firmware",
        "The ledger",
        "What happened",
    ],
)
def test_the_page_has_every_section(figures: Figures, section: str) -> None:
    assert f"<h2>{section}</h2>" in page(figures)


def test_the_page_is_whole_and_loads_nothing(figures: Figures) -> None:
    text = page(figures)
    tags = Tags(text)
    assert tags.open == []
    assert tags.seen.isdisjoint({"script", "link", "img", "iframe"})
    names = {name for name, _ in tags.attributes}
    assert names.isdisjoint({"src", "href", "onclick", "onload"})
    assert not re.search(r"url\(|@import|https?:", text)


def test_each_chart_is_there_for_wide_pages_and_for_phones(figures: Figures) -> None:
    text = page(figures)
    assert text.count('class="wide"') == text.count('class="phone"') == 5


def test_the_page_names_broken_firmware_and_the_hash(figures: Figures) -> None:
    text = page(figures)
    assert "<b>payload_garbage</b> <code>broken-0001</code>" in text
    assert figures.ledger in text
    assert "The ledger balances" in text


@pytest.mark.parametrize("make", [page, text_report])
def test_a_broken_promise_is_said_loudly(figures: Figures, make: Callable[[Figures], str]) -> None:
    bad = replace(figures, is_good=False, balance=replace(figures.balance, lost=3))
    assert re.search("ledger does not balance", make(bad), re.IGNORECASE)
    assert not re.search("ledger does not balance", make(figures), re.IGNORECASE)


def test_what_others_word_is_escaped(figures: Figures) -> None:
    evil = replace(
        figures, scenario=EVIL, about=EVIL, downs={EVIL: 1}, notes=((1.0, EVIL),), target=EVIL
    )
    text = page(evil)
    assert "<script" not in text
    assert Tags(text).open == []


def test_sleepers_are_shown_as_what_they_are() -> None:
    kinds = (Kind("sleeper", 3, interval=50.0, sleeps=True), Kind("awake", 1, interval=10.0))
    figures = figures_of(run(*kinds))
    middle = figures.points[len(figures.points) // 2]
    assert middle.online + middle.asleep == 4
    assert 1.0 <= middle.connected < 3.0
    assert middle.there == pytest.approx(4.0)
    assert "connected or asleep" in page(figures)
    assert "connected or asleep" not in page(figures_of(run(kinds[1])))


def test_words_beside_marks_do_not_lie_over_each_other() -> None:
    across, up = svg.Axis(0, 100, str), svg.Axis(0, 1, str, (0, 1))
    marks = [(at, "brown-out of north*") for at in (10.0, 70.0, 75.0, 98.0)]
    drawn = svg.lines(svg.Size(540, 250), "", [], across, up, marks)
    places = re.findall(r'class="word" x="([0-9.]+)" y="21" text-anchor="(\w+)"', drawn)
    assert [anchor for _, anchor in places] == ["start", "end", "end"]


def test_an_empty_run_has_a_report_as_well() -> None:
    empty = figures_of(run(Kind("late", 1, interval=1e6), duration=1.0))
    assert Tags(page(empty)).open == []
    assert "made 0" in text_report(empty)
    assert json.dumps(as_json(empty))


def test_the_text_tells_the_balance_of_each_kind(figures: Figures) -> None:
    text = text_report(figures)
    for kind in figures.kinds:
        assert re.search(rf"^{kind.kind} +{kind.devices} +{kind.way}", text, re.MULTILINE)
    assert f"made {count(figures.balance.made)} =" in text
    assert "payload_garbage: broken-0001" in text


def test_each_kind_tells_its_level(figures: Figures) -> None:
    assert {kind.level for kind in figures.kinds} == {"model"}
    outcome = run(Kind("c", 1, "framed", "compiled", interval=1.0), duration=5.0)
    emulated = replace(outcome.scenario.kinds[0], level="emulated", part="lm3s6965")
    pretended = replace(outcome, scenario=replace(outcome.scenario, kinds=(emulated,)))
    for told, level in ((outcome, "compiled"), (pretended, "lm3s6965")):
        shown = figures_of(told)
        assert re.search(rf"^c +1 +framed +{level} ", text_report(shown), re.MULTILINE)
        assert f"<td>{level}</td>" in page(shown)
        assert as_json(shown)["kinds"][0]["level"] == level


def test_emulators_that_have_ended_are_named(figures: Figures) -> None:
    gone = replace(figures, gone=("arm-0001", "arm-0002"))
    told = "emulators that have ended by themselves: arm-0001, arm-0002"
    assert told in text_report(gone)
    assert told in page(gone)
    assert "have ended by themselves" not in text_report(figures) + page(figures)


def test_the_json_has_all_figures(figures: Figures) -> None:
    told = json.loads(json.dumps(as_json(figures)))
    assert told["balance"]["made"] == figures.balance.made
    assert [kind["kind"] for kind in told["kinds"]] == ["plain", "zero", "wired", "broken"]
    assert told["findings"][0]["bug"] == "payload_garbage"
    assert len(told["latency"]["counts"]) == len(told["latency_edges"]) + 1
    assert sum(told["latency"]["counts"]) == figures.balance.arrived
    assert told["points"][0]["battery"]["plain"]


def test_percentiles_are_values_that_occurred() -> None:
    values = list(range(1000))
    assert [percentile(values, part) for part in (50, 99, 99.9, 100)] == [500, 990, 999, 999]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (count(1234567), "1,234,567"),
        (short(1500), "1.5k"),
        (short(0.25), "0.25"),
        (wait(0.00042), "420 µs"),
        (wait(0.0123), "12.3 ms"),
        (wait(200), "3 min 20 s"),
        (span(0), "0 s"),
        (span(5400), "1 h 30 min"),
        (span(86_400 * 2 + 3600), "2 d 1 h"),
    ],
)
def test_numbers_are_written_as_people_read_them(made: str, expected: str) -> None:
    assert made == expected


def test_columns_stand_under_each_other() -> None:
    assert list(table([("kind", "n"), ("soil", "1,200")])) == ["kind      n", "soil  1,200"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (0, 7, [0, 2, 4, 6, 8]), (0, 0, [0, 0.25, 0.5, 0.75, 1])],
)
def test_axes_have_round_ticks(low: float, high: float, ticks: list[float]) -> None:
    axis = svg.nice(low, high, short)
    assert axis.ticks[0] == low
    assert axis.ticks[-1] >= high
    assert list(axis.ticks) == pytest.approx(ticks[: len(axis.ticks)])


@pytest.mark.parametrize("last", [0.5, 60, 3600, 86_400, 86_400 * 7, 86_400 * 400])
def test_a_time_axis_has_few_ticks(last: float) -> None:
    axis = svg.over_time(last, span)
    assert 1 <= len(axis.ticks) <= 8
    assert axis.ticks[-1] <= last
