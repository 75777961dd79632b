"""The command's way to the running broker: where it is, whose token, and one call.

Plain http.client: nothing to import that takes time, no proxies, and no redirects that would carry
the token elsewhere.
"""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from bridges.queues.http_tokens import TOKEN_FILE, read_token
from broker import settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

BASE = "/api/v1"
PATIENCE = 35.0  # seconds; an answer of the store may take 30
LONGEST_WORK = 3600.0  # seconds for what is done to a whole queue, a slice at a time
URL_VARIABLE, TOKEN_VARIABLE = "HELIOGRAPH_QUEUES_URL", "HELIOGRAPH_TOKEN"
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  to connect to
LARGEST_ANSWER = 64 * 1024**2


class CommandError(Exception):
    """Something the person at the terminal can put right."""


@dataclass(frozen=True, slots=True)
class Api:
    """A broker's HTTP interface. `context` is for https."""

    url: str
    token: str
    context: ssl.SSLContext | None = None
    patience: float = PATIENCE

    def at_work(self) -> Api:
        """The same, for what may take long."""
        return replace(self, patience=LONGEST_WORK)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        **query: Any,
    ) -> dict[str, Any]:
        """The JSON of a good answer; raises CommandError with the broker's words for another."""
        given = {name: value for name, value in query.items() if value is not None}
        target = f"{BASE}{path}" + (f"?{urlencode(given)}" if given else "")
        data = None if body is None else json.dumps(body).encode()
        status, text = self._request(method, target, data)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise CommandError(f"{self.url} does not answer like Heliograph: check the address")
        if status >= 400:
            raise CommandError(str(found.get("message", f"the broker answers {status}")))
        return found

    def _request(self, method: str, target: str, data: bytes | None) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        connection = self._connection(parts.hostname or "", parts.port)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, parts.path.rstrip("/") + target, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(LARGEST_ANSWER)
        except ssl.SSLError as error:
            raise CommandError(f"{self.url}: TLS fails: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CommandError(
                f"nobody answers at {self.url} ({reason}): does the broker run, with [http] listen "
                "in its settings? Choose it with -c FILE or --url URL"
            ) from error
        finally:
            connection.close()

    def _connection(self, host: str, port: int | None) -> http.client.HTTPConnection:
        if self.url.startswith("https:"):
            return http.client.HTTPSConnection(
                host, port, timeout=self.patience, context=self.context
            )
        return http.client.HTTPConnection(host, port, timeout=self.patience)


def queue_path(name: str, *more: str) -> str:
    """The path of a queue."""
    return "/".join(("/queues", quote(name, safe=""), *more))


def find_api(options: argparse.Namespace, environ: Mapping[str, str]) -> Api:
    """The broker that the options, the environment or the settings mean. Raises CommandError and
    SettingsError.
    """
    url = options.url or environ.get(URL_VARIABLE, "")
    token = options.token or environ.get(TOKEN_VARIABLE, "")
    if url:
        return Api(checked_url(url), checked_token(token) or token_for(options, environ))
    chosen = chosen_settings(options, environ)
    context = pinned(chosen.http.tls_cert) if chosen.http.tls_cert else None
    return Api(url_of(chosen), checked_token(token) or token_in(chosen), context)


def chosen_settings(options: argparse.Namespace, environ: Mapping[str, str]) -> settings.Settings:
    """The settings that the broker was started with."""
    overrides = {} if options.data is None else {"broker.data_dir": options.data}
    return settings.load(options.config, environ, overrides)


def url_of(chosen: settings.Settings) -> str:
    """Where the broker with these settings is reached from this machine."""
    address = chosen.http.address
    if address is None:
        raise CommandError(
            "the broker's HTTP interface is off: write [http] with listen = "
            '"127.0.0.1:8180" into its settings, restart it, and say -c FILE here; or give --url'
        )
    host = ANYWHERE.get(address.host, address.host)
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if chosen.http.tls_cert else 'http'}://{shown}:{address.port}"


def pinned(certificate: Path) -> ssl.SSLContext:
    """Trust the broker's own certificate, whatever the name is that this machine has for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except OSError as error:
        raise CommandError(f"{certificate}: {error.strerror or error}") from error
    return context


def token_for(options: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The token for an address that was given: only files that were named, too, are read."""
    if options.config is None and options.data is None:
        raise CommandError(f"there is no token for {options.url}: set {TOKEN_VARIABLE} or --token")
    return token_in(chosen_settings(options, environ))


def token_in(chosen: settings.Settings) -> str:
    """The administrator's token in the broker's data folder."""
    path = chosen.broker.data_dir / TOKEN_FILE
    try:
        token = read_token(path)
    except OSError as error:
        raise CommandError(
            f"{path} cannot be read ({error.strerror}): run this as the broker's user, or set "
            f"{TOKEN_VARIABLE}"
        ) from error
    if not token:
        raise CommandError(
            f"there is no token in {path}: the broker makes it when it starts with [http] listen; "
            f"choose the broker's folder with -c FILE or --data DIR, or set {TOKEN_VARIABLE}"
        )
    return checked_token(token)


def checked_token(token: str) -> str:
    """A token that fits into a header; raises CommandError, without the token."""
    if token.isprintable() and token.isascii():
        return token
    raise CommandError("this cannot be a token: it must be printable ASCII on one line")


def checked_url(url: str) -> str:
    """A URL of http or https; raises CommandError."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        good = good and url.isprintable() and not parts.query and parts.username is None
    except ValueError:
        good = False
    if not good:
        raise CommandError('--url: write one such as "http://127.0.0.1:8180"')
    return url.rstrip("/").removesuffix(BASE)
