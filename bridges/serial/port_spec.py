"""What stands for a port in the settings.

auto                        the one USB serial port of this computer
/dev/ttyUSB0                a device, also a pty or a link to one
/dev/serial/by-id/usb-F*    the one device of that pattern
0403:6001[:A50285BI]        the USB device with this vendor, product and serial number
tcp://host:port             bytes over TCP, such as ser2net in raw mode
rfc2217://host:port         the same with baud and lines (telnet, RFC 2217)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

LONGEST_TEXT: Final = 512
USB_NAME: Final = re.compile(r"([0-9a-fA-F]{4}):([0-9a-fA-F]{4})(?::([^\s:/\"\\]+))?")
_PATTERN: Final = re.compile(r"[*?\[]")
_FORMS: Final = (
    "auto, a device such as /dev/ttyUSB0, a pattern such as /dev/serial/by-id/usb-*, "
    "vid:pid[:serial] such as 0403:6001:A50285BI, tcp://host:port or rfc2217://host:port"
)


class Kind(Enum):
    """The forms of the table above."""

    AUTO = "auto"
    PATH = "path"
    PATTERN = "pattern"
    USB = "usb"
    TCP = "tcp"
    RFC2217 = "rfc2217"


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A text that stands for a port, read; `text` as it was given."""

    text: str
    kind: Kind
    vid: int = 0
    pid: int = 0
    serial: str = ""  # "": any
    host: str = ""
    port: int = 0

    @property
    def is_network(self) -> bool:
        """Whether it is another computer's."""
        return self.kind in {Kind.TCP, Kind.RFC2217}


def parse_port(text: str) -> PortSpec:
    """Read what stands for a port. Raises ValueError, which says what would be right."""
    if text == "auto":
        return PortSpec(text, Kind.AUTO)
    if "://" in text:
        return _parse_url(text)
    if found := USB_NAME.fullmatch(text):
        vid, pid, number = found.groups()
        return PortSpec(text, Kind.USB, int(vid, 16), int(pid, 16), number or "")
    if not text.startswith("/") or len(text) > LONGEST_TEXT or not text.isprintable():
        raise ValueError(f'"{text[:80]}" is no serial port: use {_FORMS}')
    return PortSpec(text, Kind.PATTERN if _PATTERN.search(text) else Kind.PATH)


def _parse_url(text: str) -> PortSpec:
    try:
        url = urlsplit(text)
        kind, host, port = Kind(url.scheme), url.hostname, url.port
    except ValueError:
        raise ValueError(f'"{text[:80]}" is no serial port: use {_FORMS}') from None
    is_network = kind in {Kind.TCP, Kind.RFC2217}
    if not is_network or not host or not port or url.path or url.query or url.username:
        raise ValueError(
            f'"{text[:80]}" is no serial port: write tcp://host:port or rfc2217://host:port'
        )
    return PortSpec(text, kind, host=host, port=port)
