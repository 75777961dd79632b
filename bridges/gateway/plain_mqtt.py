"""A device that speaks MQTT itself: its bytes go to the broker's ordinary connection and back.

A wire has no end of a connection. So a CONNECT at the beginning of a read begins a new one, for the
device was reset; and a connection that the broker has closed is made anew with what comes next.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.gateway.broker_side import BrokerSide, Stream

HOLD_FROM: Final = 4096  # bytes that wait for the wire; more wait in the broker
GO_ON_AT: Final = 1024
_CONNECT: Final = re.compile(rb"\x10[\x00-\xff]{1,4}?\x00(\x04MQTT|\x06MQIsdp)", re.DOTALL)


class PlainMqtt:
    """One wire's way to the broker; `on_work` is called when there is something to `take`."""

    def __init__(self, side: BrokerSide, name: str, on_work: Callable[[], None]) -> None:
        self._side = side
        self._name = name
        self._on_work = on_work
        self._stream: Stream | None = None
        self._out = bytearray()
        self._is_held = False

    def receive(self, data: bytes) -> None:
        """The device says something."""
        if self._stream is not None and _CONNECT.match(data):
            self.close()
        if self._stream is None:
            self._stream = self._side.stream(self._name, self._arrived)
        self._stream.send(data)

    def take(self, most: int) -> bytes:
        """What the broker says, at most so many bytes."""
        data = bytes(self._out[:most])
        del self._out[:most]
        if self._is_held and len(self._out) <= GO_ON_AT and self._stream is not None:
            self._is_held = False
            self._stream.hold(False)
        return data

    def close(self) -> None:
        """The device is gone: so its connection is lost, and its will is published."""
        stream, self._stream = self._stream, None
        self._out.clear()
        self._is_held = False
        if stream is not None:
            stream.close()

    def _arrived(self, data: bytes) -> None:
        if not data:
            self._stream = None
            self._is_held = False
        self._out += data
        if len(self._out) >= HOLD_FROM and not self._is_held and self._stream is not None:
            self._is_held = True
            self._stream.hold(True)
        self._on_work()
