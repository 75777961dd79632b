"""What a fleet needs of a device's way to the broker, beside what the device itself asks of it."""

from __future__ import annotations

from typing import Protocol

from firmware_sim.clients.client import Client


class Way(Client, Protocol):
    """A client whose power can be cut."""

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
