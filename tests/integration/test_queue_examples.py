"""The examples of docs/examples/queues do what they promise, with fewer messages than people give
them. They run as people run them; what they print is read.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.process import clean_environment

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "queues"
PATIENCE = 120.0  # seconds; each takes a few
NAME_WIDTH = 36

Figures = list[tuple[str, str]]  # in the order in which they are told


def run(name: str, messages: int) -> Figures:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), str(messages)],
        check=False,
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    lines = done.stdout.splitlines()
    return [(line[:NAME_WIDTH].strip(), line[NAME_WIDTH:]) for line in lines]


def of(figures: Figures, name: str) -> list[str]:
    return [value for each, value in figures if each == name]


def test_decoupling_loses_nothing_while_the_consumer_is_away() -> None:
    figures = run("decoupling.py", 200)
    assert of(figures, "consumer is back and has done") == ["200"]
    assert of(figures, "lost") == of(figures, "twice") == ["0"]
    assert of(figures, "in order") == ["yes"]


def test_ordering_keeps_each_device_in_order() -> None:
    figures = run("ordering.py", 200)
    assert of(figures, "queue") == ["by-device", "any-order"]
    assert of(figures, "lost") == ["0", "0"]
    assert of(figures, "out of order")[0] == "0"
    assert int(of(figures, "failed and tried again")[0]) > 0


def test_routing_sends_each_reading_where_its_content_says() -> None:
    figures = run("routing.py", 200)
    for name in ("alarms", "maintenance", "archive", "unreadable"):
        (found,) = of(figures, name)
        assert found.endswith("as it should be")
    assert of(figures, "hottest first") == ["yes"]


def test_asynchronous_work_is_done_once_and_a_dead_letter_after_it_was_mended() -> None:
    figures = run("asynchronous_work.py", 30)
    assert of(figures, "jobs done") == ["29", "29", "29"]
    assert of(figures, "dead letters") == of(figures, "mended and done") == ["3"]


def test_peak_shaving_gives_consumers_no_more_than_the_rate() -> None:
    figures = run("peak_shaving.py", 60)
    assert of(figures, "lost") == ["0"]
    rates = [int(each) for each in of(figures, "in each second")[0].split()]
    assert sum(rates) == 60
    # never more than a second's worth beforehand, and what the time since then allows
    assert all(sum(rates[:n]) <= 10 + 10 * n for n in range(1, len(rates) + 1))
