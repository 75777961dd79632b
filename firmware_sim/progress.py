"""How a run goes on, for the person who waits: one line that changes, or now and then a new one."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from firmware_sim.report.words import count, span

if TYPE_CHECKING:
    from firmware_sim.fleet import Fleet

PLAIN_EVERY: Final = 10.0  # seconds, where lines stay
CLEAR: Final = "\r\x1b[2K"


class Progress:
    """Writes to stderr, so that what is asked for on stdout stays clean."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._is_terminal = sys.stderr.isatty()
        self._last = 0.0
        self._phase = ""

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
        ledger, online = fleet.books.ledger, sum(fleet.books.online.values())
        return (
            f"{fleet.phase} {span(fleet.now())} of {span(fleet.scenario.duration)}: "
            f"{count(online)} of {count(fleet.scenario.devices)} connected, "
            f"sent {count(ledger.handed)}, acknowledged {count(ledger.acknowledged)}, "
            f"arrived {count(ledger.arrived)}, awaited {count(ledger.awaited)}"
        )
