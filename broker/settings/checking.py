"""What no single value can tell: settings that do not go together."""

from collections.abc import Iterator

from broker.settings.problems import Entry, Problem
from broker.settings.queue_tables import HttpSettings
from broker.settings.tables import ListenerSettings
from broker.settings.urls import TLS_SCHEMES, parse_url

TLS_ONLY = ("certificate", "key", "client_ca")


def listener_problems(listener: ListenerSettings, source: str, line: int) -> Iterator[Problem]:
    check = _tls_problems if listener.scheme in TLS_SCHEMES else _plain_problems
    for wrong in check(listener):
        yield Problem(source, f'listener "{listener.url}"', wrong, line)


def _tls_problems(listener: ListenerSettings) -> Iterator[str]:
    for key in ("certificate", "key"):
        if getattr(listener, key) is None:
            yield f'has no {key}: add {key} = "FILE" (PEM)'
    for key in TLS_ONLY:
        path = getattr(listener, key)
        if path is not None and not path.is_file():
            yield f"{key}: there is no file {path}"
    for key in ("require_client_certificate", "use_certificate_cn_as_username"):
        if getattr(listener, key) and listener.client_ca is None:
            yield f'{key} needs client_ca = "FILE": the certificates that may sign those of clients'


def _plain_problems(listener: ListenerSettings) -> Iterator[str]:
    secure = {"tcp": "tls", "ws": "wss"}.get(listener.scheme, "tls")
    for key in (*TLS_ONLY, "require_client_certificate", "use_certificate_cn_as_username"):
        if getattr(listener, key):
            yield f'{key} is for TLS only: write "{secure}://" in the url, or leave {key} out'


def twice(listeners: list[Entry]) -> Iterator[Problem]:
    seen: set[tuple[str, int]] = set()
    for source, line, values, _ in listeners:
        address = parse_url(values["url"])
        place = (address.host or address.path, address.port)
        if place in seen and (address.port or not address.host):  # port 0 is a new one each time
            wrong = "is there twice: leave one out, or choose another port"
            yield Problem(source, f'listener "{values["url"]}"', wrong, line)
        seen.add(place)


def http_problems(http: HttpSettings) -> Iterator[tuple[str, str]]:
    """The keys of [http] that do not go together, and what is wrong."""
    pair = {"tls_cert": http.tls_cert, "tls_key": http.tls_key}
    for key, path in pair.items():
        if path is None and any(pair.values()):
            yield key, f'is missing: add {key} = "FILE" (PEM), or leave both out'
        if path is not None and not path.is_file():
            yield key, f"there is no file {path}"
    if http.tokens and not http.listen:
        yield "listen", 'is missing, so tokens open nothing: add listen = "127.0.0.1:8180"'
