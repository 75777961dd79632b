"""A device that is no machine of ours at an end of a `Line`: a process, or a real port."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import serial


class PortEnd:
    """Bytes to and from descriptors. `press` resets the device, when it is `plugged`."""

    def __init__(self, source: int, sink: int, press: Callable[[], None] = lambda: None) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.failure: str | None = None
        self._source = source
        self._sink = sink
        self._press = press
        self._said: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        os.set_blocking(source, False)
        self._loop.add_reader(source, self._on_readable)

    def plugged(self, _now: float) -> None:
        self._press()
        self._said.clear()

    def receive(self, data: bytes, _now: float) -> None:
        with contextlib.suppress(OSError):
            os.write(self._sink, data)

    def tick(self, _now: float) -> None:
        """It has a clock of its own."""

    def next_deadline(self) -> float | None:
        return None

    def data_to_send(self) -> bytes:
        data = b"".join(self._said)
        self._said.clear()
        return data

    def close(self) -> None:
        self._loop.remove_reader(self._source)

    def _on_readable(self) -> None:
        data = os.read(self._source, 4096)
        if not data:
            self.failure = "the device is gone"
            self._loop.remove_reader(self._source)
        self._said.append(data)
        self.wake()


def press_dtr(port: serial.Serial) -> None:
    """Reset a board as the Arduino IDE does; one that has no such line is not reset."""
    with contextlib.suppress(OSError):
        port.dtr = False
        port.dtr = True
        port.reset_input_buffer()
