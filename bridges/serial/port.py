"""What a port is once it is open: the same verbs whether it is a device here or a socket to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bridges.serial.port_settings import LineErrors, PortInfo


class PortUser(Protocol):
    """Whom a port tells. Each is called from the event loop, never from within a verb of Port."""

    def on_bytes(self, data: bytes) -> None: ...
    def on_room(self) -> None: ...
    def on_gone(self, why: str) -> None: ...


class Port(Protocol):
    """One open port. It belongs to the thread of its event loop."""

    info: PortInfo

    @property
    def waiting(self) -> int:
        """Bytes that were written and are not on the wire yet, as far as that can be known."""

    @property
    def is_stuck(self) -> bool:
        """Whether not all was taken; `on_room` is called when it is."""

    def start(self, user: PortUser) -> None: ...
    def write(self, data: bytes) -> None: ...
    def hold(self, held: bool) -> None: ...
    def set_baud(self, baud: int) -> None: ...
    def set_lines(self, dtr: bool, rts: bool) -> bool: ...
    def line_errors(self) -> LineErrors | None: ...
    async def close(self) -> None: ...
