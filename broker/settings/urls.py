"""URLs in the settings: where to listen, and where the database is.

Rule kept here: nothing that is told repeats a password.
"""

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

# scheme -> the port a URL without one means; a Unix socket has none
DEFAULT_PORTS = {"tcp": 1883, "tls": 8883, "ws": 8080, "wss": 8443, "unix": 0}
TLS_SCHEMES = frozenset({"tls", "wss"})
DATABASE_SCHEMES = ("postgresql", "postgresql+psycopg")
SCHEMES_BY_OTHER_NAMES = {
    "mqtt": "tcp",
    "mqtts": "tls",
    "ssl": "tls",
    "http": "ws",
    "https": "wss",
}


class Address(NamedTuple):
    """A listener's URL in its parts. `path` is a URL's path, or a Unix socket's file."""

    scheme: str
    host: str
    port: int
    path: str


def parse_url(url: str) -> Address:
    """The parts of a listener's URL, such as "tcp://[::]:1883".

    Raises ValueError that says what would be right.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in DEFAULT_PORTS:
        raise ValueError(_unknown_scheme(url, scheme, rest))
    if scheme == "unix":
        if not rest:
            raise ValueError(f'"{url}" names no file: write "unix:///run/heliograph.sock"')
        return Address(scheme, "", 0, rest)
    try:
        parts = urlsplit(url)
        port = DEFAULT_PORTS[scheme] if parts.port is None else parts.port
    except ValueError as error:
        raise ValueError(f'"{url}" is not a URL ({error}): {_good_url(scheme)}') from error
    if parts.hostname is None or parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f'"{url}" is not a place to listen: {_good_url(scheme)}')
    if parts.path not in {"", "/"} and scheme not in {"ws", "wss"}:
        raise ValueError(f'"{url}" has a path, which only ws and wss have: {_good_url(scheme)}')
    return Address(scheme, parts.hostname, port, parts.path or "/")


def _unknown_scheme(url: str, scheme: str, rest: str) -> str:
    if scheme in SCHEMES_BY_OTHER_NAMES:
        return f'"{url}": here this is called "{SCHEMES_BY_OTHER_NAMES[scheme]}://{rest}"'
    return f'"{url}" is not a URL of tcp, tls, ws, wss or unix: {_good_url("tcp")}'


def _good_url(scheme: str) -> str:
    path = "/mqtt" if scheme in {"ws", "wss"} else ""
    return f'write "{scheme}://0.0.0.0:{DEFAULT_PORTS[scheme]}{path}"'


GOOD_DATABASE_URL = (
    'write "postgresql://user@host/database" or "postgresql+psycopg://user@host/database", '
    'or "" for SQLite'
)


def check_database_url(url: str) -> None:
    """Refuse what could be read in two ways, and so might show a part of a password as a host."""
    try:
        parts = urlsplit(url)
        readable = parts.port != 0 and not parts.netloc.endswith(":") and "#" not in url
    except ValueError:  # it may quote a password: it is not told, and not chained
        readable = False
    if not readable or "@" in parts.netloc.partition("@")[2] + parts.path + parts.query:
        raise ValueError(
            "this URL cannot be read: write a port as a number, and /, @, :, ?, # and % in a name "
            f"or password as %2F, %40, %3A, %3F, %23 and %25; {GOOD_DATABASE_URL}"
        )
    if not re.fullmatch(r"/[^/]+", parts.path):
        raise ValueError(f"the URL names no database: {GOOD_DATABASE_URL}")


def redacted(url: str) -> str:
    """A URL as it may be shown: `***` for its password, whether or not the URL is a good one."""
    start, mark, rest = url.rpartition("://") if url.count("://") == 1 else ("", "", url)
    rest = re.sub(r":.*@", ":***@", rest, flags=re.DOTALL)
    return start + mark + re.sub(r"([?&][^=&]*=)([^&]*)", _without_secret, rest)


def _without_secret(pair: re.Match[str]) -> str:
    return f"{pair[1]}***" if "pass" in unquote(pair[1]).lower() else pair[0]
