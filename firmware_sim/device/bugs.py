"""Firmware bugs on purpose: what a device does wrong, each by one small rule.

The books are not told: `diagnosis.py` has to find them from outside.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

STORM_PAUSE: Final = 0.4  # seconds from one connection to the next
GARBAGE_EVERY: Final = 3
OVERSIZED_EVERY: Final = 4
OVERSIZED: Final = 48 * 1024
TWICE_EVERY: Final = 3
WRONG_CLOCK: Final = -30 * 365.25 * 86_400  # a clock that was never set


class Bug(StrEnum):
    """The names by which scenarios ask for bugs, and the report tells of them."""

    RECONNECT_STORM = "reconnect_storm"
    DUPLICATE_IDS = "duplicate_ids"
    OVERSIZED_PAYLOAD = "oversized_payload"
    PAYLOAD_GARBAGE = "payload_garbage"
    NEVER_ACKS = "never_acks"
    CLOCK_WRONG = "clock_wrong"
    SENDS_TWICE = "sends_twice"
    STUCK_SENSOR = "stuck_sensor"


WHAT_IT_IS: Final[Mapping[str, str]] = {
    Bug.RECONNECT_STORM: "connects again and again, and hardly says anything in between",
    Bug.DUPLICATE_IDS: "uses the client id of another device",
    Bug.OVERSIZED_PAYLOAD: "sends payloads far larger than its others",
    Bug.PAYLOAD_GARBAGE: "sends payloads that cannot be read",
    Bug.NEVER_ACKS: "takes messages and never acknowledges them",
    Bug.CLOCK_WRONG: "has a clock that is wrong",
    Bug.SENDS_TWICE: "sends the same reading twice",
    Bug.STUCK_SENSOR: "tells the same values again and again",
}


def spoil(payload: bytes, seq: int, bugs: frozenset[Bug], rng: Random) -> bytes:
    """The payload as this firmware would make it; the sequence number stays in front."""
    for bug, change in _PAYLOADS.items():
        if bug in bugs:
            payload = change(payload, seq, rng)
    return payload


def _garbage(payload: bytes, seq: int, rng: Random) -> bytes:
    if seq % GARBAGE_EVERY:
        return payload
    end = payload.index(b",")  # behind {"seq":17
    return payload[: end + 1] + rng.randbytes(len(payload) - end).replace(b"}", b"{")


def _oversized(payload: bytes, seq: int, _: Random) -> bytes:
    if seq % OVERSIZED_EVERY:
        return payload
    return payload[:-1] + b',"log":"' + b"x" * OVERSIZED + b'"}'


_PAYLOADS: Final[Mapping[Bug, Callable[[bytes, int, Random], bytes]]] = {
    Bug.OVERSIZED_PAYLOAD: _oversized,
    Bug.PAYLOAD_GARBAGE: _garbage,
}
