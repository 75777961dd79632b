"""A serial device of this computer: pyserial sets it up, then the event loop reads and writes it.

Rules kept here: nothing blocks; nobody else has the device open; DTR and RTS are touched only if
the settings say so.

Why an Arduino is reset when a port opens: the kernel raises DTR with each open, and the board makes
a reset of that edge. The kernel lowers DTR at the last close only if HUPCL is set. So we clear
HUPCL, and then only the first open after plugging in makes an edge, which no program can prevent:
the board has just been powered anyway. (A capacitor of 10 uF from RESET to GND prevents it.)
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import grp
import os
import pwd
import stat
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Final

import serial
from serial.rs485 import RS485Settings

from bridges.serial.counters import line_errors
from bridges.serial.port_names import PortError
from bridges.serial.port_settings import PortInfo

if TYPE_CHECKING:
    import asyncio

    from bridges.serial.port import PortUser
    from bridges.serial.port_names import Found
    from bridges.serial.port_settings import LineErrors, PortSettings, Rs485

READ_SIZE: Final = 65_536
_IFLAG, _CFLAG, _CC = 0, 2, 6  # in what tcgetattr returns
_NOT_READY: Final = (BlockingIOError, InterruptedError)
_LINES: Final = {"on": (True, True), "off": (False, False)}
_NOT_HERE: Final = "{path} is not there: plug it in, or see heliograph serial ports"
_IN_USE: Final = (
    "{path} is in use: another program, or another [[serial]], has it open (see: fuser {path})"
)
_NO_HARDWARE: Final = "there is no hardware behind {path}: see heliograph serial ports"
_REASONS: Final = {
    errno.ENOENT: _NOT_HERE,
    errno.ENODEV: _NOT_HERE,
    errno.ENXIO: _NO_HARDWARE,
    errno.EIO: _NO_HARDWARE,
    errno.EBUSY: _IN_USE,
    errno.EAGAIN: _IN_USE,
}


class _Device(serial.Serial):
    """pyserial would raise or lower both lines at every open."""

    def _update_dtr_state(self) -> None:
        pass

    def _update_rts_state(self) -> None:
        pass


class LocalPort:
    """The device, open."""

    def __init__(
        self, device: serial.Serial, info: PortInfo, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.info = info
        self._device = device
        self._fd: int = device.fileno()
        self._loop = loop
        self._user: PortUser | None = None  # None: not started, or over
        self._pending = b""

    @property
    def is_stuck(self) -> bool:
        """Whether not all was taken."""
        return bool(self._pending)

    @property
    def waiting(self) -> int:
        """What the kernel has not taken, and what it has not sent."""
        queued = array.array("i", (0,))
        with contextlib.suppress(OSError):  # it does not say
            fcntl.ioctl(self._fd, termios.TIOCOUTQ, queued)
        return len(self._pending) + queued[0]

    def start(self, user: PortUser) -> None:
        """Read from now on."""
        self._user = user
        self._loop.add_reader(self._fd, self._on_readable)

    def hold(self, held: bool) -> None:
        """Leave what comes in the kernel, which holds RTS or sends XOFF when it is full."""
        if self._user is None:
            return
        if held:
            self._loop.remove_reader(self._fd)
        else:
            self._loop.add_reader(self._fd, self._on_readable)

    def write(self, data: bytes) -> None:
        """Write; keep what the kernel does not take."""
        if self._pending or self._user is None:
            self._pending += data
            return
        if self._write_some(data):
            self._loop.add_writer(self._fd, self._on_writable)

    def set_baud(self, baud: int) -> None:
        """Go on at another speed. Raises PortError."""
        try:
            self._device.baudrate = baud
            _finish(self._fd)
        except (OSError, ValueError, termios.error) as error:
            raise PortError(f"{self.info.path} cannot do {baud} baud: {error}") from error

    def set_lines(self, dtr: bool, rts: bool) -> bool:
        """Set both at once; False: this device has none."""
        return set_lines(self._fd, dtr, rts)

    def line_errors(self) -> LineErrors | None:
        """What the driver has counted, if it does."""
        return line_errors(self._fd)

    async def close(self) -> None:
        """Give the device back. What a dead wire has not taken is thrown away, or close blocks."""
        self._stop()
        is_stuck = self.waiting > 0
        with contextlib.suppress(OSError, termios.error):
            if is_stuck:
                termios.tcflush(self._fd, termios.TCOFLUSH)
            fcntl.ioctl(self._fd, termios.TIOCNXCL)
        with contextlib.suppress(OSError):
            self._device.close()

    def _stop(self) -> None:
        self._user = None
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)

    def _on_readable(self) -> None:
        assert self._user is not None
        try:
            data = os.read(self._fd, READ_SIZE)
        except _NOT_READY:
            return
        except OSError as error:
            self._on_gone(_why(error))
            return
        if data:
            self._user.on_bytes(data)
        else:
            self._on_gone("it was unplugged")

    def _on_writable(self) -> None:
        assert self._user is not None
        if not self._write_some(self._pending):
            self._loop.remove_writer(self._fd)
            self._user.on_room()

    def _write_some(self, data: bytes) -> bool:
        """Return whether something was left."""
        try:
            taken = os.write(self._fd, data)
        except _NOT_READY:
            taken = 0
        except OSError as error:
            self._pending = b""
            self._loop.call_soon(self._on_gone, _why(error))
            return False
        self._pending = data[taken:]
        return bool(self._pending)

    def _on_gone(self, why: str) -> None:
        user = self._user
        if user is None:  # over already: the number of the file may be another's by now
            return
        self._stop()
        user.on_gone(why)


def open_local(
    found: Found, settings: PortSettings, baud: int, loop: asyncio.AbstractEventLoop
) -> LocalPort:
    """Open and set up a device; nothing is read before `start`. Raises PortError."""
    device = _Device()
    device.port = found.path
    device.baudrate = baud
    device.exclusive = True
    device.rtscts = settings.flow == "rtscts"
    device.xonxoff = settings.flow == "xonxoff"
    try:
        _check_kind(found.path)
        device.open()
    except (OSError, ValueError, termios.error) as error:
        raise PortError(_refusal(found.path, error)) from error
    try:
        _set_up(device, found.path, settings)
    except BaseException:
        device.close()
        raise
    info = PortInfo(found.path, found.key, baud, found.description)
    return LocalPort(device, info, loop)


def set_lines(fd: int, dtr: bool, rts: bool) -> bool:
    """Set DTR and RTS with one call, so that no edge lies between; False: there are none."""
    bits = array.array("i", (0,))
    try:
        fcntl.ioctl(fd, termios.TIOCMGET, bits)
        for bit, is_on in ((termios.TIOCM_DTR, dtr), (termios.TIOCM_RTS, rts)):
            bits[0] = bits[0] | bit if is_on else bits[0] & ~bit
        fcntl.ioctl(fd, termios.TIOCMSET, bits)
    except OSError:
        return False
    return True


def _set_up(device: serial.Serial, path: str, settings: PortSettings) -> None:
    """What pyserial does not do, or not as we need it."""
    fd: int = device.fileno()
    try:
        with contextlib.suppress(OSError):  # the lock that pyserial took is for us; this for others
            fcntl.ioctl(fd, termios.TIOCEXCL)
        _finish(fd)
        if settings.lines in _LINES:
            set_lines(fd, *_LINES[settings.lines])
    except (OSError, termios.error) as error:
        raise PortError(_refusal(path, error)) from error
    if settings.rs485 is not None:
        _set_rs485(device, path, settings.rs485)


def _finish(fd: int) -> None:
    """DTR stays at close; a break flushes nothing; no data and no device are told apart."""
    attributes = termios.tcgetattr(fd)
    attributes[_IFLAG] &= ~termios.BRKINT
    attributes[_CFLAG] &= ~termios.HUPCL
    attributes[_CC][termios.VMIN] = 1
    attributes[_CC][termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _set_rs485(device: serial.Serial, path: str, wanted: Rs485) -> None:
    try:
        device.rs485_mode = RS485Settings(
            rts_level_for_tx=wanted.rts_on_send,
            rts_level_for_rx=wanted.rts_after_send,
            loopback=wanted.hears_itself,
            delay_before_tx=wanted.delay_before_send,
            delay_before_rx=wanted.delay_after_send,
        )
        _finish(device.fileno())
    except (OSError, ValueError, NotImplementedError) as error:
        raise PortError(
            f"the driver of {path} cannot do RS-485: use an adapter that switches by itself, "
            "and leave rs485 out"
        ) from error


def _check_kind(path: str) -> None:
    if not stat.S_ISCHR(os.stat(path).st_mode):  # noqa: PTH116 - an OSError with its number
        raise ValueError(f"{path} is no serial port, but a file or a directory")


def _refusal(path: str, error: Exception) -> str:
    """Say what to do about it."""
    number = getattr(error, "errno", None)
    if number in {errno.EACCES, errno.EPERM}:
        return f"{path} may not be opened: {permission_hint(path)}"
    if number in _REASONS:
        return _REASONS[number].format(path=path)
    return f"{path} cannot be used: {error}"


def permission_hint(path: str) -> str:
    """Say how somebody gets the right to use a device."""
    try:
        group = grp.getgrgid(Path(path).stat().st_gid).gr_name
    except (OSError, KeyError):
        group = "dialout"
    if group == "root":
        return (
            f"it is root's alone: sudo chgrp dialout {path} && sudo chmod 660 {path}, to begin with"
        )
    return f"sudo usermod -aG {group} {_user()}, then log in again (a service: restart it)"


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return "USER"


def _why(error: OSError) -> str:
    if error.errno in {errno.EIO, errno.ENXIO, errno.ENODEV}:
        return "it was unplugged"
    return f"it failed: {error.strerror or error}"
