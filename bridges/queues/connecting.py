"""From a URL to the backend behind it. What one backend needs is imported only for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from bridges.queues.backend import QueueError

if TYPE_CHECKING:
    from bridges.queues.backend import Backend

URL, TOKEN = "HELIOGRAPH_QUEUES_URL", "HELIOGRAPH_TOKEN"
HERE = "http://127.0.0.1:8180"


def connect(url: str | None, token: str | None) -> Backend:
    """Nothing is connected yet: that is done by the first call. Raises QueueError."""
    url = url or os.environ.get(URL) or HERE
    scheme = urlsplit(url).scheme
    make = SCHEMES.get(scheme)
    if make is None:
        raise QueueError(
            "bad_request",
            f"{scheme or url!r}: write http://host:8180, https://..., postgresql://... or "
            "sqlite:///folder-of-the-broker",
        )
    return make(url, token or os.environ.get(TOKEN))


def _http(url: str, token: str | None) -> Backend:
    try:
        from bridges.queues.http_client import HTTPBackend  # noqa: PLC0415 - only when asked for
    except ModuleNotFoundError as error:
        raise _missing(error, "aiohttp") from error
    return HTTPBackend(url, token)


def _postgresql(url: str, _token: str | None) -> Backend:
    try:
        from bridges.queues.postgresql_client import PostgreSQLBackend  # noqa: PLC0415 - as above
    except ModuleNotFoundError as error:
        raise _missing(error, "heliograph[postgresql]") from error
    return PostgreSQLBackend(url)


def _sqlite(url: str, _token: str | None) -> Backend:
    from bridges.queues.sqlite_client import SQLiteBackend  # noqa: PLC0415 - as above

    return SQLiteBackend(unquote(url.partition("://")[2].removeprefix("/")))


def _missing(error: ModuleNotFoundError, package: str) -> QueueError:
    return QueueError("unavailable", f'{error.name} is not installed: pip install "{package}"')


SCHEMES = {
    "http": _http,
    "https": _http,
    "postgresql": _postgresql,
    "postgres": _postgresql,
    "sqlite": _sqlite,
}
