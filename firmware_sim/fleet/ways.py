"""What a fleet needs of a device's way to the broker, beside what the device itself asks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from firmware_sim.clients.client import Client

if TYPE_CHECKING:
    from collections.abc import Sequence

    from firmware_sim.clients.overheard import OverheardEvent
    from firmware_sim.device.battery import Battery


class Powered(Protocol):
    """A device's way as the fleet handles it: its power and its wire."""

    def cut(self, now: float) -> None:
        """The power is gone: nothing is said, and nothing remembered."""

    def forget(self, now: float) -> None:
        """Say goodbye for good: the other side need not keep the session."""

    def unplug(self, now: float) -> None:
        """The wire, or the network, is away; the device has not noticed."""

    def plug(self, now: float) -> None:
        """It is there again."""

    def quality(self) -> float | None:
        """The part of what was sent that was not a repetition, 1.0 at best; None: unknown."""

    def close(self, now: float) -> None:
        """The run is over."""


class Way(Client, Powered, Protocol):
    """A client whose power can be cut."""


class Watched(Powered, Protocol):
    """A board with real firmware, and a listener at its wire."""

    def power_on(self, now: float) -> None:
        """Switch it on."""

    def take_events(self) -> Sequence[OverheardEvent]:
        """Take what the wire has told since the last call, in order."""


class Firmware(Protocol):
    """What one device does, as the fleet handles it: a `Part`, too."""

    @property
    def battery(self) -> Battery | None:
        """Its battery; None: it has none that can be read."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left that it could hand over."""

    def power_on(self, now: float) -> None:
        """It boots."""

    def power_off(self, now: float) -> None:
        """The power is gone, without a word."""

    def finish(self, now: float) -> None:
        """Measure no more; hand over what there is."""

    def close(self, now: float) -> None:
        """The run is over."""

    def hear(self, now: float) -> None:
        """Its way may have something to tell."""

    def step(self, now: float) -> None:
        """See Part."""

    def next_deadline(self) -> float | None:
        """See Part."""
