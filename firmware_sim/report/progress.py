"""How a run goes on, for the person who waits: one line that changes, or now and then a new one."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Final

from firmware_sim.report.words import count, span, wait

if TYPE_CHECKING:
    from firmware_sim.fleet.fleet import Fleet

PLAIN_EVERY: Final = 10.0  # seconds, where lines stay
CLEAR: Final = "\r\x1b[2K"


class Progress:
    """Writes to stderr, so that what is asked for on stdout stays clean."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._is_terminal = sys.stderr.isatty()
        self._last = 0.0
        self._phase = ""
        self._shown = (0.0, 0)  # time and messages, when the last line was made

    def show(self) -> None:
        """Show it, if it is time."""
        if self._is_terminal:
            sys.stderr.write(CLEAR + self._line())
        elif self._is_time():
            sys.stderr.write(self._line() + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._is_terminal:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._last < PLAIN_EVERY and self._phase == self._fleet.phase:
            return False
        self._last, self._phase = now, self._fleet.phase
        return True

    def _line(self) -> str:
        fleet = self._fleet
        books = fleet.books
        ledger = books.ledger
        waits = sorted(books.waits)
        latency = f", latency {wait(waits[len(waits) // 2])}" if waits else ""
        there = f"{count(sum(books.online.values()))} of {count(fleet.scenario.devices)} connected"
        asleep = f", {count(books.asleep)} asleep" if books.asleep else ""
        line = (
            f"{fleet.phase} {span(round(fleet.now()))} of {span(fleet.scenario.duration)}: "
            f"{there}{asleep}, sent {count(ledger.handed)} ({count(self._rate())}/s), "
            f"acknowledged {count(ledger.acknowledged)}, arrived {count(ledger.arrived)}{latency}"
        )
        return line[: self._width() - 1] if self._is_terminal else line

    def _rate(self) -> float:
        """Messages per second of the fleet's time, since the last line."""
        now, sent = self._fleet.now(), self._fleet.books.ledger.handed
        seconds, more = now - self._shown[0], sent - self._shown[1]
        self._shown = (now, sent)
        return more / seconds if seconds > 0 else 0.0

    @staticmethod
    def _width() -> int:
        return shutil.get_terminal_size().columns
