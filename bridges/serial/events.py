"""What a serial machine tells its owner, in the order in which it happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bridges.serial.frames import Hello


class Received(NamedTuple):
    """A message from the other end."""

    channel: int
    payload: bytes


class Opened(NamedTuple):
    """The peer is there; `is_resumed`: the session goes on, nothing was lost or repeated."""

    peer: Hello
    is_resumed: bool


class Restarted(NamedTuple):
    """The peer has forgotten the session: it was reset, or is another one.

    Both lists are of (channel, payload). It may have had what is unacknowledged, and never saw what
    is unsent; the link keeps neither.
    """

    unacknowledged: list[tuple[int, bytes]]
    unsent: list[tuple[int, bytes]]


class Silent(NamedTuple):
    """The peer answers no more; the session waits for it."""


class Looped(NamedTuple):
    """What comes in is what went out: the wires are connected, or the port echoes."""


class Reading(NamedTuple):
    """A line `topic value` (text mode)."""

    topic: str
    value: bytes


class LogLine(NamedTuple):
    """A line that is no reading (text mode)."""

    text: str


class Recognised(NamedTuple):
    """The detector knows how the device speaks: a name from `modes.Mode`."""

    mode: str


Event = Received | Opened | Restarted | Silent | Looped | Reading | LogLine | Recognised
