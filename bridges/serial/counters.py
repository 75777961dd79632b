"""What the kernel's driver has counted at a serial port (Linux: TIOCGICOUNT)."""

from __future__ import annotations

import fcntl
from struct import Struct
from typing import Final

from bridges.serial.port_settings import LineErrors

_TIOCGICOUNT: Final = 0x545D
_COUNTERS: Final = Struct("20i")  # struct serial_icounter_struct of linux/serial.h
_FIRST_ERROR: Final = 6  # after cts, dsr, rng, dcd, rx, tx


def line_errors(fd: int) -> LineErrors | None:
    """Return what was counted; None: this driver does not (ptys, some USB devices)."""
    buffer = bytearray(_COUNTERS.size)
    try:
        fcntl.ioctl(fd, _TIOCGICOUNT, buffer)
    except OSError:
        return None
    framing, overrun, parity, breaks, buffer_overrun = _COUNTERS.unpack(buffer)[
        _FIRST_ERROR : _FIRST_ERROR + 5
    ]
    return LineErrors(framing, overrun, parity, breaks, buffer_overrun)
