"""In-process clients: the same conversation without a socket. For gateways, the broker's own parts,
and tests.

What the broker sends reaches `on_data` in a later turn of the loop, so that neither side is ever
called while it calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.connection.ports import Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.transport.hub import Hub


class LocalLink:
    """A client's end of an in-process connection, and the Sink of the broker's end.

    `on_data` gets the bytes the broker sends; `b""` says that the broker has closed. `origin`, if
    given, says where the client really is, instead of `name` and `address`.
    """

    __slots__ = ("_connection", "_hub", "_is_closed", "_on_data", "_taking")

    def __init__(
        self,
        hub: Hub,
        on_data: Callable[[bytes], None],
        name: str = "local",
        address: str = "",
        origin: Origin | None = None,
    ) -> None:
        self._hub = hub
        self._on_data = on_data
        self._is_closed = False
        self._taking = True
        hub.links.add(self)
        self._connection = hub.open(origin or Origin(name, address), self)

    # -- the client's side ------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send MQTT bytes to the broker."""
        if not self._is_closed and data:
            self._connection.receive(data, self._hub.now())

    def pause(self) -> None:
        """Take nothing for a while; the broker keeps it, within its bounds."""
        self._taking = False
        self._connection.pause(self._hub.now())

    def go_on(self) -> None:
        """Take what waits."""
        self._taking = True
        self._connection.go_on(self._hub.now())
        self.wake()

    def disconnect(self) -> None:
        """Break the connection, as a lost socket would."""
        if not self._is_closed:
            self._is_closed = True
            self._hub.links.discard(self)
            self._connection.receive(b"", self._hub.now())

    # -- the broker's side (Sink) -----------------------------------------------------------------

    def wake(self) -> None:
        """See Sink."""
        self._hub.touch(self)

    def flush(self) -> None:
        """Hand over what waits. Called by the hub at the end of a loop turn, and in a burst by the
        connection.
        """
        if self._is_closed or not self._taking:
            return
        data = self._connection.data_to_send()
        if data:
            self._hub.loop.call_soon(self._on_data, data)
        self._connection.drained()

    def unsent(self) -> int:
        """See Sink."""
        return 0

    def hold_reading(self, held: bool) -> None:
        """See Sink: an in-process client is never too early."""

    def close(self) -> None:
        """See Sink."""
        if self._is_closed:
            return
        self.flush()
        self.abort()

    def abort(self) -> None:
        """See Sink."""
        if not self._is_closed:
            self._is_closed = True
            self._hub.links.discard(self)
            self._hub.loop.call_soon(self._on_data, b"")
