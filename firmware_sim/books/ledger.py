"""The ledger: what became of every message, kept outside the broker, from both ends.

A message is a line of its stream (a topic of one device) and has one fate on the sender's side:

    kept           made, and still in the device: it was never handed over
    dropped        the device had no room for it any more, or lost it when the power went
    in flight      handed over, and neither acknowledged nor refused
    refused        the way to the broker said that it will not take it
    acknowledged   the other side owns it (QoS 0: it has left the device)

and on the other side it arrived not at all, once, or more than once. Both sides are noted in
arrays, 19 bytes for a message. Promises that can be broken: what was acknowledged with QoS 1 or 2
arrives; with QoS 0 and 2 not more often than it was handed over; first arrivals come in order;
nothing arrives that was never made.
"""

from __future__ import annotations

import hashlib
from array import array
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_HANDED, _ACKED, _REFUSED, _DROPPED = 1, 2, 4, 8
_MOST = 255  # of what is counted in a byte
_NEVER: Final = -1.0


class Fate(IntEnum):
    """What the sender knows of a message."""

    KEPT = 0
    DROPPED = 1
    IN_FLIGHT = 2
    REFUSED = 3
    ACKNOWLEDGED = 4


class Line(NamedTuple):
    """One message. Times in seconds; -1.0: never."""

    seq: int
    handed_at: float
    fate: Fate
    handed: int
    copies: int
    acknowledged_after: float
    arrived_after: float


class Stream:
    """All messages of one topic of one device, numbered from 0."""

    __slots__ = (
        "_acked_after",
        "_arrived_after",
        "_copies",
        "_flags",
        "_handed",
        "_handed_at",
        "_newest",
        "awaited",
        "device",
        "kind",
        "out_of_order",
        "qos",
        "topic",
        "unknown",
    )

    def __init__(self, topic: str, device: str, kind: str, qos: int) -> None:
        self.topic, self.device, self.kind, self.qos = topic, device, kind, qos
        self.out_of_order = 0
        self.unknown = 0
        self.awaited = 0  # acknowledged with QoS 1 or 2, and not arrived yet
        self._newest = -1
        self._flags = bytearray()
        self._handed = bytearray()
        self._copies = bytearray()
        self._handed_at = array("d")
        self._acked_after = array("f")
        self._arrived_after = array("f")

    def __len__(self) -> int:
        return len(self._flags)

    def made(self) -> int:
        """A new message; its number."""
        self._flags.append(0)
        self._handed.append(0)
        self._copies.append(0)
        self._handed_at.append(_NEVER)
        self._acked_after.append(_NEVER)
        self._arrived_after.append(_NEVER)
        return len(self._flags) - 1

    def handed(self, seq: int, now: float) -> None:
        """It was handed over, perhaps once more."""
        self._flags[seq] |= _HANDED
        self._handed[seq] = min(self._handed[seq] + 1, _MOST)
        self._handed_at[seq] = now

    def acknowledged(self, seq: int, now: float) -> None:
        """The other side owns it."""
        if not self._flags[seq] & _ACKED:
            self._flags[seq] |= _ACKED
            self._acked_after[seq] = now - self._handed_at[seq]
            self.awaited += self.qos > 0 and not self._copies[seq]

    def refused(self, seq: int) -> None:
        """It will not be taken."""
        self._flags[seq] |= _REFUSED

    def dropped(self, seq: int) -> None:
        """The device has it no more."""
        self._flags[seq] |= _DROPPED

    def arrived(self, seq: int, now: float) -> float | None:
        """It came out at the other side; returns how long it took, the first time."""
        if not 0 <= seq < len(self._flags) or not self._flags[seq] & _HANDED:
            self.unknown += 1
            return None
        self._copies[seq] = min(self._copies[seq] + 1, _MOST)
        if self._copies[seq] > 1:
            return None
        self._arrived_after[seq] = now - self._handed_at[seq]
        self.awaited -= bool(self._flags[seq] & _ACKED) and self.qos > 0
        self.out_of_order += seq < self._newest
        self._newest = max(self._newest, seq)
        return self._arrived_after[seq]

    def __iter__(self) -> Iterator[Line]:
        return (self.line(seq) for seq in range(len(self)))

    def latencies(self) -> Iterator[float]:
        """From handing over to arrival, of all that have arrived."""
        return (after for after in self._arrived_after if after != _NEVER)

    def line(self, seq: int) -> Line:
        """What is known of one message."""
        return Line(
            seq,
            self._handed_at[seq],
            _FATES[self._flags[seq]],
            self._handed[seq],
            self._copies[seq],
            self._acked_after[seq],
            self._arrived_after[seq],
        )


def _fate(flags: int) -> Fate:
    """Of several the last word counts: an acknowledgement before all others."""
    if flags & _ACKED:
        return Fate.ACKNOWLEDGED
    if flags & _REFUSED:
        return Fate.REFUSED
    if flags & _DROPPED:
        return Fate.DROPPED
    return Fate.IN_FLIGHT if flags & _HANDED else Fate.KEPT


_FATES: Final = tuple(_fate(flags) for flags in range(16))


class Ledger:
    """All streams of a run."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.strangers = 0  # arrivals on topics that are none of ours
        self.made = self.handed = self.acknowledged = self.arrived = 0  # for the display alone

    def open(self, topic: str, device: str, kind: str, qos: int) -> Stream:
        """A new stream. Raises ValueError if two devices would share a topic."""
        if topic in self.streams:
            other = self.streams[topic].device
            raise ValueError(f'"{device}" and "{other}" would both publish to "{topic}"')
        self.streams[topic] = Stream(topic, device, kind, qos)
        return self.streams[topic]

    @property
    def awaited(self) -> int:
        """How many are acknowledged and have to arrive yet."""
        return sum(stream.awaited for stream in self.streams.values())

    def canonical(self) -> Iterator[bytes]:
        """The ledger as text, one line for a message: the same for the same run, byte for byte.

        Columns: number, handed over at, fate, times handed over, times arrived, acknowledged
        after, arrived after; times in microseconds, -1 for never.
        """
        for topic in sorted(self.streams):
            stream = self.streams[topic]
            yield f"{topic} qos {stream.qos} of {stream.device}\n".encode()
            for line in stream:
                yield _written(line)
            if stream.out_of_order or stream.unknown:
                yield f"out of order {stream.out_of_order} unknown {stream.unknown}\n".encode()

    def digest(self) -> str:
        """SHA-256 of `canonical`, in hex."""
        digest = hashlib.sha256()
        for line in self.canonical():
            digest.update(line)
        return digest.hexdigest()


def _written(line: Line) -> bytes:
    times = (line.handed_at, line.acknowledged_after, line.arrived_after)
    handed, acked, arrived = (-1 if at == _NEVER else round(at * 1e6) for at in times)
    fate = line.fate.name.lower()
    return f"{line.seq} {handed} {fate} {line.handed} {line.copies} {acked} {arrived}\n".encode()
