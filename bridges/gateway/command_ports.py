"""`heliograph serial ports`: which serial ports there are, and what to write into the settings.

Exit code 0: there are some, or none and that is said; 2: not understood.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from bridges.serial.local_port import permission_hint
from bridges.serial.port_names import devices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridges.serial.port_names import Device

_NONE = """\
There is no serial port on this computer.

- Is the cable one for data? Many only charge. Try another one, and another socket.
- Plug it in and look at the last lines of `sudo dmesg`: they name the device, or the trouble.
- In a container, pass it on: docker run --device /dev/ttyUSB0 ...
- Of another computer: port = "tcp://host:port" or "rfc2217://host:port" (ser2net, esp-link).

The gateway may be started first: it waits for a port for as long as it takes."""


def main(arguments: Sequence[str]) -> int:
    """Print the ports."""
    options = _parser().parse_args(arguments)
    found = [each for each in devices() if options.all or each.vid]
    if options.json:
        print(json.dumps([_facts(each) for each in found], indent=2))
    elif found:
        print("\n\n".join(_described(each, found) for each in found))
    else:
        print(_NONE if options.all or not devices() else _only_built_in())
    return 0


def _described(device: Device, all_of_them: Sequence[Device]) -> str:
    """What it is, and the block to paste."""
    usb = f"  usb {device.usb_name}" if device.vid else ""
    lines = [f"{device.path}  {device.product or 'serial port'}{usb}"]
    if not os.access(device.path, os.R_OK | os.W_OK):
        lines.append(f"  You may not open it: {permission_hint(device.path)}")
    lines += ["", "  [[serial]]", f'  port = "{best_name(device, all_of_them)}"']
    return "\n".join(lines)


def best_name(device: Device, all_of_them: Sequence[Device]) -> str:
    """The name that will still mean this device when numbers have changed hands."""
    if device.by_id:
        return device.by_id
    same = [each for each in all_of_them if each.usb_name == device.usb_name]
    return device.usb_name if device.vid and len(same) == 1 else device.path


def _facts(device: Device) -> dict[str, object]:
    return {
        "path": device.path,
        "by_id": device.by_id,
        "usb": device.usb_name,
        "product": device.product,
        "permitted": os.access(device.path, os.R_OK | os.W_OK),
    }


def _only_built_in() -> str:
    paths = ", ".join(each.path for each in devices())
    return f"No serial port on USB; built in, perhaps without a plug: {paths} (see --all)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heliograph serial ports", description="Print the serial ports of this computer."
    )
    parser.add_argument("--all", action="store_true", help="also those that are not on USB")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser
