"""A simulated device on a pseudo terminal: a gateway opens it like any serial port.

    gateway <-> pty, at a name that stays <-> VirtualUart <-> device machine

Rule kept here: every descriptor that is opened is closed by `unplug` or `close`, and the name goes
with the port, as a device node does.
"""

from __future__ import annotations

import asyncio
import errno
import os
import termios
import tty
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from firmware_sim.wire.faults import Incidents
from firmware_sim.wire.uart import HOST, LaneSettings, VirtualUart
from firmware_sim.wire.worlds import Line, RealWorld

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from firmware_sim.wire.faults import Faults
    from firmware_sim.wire.worlds import End

_AHEAD: Final = 0.02  # seconds of the wire that may wait behind the pty
_LEAST_AHEAD: Final = 64  # bytes: what a USB chip buffers
_AT_ONCE: Final = 65_536  # bytes of one read, of a wire without a pace
_OUT_SPEED: Final = 5  # in the attributes of a terminal
_BAUDS: Final = {
    getattr(termios, name): int(name[1:])
    for name in dir(termios)
    if name.startswith("B") and name[1:].isdigit()
}


@dataclass(slots=True)
class PtyCounters:
    """What happened at the gateway's end."""

    opened: int = 0
    unread: int = 0  # bytes that the gateway left lying until the kernel had no room
    garbled: int = 0  # bytes that went at another speed than the device's


class PtyEnd:
    """The gateway's end of a `Line`: plugged in it is a pty with a name, unplugged it is gone.

    With `baud`, bytes are garbled as long as the gateway has set another speed.
    """

    def __init__(self, world: RealWorld, path: Path, rng: Random, baud: int = 0) -> None:
        self.path = path
        self.counters = PtyCounters()
        self.uart: VirtualUart | None = None
        self.wake: Callable[[], None] = lambda: None
        self._world = world
        self._rng = rng
        self._baud = baud
        self._fds: tuple[int, int] | None = None  # master, and a slave that keeps it alive
        self._taken = bytearray()
        self._resume_at: float | None = None  # reading rests until then

    @property
    def is_open(self) -> bool:
        """Whether there is a port to open."""
        return self._fds is not None

    # -- End --------------------------------------------------------------------------------------

    def plugged(self, _now: float) -> None:
        """Make the pty, and its name."""
        if self._fds is not None:
            return
        master, slave = self._fds = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        _point(self.path, os.ttyname(slave))
        self.counters.opened += 1
        self._world.loop.add_reader(master, self._on_readable)

    def receive(self, data: bytes, _now: float) -> None:
        """Hand the gateway what has come over the wire; b"": the plug was pulled."""
        if not data:
            self.close()
        elif self._fds is not None:
            self._write(self._fds[0], self._heard(data))

    def tick(self, _now: float) -> None:
        """The wire has room again."""
        self._resume_at = None
        if self._fds is not None:
            self._world.loop.add_reader(self._fds[0], self._on_readable)

    def next_deadline(self) -> float | None:
        """When the wire will have room."""
        return self._resume_at

    def data_to_send(self) -> bytes:
        """What the gateway has written."""
        data = bytes(self._taken)
        self._taken.clear()
        return data

    def close(self) -> None:
        """Take the port away: whoever has it open is told by an error."""
        if self._fds is None:
            return
        master, slave = self._fds
        self._fds = None
        self._resume_at = None
        self._taken.clear()
        self._world.loop.remove_reader(master)
        if self.path.is_symlink() and str(self.path.readlink()) == os.ttyname(slave):
            self.path.unlink()
        os.close(slave)
        os.close(master)

    # -- the pty ----------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if self._fds is None:
            return
        room = self._room()
        if room <= 0:
            self._rest()
            return
        try:
            data = os.read(self._fds[0], room)
        except BlockingIOError:
            return
        self._taken += self._heard(data)
        self.wake()

    def _room(self) -> int:
        if self.uart is None:
            return _AT_ONCE
        byte_time = self.uart.lanes[HOST].settings.byte_time
        ahead = max(_LEAST_AHEAD, int(_AHEAD / byte_time)) if byte_time else _AT_ONCE
        return ahead - self.uart.unsent(HOST, self._world.now) - len(self._taken)

    def _rest(self) -> None:
        """The wire is full: what the gateway writes waits in the pty, and then in the gateway."""
        assert self._fds is not None
        self._world.loop.remove_reader(self._fds[0])
        self._resume_at = self._world.now + _AHEAD / 2
        self.wake()

    def _write(self, master: int, data: bytes) -> None:
        try:
            written = os.write(master, data)
        except BlockingIOError:
            written = 0
        self.counters.unread += len(data) - written

    def _heard(self, data: bytes) -> bytes:
        """What is heard of it, if both ends have set another speed."""
        if not self._baud or self._fds is None:
            return data
        speed = _BAUDS.get(termios.tcgetattr(self._fds[1])[_OUT_SPEED], self._baud)
        if speed == self._baud:
            return data
        self.counters.garbled += len(data)
        return self._rng.randbytes(len(data))


def _point(path: Path, target: str) -> None:
    """Let the name mean this pty, whichever it meant before. Raises OSError: it is a real file."""
    if path.exists() and not path.is_symlink():
        raise FileExistsError(errno.EEXIST, "is there, and is no simulated port", str(path))
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(path)


class PtyWire:
    """A device behind a pty, in real time.

    `plug` makes the port appear and starts the device; `unplug`, `replug` and `reset` do what their
    names say; what `faults` plan happens by itself. Ends with `close`, or as a
    context manager.
    """

    def __init__(
        self,
        world: RealWorld,
        path: Path,
        device: End,
        uart: VirtualUart,
        *,
        rng: Random,
        faults: Faults | None = None,
        strict_baud: int = 0,
        reset: Callable[[float], End] | None = None,
    ) -> None:
        self.world = world
        self.host = PtyEnd(world, path, rng, strict_baud)
        incidents = Incidents(faults, rng, world.now) if faults is not None else None
        self.line = Line(uart, self.host, device, incidents, reset)
        self.host.uart = uart
        self.host.wake = self.wake

    @property
    def path(self) -> Path:
        """Where the port is, while it is plugged in."""
        return self.host.path

    def wake(self) -> None:
        """The device, or the gateway, has something to say."""
        self.world.wake(self.line)

    def plug(self) -> None:
        """Plug in, with the device switched on."""
        self.line.plug(self.world.now)
        self.line.power_on(self.world.now)
        self.world.add(self.line)

    def unplug(self) -> None:
        """Pull the plug, in mid-byte: the gateway sees an error. The device runs on."""
        self.line.unplug(self.world.now)
        self.wake()

    def replug(self, path: Path | None = None) -> None:
        """Plug in again, if wanted under another name; the device has not noticed."""
        if path is not None:
            self.unplug()
            self.host.path = path
        self.line.plug(self.world.now)
        self.wake()

    def reset(self) -> None:
        """Press the device's button."""
        self.line.reset(self.world.now)
        self.wake()

    def close(self) -> None:
        """Everything is taken away."""
        self.world.remove(self.line)
        self.line.unplug(self.world.now)
        self.host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def plain_wire(rng: Random, baud: int = 115_200, fifo: int | None = None) -> VirtualUart:
    """A wire without faults, as most are."""
    return VirtualUart(LaneSettings(baud=baud, fifo=fifo), LaneSettings(baud=baud), rng)


def real_world() -> RealWorld:
    """The world of the loop that runs."""
    return RealWorld(asyncio.get_running_loop())
