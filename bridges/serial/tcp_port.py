"""A serial port of another computer, reached through a socket; a codec says what is on it."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import termios
from typing import TYPE_CHECKING, Final, Protocol, cast

from bridges.serial.port_names import PortError
from bridges.serial.port_settings import PortInfo
from bridges.serial.port_spec import Kind
from bridges.serial.rfc2217 import ComPort

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.serial.port import PortUser
    from bridges.serial.port_names import Found
    from bridges.serial.port_settings import LineErrors, PortSettings
    from bridges.serial.port_spec import PortSpec

HIGH_WATER: Final = 4096  # bytes in our buffer from which on a port is stuck
# Seconds of silence before the other computer is asked whether it is there, between, and how often
_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))


class Codec(Protocol):
    """What is on the socket beside the bytes of the wire. Each verb returns what is to be sent."""

    @property
    def is_ready(self) -> bool:
        """Whether the two ends have agreed."""

    @property
    def refusal(self) -> str:
        """Why they never will; or empty."""

    @property
    def errors(self) -> LineErrors | None:
        """What was reported of the wire."""

    def begin(self) -> bytes: ...
    def receive(self, data: bytes) -> tuple[bytes, bytes]: ...
    def encode(self, data: bytes) -> bytes: ...
    def set_baud(self, baud: int) -> bytes: ...
    def set_lines(self, dtr: bool, rts: bool) -> bytes: ...


class Transparent:
    """Nothing but the bytes of the wire."""

    is_ready = True
    refusal = ""
    errors: LineErrors | None = None

    def begin(self) -> bytes:
        """Nothing to agree on."""
        return b""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """Return (what the wire brought, what is to be answered)."""
        return data, b""

    def encode(self, data: bytes) -> bytes:
        """As it is."""
        return data

    def set_baud(self, baud: int) -> bytes:  # noqa: ARG002 - it has none
        """The other computer sets it."""
        return b""

    def set_lines(self, dtr: bool, rts: bool) -> bytes:  # noqa: ARG002 - it has none
        """There are none."""
        return b""


class TcpPort(asyncio.Protocol):
    """The socket, connected."""

    def __init__(self, info: PortInfo, codec: Codec, loop: asyncio.AbstractEventLoop) -> None:
        self.info = info
        self.is_stuck = False
        self._codec = codec
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._user: PortUser | None = None
        self._ready: asyncio.Future[None] = loop.create_future()
        self._lost: asyncio.Future[str] = loop.create_future()
        self._is_held = False
        self._early = b""  # what came before `start`

    @property
    def waiting(self) -> int:
        """What is in our buffer, and in the socket's."""
        if self._transport is None:
            return 0
        queued = array.array("i", (0,))
        with contextlib.suppress(OSError):  # it does not say
            handle: socket.socket = self._transport.get_extra_info("socket")
            fcntl.ioctl(handle.fileno(), termios.TIOCOUTQ, queued)
        return self._transport.get_write_buffer_size() + queued[0]

    @property
    def is_agreed(self) -> bool:
        """Whether the two ends have agreed."""
        return self._codec.is_ready and self._transport is not None

    async def agree(self) -> None:
        """Wait until the two ends have agreed. Raises PortError."""
        await self._ready

    def start(self, user: PortUser) -> None:
        """Read from now on."""
        self._user = user
        if self._lost.done():
            self._loop.call_soon(self._tell_gone)
        elif self._transport is not None:
            self._loop.call_soon(self._tell_early)
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Write; asyncio keeps what the kernel does not take."""
        self._send(self._codec.encode(data))

    def hold(self, held: bool) -> None:
        """Leave what comes in the socket, and so at the other computer."""
        if self._transport is None or held == self._is_held:
            return
        self._is_held = held
        (self._transport.pause_reading if held else self._transport.resume_reading)()

    def set_baud(self, baud: int) -> None:
        """Ask for another speed, if the protocol can."""
        self._send(self._codec.set_baud(baud))

    def set_lines(self, dtr: bool, rts: bool) -> bool:
        """Ask for both lines; False: the protocol has none."""
        command = self._codec.set_lines(dtr, rts)
        self._send(command)
        return bool(command)

    def line_errors(self) -> LineErrors | None:
        """What the other computer has reported, if it does."""
        return self._codec.errors

    async def close(self) -> None:
        """Hang up."""
        self._user = None
        if self._transport is not None:
            self._transport.abort()
            await self._lost

    # -- what asyncio calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come to an agreement; then nothing is read before `start`."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER, low=0)
        _keep_alive(transport.get_extra_info("socket"))
        self._send(self._codec.begin())
        self._judge()

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        payload, answer = self._codec.receive(data)
        self._send(answer)
        if not self._ready.done():
            self._judge()
        elif self._user is None and self._transport is not None:
            self._early += payload
            self._transport.pause_reading()  # uvloop reads at once, whatever was said before
        elif payload and self._user is not None:
            payload, self._early = self._early + payload, b""
            self._user.on_bytes(payload)

    def pause_writing(self) -> None:
        """The buffer is full."""
        self.is_stuck = True

    def resume_writing(self) -> None:
        """The buffer is empty."""
        self.is_stuck = False
        if self._user is not None:
            self._user.on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The other computer hung up, or we did."""
        self._transport = None
        why = f"the connection broke: {exc}" if exc else "the other end hung up"
        self._lost.set_result(why)
        if not self._ready.done():
            self._ready.set_exception(PortError(f"{self.info.path}: {why}"))
        self._tell_gone()

    def _judge(self) -> None:
        """Look whether the two ends have agreed."""
        if self._codec.refusal:
            self._ready.set_exception(PortError(f"{self.info.path}: {self._codec.refusal}"))
        elif self._codec.is_ready and self._transport is not None:
            self._ready.set_result(None)
            self._transport.pause_reading()

    def _send(self, data: bytes) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def _tell_early(self) -> None:
        early, self._early = self._early, b""
        if early and self._user is not None:
            self._user.on_bytes(early)

    def _tell_gone(self) -> None:
        if self._user is not None:
            user, self._user = self._user, None
            user.on_gone(self._lost.result())


async def open_tcp(
    spec: PortSpec,
    found: Found,
    settings: PortSettings,
    baud: int,
    loop: asyncio.AbstractEventLoop,
) -> TcpPort:
    """Connect; nothing is read before `start`. Raises PortError."""
    info = PortInfo(found.path, found.key, baud, spec.kind.value)
    port = TcpPort(info, _CODECS[spec.kind](settings, baud), loop)
    try:
        async with asyncio.timeout(settings.open_timeout):
            await loop.create_connection(lambda: port, spec.host, spec.port)
            await port.agree()
    except TimeoutError:
        raise PortError(
            f"{found.path} did not answer: is it on, address and protocol right?"
        ) from None
    except PortError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise PortError(f"{found.path} cannot be reached: {reason}") from error
    finally:
        if not port.is_agreed:
            await port.close()
    return port


def _keep_alive(handle: socket.socket | None) -> None:
    """Notice it when the other computer has gone without a word."""
    if handle is None:
        return
    with contextlib.suppress(OSError):
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            if hasattr(socket, name):
                handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _transparent(settings: PortSettings, baud: int) -> Codec:  # noqa: ARG001 - it needs neither
    return Transparent()


_CODECS: Final[dict[Kind, Callable[[PortSettings, int], Codec]]] = {
    Kind.TCP: _transparent,
    Kind.RFC2217: ComPort,
}
