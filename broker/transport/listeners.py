"""Where clients knock: TCP, TLS, WebSocket and Unix sockets, each a listening socket that makes
links.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from broker.connection.ports import Origin
from broker.transport.link import Link

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Callable

    from broker.settings import ListenerSettings
    from broker.transport.hub import Hub

BACKLOG = 1024  # connections the operating system may hold before they are accepted
WEBSOCKET_SCHEMES = ("ws", "wss")
TLS_SCHEMES = ("tls", "wss")


class ListenerError(Exception):
    """A listener cannot be opened; the sentence says what to do."""

    def __init__(self, url: str, problem: str, remedy: str) -> None:
        super().__init__(url, problem, remedy)
        self.url = url

    def __str__(self) -> str:
        url, problem, remedy = self.args
        return f"cannot listen on {url}: {problem}; {remedy}"


class Listener:
    """One open listener. `url` has the real port where port 0 was asked for."""

    __slots__ = ("_server", "settings", "url")

    def __init__(self, settings: ListenerSettings, server: asyncio.Server, url: str) -> None:
        self.settings = settings
        self.url = url
        self._server = server

    def close(self) -> None:
        """Accept nobody any more; links that exist go on."""
        self._server.close()
        if self.settings.scheme == "unix":
            with contextlib.suppress(FileNotFoundError):
                Path(self.settings.path).unlink()


async def open_listener(hub: Hub, settings: ListenerSettings, anonymous: str) -> Listener:
    """Listen as the settings say; `anonymous` is the policy for this listener. Raises
    ListenerError.
    """
    factory = _link_factory(hub, settings, anonymous)
    try:
        if settings.scheme == "unix":
            return await _open_unix(hub, settings, factory)
        return await _open_inet(hub, settings, factory)
    except OSError as error:
        raise _explained(settings, error) from error


async def _open_inet(hub: Hub, settings: ListenerSettings, factory: Callable[[], Link]) -> Listener:
    context = _tls_context(settings) if settings.scheme in TLS_SCHEMES else None
    listening = _bound_socket(settings)
    try:
        server = await hub.loop.create_server(
            factory,
            sock=listening,
            backlog=BACKLOG,
            ssl=context,
            ssl_handshake_timeout=hub.engine.policy.connect_timeout if context else None,
        )
    except BaseException:
        listening.close()
        raise
    port = listening.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    path = settings.path if settings.scheme in WEBSOCKET_SCHEMES else ""
    return Listener(settings, server, f"{settings.scheme}://{host}:{port}{path}")


def _bound_socket(settings: ListenerSettings) -> socket.socket:
    """A socket of our own, so that [::] and 0.0.0.0 can stand side by side and restarts need not
    wait.
    """
    info = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(info[0], socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if info[0] == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(info[4])
    except BaseException:
        listening.close()
        raise
    return listening


async def _open_unix(hub: Hub, settings: ListenerSettings, factory: Callable[[], Link]) -> Listener:
    path = Path(settings.path)
    _remove_dead_socket(path)
    server = await hub.loop.create_unix_server(factory, path=str(path), backlog=BACKLOG)
    path.chmod(int(settings.mode, 8))  # noqa: ASYNC240  before anybody is served
    return Listener(settings, server, settings.url)


def _remove_dead_socket(path: Path) -> None:
    """Remove what an earlier run left behind, but never a socket that somebody serves, nor any
    other file.
    """
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(17, "there is a file of that name")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise FileExistsError(17, "another process serves this socket")


def _link_factory(hub: Hub, settings: ListenerSettings, anonymous: str) -> Callable[[], Link]:
    use_certificate = settings.use_certificate_cn_as_username
    url = settings.url

    def describe(transport: asyncio.BaseTransport) -> Origin:
        peer = transport.get_extra_info("peername")
        name = _certificate_name(transport) if use_certificate else None
        if isinstance(peer, tuple):
            return Origin(url, peer[0], peer[1], anonymous, name)
        return Origin(url, "", 0, anonymous, name)

    if settings.scheme not in WEBSOCKET_SCHEMES:
        return lambda: Link(hub, describe)

    from broker.transport.websocket import WebSocketTunnel  # noqa: PLC0415  only where it is used

    largest = 2 * hub.engine.policy.maximum_packet_size + 65_536
    return lambda: Link(hub, describe, WebSocketTunnel(settings.path, largest))


def _certificate_name(transport: asyncio.BaseTransport) -> str | None:
    """The common name of the client's verified certificate."""
    certificate = transport.get_extra_info("peercert") or {}
    for entry in certificate.get("subject", ()):
        for key, value in entry:
            if key == "commonName":
                return str(value)
    return None


def _tls_context(settings: ListenerSettings) -> ssl.SSLContext:
    import ssl  # noqa: PLC0415  costs memory; only where it is used

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(str(settings.certificate), settings.key and str(settings.key))
        if settings.client_ca is not None:
            context.load_verify_locations(str(settings.client_ca))
            context.verify_mode = (
                ssl.CERT_REQUIRED if settings.require_client_certificate else ssl.CERT_OPTIONAL
            )
    except (ssl.SSLError, OSError) as error:
        raise ListenerError(
            settings.url,
            f"the certificate, key or client_ca cannot be used ({error})",
            "give the paths of PEM files that belong together",
        ) from error
    return context


def _explained(settings: ListenerSettings, error: OSError) -> ListenerError:
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    if settings.scheme == "unix":
        remedy = "choose another path or remove what is there"
    elif isinstance(error, PermissionError):
        remedy = "ports below 1024 need the right to bind them; choose a higher one"
    elif isinstance(error, socket.gaierror):
        remedy = "write an address of this machine, such as 0.0.0.0, 127.0.0.1 or [::]"
    else:
        remedy = "is another broker running there? Stop it or choose another port with --listen"
    return ListenerError(settings.url, reason, remedy)
