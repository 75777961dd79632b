"""A serial wire between two ends, in whatever time it is told.

Rule kept here: bytes never overtake each other, each takes ten bit times (start, eight, stop), and
one that comes when the receiver's buffer is full is lost, as on real parts. Bytes are kept in runs:
a run costs the same however long it is.

    write -> faults -> on the way, at the pace of the wire -> the receiver's buffer -> read
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from firmware_sim.wire.faults import NONE, FaultCounters, Faults, Spoiler

if TYPE_CHECKING:
    from random import Random

HOST, DEVICE = 0, 1  # the two ends
BITS: Final = 10  # of a byte on the wire: start, eight, stop
FIFOS: Final = (1, 16, 64, 256)  # as they are built
_GATHER: Final = 0.002  # seconds for which a reader lets bytes gather, as drivers do
_NEARLY: Final = 1e-3  # of a byte time: what rounding may take from the clock
_ON_GRID: Final = 1e-6  # the same, of a USB frame
_BREAK: Final = b"\0"  # what is read of a line that is held low, once


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """One direction of the wire, and who reads there."""

    baud: int = 115_200  # bit/s; 0: bytes take no time
    fifo: int | None = None  # bytes that the reader's side holds; None: any number
    latency: float = 0.0  # USB frames in seconds (0.001, 0.016): bytes show at multiples of it
    poll: float = 0.0  # the reader looks only so often; 0: as soon as there is something
    delay: float = 0.0  # seconds from end to end, besides
    faults: Faults = NONE

    def __post_init__(self) -> None:
        if self.baud < 0 or (self.fifo is not None and self.fifo < 1):
            raise ValueError("baud is not negative; a fifo holds at least one byte")
        if min(self.latency, self.poll, self.delay) < 0:
            raise ValueError("latency, poll and delay are not negative")

    @property
    def byte_time(self) -> float:
        """Seconds that a byte takes."""
        return BITS / self.baud if self.baud else 0.0


@dataclass(slots=True)
class LaneCounters:
    """What became of the bytes of one direction; `faults` are among them."""

    written: int = 0
    read: int = 0
    overrun: int = 0  # came when the buffer was full
    cut: int = 0  # were on the way, or put into a wire that is not there
    stuck: int = 0  # fell into a line that was held low


class _Run:
    """Bytes in a row: number `i` has come at `start + (i + 1) * step`."""

    __slots__ = ("data", "start", "step")

    def __init__(self, data: bytes, start: float, step: float) -> None:
        self.data = data
        self.start = start
        self.step = step

    def at(self, count: int) -> float:
        """When so many of them have come."""
        return self.start + count * self.step

    def come(self, now: float) -> int:
        """How many of them have come."""
        size = len(self.data)
        if now >= self.at(size):
            return size
        if now <= self.start or not self.step:
            return 0
        count = min(size, int((now - self.start) / self.step + _NEARLY))
        return count + 1 if count < size and self.at(count + 1) <= now else count

    def drop_first(self, count: int) -> None:
        self.data = self.data[count:]
        self.start = self.at(count)


class Lane:
    """One direction."""

    __slots__ = (
        "_byte_time",
        "_fifo",
        "_free_at",
        "_is_cut",
        "_last_at",
        "_runs",
        "_spoiler",
        "_stuck_until",
        "counters",
        "settings",
    )

    def __init__(self, settings: LaneSettings, rng: Random) -> None:
        self.settings = settings
        self.counters = LaneCounters()
        self._spoiler = Spoiler(settings.faults, rng)
        self._byte_time = settings.byte_time
        self._runs: deque[_Run] = deque()
        self._fifo = bytearray()
        self._free_at = 0.0  # when the sender has sent all it has
        self._last_at = 0.0  # when the last byte comes
        self._stuck_until = 0.0
        self._is_cut = False

    @property
    def faults(self) -> FaultCounters:
        """What the noise did."""
        return self._spoiler.counters

    def write(self, data: bytes, now: float) -> None:
        """The sender hands over bytes; they go out after those before them."""
        self.counters.written += len(data)
        if self._is_cut:
            self.counters.cut += len(data)
        elif data:
            start = max(now, self._free_at)
            self._free_at = start + len(data) * self._byte_time
            self._launch(self._spoiler.spoil(data), start, self._free_at)

    def unsent(self, now: float) -> int:
        """How many bytes the sender has not got rid of yet."""
        left = self._free_at - now
        return math.ceil(left / self._byte_time - _NEARLY) if left > 0 and self._byte_time else 0

    def read(self, now: float, size: int | None = None) -> bytes:
        """Take what is there, at most `size` bytes."""
        if not self._runs and not self._fifo:
            return b""
        self._arrive(now)
        most = self.settings.faults.piece or len(self._fifo)
        data = bytes(self._fifo[: most if size is None else min(most, size)])
        del self._fifo[: len(data)]
        self.counters.read += len(data)
        return data

    def next_arrival(self) -> float | None:
        """When the reader should look; a time that is over if it should have."""
        if self._fifo:
            return 0.0
        if not self._runs:
            return None
        return self._seen_at(self._gathered_at(self._runs[0]))

    def cut(self, now: float) -> None:
        """The wire is pulled: what is on the way is lost, in the middle of a byte."""
        self._arrive(now)
        self.counters.cut += sum(len(run.data) for run in self._runs)
        self._runs.clear()
        self._free_at = self._last_at = now
        self._is_cut = True

    def mend(self) -> None:
        """The wire is there again."""
        self._is_cut = False

    def stick(self, now: float, seconds: float) -> None:
        """The line is held low: one break is read, what is sent meanwhile is lost."""
        self._arrive(now)
        until = now + seconds
        for run in self._runs:
            self._lose_until(run, until)
        self._runs = deque(run for run in self._runs if run.data)
        if now >= self._stuck_until and not self._is_cut:
            self._runs.appendleft(_Run(_BREAK, now, self._byte_time))
        self._stuck_until = max(self._stuck_until, until)

    def empty(self, now: float) -> None:
        """The receiver knows nothing of what has come until now."""
        self.counters.cut += len(self._fifo) + len(self._come(now))
        self._fifo.clear()

    def _launch(self, data: bytes, start: float, end: float) -> None:
        if not data:
            return
        late = self.settings.delay + self._spoiler.lateness()
        begin = max(start + late, self._last_at)
        run = _Run(data, begin, (end - start) / len(data))
        self._last_at = run.at(len(data))
        self._lose_until(run, self._stuck_until)
        if run.data:
            self._runs.append(run)

    def _lose_until(self, run: _Run, until: float) -> None:
        if run.start >= until:
            return
        lost = run.come(until)
        self.counters.stuck += lost
        run.drop_first(lost)

    def _come(self, now: float) -> bytearray:
        """Take what has come from the wire."""
        latency = self.settings.latency
        seen = math.floor(now / latency + _ON_GRID) * latency if latency else now
        data = bytearray()
        while self._runs:
            run = self._runs[0]
            count = run.come(seen)
            data += run.data[:count]
            if count < len(run.data):
                run.drop_first(count)
                break
            self._runs.popleft()
        return data

    def _arrive(self, now: float) -> None:
        """Move what has come into the buffer, as much of it as has room."""
        data = self._come(now)
        depth = self.settings.fifo
        if depth is not None and len(data) > (room := depth - len(self._fifo)):
            self.counters.overrun += len(data) - room
            data = data[:room]
        self._fifo += data

    def _gathered_at(self, run: _Run) -> float:
        """When it is worth to look: at the end of the run, or before the buffer is full."""
        count = len(run.data)
        settings = self.settings
        if run.step:
            count = min(count, max(1, int(_GATHER / run.step)))
        if settings.fifo is not None:
            count = min(count, (settings.fifo + 1) // 2)
        if settings.faults.piece:
            count = min(count, settings.faults.piece)
        return run.at(count)

    def _seen_at(self, time: float) -> float:
        for grid in (self.settings.latency, self.settings.poll):
            if grid:
                time = math.ceil(time / grid) * grid
        return time


class VirtualUart:
    """Two ends and a lane each way: a machine. `end` is who writes, or who reads."""

    __slots__ = ("is_plugged", "lanes")

    def __init__(self, to_device: LaneSettings, to_host: LaneSettings, rng: Random) -> None:
        self.lanes = (Lane(to_device, rng), Lane(to_host, rng))  # by the end that writes
        self.is_plugged = True

    def write(self, end: int, data: bytes, now: float) -> None:
        """Send; what is written into a wire that is not there is gone."""
        self.lanes[end].write(data, now)

    def read(self, end: int, now: float, size: int | None = None) -> bytes:
        """Take what has arrived."""
        return self.lanes[1 - end].read(now, size)

    def unsent(self, end: int, now: float) -> int:
        """Bytes that an end has written and that have not left it."""
        return self.lanes[end].unsent(now)

    def next_arrival(self, end: int) -> float | None:
        """When `end` should read."""
        return self.lanes[1 - end].next_arrival()

    def next_deadline(self) -> float | None:
        """When somebody should read."""
        one, other = self.lanes[0].next_arrival(), self.lanes[1].next_arrival()
        if one is None or other is None:
            return other if one is None else one
        return min(one, other)

    def unplug(self, now: float) -> None:
        """Cut both directions; what the host has not read is gone with the port."""
        self.is_plugged = False
        for lane in self.lanes:
            lane.cut(now)
        self.lanes[DEVICE].empty(now)

    def plug(self) -> None:
        """Mend both."""
        self.is_plugged = True
        for lane in self.lanes:
            lane.mend()

    def stick(self, now: float, seconds: float) -> None:
        """Hold both lines low."""
        for lane in self.lanes:
            lane.stick(now, seconds)

    def power_off(self, end: int, now: float) -> None:
        """An end goes out: what it was sending stops, what it held is forgotten."""
        self.lanes[end].cut(now)
        self.lanes[1 - end].empty(now)
        if self.is_plugged:
            self.lanes[end].mend()

    def power_on(self, end: int, now: float) -> None:
        """An end starts: what came while it was off, nobody has heard."""
        self.lanes[1 - end].empty(now)
