"""The clock of a simulation, twice: virtual time, in which a day of mostly idle devices takes a
second, and real time on asyncio. Whatever runs in one runs in the other.

Rule kept here: who is due at the same time is served in the order in which it asked; nothing
depends on anything but the seed. A part that has changed another's mind wakes it.

    part    what has deadlines: a `Line`, a broker, an application
    Line    a part: a wire, what stands at its ends, and what happens to them
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final, Protocol

from firmware_sim.wire.faults import NONE, Incident, Incidents, What
from firmware_sim.wire.uart import DEVICE, HOST, VirtualUart

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from random import Random

    from firmware_sim.wire.faults import Faults

_AT_ONCE: Final = 100_000  # steps without time passing: something asks for ever


class Part(Protocol):
    """Something that does what is due, and says when it wants to be asked again."""

    def step(self, now: float) -> None:
        """Do all that is due."""

    def next_deadline(self) -> float | None:
        """When to step next, if ever; a time that is over: at once."""


class World(Protocol):
    """Where parts live."""

    @property
    def now(self) -> float:
        """Seconds."""

    def add(self, part: Part) -> None:
        """Step it now, and at its deadlines."""

    def remove(self, part: Part) -> None:
        """Step it no more."""

    def wake(self, part: Part) -> None:
        """Step it in this very moment, after those that wait already."""

    def at(self, time: float, call: Callable[[], None]) -> None:
        """Call at a time."""


class _Agenda:
    """Who is to be stepped, and when; deadlines that have moved are passed over."""

    def __init__(self) -> None:
        self._due: dict[Part, None] = {}
        self._deadlines: dict[Part, float | None] = {}
        self._heap: list[tuple[float, int, Part | None, Callable[[], None] | None]] = []
        self._number = 0

    def add(self, part: Part) -> None:
        self._deadlines.setdefault(part, None)
        self._due[part] = None

    def remove(self, part: Part) -> None:
        self._deadlines.pop(part, None)
        self._due.pop(part, None)

    def wake(self, part: Part) -> None:
        if part in self._deadlines:
            self._due[part] = None

    def at(self, time: float, call: Callable[[], None]) -> None:
        self._push(time, None, call)

    def next_time(self) -> float | None:
        """When the clock has to stop; -inf: now."""
        if self._due:
            return float("-inf")
        heap = self._heap
        while heap and heap[0][2] is not None and self._deadlines.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def serve(self, now: float) -> None:
        """Everything that is due, and what it makes due at the same time is left for next time."""
        while (time := self._next_in_heap()) is not None and time <= now:
            _, _, part, call = heapq.heappop(self._heap)
            if call is not None:
                call()
            elif part is not None and self._deadlines.get(part) == time:
                self._deadlines[part] = None
                self._due[part] = None
        due, self._due = self._due, {}
        try:
            self._step(due, now)
        finally:  # one that fails stops alone
            self._due = {**due, **self._due}

    def _step(self, due: dict[Part, None], now: float) -> None:
        while due:
            part = next(iter(due))
            del due[part]
            if part in self._deadlines:
                part.step(now)
                self._arm(part, now)

    def _next_in_heap(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def _arm(self, part: Part, now: float) -> None:
        if part not in self._deadlines:
            return  # it has removed itself
        deadline = part.next_deadline()
        if deadline is not None:
            deadline = max(deadline, now)
        if deadline != self._deadlines[part]:
            self._deadlines[part] = deadline
            if deadline is not None:
                self._push(deadline, part, None)

    def _push(self, time: float, part: Part | None, call: Callable[[], None] | None) -> None:
        self._number += 1
        heapq.heappush(self._heap, (time, self._number, part, call))


class VirtualWorld:
    """Time passes when nothing is left to do, and jumps to the next deadline."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._agenda = _Agenda()
        self.add = self._agenda.add
        self.remove = self._agenda.remove
        self.wake = self._agenda.wake
        self.at = self._agenda.at
        self.steps = 0

    @property
    def now(self) -> float:
        """Seconds."""
        return self._now

    def run(self, seconds: float, is_done: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass until it is done, for so many seconds at most; return whether it is."""
        end = self._now + seconds
        at_once = 0
        while not is_done():
            time = self._agenda.next_time()
            if time is None or time > end:
                self._now = end
                return is_done()
            at_once = 0 if time > self._now else at_once + 1
            if at_once > _AT_ONCE:
                raise RuntimeError(f"time stands still at {self._now}: something is always due")
            self._now = max(self._now, time)
            self.steps += 1
            self._agenda.serve(self._now)
        return True


class RealWorld:
    """The same on an asyncio loop. `speed`: simulated seconds in a second."""

    def __init__(self, loop: asyncio.AbstractEventLoop, speed: float = 1.0) -> None:
        self.loop = loop
        self._speed = speed
        self._start = loop.time()
        self._agenda = _Agenda()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._armed_for = 0.0
        self._is_serving = False
        self._is_closed = False

    @property
    def now(self) -> float:
        """Simulated seconds since the start."""
        return (self.loop.time() - self._start) * self._speed

    def add(self, part: Part) -> None:
        """See World."""
        self._agenda.add(part)
        self._arm()

    def remove(self, part: Part) -> None:
        """See World."""
        self._agenda.remove(part)

    def wake(self, part: Part) -> None:
        """See World."""
        self._agenda.wake(part)
        self._arm()

    def at(self, time: float, call: Callable[[], None]) -> None:
        """See World."""
        self._agenda.at(time, call)
        self._arm()

    def close(self) -> None:
        """Stop the clock for good."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _serve(self) -> None:
        self._timer = None
        self._is_serving = True
        try:
            self._agenda.serve(self.now)
        finally:
            self._is_serving = False
            self._arm()

    def _arm(self) -> None:
        time = self._agenda.next_time()
        if self._is_serving or self._is_closed or time is None:
            return
        if self._timer is not None:
            if self._armed_for <= time:
                return  # it looks again then
            self._timer.cancel()
        self._armed_for = time
        if time <= self.now:
            self._timer = self.loop.call_soon(self._serve)
        else:
            self._timer = self.loop.call_at(self._start + time / self._speed, self._serve)


class End(Protocol):
    """What can stand at an end of a wire: every serial machine, and every client machine."""

    def plugged(self, now: float) -> None: ...
    def receive(self, data: bytes, now: float) -> Any: ...
    def tick(self, now: float) -> Any: ...
    def next_deadline(self) -> float | None: ...
    def data_to_send(self) -> bytes: ...


class Heard:
    """An end whose machine returns events: `hear(events, now)` gets them."""

    def __init__(self, machine: End, hear: Callable[[list[Any], float], None]) -> None:
        self.machine = machine
        self._hear = hear
        self.plugged = machine.plugged
        self.next_deadline = machine.next_deadline
        self.data_to_send = machine.data_to_send

    def receive(self, data: bytes, now: float) -> None:
        """See End."""
        self._tell(self.machine.receive(data, now), now)

    def tick(self, now: float) -> None:
        """See End."""
        self._tell(self.machine.tick(now), now)

    def _tell(self, events: list[Any], now: float) -> None:
        if events:
            self._hear(events, now)


class Line:
    """A wire with both its ends: a part. The device does not notice that it is unplugged.

    `reset(now)` gives the device anew after it was without power: the same object, if it keeps its
    memory, or another one.
    """

    def __init__(
        self,
        uart: VirtualUart,
        host: End,
        device: End,
        incidents: Incidents | None = None,
        reset: Callable[[float], End] | None = None,
    ) -> None:
        self.uart = uart
        self.ends = [host, device]
        self.happened: list[Incident] = []
        self.is_powered = True
        self._incidents = incidents
        self._reset = reset
        self._repairs: list[tuple[float, What]] = []

    @classmethod
    def with_faults(
        cls,
        uart: VirtualUart,
        host: End,
        device: End,
        faults: Faults = NONE,
        *,
        rng: Random,
        reset: Callable[[float], End] | None = None,
        now: float = 0.0,
    ) -> Line:
        """A line to which happens what the faults say."""
        return cls(uart, host, device, Incidents(faults, rng, now), reset)

    @property
    def device(self) -> End:
        """Who stands at the device's end now."""
        return self.ends[DEVICE]

    def plug(self, now: float) -> None:
        """Plug in, for the first time or again; only the host notices."""
        self.uart.plug()
        self.ends[HOST].plugged(now)

    def power_on(self, now: float) -> None:
        """The device starts."""
        self.is_powered = True
        self.uart.power_on(DEVICE, now)
        self.ends[DEVICE].plugged(now)

    def unplug(self, now: float) -> None:
        """Pull the wire."""
        if not self.uart.is_plugged:
            return
        self._read(HOST, now)
        self.uart.unplug(now)
        self.ends[HOST].receive(b"", now)

    def power_off(self, now: float) -> None:
        """Take the device's power away: what it was saying stops in mid-byte."""
        self.is_powered = False
        self.uart.power_off(DEVICE, now)

    def reset(self, now: float) -> None:
        """The device starts again and has forgotten what is not in its flash."""
        self.uart.power_off(DEVICE, now)
        if self._reset is not None:
            self.ends[DEVICE] = self._reset(now)
        self.power_on(now)

    # -- Part -------------------------------------------------------------------------------------

    def step(self, now: float) -> None:
        """Carry what has arrived, ask whose time it is, take what they have to say."""
        self._happen(now)
        for end in self._alive():
            self._read(end, now)
            machine = self.ends[end]
            deadline = machine.next_deadline()
            if deadline is not None and deadline <= now:
                machine.tick(now)
        self.pump(now)

    def pump(self, now: float) -> None:
        """Take what both have to say."""
        for end in self._alive():
            data = self.ends[end].data_to_send()
            if data:
                self.uart.write(end, data, now)

    def next_deadline(self) -> float | None:
        """When the next of all these happens."""
        times = [self._incidents.next_deadline() if self._incidents else None]
        times += [self._repairs[0][0] if self._repairs else None]
        for end in self._alive():
            times += [self.ends[end].next_deadline(), self.uart.next_arrival(end)]
        return min((time for time in times if time is not None), default=None)

    def _alive(self) -> tuple[int, ...]:
        return (HOST, DEVICE) if self.is_powered else (HOST,)

    def _read(self, end: int, now: float) -> None:
        while data := self.uart.read(end, now):
            self.ends[end].receive(data, now)

    def _happen(self, now: float) -> None:
        while self._repairs and self._repairs[0][0] <= now:
            _REPAIRS[heapq.heappop(self._repairs)[1]](self, now)
        for incident in self._incidents.due(now) if self._incidents else ():
            self.happened.append(incident)
            _BEGINNINGS[incident.what](self, incident, now)

    def _on_unplug(self, incident: Incident, now: float) -> None:
        self.unplug(now)
        self._mend_later(incident, now)

    def _on_stuck(self, incident: Incident, now: float) -> None:
        self.uart.stick(now, incident.seconds)

    def _on_brown_out(self, incident: Incident, now: float) -> None:
        self.power_off(now)
        self._mend_later(incident, now)

    def _on_reset(self, _incident: Incident, now: float) -> None:
        if self.is_powered:
            self.reset(now)

    def _mend_later(self, incident: Incident, now: float) -> None:
        heapq.heappush(self._repairs, (now + incident.seconds, incident.what))


_BEGINNINGS: Final = {
    What.UNPLUG: Line._on_unplug,
    What.STUCK: Line._on_stuck,
    What.BROWN_OUT: Line._on_brown_out,
    What.RESET: Line._on_reset,
}
_REPAIRS: Final = {What.UNPLUG: Line.plug, What.BROWN_OUT: Line.reset}
