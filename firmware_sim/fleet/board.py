"""A device's way over a wire when its firmware is real: a board at the device's end, and a listener
beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from firmware_sim.clients.overheard import Overheard
from firmware_sim.fleet.wired import Quality
from firmware_sim.wire.worlds import End

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from firmware_sim.clients.overheard import OverheardEvent
    from firmware_sim.wire.worlds import Line, World


class Board(End, Protocol):
    """The firmware, compiled or emulated. It starts when it is `plugged`, each time anew."""

    def halt(self) -> None:
        """Its power is gone: it stands still, and RAM that a reset keeps is kept."""

    def close(self) -> None:
        """Give back what it takes."""


class BoardWay:
    """A `Watched` way, and the device's `End` of a `Line`. `heard` is called when it has events."""

    def __init__(self, board: Board, world: World, heard: Callable[[], None]) -> None:
        self.line: Line
        self.next_deadline = board.next_deadline
        self._board, self._world, self._heard = board, world, heard
        self._listener = Overheard()
        self._quality = Quality()

    def power_on(self, now: float) -> None:
        """See Watched."""
        self._listener = Overheard()
        self.line.power_on(now)
        self._world.wake(self.line)

    def take_events(self) -> Sequence[OverheardEvent]:
        """See Watched."""
        return self._listener.take_events()

    # ---- Powered ----

    def cut(self, now: float) -> None:
        """See Powered."""
        self.line.power_off(now)
        self._board.halt()
        self._listener = Overheard()

    def forget(self, now: float) -> None:
        """See Powered; nobody can tell the firmware to."""

    def unplug(self, now: float) -> None:
        """See Powered."""
        self.line.unplug(now)
        self._world.wake(self.line)

    def plug(self, now: float) -> None:
        """See Powered."""
        self.line.plug(now)
        self._world.wake(self.line)

    def quality(self) -> float | None:
        """See Powered; since it was last asked."""
        return self._quality.of(self.line.uart)

    def close(self, now: float) -> None:  # noqa: ARG002 - as all ways
        """See Powered."""
        self._world.remove(self.line)
        self._board.close()

    # ---- End ----

    def plugged(self, now: float) -> None:
        """See End."""
        self._board.plugged(now)

    def receive(self, data: bytes, now: float) -> None:
        """See End."""
        self._listener.heard(data)
        self._board.receive(data, now)
        self._heard()

    def tick(self, now: float) -> None:
        """See End."""
        self._board.tick(now)

    def data_to_send(self) -> bytes:
        """See End."""
        data = self._board.data_to_send()
        if data:
            self._listener.said(data)
            self._heard()
        return data
