"""At which speed the device speaks: tries one after the other until somebody is understood.

Each round gives each speed more time, for a device may speak seldom. What was found is remembered
under the hardware's key and the device's uid, and is the first to be tried at the next start.
A machine, like the others: it does no I/O and reads no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from bridges.serial.events import Opened, Reading, Received, Recognised, Silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridges.serial.events import Event

LONGEST_PROBE: Final = 60.0
_UNDERSTOOD: Final = (Opened, Recognised, Reading, Received)


class BaudMemory(Protocol):
    """Who remembers."""

    def recall(self, key: str) -> int | None: ...
    def remember(self, key: str, baud: int) -> None: ...


class ShortMemory:
    """Remembers until the process ends."""

    def __init__(self) -> None:
        self._bauds: dict[str, int] = {}

    def recall(self, key: str) -> int | None:
        """What was found there."""
        return self._bauds.get(key)

    def remember(self, key: str, baud: int) -> None:
        """This was found."""
        self._bauds[key] = baud


class BaudSearch:
    """The search at one port. `baud` is the speed of the moment."""

    def __init__(self, bauds: tuple[int, ...], probe: float, memory: BaudMemory) -> None:
        self.baud = bauds[0]
        self.is_met = False
        self.deadline: float | None = None  # when to try the next one
        self._bauds = bauds
        self._order = bauds
        self._first_probe = probe
        self._probe = probe
        self._memory = memory
        self._key = ""
        self._has_begun = False  # the port was open since `open` was called

    def open(self, key: str) -> int:
        """A port is about to be opened; return the speed to begin with: what was found there, else
        the one after that at which nobody was understood before the port went away.
        """
        goes_on = self._has_begun and key == self._key and not self.is_met
        self._key = key
        recalled = self._memory.recall(key)
        known = (recalled,) if recalled in self._bauds else ()
        self._order = (*known, *(baud for baud in self._bauds if baud not in known))
        self.baud = self._after(self.baud) if goes_on else self._order[0]
        self._has_begun = False
        return self.baud

    def plugged(self, now: float) -> None:
        """The port is open: it may be another device than before."""
        self.is_met = False
        self._has_begun = True
        self._begin(now)

    def unplugged(self) -> None:
        """Nothing to wait for."""
        self.deadline = None

    def observe(self, events: Iterable[Event], now: float) -> None:
        """Somebody was understood, or is no more."""
        for event in events:
            if isinstance(event, Silent):
                self.is_met = False
                self._begin(now)
            elif isinstance(event, _UNDERSTOOD):
                self._meet(event)

    def next(self, now: float) -> int:
        """The time is over; return the speed to go on with."""
        self.baud = self._after(self.baud)
        if self.baud == self._order[0]:
            self._probe = min(2 * self._probe, LONGEST_PROBE)
        self.deadline = now + self._probe
        return self.baud

    def _after(self, baud: int) -> int:
        return self._order[(self._order.index(baud) + 1) % len(self._order)]

    def _begin(self, now: float) -> None:
        self._probe = self._first_probe
        self.deadline = now + self._probe if len(self._order) > 1 else None

    def _meet(self, event: Event) -> None:
        if not self.is_met:
            self.is_met = True
            self.deadline = None
            self._memory.remember(self._key, self.baud)
        if isinstance(event, Opened) and event.peer.uid:
            self._memory.remember(f"uid:{event.peer.uid.hex()}", self.baud)
