"""Which serial ports this computer has, and which of them a text stands for now.

Rule kept here: the same text is looked up anew at every try, for numbers change hands.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from serial.tools import list_ports

from bridges.serial.port_spec import USB_NAME, Kind

if TYPE_CHECKING:
    from bridges.serial.port_spec import PortSpec

BY_ID: Final = Path("/dev/serial/by-id")


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
        return f"{name}:{self.serial}" if USB_NAME.fullmatch(f"{name}:{self.serial}") else name

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
