"""What is read from /proc, and how latencies are kept.

CPU is user plus system time of the broker's process and of all its descendants, with all their
threads, in seconds, as the kernel accounts it (fields 14 to 17 of /proc/PID/stat, steps of 10 ms).
"""

import contextlib
import os
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_SECTOR = 512  # bytes, in /proc/diskstats on every disk


class FaultError(Exception):
    """The broker lost, repeated, reordered or spoilt something, or stopped answering."""


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for each in (int(path.name) for path in Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(OSError):  # it has just ended
            children[int(_stat(each)[1])].append(each)
    found = [pid]
    for each in found:
        found += children[each]
    return found


def cpu_seconds(pid: int) -> float:
    """Of the process itself, and of the children that it has seen end."""
    return sum(map(int, _stat(pid)[11:15])) * _TICK


def written_bytes(pid: int) -> int:
    """What the process and its descendants have made the file system write so far.

    Where the kernel does not tell it of them, what all processes wrote to that disk.
    """
    try:
        return sum(map(_written, tree(pid)))
    except PermissionError:
        return _written_to_disk(Path(__file__).stat().st_dev)


def memory_into(figures: "Figures", pid: int) -> None:
    """What the whole tree holds, and what its first process does."""
    figures.rss_mib = tree_rss_kib(pid) / 1024
    figures.alone_mib = rss_kib(pid) / 1024


def tree_rss_kib(pid: int) -> int:
    """A page that two processes share counts twice: nobody can say whose it is."""
    return sum(map(rss_kib, tree(pid)))


def rss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise FaultError(f"process {pid} has no memory: it has ended")


def _stat(pid: int) -> list[str]:
    """The fields from the third on: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _written(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def _written_to_disk(device: int) -> int:
    place = [str(os.major(device)), str(os.minor(device))]
    for line in Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        if fields[:2] == place:
            return int(fields[9]) * _SECTOR
    raise FaultError("nothing tells how many bytes are written here")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where broker, generator and load stood at one moment."""

    at: float
    broker_cpu: float
    generator_cpu: float
    delivered: int

    @classmethod
    def take(cls, pid: int, delivered: int) -> "Snapshot":
        processes = tree(pid)
        cpu = sum(map(cpu_seconds, processes))
        return cls(time.perf_counter(), cpu, time.process_time(), delivered)


@dataclass(slots=True)
class Figures:
    """The outcome of one scenario on one broker in one round; None is "not measured here"."""

    rate: float | None = None  # deliveries (or subscriptions, connections) per second
    broker_us: float | None = None  # CPU of the broker for each of them, in microseconds
    generator_us: float | None = None  # CPU of the load generator, likewise
    p50_ms: float | None = None
    p99_ms: float | None = None
    rss_mib: float | None = None  # of the broker and all its descendants
    alone_mib: float | None = None  # of the broker's first process
    client_kib: float | None = None  # memory for each idle subscribed client
    start_ms: float | None = None  # from spawning to CONNACK
    written: float | None = None  # bytes written to the disk for each message published
    sync_ms: float | None = None  # one write and fdatasync of 4 KiB beside the broker's data: p50
    sync_p99_ms: float | None = None
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
        figures.p50_ms, figures.p99_ms = self.percentiles()

    def percentiles(self) -> tuple[float | None, float | None]:
        """The median and the 99th percentile, in milliseconds."""
        self._samples.sort()
        return self._percentile(0.50), self._percentile(0.99)

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
    unacknowledged: int = 0

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
            "never acknowledged": self.unacknowledged,
        }
        return ", ".join(f"{count} {what}" for what, count in found.items() if count) or None
