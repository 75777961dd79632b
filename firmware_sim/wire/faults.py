"""What goes wrong on a wire, from a seed.

Rule kept here: what happens to a byte depends on the seed and on its place in the stream, never on
how the stream is cut into pieces; what happens at a time depends on the seed alone. Each kind of
chance has a stream of random numbers of its own, so that one does not disturb another.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random
from typing import Final, NamedTuple

_NEVER: Final = float("inf")


class What(StrEnum):
    """What can happen to a whole device or its wire."""

    UNPLUG = "unplug"  # both directions are cut in mid-byte, and plugged in again later
    STUCK = "stuck"  # the line is held low: one break is read, and nothing more
    BROWN_OUT = "brown_out"  # the device has no power for a while, and forgets everything
    RESET = "reset"  # the device forgets everything and starts again at once


class Incident(NamedTuple):
    """Something happens at a time, and lasts for some seconds."""

    at: float
    what: What
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong. Chances are per byte, `..._every` are means of seconds (0: never)."""

    drop: float = 0.0
    flip: float = 0.0  # one bit
    duplicate: float = 0.0
    burst: float = 0.0  # a burst of noise begins
    burst_length: int = 20  # bytes, at most
    jitter: float = 0.0  # seconds that a write may be late, at most
    piece: int = 0  # the reader gets at most so many bytes at a time; 0: all that are there
    unplug_every: float = 0.0
    unplug_seconds: float = 5.0  # mean; as the two below
    stuck_every: float = 0.0
    stuck_seconds: float = 0.1
    brown_out_every: float = 0.0
    brown_out_seconds: float = 1.0
    reset_every: float = 0.0
    schedule: tuple[Incident, ...] = ()  # and these, at their times

    def __post_init__(self) -> None:
        chances = (self.drop, self.flip, self.duplicate, self.burst)
        if min(chances) < 0 or sum(chances) > 1:
            raise ValueError("chances per byte are between 0 and 1, all of them together as well")
        if self.burst_length < 1 or self.piece < 0 or self.jitter < 0:
            raise ValueError("burst_length is at least 1; piece and jitter are not negative")
        for name in ("unplug", "stuck", "brown_out", "reset"):
            every, seconds = self.habit(What(name))
            if every < 0 or seconds < 0 or (every and every < seconds):
                raise ValueError(f"{name}_every is 0, or longer than it lasts")

    @property
    def per_byte(self) -> float:
        """The chance that something happens to a byte."""
        return self.drop + self.flip + self.duplicate + self.burst

    def habit(self, what: What) -> tuple[float, float]:
        """Return the means of (seconds from one to the next, how long it lasts)."""
        every: float = getattr(self, f"{what.value}_every")
        return every, getattr(self, f"{what.value}_seconds", 0.0)


NONE: Final = Faults()


def errors(rate: float, faults: Faults = NONE) -> Faults:
    """A share of all bytes is lost, damaged, doubled or noise, in a mixture as on real wires."""
    return replace(
        faults,
        drop=rate * 0.35,
        flip=rate * 0.45,
        duplicate=rate * 0.15,
        burst=rate * 0.05 / ((faults.burst_length + 1) / 2),
    )


@dataclass(slots=True)
class FaultCounters:
    """What was done to the bytes of one direction."""

    dropped: int = 0
    flipped: int = 0
    duplicated: int = 0
    noise: int = 0

    @property
    def total(self) -> int:
        """Bytes that something happened to."""
        return self.dropped + self.flipped + self.duplicated + self.noise


def stream_of(rng: Random) -> Random:
    """Return random numbers of their own, which come from the same seed."""
    return Random(rng.random())  # noqa: S311 - a simulation repeats


class Spoiler:
    """The faults of one direction of a wire, byte by byte; clean runs are passed on at once."""

    __slots__ = ("_clean", "_faults", "_jitter", "_log_miss", "_noise", "_rng", "counters")

    def __init__(self, faults: Faults, rng: Random) -> None:
        self.counters = FaultCounters()
        self._faults = faults
        self._rng = stream_of(rng)
        self._jitter = stream_of(rng)
        self._noise = 0  # bytes of a burst that are still to come
        chance = faults.per_byte
        self._log_miss = math.log1p(-chance) if 0 < chance < 1 else 0.0
        self._clean = self._draw_clean()  # bytes to which nothing happens

    def spoil(self, data: bytes) -> bytes:
        """Return what comes out for what goes in."""
        if len(data) <= self._clean and not self._noise:
            self._clean -= len(data)
            return data
        out = bytearray()
        pos = 0
        while pos < len(data):
            if self._noise:
                pos += self._make_noise(out, len(data) - pos)
            elif self._clean:
                run = int(min(self._clean, len(data) - pos))
                out += data[pos : pos + run]
                self._clean -= run
                pos += run
            else:
                self._damage(out, data[pos])
                self._clean = self._draw_clean()
                pos += 1
        return bytes(out)

    def lateness(self) -> float:
        """Return how many seconds late the next write is."""
        jitter = self._faults.jitter
        return self._jitter.random() * jitter if jitter else 0.0

    def _draw_clean(self) -> float:
        """How many bytes pass before something happens to one: geometric."""
        chance = self._faults.per_byte
        if chance <= 0:
            return _NEVER
        return int(math.log(1 - self._rng.random()) / self._log_miss) if chance < 1 else 0

    def _make_noise(self, out: bytearray, room: int) -> int:
        size = min(self._noise, room)
        self._noise -= size
        self.counters.noise += size
        out += bytes(self._rng.randrange(256) for _ in range(size))
        return size

    def _damage(self, out: bytearray, byte: int) -> None:
        faults, counters = self._faults, self.counters
        pick = self._rng.random() * faults.per_byte
        if pick < faults.drop:
            counters.dropped += 1
        elif pick < faults.drop + faults.flip:
            counters.flipped += 1
            out.append(byte ^ 1 << self._rng.randrange(8))
        elif pick < faults.drop + faults.flip + faults.duplicate:
            counters.duplicated += 1
            out += bytes((byte, byte))
        else:
            self._noise = self._rng.randint(1, faults.burst_length) - 1
            counters.noise += 1
            out.append(self._rng.randrange(256))


class Incidents:
    """When something happens to the whole device or wire: a machine that says what is due."""

    __slots__ = ("_faults", "_planned", "_rngs")

    def __init__(self, faults: Faults, rng: Random, now: float = 0.0) -> None:
        self._faults = faults
        self._rngs = {what: stream_of(rng) for what in What}
        self._planned = [incident for incident in faults.schedule if incident.at >= now]
        heapq.heapify(self._planned)
        for what in What:
            self._plan(what, now)

    def next_deadline(self) -> float | None:
        """When the next one happens."""
        return self._planned[0].at if self._planned else None

    def due(self, now: float) -> list[Incident]:
        """Take what happens now, in order."""
        found = []
        while self._planned and self._planned[0].at <= now:
            incident = heapq.heappop(self._planned)
            found.append(incident)
            if incident not in self._faults.schedule:
                self._plan(incident.what, incident.at + incident.seconds)
        return found

    def _plan(self, what: What, now: float) -> None:
        every, seconds = self._faults.habit(what)
        if not every:
            return
        rng = self._rngs[what]
        at = now + rng.expovariate(1 / every)
        lasts = rng.expovariate(1 / seconds) if seconds else 0.0
        heapq.heappush(self._planned, Incident(at, what, lasts))
