"""Carries the bytes of a serial machine: opens one port again and again, for ever.

The shell around `Link`, `Detector` and the plainer modes: one synchronous pass for each read, one
write at the end of the loop turn, one timer. Rules kept here: the machine is asked for what goes
out only when nearly nothing waits behind the port, so messages wait in the broker and not in a
UART; and nothing that the machine or its owner raises ends more than this one connection.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from bridges.serial.baud import BaudMemory, BaudSearch, ShortMemory
from bridges.serial.port_names import PortError, find
from bridges.serial.port_open import open_port
from bridges.serial.port_settings import LineErrors, PortFigures, PortInfo, PortSettings
from bridges.serial.port_spec import parse_port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from bridges.serial.events import Event
    from bridges.serial.modes import SerialMachine
    from bridges.serial.port import Port

__all__ = ["BaudMemory", "Carrier", "Owner", "PortFigures", "PortInfo", "PortSettings"]

AHEAD: Final = 0.02  # seconds of the wire that may wait behind the port
NETWORK_AHEAD: Final = 0.1  # ... behind a socket, where what is on its way counts as well
LEAST_AHEAD: Final = 32  # bytes
SHORTEST_NAP: Final = 0.001  # between two ticks that changed nothing
BLOCKED_NAP: Final = 0.05  # ... while the port takes nothing
LINGER: Final = 0.5  # seconds that `close` waits for the last words to be on the wire
GOOD_WHILE: Final = 5.0  # open for so long, or somebody was understood: the next wait is short
_BITS: Final = 10  # of one byte on the wire

log = logging.getLogger("heliograph.serial")


class Owner(Protocol):
    """Whom a Carrier tells. It may call `wake`, `hold` and the machine's verbs from within."""

    def on_plugged(self, info: PortInfo) -> None:
        """The port is open."""

    def on_unplugged(self, why: str) -> None:
        """It is not any more; the Carrier goes on trying."""

    def on_events(self, events: Sequence[Event], now: float) -> None:
        """After each read and tick, and, empty, when the machine may have room again."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a reset: DTR, RTS, and how long, in seconds."""

    dtr: bool
    rts: bool
    lasts: float


# An Arduino is reset by the edge of DTR; on an ESP32 RTS is EN, and DTR is IO0, which must be high.
_RESETS: Final[dict[str, tuple[_Step, ...]]] = {
    "dtr": (_Step(False, False, 0.25), _Step(True, True, 0.05)),
    "esp32": (_Step(False, True, 0.1), _Step(False, False, 0.05)),
}


class Carrier:
    """One port and its machine. It belongs to the thread of its loop."""

    def __init__(
        self,
        settings: PortSettings,
        machine: SerialMachine,
        owner: Owner,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        memory: BaudMemory | None = None,
    ) -> None:
        self.settings = settings
        self._spec = parse_port(settings.port)
        self._machine = machine
        self._owner = owner
        self._loop = loop
        self._rng = rng
        self._search = BaudSearch(settings.bauds, settings.probe, memory or ShortMemory())
        self._figures = PortFigures()
        self._port: Port | None = None
        self._gone: asyncio.Future[str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._drain: asyncio.TimerHandle | None = None
        self._reset: asyncio.TimerHandle | None = None
        self._first_errors: LineErrors | None = None  # what the driver had counted at the open
        self._past_errors = LineErrors(0, 0, 0, 0, 0)

    # -- verbs ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Try to open the port from now on; it need not be there."""
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name=f"serial {self.settings.port}")

    def wake(self) -> None:
        """The machine has something to say: it is flushed once, at the end of this loop turn."""
        if not self._flush_due and self._port is not None:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def hold(self, held: bool) -> None:
        """Read no more, until told otherwise: the other end is to wait."""
        if held == self._figures.is_held:
            return
        self._figures.is_held = held
        if self._port is not None:
            self._port.hold(held)

    def reset_device(self) -> bool:
        """Reset the device by DTR and RTS; False: no port is open, or it has no such lines."""
        return self._reset_from(0)

    async def close(self) -> None:
        """End it. Nothing is called or open afterwards."""
        task, self._task = self._task, None
        if task is None:
            return
        await self._linger()
        task.cancel()
        await asyncio.wait([task])

    @property
    def figures(self) -> PortFigures:
        """How the port fares now."""
        figures = self._figures
        figures.baud = self._search.baud
        figures.is_met = self._search.is_met
        if self._port is not None:
            figures.waiting = self._port.waiting
            self._count_errors(self._port)
        return figures

    # -- opening, for ever ------------------------------------------------------------------------

    async def _run(self) -> None:
        pause = self.settings.first_retry
        while True:
            opened_at = self._loop.time()
            if await self._once() and self._was_worth_it(opened_at):
                pause = self.settings.first_retry
            await asyncio.sleep(pause * (0.75 + self._rng.random() / 2))
            pause = min(2 * pause, self.settings.longest_retry)

    def _was_worth_it(self, opened_at: float) -> bool:
        """Whether the port was good for something: a plug that wobbles is not a broken port."""
        return self._search.is_met or self._loop.time() - opened_at > GOOD_WHILE

    async def _once(self) -> bool:
        """Open the port and serve it until it is gone; False: it could not be opened."""
        port = await self._open()
        if port is None:
            return False
        self._gone = self._loop.create_future()
        why = "the gateway closed it"
        try:
            self._guarded(self._plug, port)
            why = await self._gone
        finally:
            self._unplug(why)
            await port.close()
        return True

    async def _open(self) -> Port | None:
        self._figures.attempts += 1
        try:
            found = find(self._spec)
            baud = self._search.open(found.key)
            return await open_port(self._spec, found, self.settings, baud, self._loop)
        except OSError as error:
            self._on_refusal(str(error))
        except Exception as fault:  # noqa: BLE001 - whatever it is, the next try may be better
            self._report(fault)
            self._on_refusal("a fault of the gateway: see its log")
        return None

    def _on_refusal(self, why: str) -> None:
        if why != self._figures.last_error:  # said once, not at every try
            log.warning("serial port %s: %s; trying again", self.settings.port, why)
        self._figures.last_error = why

    def _plug(self, port: Port) -> None:
        now = self._loop.time()
        figures, info = self._figures, port.info
        figures.is_open, figures.path, figures.key = True, info.path, info.key
        figures.opened += 1
        figures.attempts = 0
        figures.last_error = ""
        self._first_errors = port.line_errors()
        log.info("serial port %s: open (%s, %d baud)", self.settings.port, info.path, info.baud)
        self._port = port
        port.start(self)
        if figures.is_held:
            port.hold(True)
        self._search.plugged(now)
        self._machine.plugged(now)
        self._owner.on_plugged(info)
        self.wake()

    def _unplug(self, why: str) -> None:
        """The port is no more, whatever the reason."""
        port, self._port = self._port, None
        for timer in (self._timer, self._drain, self._reset):
            if timer is not None:
                timer.cancel()
        self._timer = self._drain = self._reset = None
        self._gone = None
        figures = self._figures
        if port is not None:
            self._keep_errors(port)
        figures.is_open, figures.waiting, figures.last_error = False, 0, why
        figures.closed += 1
        log.info("serial port %s: closed, %s", self.settings.port, why)
        self._search.unplugged()
        self._guarded(self._tell_unplugged, why)

    def _tell_unplugged(self, why: str) -> None:
        now = self._loop.time()
        self._owner.on_events(self._machine.receive(b"", now), now)
        self._owner.on_unplugged(why)

    async def _linger(self) -> None:
        """Let the last words out."""
        self._flush()
        until = self._loop.time() + LINGER
        while self._is_busy and self._loop.time() < until:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)

    @property
    def _is_busy(self) -> bool:
        return self._port is not None and self._port.waiting > 0

    # -- what the port tells ----------------------------------------------------------------------

    def on_bytes(self, data: bytes) -> None:
        """The wire brought something."""
        self._guarded(self._receive, data)

    def on_room(self) -> None:
        """The port has taken what it had kept waiting."""
        self.wake()

    def on_gone(self, why: str) -> None:
        """The port is gone."""
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(why)

    # -- passes -----------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        now = self._loop.time()
        self._figures.bytes_in += len(data)
        self._pass_on(self._machine.receive(data, now), now)
        self.wake()

    def _pass_on(self, events: Sequence[Event], now: float) -> None:
        if events:
            self._search.observe(events, now)
        self._owner.on_events(events, now)

    def _flush(self) -> None:
        self._flush_due = False
        if self._port is not None:
            self._guarded(self._send, self._port)

    def _send(self, port: Port) -> None:
        """Give the port what the machine has, if nearly nothing waits there."""
        waiting = port.waiting
        if not port.is_stuck and waiting <= self._ahead():
            self._write(port)
        elif not port.is_stuck:
            self._wait_for_room(waiting)
        self._arm(SHORTEST_NAP if self._drain is None and not port.is_stuck else BLOCKED_NAP)

    def _write(self, port: Port) -> None:
        data = self._machine.data_to_send()
        if data:
            port.write(data)
            self._figures.bytes_out += len(data)
            self._owner.on_events((), self._loop.time())

    def _wait_for_room(self, waiting: int) -> None:
        """Nobody tells when a UART is nearly empty, so reckon when it will be."""
        if self._drain is None:
            seconds = (waiting - self._ahead() / 2) / self._rate()
            self._drain = self._loop.call_later(max(seconds, SHORTEST_NAP), self._on_drained)

    def _on_drained(self) -> None:
        self._drain = None
        self._flush()

    def _ahead(self) -> float:
        seconds = NETWORK_AHEAD if self._spec.is_network else AHEAD
        return max(LEAST_AHEAD, self._rate() * seconds)

    def _rate(self) -> float:
        return self._search.baud / _BITS

    # -- time -------------------------------------------------------------------------------------

    def _arm(self, nap: float) -> None:
        """Wake at the earliest deadline; a later one finds the timer and is left to it."""
        deadline = self._next_deadline()
        if deadline is None:
            return
        when = max(deadline, self._loop.time() + nap)
        if self._timer is None or self._timer.when() > when:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._on_timer)

    def _next_deadline(self) -> float | None:
        mine, its = self._search.deadline, self._machine.next_deadline()
        if mine is None or its is None:
            return its if mine is None else mine
        return min(mine, its)

    def _on_timer(self) -> None:
        self._timer = None
        self._guarded(self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        probe = self._search.deadline
        if probe is not None and now >= probe:
            self._try_next_baud(now)
        deadline = self._machine.next_deadline()
        if deadline is not None and now >= deadline:
            self._pass_on(self._machine.tick(now), now)
        self.wake()  # which arms the timer again

    def _try_next_baud(self, now: float) -> None:
        port = self._port
        if port is None:
            return
        port.set_baud(self._search.next(now))
        self._pass_on(self._machine.receive(b"", now), now)
        self._machine.plugged(now)

    # -- reset ------------------------------------------------------------------------------------

    def _reset_from(self, step: int) -> bool:
        if self._reset is not None:
            self._reset.cancel()
            self._reset = None
        steps = _RESETS[self.settings.reset]
        if self._port is None:
            return False
        if step == len(steps):
            return self.settings.lines != "off" or self._port.set_lines(False, False)
        dtr, rts, lasts = steps[step].dtr, steps[step].rts, steps[step].lasts
        if not self._port.set_lines(dtr, rts):
            return False
        self._reset = self._loop.call_later(lasts, self._reset_from, step + 1)
        return True

    # -- figures ----------------------------------------------------------------------------------

    def _count_errors(self, port: Port) -> None:
        now, then, past = port.line_errors(), self._first_errors, self._past_errors
        figures = self._figures
        figures.has_line_errors = now is not None and then is not None
        if now is None or then is None:
            return
        figures.framing = past.framing + now.framing - then.framing
        figures.parity = past.parity + now.parity - then.parity
        figures.breaks = past.breaks + now.breaks - then.breaks
        overruns = now.overrun + now.buffer_overrun - then.overrun - then.buffer_overrun
        figures.overruns = past.overrun + overruns

    def _keep_errors(self, port: Port) -> None:
        """The driver's counters end with the device; what they said is kept."""
        self._count_errors(port)
        each = self._figures
        self._past_errors = LineErrors(each.framing, each.overruns, each.parity, each.breaks, 0)

    # -- faults -----------------------------------------------------------------------------------

    def _guarded(self, action: Callable[..., None], *args: object) -> None:
        """A fault of ours ends this connection, loudly, and nothing else."""
        try:
            action(*args)
        except PortError as error:
            self.on_gone(str(error))
        except Exception as fault:  # noqa: BLE001 - whatever it is
            self._report(fault)
            self.on_gone("a fault of the gateway: see its log")

    def _report(self, fault: Exception) -> None:
        what = f"fault at serial port {self.settings.port}"
        self._loop.call_exception_handler({"message": what, "exception": fault})
