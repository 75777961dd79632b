"""What is read from /proc, and how latencies are kept.

CPU is user plus system time of the whole process with all its threads, in seconds, as the kernel
accounts it (fields 14 and 15 of /proc/PID/stat, steps of 10 ms).
"""

import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


class FaultError(Exception):
    """The broker lost, repeated, reordered or spoilt something, or stopped answering."""


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise FaultError(f"process {pid} has no memory: it has ended")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where broker, generator and load stood at one moment."""

    at: float
    broker_cpu: float
    generator_cpu: float
    delivered: int

    @classmethod
    def take(cls, pid: int, delivered: int) -> "Snapshot":
        return cls(time.perf_counter(), cpu_seconds(pid), time.process_time(), delivered)


@dataclass(slots=True)
class Figures:
    """The outcome of one scenario on one broker in one round; None is "not measured here"."""

    rate: float | None = None  # deliveries (or subscriptions, connections) per second
    broker_us: float | None = None  # CPU of the broker for each of them, in microseconds
    generator_us: float | None = None  # CPU of the load generator, likewise
    p50_ms: float | None = None
    p99_ms: float | None = None
    rss_mib: float | None = None
    client_kib: float | None = None  # memory for each idle subscribed client
    start_ms: float | None = None  # from spawning to CONNACK
    duplicates: int = 0
    fault: str | None = None


def between(before: Snapshot, after: Snapshot) -> Figures:
    """Raises FaultError when nothing at all was delivered."""
    count = after.delivered - before.delivered
    if not count:
        raise FaultError("nothing was delivered in the time measured")
    return Figures(
        rate=count / (after.at - before.at),
        broker_us=(after.broker_cpu - before.broker_cpu) / count * 1e6,
        generator_us=(after.generator_cpu - before.generator_cpu) / count * 1e6,
    )


class Latencies:
    """How long messages took, as (seconds, how many) to keep the cost per read, not per message."""

    __slots__ = ("_samples", "note")

    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []
        self.note = self._samples.append

    def clear(self) -> None:
        self._samples.clear()

    def into(self, figures: Figures) -> None:
        self._samples.sort()
        figures.p50_ms, figures.p99_ms = self._percentile(0.50), self._percentile(0.99)

    def _percentile(self, share: float) -> float | None:
        left = share * sum(count for _, count in self._samples)
        for seconds, count in self._samples:
            left -= count
            if left <= 0:
                return seconds * 1e3
        return None


class Departures:
    """When each batch of one publisher left, until the last of it has arrived."""

    __slots__ = ("_batches", "_latencies")

    def __init__(self, latencies: Latencies) -> None:
        self._batches: deque[tuple[int, float]] = deque()  # (number after the last one, when)
        self._latencies = latencies

    def sent(self, up_to: int) -> None:
        self._batches.append((up_to, time.perf_counter()))

    def arrived(self, start: int, end: int) -> None:
        """The messages from `start` to before `end` have just come in."""
        now, batches = time.perf_counter(), self._batches
        while start < end and batches:
            last, when = batches[0]
            stop = min(last, end)
            self._latencies.note((now - when, stop - start))
            start = stop
            if start == last:
                batches.popleft()


@dataclass(slots=True)
class Tally:
    """What went wrong, message by message; filled only where a comparison of bytes has failed."""

    missing: set[tuple[str, int]] = field(default_factory=set)
    duplicates: int = 0
    disordered: int = 0
    spoilt: int = 0

    def skipped(self, source: str, numbers: range) -> None:
        self.missing.update((source, number) for number in numbers)

    def late(self, source: str, number: int) -> None:
        """A number below the expected one: out of order if it was missed before, else a copy."""
        if (source, number) in self.missing:
            self.missing.discard((source, number))
            self.disordered += 1
        else:
            self.duplicates += 1

    def fault(self) -> str | None:
        """A sentence; None if all is well. A copy is a fault at QoS 1 too: no link ever broke."""
        found = {
            "lost": len(self.missing),
            "duplicated": self.duplicates,
            "out of order": self.disordered,
            "spoilt": self.spoilt,
        }
        return ", ".join(f"{count} {what}" for what, count in found.items() if count) or None
