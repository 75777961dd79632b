"""What stands for a port in the settings, and which ports there are.

    auto                        the one USB serial port of this computer
    /dev/ttyUSB0                a device, also a pty or a link to one
    /dev/serial/by-id/usb-F*    the one device of that pattern
    0403:6001[:A50285BI]        the USB device with this vendor, product and serial number
    tcp://host:port             bytes over TCP, such as ser2net in raw mode
    rfc2217://host:port         the same with baud and lines (telnet, RFC 2217)

Rule kept here: the same text is looked up anew at every try, for numbers change hands.
"""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from serial.tools import list_ports

BY_ID: Final = Path("/dev/serial/by-id")
LONGEST_TEXT: Final = 512
_USB: Final = re.compile(r"([0-9a-fA-F]{4}):([0-9a-fA-F]{4})(?::([^\s:/\"\\]+))?")
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


@dataclass(frozen=True, slots=True)
class Device:
    """A serial port of this computer. `vid` is 0 unless it is on USB."""

    path: str
    by_id: str = ""
    vid: int = 0
    pid: int = 0
    serial: str = ""
    product: str = ""

    @property
    def usb_name(self) -> str:
        """`vid:pid[:serial]` as `parse_port` takes it."""
        if not self.vid:
            return ""
        name = f"{self.vid:04x}:{self.pid:04x}"
        return f"{name}:{self.serial}" if _USB.fullmatch(f"{name}:{self.serial}") else name

    @property
    def key(self) -> str:
        """What is the same for this hardware under every number."""
        if self.serial:
            return f"usb:{self.vid:04x}:{self.pid:04x}:{self.serial}"
        return f"path:{self.by_id or self.path}"


@dataclass(frozen=True, slots=True)
class Found:
    """What to open now. `path` is a device, or host:port."""

    path: str
    key: str
    description: str = ""


class PortError(OSError):
    """A port that cannot be opened now; the text says why, and what helps."""


def parse_port(text: str) -> PortSpec:
    """Read what stands for a port. Raises ValueError, which says what would be right."""
    if text == "auto":
        return PortSpec(text, Kind.AUTO)
    if "://" in text:
        return _parse_url(text)
    if found := _USB.fullmatch(text):
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


# -- which ports there are ------------------------------------------------------------------------


def devices() -> list[Device]:
    """The serial ports of this computer, those on USB first, by their paths."""
    links = _by_id()
    found = [
        Device(
            port.device,
            links.get(port.device, ""),
            port.vid or 0,
            port.pid or 0,
            _plain(port.serial_number),
            _plain(port.product or (port.description if port.description != "n/a" else "")),
        )
        for port in list_ports.comports()
    ]
    return sorted(found, key=lambda device: (not device.vid, device.path))


def find(spec: PortSpec) -> Found:
    """Return what the text stands for now. Raises PortError if that is nothing, or several."""
    if spec.is_network:
        return Found(f"{spec.host}:{spec.port}", spec.text)
    if spec.kind is Kind.PATH:
        return _known(spec.text)
    if spec.kind is Kind.PATTERN:
        return _known(_only(spec, _matching(spec.text)))
    return _as_found(_only_device(spec))


def _known(path: str) -> Found:
    """The path, with the hardware's key if it is a USB device."""
    try:
        real = str(Path(path).resolve(strict=True))
    except (OSError, RuntimeError):  # it leads nowhere, or in a circle
        raise PortError(
            f"{path} is not there: plug it in, or see heliograph serial ports"
        ) from None
    for device in devices():
        if device.path == real and device.vid:
            return Found(path, device.key, device.product)
    return Found(path, f"path:{path}")


def _matching(pattern: str) -> list[str]:
    """Paths, but only one for each device."""
    found: dict[Path, str] = {}
    for path in sorted(glob.glob(pattern)):  # noqa: PTH207 - the pattern is absolute
        found.setdefault(Path(path).resolve(), path)
    return list(found.values())


def _only(spec: PortSpec, paths: list[str]) -> str:
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise PortError(f"nothing is named {spec.text}: plug it in, or see heliograph serial ports")
    raise PortError(f"{spec.text} stands for {_listed(paths)}: name one of them")


def _only_device(spec: PortSpec) -> Device:
    fits = [device for device in devices() if device.vid and _fits(spec, device)]
    if len(fits) == 1:
        return fits[0]
    what = "USB serial port" if spec.kind is Kind.AUTO else f"USB serial port {spec.text}"
    if not fits:
        raise PortError(f"there is no {what}: plug it in, or see heliograph serial ports")
    names = [device.by_id or device.usb_name for device in fits]
    if len(set(names)) < len(names):  # cheap chips have no serial number of their own
        names = [device.path for device in fits]
    raise PortError(f"{spec.text} stands for {_listed(names)}: name one of them")


def _fits(spec: PortSpec, device: Device) -> bool:
    if spec.kind is Kind.AUTO:
        return True
    return (spec.vid, spec.pid) == (device.vid, device.pid) and spec.serial in {"", device.serial}


def _as_found(device: Device) -> Found:
    return Found(device.path, device.key, device.product)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


def _by_id() -> dict[str, str]:
    """Names that stay, by device."""
    try:
        return {str(link.resolve()): str(link) for link in sorted(BY_ID.iterdir())}
    except OSError:
        return {}


def _plain(text: str | None) -> str:
    """What a device says of itself, without what a terminal would obey."""
    return "".join(char for char in text or "" if char.isprintable())[:80]
