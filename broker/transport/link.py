"""One client's socket: a thin asyncio shell over the connection machine, with one write per loop
turn and back-pressure.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.connection.connection import Connection
    from broker.connection.ports import Origin
    from broker.transport.hub import Hub

LINGER = 5.0  # seconds a closing link may take to send what is left
LONG_READ = 65_536  # bytes in one read after which others have their turn
HIGH_WATER = 65_536  # bytes in the transport's buffer at which the peer counts as slow


class Tunnel(Protocol):
    """A protocol between the socket and MQTT, such as WebSocket: bytes in, bytes out."""

    @property
    def is_over(self) -> bool:
        """Whether the peer must be disconnected."""

    def receive(self, data: bytes) -> bytes:
        """Socket bytes to MQTT bytes."""

    def wrap(self, data: bytes) -> bytes:
        """MQTT bytes to socket bytes."""

    def data_to_send(self) -> bytes:
        """Take the bytes that the tunnel itself wants to send."""

    def close(self) -> bytes:
        """End it in good order; return what must be sent for that."""


class Link(asyncio.Protocol):
    """Bytes between a stream socket (TCP, TLS, Unix) and a Connection. The Sink of its connection.

    `describe` tells where a transport comes from; `tunnel` is what wraps MQTT on this socket.
    """

    __slots__ = (
        "_connection",
        "_describe",
        "_hub",
        "_is_closing",
        "_is_held",
        "_is_resting",
        "_transport",
        "_tunnel",
    )

    _transport: asyncio.Transport

    def __init__(
        self,
        hub: Hub,
        describe: Callable[[asyncio.BaseTransport], Origin],
        tunnel: Tunnel | None = None,
    ) -> None:
        self._hub = hub
        self._describe = describe
        self._tunnel = tunnel
        self._connection: Connection | None = None
        self._is_closing = False
        self._is_held = False  # the connection wants to hear nothing at the moment
        self._is_resting = False  # it has sent much: others have their turn first

    # -- what asyncio calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        self._transport = cast("asyncio.Transport", transport)
        if self._hub.is_crowded:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(HIGH_WATER)
        self._hub.links.add(self)
        self._connection = self._hub.open(self._describe(transport), self)

    def data_received(self, data: bytes) -> None:
        """The peer has sent something."""
        if self._connection is None or self._is_closing:
            return
        if len(data) >= LONG_READ and not self._is_resting:
            self._rest()
        if self._tunnel is None:
            self._connection.receive(data, self._hub.now())
        else:
            self._receive_through(self._tunnel, data, self._connection)

    def connection_lost(self, _exception: Exception | None) -> None:
        """The socket is gone."""
        self._is_closing = True
        self._hub.links.discard(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.receive(b"", self._hub.now())

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        if self._connection is not None:
            self._connection.pause(self._hub.now())

    def resume_writing(self) -> None:
        """The transport's buffer is nearly empty."""
        if self._connection is not None:
            self._connection.go_on(self._hub.now())
            self.flush()

    # -- what the connection calls (Sink) ---------------------------------------------------------

    def wake(self) -> None:
        """See Sink."""
        self._hub.touch(self)

    def flush(self) -> None:
        """Write everything at once, unless the peer is slow; then it waits in the connection's
        outbox.
        """
        connection = self._connection
        if connection is None or connection.paused or self._is_closing:
            return
        data = connection.data_to_send()
        if data:
            self._transport.write(data if self._tunnel is None else self._tunnel.wrap(data))
        connection.drained()

    def unsent(self) -> int:
        """See Sink."""
        return self._transport.get_write_buffer_size()

    def hold_reading(self, held: bool) -> None:
        """See Sink."""
        if self._is_closing:
            return
        self._is_held = held
        if held:
            self._transport.pause_reading()
        elif not self._is_resting:
            self._transport.resume_reading()

    def close(self) -> None:
        """See Sink."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._connection is not None:
            self._write_last(self._connection.data_to_send())
        self._hang_up()

    def abort(self) -> None:
        """See Sink."""
        if not self._is_closing:
            self._is_closing = True
            self._transport.abort()

    # -- helpers ----------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Read no more in this turn: a loop may read dozens of times before it looks at others."""
        self._is_resting = True
        self._transport.pause_reading()
        self._hub.loop.call_soon(self._go_on_reading)

    def _go_on_reading(self) -> None:
        self._is_resting = False
        if not self._is_held and not self._is_closing:
            self._transport.resume_reading()

    def _receive_through(self, tunnel: Tunnel, data: bytes, connection: Connection) -> None:
        """Handle the MQTT bytes in `data`, after the tunnel has answered for itself."""
        received = tunnel.receive(data)
        answer = tunnel.data_to_send()
        if answer and not connection.paused:  # pongs must not pile up for one who does not read
            self._transport.write(answer)
        if received:
            connection.receive(received, self._hub.now())
        if tunnel.is_over and not self._is_closing:
            self._is_closing = True
            self._hang_up()

    def _hang_up(self) -> None:
        """Close once the peer has what was written; one who does not read is not waited for."""
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._hub.loop.call_later(LINGER, self._transport.abort)

    def _write_last(self, data: bytes) -> None:
        if self._tunnel is None:
            self._transport.write(data)
        else:
            self._transport.write(self._tunnel.wrap(data) + self._tunnel.close())
