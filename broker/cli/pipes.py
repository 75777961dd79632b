"""Byte pipes from the command-line client to a broker: TCP, TLS, Unix socket, WebSocket.

`open_pipe` raises ConnectError, whose text says what was tried and what to try next.
"""

import asyncio
import ssl
from contextlib import suppress
from typing import Any, Protocol

from broker.cli.options import Options

CONNECT_TIMEOUT = 15.0  # seconds, the TLS and WebSocket handshakes included
CLOSE_TIMEOUT = 2.0  # seconds for what is still on its way
CHUNK = 65_536  # bytes asked for at once


class ConnectError(Exception):
    """There is no connection; the text says why and what to try."""


class Pipe(Protocol):
    """Bytes in both directions."""

    async def read(self) -> bytes:
        """Some bytes; b"" when the broker has closed the connection."""

    def write(self, data: bytes) -> None:
        """Send, or keep until it can be sent."""

    async def drain(self) -> None:
        """Wait while too much is kept."""

    async def close(self) -> None:
        """Close our end once everything is sent."""


class StreamPipe:
    """A TCP, TLS or Unix connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> bytes:
        return await self.reader.read(CHUNK)

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def drain(self) -> None:
        await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.writer.wait_closed()


class WebSocketPipe:
    """A WebSocket connection; every write becomes one binary message."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.waiting: list[bytes] = []

    async def read(self) -> bytes:
        from websockets.exceptions import ConnectionClosed

        try:
            data = await self.socket.recv()
        except ConnectionClosed:
            return b""
        return data if isinstance(data, bytes) else data.encode()

    def write(self, data: bytes) -> None:
        self.waiting.append(data)

    async def drain(self) -> None:
        from websockets.exceptions import ConnectionClosed

        data = b"".join(self.waiting)
        self.waiting.clear()
        try:
            if data:
                await self.socket.send(data)
        except ConnectionClosed as error:
            raise ConnectionResetError(str(error)) from error

    async def close(self) -> None:
        await self.drain()
        await self.socket.close()


async def open_pipe(options: Options) -> Pipe:
    """Connect as the options say."""
    place = place_of(options)
    context = tls_context(options)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await _open(options, context)
    except TimeoutError as error:
        raise ConnectError(
            f"{place} does not answer: is the address right, does a firewall stand between?"
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise ConnectError(
            f"the certificate of {place} is not trusted ({error.verify_message}): "
            "name the authority that signed it with --cafile FILE"
        ) from error
    except ssl.SSLError as error:
        reason = error.reason or error
        raise ConnectError(f"no TLS connection to {place} ({reason}): is it a TLS port?") from error
    except OSError as error:
        raise ConnectError(_unreachable(place, error)) from error


def place_of(options: Options) -> str:
    """The broker's address as people write it."""
    if options.unix:
        return options.unix
    host = f"[{options.host}]" if ":" in options.host else options.host
    return f"{host}:{options.port}"


async def _open(options: Options, context: ssl.SSLContext | None) -> Pipe:
    if options.scheme in {"ws", "wss"}:
        return await _open_websocket(options, context)
    if options.unix:
        return StreamPipe(*await asyncio.open_unix_connection(options.unix))
    local = (options.bind_address, 0) if options.bind_address else None
    streams = await asyncio.open_connection(
        options.host, options.port, ssl=context, local_addr=local
    )
    return StreamPipe(*streams)


async def _open_websocket(options: Options, context: ssl.SSLContext | None) -> Pipe:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidHandshake
    from websockets.typing import Subprotocol

    scheme = "wss" if options.uses_tls else "ws"
    url = f"{scheme}://{place_of(options)}{options.url_path}"
    try:
        socket = await connect(
            url,
            ssl=context,
            subprotocols=[Subprotocol("mqtt")],  # [MQTT-6.0.0-3]
            max_size=None,
            compression=None,
            open_timeout=None,
            ping_interval=None,  # MQTT has its own
            proxy=None,  # a broker is near; what browsers go through is not meant
        )
    except InvalidHandshake as error:
        raise ConnectError(f"{url} is no MQTT WebSocket ({error}): is the path right?") from error
    return WebSocketPipe(socket)


def tls_context(options: Options) -> ssl.SSLContext | None:
    """The TLS settings the options ask for, if any. Raises ConnectError for a useless file."""
    if not options.uses_tls:
        return None
    try:
        context = ssl.create_default_context(cafile=options.cafile, capath=options.capath)
        context.check_hostname = not options.insecure
        if options.cert and options.key:
            context.load_cert_chain(options.cert, options.key)
    except OSError as error:  # no such file, or not a certificate in PEM
        raise ConnectError(f"--cafile, --cert or --key cannot be used: {error}") from error
    return context


def _unreachable(place: str, error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return (
            f"nothing listens at {place}: start a broker with `heliograph run`, "
            "or name another with -h HOST -p PORT"
        )
    if isinstance(error, ConnectionError):  # it was there, and hung up in the handshake
        return f"{place} closed the connection at once: is it a port for this kind of connection?"
    return f"cannot connect to {place}: {error.strerror or error}"
