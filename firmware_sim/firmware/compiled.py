"""The C firmware compiled for this computer, as an end of a `Line`: it runs in whatever time it is
told, so a test turns the clock.

Rule kept here: each device has a copy of the library of its own, as it has memory of its own.
"""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from pathlib import Path
from typing import Final

_STEP: Final = 0.01  # seconds between two looks of the firmware at its clock
_ROOM: Final = 8192  # bytes that it says at once, at most


class CompiledDevice:
    """The device of `mcu/host.c`; `boots` counts its starts. It starts when it is `plugged`, each
    time anew.
    """

    def __init__(self, library: Path) -> None:
        self._library = _load(library)
        self._buffer = ctypes.create_string_buffer(_ROOM)
        self._next = 0.0
        self.boots = 0

    @property
    def is_led_on(self) -> bool:
        """Whether the firmware has switched the LED on."""
        return bool(self._library.host_led())

    def ask_time(self) -> None:
        """Have the client ask the gateway for the time."""
        self._library.host_ask_time()

    def time(self) -> float:
        """What the client takes for the time, in seconds since 1970; 0.0: not known."""
        return float(self._library.host_time()) / 1000

    def log(self, text: bytes) -> bool:
        """Have the client send a line to the gateway's log; False: no room."""
        return bool(self._library.host_log(text, len(text)))

    def connect(self) -> None:
        """Have the client connect, after `disconnect`."""
        self._library.host_connect()

    def disconnect(self) -> None:
        """Have the client say goodbye."""
        self._library.host_disconnect()

    def shout(self, text: bytes) -> bool:
        """Have the client publish at most 24 bytes with QoS -1; False: not now."""
        return bool(self._library.host_shout(text, len(text)))

    @property
    def is_idle(self) -> bool:
        """Whether the client has all said and answered."""
        return bool(self._library.host_is_idle())

    def plugged(self, now: float) -> None:
        """See End."""
        self.boots += 1
        self._library.host_begin(self.boots, _millis(now))
        self._next = now

    def receive(self, data: bytes, now: float) -> None:
        """See End."""
        self._next = now + _STEP
        if self._library.host_poll(data, len(data), _millis(now)):
            self.plugged(now)

    def tick(self, now: float) -> None:
        """See End."""
        self.receive(b"", now)

    def next_deadline(self) -> float | None:
        """See End."""
        return self._next

    def data_to_send(self) -> bytes:
        """See End."""
        size = self._library.host_take(self._buffer, _ROOM)
        return self._buffer.raw[:size]

    def halt(self) -> None:
        """Its power is gone: nobody looks at its clock."""

    def close(self) -> None:
        """It takes nothing but memory."""


def _millis(now: float) -> int:
    return round(now * 1000) & 0xFFFF_FFFF


def _load(path: Path) -> ctypes.CDLL:
    """A library that is loaded twice from the same file would be one."""
    with tempfile.TemporaryDirectory() as folder:
        library = ctypes.CDLL(str(shutil.copy(path, Path(folder, "device.so"))))
    library.host_begin.argtypes = (ctypes.c_uint16, ctypes.c_uint32)
    library.host_begin.restype = None
    library.host_poll.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32)
    library.host_poll.restype = ctypes.c_bool
    library.host_take.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
    library.host_take.restype = ctypes.c_size_t
    library.host_led.restype = ctypes.c_bool
    library.host_time.restype = ctypes.c_uint64
    for call in (library.host_log, library.host_shout):
        call.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
        call.restype = ctypes.c_bool
    library.host_is_idle.restype = ctypes.c_bool
    return library
