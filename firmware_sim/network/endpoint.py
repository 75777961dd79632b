"""Where the broker is, as a URL says it: mqtt://user:password@host:1883, mqtts, ws or wss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
EXAMPLE: Final = "mqtt://127.0.0.1:1883"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker. `authority` is a file with the certificates that are trusted; "": the system's."""

    scheme: str
    host: str
    port: int
    path: str = "/mqtt"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    authority: str = ""

    @property
    def is_secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.scheme in {"mqtts", "wss"}

    @property
    def is_websocket(self) -> bool:
        """Whether MQTT goes in WebSocket frames."""
        return self.scheme in {"ws", "wss"}

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = self.path if self.is_websocket else ""
        return f"{self.scheme}://{host}:{self.port}{path}"


def parse_endpoint(url: str, authority: str = "") -> Endpoint:
    """Read a URL. Raises ValueError with "what is wrong: what would be right"; no secrets in it."""
    good = f'write one such as "{EXAMPLE}", or with mqtts, ws or wss'
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"this is not a URL: {good}") from None
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError(f"this is no address of a broker: {good}")
    if port == 0:
        raise ValueError(f"port 0 cannot be reached: {good}")
    return Endpoint(
        parts.scheme,
        parts.hostname,
        port or PORTS[parts.scheme],
        parts.path or "/mqtt",
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
        authority,
    )
