"""The HTTP server for queues: connections, tokens and limits around the table of routes.

Rule kept here: nothing a client does costs without bound (connections, headers, bodies, time,
waiting receives), and nothing is leased for one who is gone. Tokens are never logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from bridges.queues.backend import CODES, QueueError
from bridges.queues.http_openapi import document
from bridges.queues.http_routes import (
    BASE,
    BYTES,
    FORM,
    JSON,
    ROUTES,
    Answer,
    Call,
    Route,
    checked_body,
    checked_id,
    checked_query,
    checked_queue,
)
from bridges.queues.http_tokens import TOKEN_FILE, Tokens, administrators_token, is_open_to_others
from bridges.queues.local import LocalBackend
from broker import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from bridges.queues.engine_port import EngineQueues
    from bridges.queues.http_tokens import Grant
    from broker.clock import Clock
    from broker.settings import Settings
    from broker.settings.queue_tables import HttpSettings

MOST_CONNECTIONS = 1024
MOST_WAITING = 512  # receives that wait for a message, all together
MOST_WAITING_PER_TOKEN = 256
IDLE_TIME = 30.0  # seconds that a connection may be silent between requests, or before the first
BODY_TIME = 30.0  # seconds from the headers to a whole body
SEND_TIME = 30.0  # seconds that a client may take to read an answer
CLOSE_TIME = 2.0  # seconds that those who are being answered get when the broker stops
LONGEST_LINE = 8192  # bytes of a request line, or of one header
MOST_HEADERS = 64
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

log = logging.getLogger("heliograph")
# What the library tells of clients who speak no proper HTTP would only fill the log.
_quiet = logging.getLogger("aiohttp.server")
_quiet.setLevel(logging.CRITICAL)


class Engine(Protocol):
    """What is needed of the engine."""

    @property
    def queues(self) -> EngineQueues | None:
        """None: the broker has no store."""
        ...

    @property
    def clock(self) -> Clock:
        """Set before each call."""
        ...


async def start(engine: Engine, settings: Settings, loop: asyncio.AbstractEventLoop) -> HttpServer:
    """Listen as [http] says; raises OSError with a sentence that says what to do."""
    http, folder = settings.http, settings.broker.data_dir
    if engine.queues is None:
        raise OSError('http.listen: queues need a store: write a store.level, or listen = ""')
    path = folder / TOKEN_FILE
    tokens = Tokens(administrators_token(folder), http.tokens)
    if is_open_to_others(path):
        log.warning("other users can read %s, which opens everything: `chmod 600` it", path)
    server = HttpServer(LocalBackend(engine.queues, loop, engine.clock), tokens, http.max_body)
    await server.listen(loop, http)
    log.info("queues over HTTP: %s%s (the administrator's token: %s)", server.url, BASE, path)
    return server


class HttpServer:
    """A listening server. `url` has the real port where port 0 was asked for."""

    def __init__(self, backend: LocalBackend, tokens: Tokens, max_body: int) -> None:
        self.url = ""
        self.backend = backend
        self.tokens = tokens
        self._waiting: Counter[str] = Counter()
        self._socket: asyncio.Server | None = None
        app = web.Application(middlewares=[self._answered], client_max_size=max_body)
        for route in ROUTES:
            app.router.add_route(route.method, BASE + route.path, self._handler(route))
        app.router.add_get(f"{BASE}/openapi.json", _give_document)
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            handler_cancellation=True,  # a client who is gone waits for nothing
            shutdown_timeout=CLOSE_TIME,
            access_log=None,
            keepalive_timeout=IDLE_TIME,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
            max_headers=MOST_HEADERS,
            auto_decompress=False,
            logger=_quiet,
        )

    async def listen(self, loop: asyncio.AbstractEventLoop, settings: HttpSettings) -> None:
        """Open the socket; raises OSError."""
        address = settings.address
        assert address is not None
        host, port = address
        context = tls_context(settings.tls_cert, settings.tls_key)
        await self._runner.setup()
        try:
            self._socket = await loop.create_server(self._connection, host, port, ssl=context)
        except OSError as error:
            await self._runner.cleanup()
            reason = os.strerror(error.errno or 0) if (error.errno or 0) > 0 else error
            raise OSError(
                f"http.listen: cannot listen on {settings.listen}: {reason}; "
                "choose another address or port, or stop what listens there"
            ) from error
        real = self._socket.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if context else 'http'}://{shown}:{real}"

    async def close(self) -> None:
        """Accept nobody; whoever waits is told, whoever is being answered gets a moment."""
        if self._socket is not None:
            self._socket.close()
        await self.backend.close()
        await self._runner.cleanup()

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return server() if len(server.connections) < MOST_CONNECTIONS else _HangUp()

    # -- one request -------------------------------------------------------------------------

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            call = await self._call(route, request)
            with self._place_to_wait(route, call):
                found = await route.handle(call)
            await self._send(request, found)
            return _sent(request)

        return handle

    async def _call(self, route: Route, request: web.Request) -> Call:
        """Check everything: first who it is."""
        grant = self.tokens.find(request.headers.get("Authorization"))
        path = request.match_info
        queue = checked_queue(path["queue"]) if "queue" in path else ""
        grant.check(route.right, queue or None)
        query = checked_query(route, list(request.query.items()))
        data = await _body(request) if route.body is not None else b""
        is_raw = route.takes_bytes and request.content_type != JSON
        return Call(
            self.backend,
            grant,
            _origin(request),
            queue,
            checked_id(path["id"]) if "id" in path else 0,
            query,
            {} if is_raw else checked_body(route, data),
            data if is_raw else None,
            _content_type(request),
            route.gives_bytes and BYTES in request.headers.get("Accept", ""),
        )

    @contextmanager
    def _place_to_wait(self, route: Route, call: Call) -> Iterator[None]:
        if not route.waits or not call.query.get("wait"):
            yield
            return
        self._check_places(call.grant)
        self._waiting[call.grant.name] += 1
        try:
            yield
        finally:
            self._waiting[call.grant.name] -= 1

    def _check_places(self, grant: Grant) -> None:
        if self._waiting[grant.name] >= MOST_WAITING_PER_TOKEN:
            wrong = f'{MOST_WAITING_PER_TOKEN} receives of the token "{grant.name}" wait already'
        elif self._waiting.total() >= MOST_WAITING:
            wrong = f"{MOST_WAITING} receives wait already"
        else:
            return
        raise QueueError("unavailable", f"{wrong}: ask for more messages at once, or later")

    async def _send(self, request: web.Request, found: Answer) -> None:
        """Send the answer; what it hands out goes back if that cannot be done."""
        try:
            async with asyncio.timeout(SEND_TIME):
                response = web.Response(
                    status=found.status,
                    body=found.body,
                    content_type=found.content_type,
                    headers={**HEADERS, **found.headers},
                )
                request[_RESPONSE] = response
                await response.prepare(request)
                await response.write_eof()
                _check_connected(request)
        except (asyncio.CancelledError, OSError, TimeoutError):
            self.backend.give_back(found.leased)
            _hang_up(request)
            raise

    @web.middleware
    async def _answered(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Every refusal as JSON."""
        try:
            return await handler(request)
        except QueueError as error:
            return _error(CODES.get(error.code, 500), error.code, error.text)
        except web.HTTPRequestEntityTooLarge:
            text = "the body is larger than http.max_body in the broker's settings: send less"
            return _error(413, "too_large", text)
        except web.HTTPException as error:
            return _error(error.status, *_HTTP_ERRORS.get(error.status, ("http", error.reason)))
        except (asyncio.CancelledError, OSError, TimeoutError):
            raise
        except Exception:
            log.exception("a request over HTTP failed: %s %s", request.method, request.path)
            return _error(500, "internal", "the broker made a mistake: its log tells more")


class _HangUp(asyncio.Protocol):
    """For one connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


_RESPONSE = web.RequestKey("response", web.Response)
_HTTP_ERRORS = {
    404: ("not_found", f"there is nothing here: {BASE}/openapi.json lists what there is"),
    405: ("method_not_allowed", f"not with this method: {BASE}/openapi.json lists what there is"),
}


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """For TLS 1.2 and later; None without a certificate. Raises OSError."""
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise OSError(
            f"http.tls_cert: {certificate} and its key cannot be used ({error}): both must be PEM "
            "and belong together"
        ) from error
    return context


async def _give_document(_: web.Request) -> web.Response:
    return web.json_response(document(__version__), headers=HEADERS)


async def _body(request: web.Request) -> bytes:
    """The whole body; raises QueueError for one that takes its time or is compressed."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise QueueError("bad_request", "send the body as it is, without Content-Encoding")
    try:
        async with asyncio.timeout(BODY_TIME):
            return await request.read()
    except TimeoutError:
        _hang_up_after(request)
        raise QueueError("bad_request", f"no whole body within {BODY_TIME:g} s") from None


def _content_type(request: web.Request) -> str | None:
    """What the client says of its payload; nothing, where it only says what curl always says."""
    if "Content-Type" not in request.headers:
        return None
    return None if request.content_type in {FORM, BYTES} else request.headers["Content-Type"]


def _origin(request: web.Request) -> str:
    """The client's address and port: its connection."""
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "gone"


def _sent(request: web.Request) -> web.Response:
    return request[_RESPONSE]


def _check_connected(request: web.Request) -> None:
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError("the client is gone")


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _hang_up_after(request: web.Request) -> None:
    request.protocol.close()


def _error(status: int, code: str, text: str) -> web.Response:
    headers = dict(HEADERS)
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="heliograph"'
    if status == 503:
        headers["Retry-After"] = "1"
    body = json.dumps({"error": code, "message": text}).encode()
    return web.Response(status=status, body=body, content_type=JSON, headers=headers)
