"""A serial wire in virtual time that does to bytes what real ones do, and two machines on it.

Everything comes from one `random.Random`, so a seed repeats exactly. A wire loses, damages, doubles
and delays bytes, but it does not reorder them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


class Machine(Protocol):
    """What can stand at the end of a wire."""

    def receive(self, data: bytes, now: float) -> list[Any]: ...
    def tick(self, now: float) -> list[Any]: ...
    def next_deadline(self) -> float | None: ...
    def data_to_send(self) -> bytes: ...
    def plugged(self, now: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong; chances are per byte."""

    drop: float = 0.0
    flip: float = 0.0  # one bit
    duplicate: float = 0.0
    burst: float = 0.0  # a burst of noise begins
    burst_length: int = 20  # bytes, at most
    jitter: float = 0.0  # seconds of delay more, at most
    piece: int = 0  # the reader gets at most so many bytes at a time; 0: all
    read_every: float = 0.0  # the reader looks only so often ...
    ring: int = 64  # ... and its buffer holds so many bytes; the others are lost

    @property
    def per_byte(self) -> float:
        return self.drop + self.flip + self.duplicate + self.burst


def errors(rate: float) -> Faults:
    """A share of all bytes is damaged, in all the ways there are."""
    return Faults(drop=rate * 0.35, flip=rate * 0.45, duplicate=rate * 0.15, burst=rate * 0.05 / 8)


class Wire:
    """One direction: `put` bytes, and `take` what has arrived."""

    def __init__(
        self, rng: Random, faults: Faults, rate: float = 11_520.0, delay: float = 0.001
    ) -> None:
        self.rng = rng
        self.faults = faults
        self.rate = rate  # bytes per second; 0: no limit
        self.delay = delay
        self.is_cut = False
        self.carried = 0  # bytes put
        self.lost_in_ring = 0
        self._free_at = 0.0
        self._last_due = 0.0
        self._noise = 0  # bytes of a burst that are still to come
        self._on_the_way: deque[tuple[float, bytes]] = deque()

    def put(self, data: bytes, now: float) -> None:
        """Send; what is put into a cut wire is gone."""
        if self.is_cut or not data:
            return
        self.carried += len(data)
        start = max(now, self._free_at)
        size = self.faults.piece or (1 if self.faults.read_every else len(data))
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            self._free_at = start + ((at + len(piece)) / self.rate if self.rate else 0.0)
            self._send(self._spoil(piece))

    def next_arrival(self) -> float | None:
        """When there is something to read."""
        if not self._on_the_way:
            return None
        due, every = self._on_the_way[0][0], self.faults.read_every
        return due if not every else (due // every + 1) * every

    def take(self, now: float) -> bytes:
        """Read what has arrived."""
        parts = []
        while self._on_the_way and self._on_the_way[0][0] <= now:
            parts.append(self._on_the_way.popleft()[1])
            if self.faults.piece:
                break
        data = b"".join(parts)
        if self.faults.read_every and len(data) > self.faults.ring:
            self.lost_in_ring += len(data) - self.faults.ring
            data = data[: self.faults.ring]
        return data

    def cut(self, now: float) -> None:
        """Pull the plug: the reader gets a part of what is on the way, and no more."""
        self.is_cut = True
        self._noise = 0
        self._free_at = now
        keep = self.rng.randint(0, len(self._on_the_way))
        while len(self._on_the_way) > keep:
            _, data = self._on_the_way.pop()
            if len(self._on_the_way) == keep and len(data) > 1:  # in the middle of a frame
                self._on_the_way.append((now, data[: self.rng.randrange(1, len(data))]))
                break

    def mend(self) -> None:
        """Plug in again."""
        self.is_cut = False

    def _send(self, data: bytes) -> None:
        if data:
            due = self._free_at + self.delay
            if self.faults.jitter:
                due += self.rng.random() * self.faults.jitter
            self._last_due = max(self._last_due, due)  # later, but never out of order
            self._on_the_way.append((self._last_due, data))

    def _spoil(self, data: bytes) -> bytes:
        chance = self.faults.per_byte
        if not chance and not self._noise:
            return data
        out = bytearray()
        random = self.rng.random
        for byte in data:
            if self._noise:
                self._noise -= 1
                out.append(self.rng.randrange(256))
            elif random() >= chance:
                out.append(byte)
            else:
                out += self._damage(byte)
        return bytes(out)

    def _damage(self, byte: int) -> bytes:
        faults, pick = self.faults, self.rng.random() * self.faults.per_byte
        if pick < faults.drop:
            return b""
        if pick < faults.drop + faults.flip:
            return bytes((byte ^ 1 << self.rng.randrange(8),))
        if pick < faults.drop + faults.flip + faults.duplicate:
            return bytes((byte, byte))
        self._noise = self.rng.randint(1, faults.burst_length)
        return bytes((self.rng.randrange(256),))


class Bench:
    """Two machines, a wire each way, and the clock."""

    def __init__(self, one: Machine, other: Machine, there: Wire, back: Wire) -> None:
        self.now = 0.0
        self.ends = (one, other)
        self.outward = (there, back)  # by the end that writes
        self.events: tuple[list[Any], list[Any]] = ([], [])
        self.steps = 0
        self._plans: list[tuple[float, Callable[[], None]]] = []

    def plug(self) -> None:
        """Connect both ends."""
        for at in (0, 1):
            self.outward[at].mend()
            self.ends[at].plugged(self.now)
        self.pump()

    def replace(self, at: int, machine: Machine) -> None:
        """One end is reset: it has forgotten everything."""
        self.ends = (machine, self.ends[1]) if at == 0 else (self.ends[0], machine)
        machine.plugged(self.now)
        self.pump()

    def unplug(self) -> None:
        """Cut the wire; the end that is the host, the first, notices."""
        for wire in self.outward:
            wire.cut(self.now)
        self._happened(0, self.ends[0].receive(b"", self.now))

    def replug(self) -> None:
        """Mend the wire; the device, the second, has not noticed anything."""
        for wire in self.outward:
            wire.mend()
        self.ends[0].plugged(self.now)
        self.pump()

    def at(self, time: float, what: Callable[[], None]) -> None:
        """Do something at a time from now on."""
        self._plans.append((time, what))
        self._plans.sort(key=lambda plan: plan[0])

    def run(self, until: float, is_done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until then, or until it is done."""
        while not is_done():
            time = self._next()
            if time is None or time > until:
                self.now = max(self.now, until)
                return
            self.now = max(self.now, time)
            self.step()

    def step(self) -> None:
        """Do all that is due now."""
        self.steps += 1
        while self._plans and self._plans[0][0] <= self.now:
            self._plans.pop(0)[1]()
        for at in (0, 1):
            end = self.ends[at]
            data = self.outward[1 - at].take(self.now)
            if data:
                self._happened(at, end.receive(data, self.now))
            deadline = end.next_deadline()
            if deadline is not None and deadline <= self.now:
                self._happened(at, end.tick(self.now))
        self.pump()

    def pump(self) -> None:
        """Take what both have to say."""
        for at in (0, 1):
            self.outward[at].put(self.ends[at].data_to_send(), self.now)

    def _next(self) -> float | None:
        times = [end.next_deadline() for end in self.ends]
        times += [wire.next_arrival() for wire in self.outward]
        times += [plan[0] for plan in self._plans[:1]]
        return min((time for time in times if time is not None), default=None)

    def _happened(self, at: int, events: list[Any]) -> None:
        self.events[at].extend(events)
