"""`heliograph queue top`: rates, the time to drain, and what reaches a terminal or a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from bridges.queues.command_api import CommandError
from bridges.queues.command_top import FIRST_SCREEN, OTHER_SCREEN, SHOW, View, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def row(messages: int, name: str = "work", **values: Any) -> dict[str, Any]:
    return {
        "name": name, "mode": "running", "messages": messages, "ready": messages, "leased": 0,
        "waiting": 0, "delayed": 0, "dead": 0, "oldest_age": 5.0, "rates": {},
    } | values  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def answers(*all_of_them: Any) -> Callable[[], Sequence[dict[str, Any]]]:
    left = list(all_of_them)

    def ask() -> Sequence[dict[str, Any]]:
        given = left.pop(0)
        if isinstance(given, Exception):
            raise given
        return [given]

    return ask


def watched(output: io.StringIO, *all_of_them: Any, width: int = 80, height: int = 24) -> str:
    clock = Clock()
    watch(
        answers(*all_of_them),
        len(all_of_them),
        2.0,
        lambda: (width, height),
        output,
        clock.sleep,
        lambda: clock.now,
    )
    return output.getvalue()


def seen(*rows: dict[str, Any]) -> list[str]:
    view = View()
    for at, each in enumerate(rows):
        view.update([each], float(at))
    return view.screen(80, 24)


def test_before_the_second_measurement_nothing_is_claimed() -> None:
    _, numbers, state = seen(row(1000))
    assert numbers.split() == ["work", "1,000", "0", "0", "0", "-", "-", "-"]
    assert state == "  [--------------------]   0% oldest 5 s, measuring"


def test_a_queue_that_drains_says_when_it_is_empty_and_how_far_it_is() -> None:
    _, numbers, state = seen(row(1000), row(500))
    assert numbers.split()[-1] == "-500"
    assert state == "  [##########----------]  50% oldest 5 s, empty in about 1 s"


def test_the_change_is_smoothed() -> None:
    assert seen(row(1000), row(900), row(900))[1].split()[-1] == "-60.0"


def test_a_queue_that_fills_does_not_drain() -> None:
    assert "not draining" in seen(row(10), row(20))[2]
    assert "not draining" in seen(row(10), row(10))[2]


def test_an_empty_queue_is_done() -> None:
    empty = row(0, oldest_age=None)
    assert seen(row(10), empty)[2] == "  [####################] 100% oldest -, empty"
    assert seen(empty)[2].endswith("100% oldest -, empty")


def test_rates_of_the_broker_are_shown() -> None:
    numbers = seen(row(1, rates={"in": 1234.5, "out": 2.25}))[1].split()
    assert numbers[5:7] == ["1,234", "2.2"]


def test_large_numbers_and_long_names_leave_the_columns_apart() -> None:
    large = row(10**9, "n" * 128, leased=999_999, delayed=10**7, dead=123_456)
    numbers = seen(large, {**large, "messages": 10**9 - 123_456})[1]
    columns = ["1.0G", "999,999", "10.0M", "123,456", "-", "-", "-123,456"]
    assert numbers.split() == ["n" * 19 + "…", *columns]
    assert len(numbers) == 80


def test_a_mode_other_than_running_is_told() -> None:
    assert "paused, oldest" in seen(row(1, mode="paused"))[2]


def test_it_fits_80_columns_and_the_height_of_the_terminal() -> None:
    many = [
        row(10**8, f"{'n' * 128}{number}", leased=10**6, dead=10**5, mode="draining")
        for number in range(30)
    ]
    view = View()
    view.update(many, 0.0)
    view.update([{**each, "messages": 10**8 - 1} for each in many], 1.0)
    lines = view.screen(80, 20)
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 80
    assert lines[-1] == f"... and {30 - (len(lines) - 2) // 2} more"


def test_a_terminal_is_redrawn_in_place_and_put_right() -> None:
    text = watched(Terminal(), row(10), row(5))
    assert text.startswith(OTHER_SCREEN)
    assert text.endswith(SHOW + FIRST_SCREEN)
    assert text.count("\x1b[H") == 2
    assert "\x1b[2J" not in text  # it would flicker


def test_a_terminal_is_put_right_when_it_is_interrupted() -> None:
    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt):
        watch(answers(row(1)), None, 1.0, lambda: (80, 24), terminal, interrupt)
    assert terminal.getvalue().endswith(SHOW + FIRST_SCREEN)


def interrupt(_: float) -> None:
    raise KeyboardInterrupt


def test_a_file_gets_one_line_for_each_queue_and_interval() -> None:
    lines = watched(io.StringIO(), row(10), row(6), row(6)).splitlines()
    assert len(lines) == 3
    assert lines[1].split()[1:] == [
        *("work", "ready=6", "leased=0", "waiting=0", "delayed=0", "dead=0"),
        *("in=-", "out=-", "net=-2.0", "oldest=5", "drain=3"),
    ]
    assert "\x1b" not in "".join(lines)


def test_a_broker_that_is_away_for_a_while_is_told_and_asked_again() -> None:
    away = CommandError("nobody answers\x1b")
    assert "nobody answers\\x1b" in watched(Terminal(), row(10), away, row(5))
    lines = watched(io.StringIO(), row(10), away, row(5)).splitlines()
    assert lines[1].endswith("nobody answers\\x1b")
    assert "ready=5" in lines[2]


def test_a_broker_that_is_not_there_at_first_is_an_error() -> None:
    with pytest.raises(CommandError):
        watched(Terminal(), CommandError("no"))
