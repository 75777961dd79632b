"""`heliograph serial devices`, and the orders: `accept`, `reject`, `forget`, `reset`, `send`.

They go through the gateway's file and need no broker. Exit code 0: done, or noted for the next
gateway; 1: not, and the message says what to do; 2: not understood.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bridges.gateway.desk import Desk, DeskError, follow
from bridges.gateway.orders import LARGEST_FILE, Kind
from bridges.serial.files import safe_name
from broker import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridges.gateway.desk import KnownDevice

FILE_NAME: Final = "gateway.db"  # as in keeping.py, which is not imported for a command
MINUTE, HOUR, DAY = 60, 3600, 86_400


def main_of(verb: str, arguments: Sequence[str]) -> int:
    """Do what the arguments say; 1 with a message if that cannot be done."""
    options = _parser(verb).parse_args(arguments)
    try:
        return _done(verb, options)
    except settings.SettingsError as error:
        print(error, file=sys.stderr)
    except (DeskError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"heliograph serial {verb}: {_in_words(error)}", file=sys.stderr)
    return 1


def _in_words(error: Exception) -> str:
    """Python writes "[Errno 2] No such file or directory: 'x'"."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _done(verb: str, options: argparse.Namespace) -> int:
    code: int = VERBS[verb][0](_desk(options), options)
    return code


# ---- looking ----


def list_devices(desk: Desk, options: argparse.Namespace) -> int:
    """All that the file knows."""
    devices = desk.devices()
    if options.json:
        print(json.dumps([asdict(device) for device in devices]))
        return 0
    for line in table(devices, time.time()):
        print(line)
    if not desk.is_gateway_running():
        print("No gateway is running on this file: this is how things stood when it ended.")
    return 0


def table(devices: Sequence[KnownDevice], now: float) -> list[str]:
    """The lines for a terminal."""
    if not devices:
        return [
            "No MQTT-SN devices yet. (What speaks in lines or in MQTT itself is not listed here.)"
        ]
    rows = [("DEVICE", "STATE", "GATEWAY", "ADDRESS", "TOPICS", "DECISION")]
    rows += [
        (
            plain(each.client_id),
            state_of(each, now),
            plain(each.gateway) or "-",
            plain(each.address) or "-",
            str(each.topics) if each.topics else "-",
            each.verdict or "-",
        )
        for each in devices
    ]
    lines = aligned(rows)
    strangers = [each.client_id for each in devices if each.state == "quarantined"]
    if strangers:
        lines += ["", f"{len(strangers)} waiting. To let one in:"]
        lines += [f"  heliograph serial accept {shlex.quote(plain(strangers[0]))}"]
    return lines


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they must be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def state_of(device: KnownDevice, now: float) -> str:
    """In a word or two."""
    if device.state != "quarantined":
        return device.state or "never seen"
    seen = "" if device.last_seen is None else f", {age(now - device.last_seen)} ago"
    tries = "try" if device.attempts == 1 else "tries"
    return f"waiting ({device.attempts} {tries}{seen})"


def age(seconds: float) -> str:
    """A time span in its largest unit."""
    for size, letter in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {letter}"
    return f"{max(0, int(seconds))} s"


def plain(text: str) -> str:
    """What came from a wire must not command the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


# ---- orders ----


def decide(desk: Desk, options: argparse.Namespace) -> int:
    """accept, reject, forget."""
    if not options.device:
        raise DeskError("a client id has one character at least: `heliograph serial devices`")
    argument = getattr(options, "address", None) or ""
    return _order(desk, Kind(options.verb), options.device, argument)


def reset(desk: Desk, options: argparse.Namespace) -> int:
    """Reset what is at the port, with the lines that its settings name."""
    return _order(desk, Kind.RESET, options.port)


def send(desk: Desk, options: argparse.Namespace) -> int:
    """Send a file, and say how far it is."""
    path: Path = options.file
    name = options.name or path.name
    if safe_name(name.encode()) is None:
        raise DeskError(
            f'"{name}" is no name for a device: choose one of at most 64 bytes (--name)'
        )
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise DeskError(f"{path} has {size:,} bytes; at most {LARGEST_FILE:,} can be sent")
    return _order(desk, Kind.SEND, options.port, name, path.read_bytes())


def _order(desk: Desk, kind: Kind, target: str, argument: str = "", payload: bytes = b"") -> int:
    number = desk.give(kind, target, argument, payload)
    progress = Progress()
    try:
        is_done, text = follow(desk, number, kind, progress.say)
    except KeyboardInterrupt:
        progress.end()
        withdrawn = desk.withdraw(number)
        print("Withdrawn." if withdrawn else "The gateway goes on with it.", file=sys.stderr)
        raise
    progress.end()
    print(plain(text) or "Done.", file=sys.stdout if is_done else sys.stderr)
    return 0 if is_done else 1


class Progress:
    """One line that is written over on a terminal, and nothing elsewhere."""

    def __init__(self) -> None:
        self._length = 0

    def say(self, text: str) -> None:
        """How far it is."""
        if not sys.stderr.isatty():
            return
        shown = plain(text)
        print(f"\r{shown:{self._length}}", end="", file=sys.stderr, flush=True)
        self._length = len(shown)

    def end(self) -> None:
        """The next line is somebody else's."""
        if self._length:
            print(f"\r{'':{self._length}}\r", end="", file=sys.stderr, flush=True)


# ---- the command line ----


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="ID", help="the device's client id")


def _accept(parser: argparse.ArgumentParser) -> None:
    _device(parser)
    parser.add_argument(
        "--address",
        metavar="A",
        help="only from there: the name of a port, HOST:PORT for UDP; * and ? stand for anything "
        '(UDP devices change their port: "192.168.1.9:*")',
    )


def _port(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("port", metavar="PORT", help="the port's name in the settings")


def _send(parser: argparse.ArgumentParser) -> None:
    _port(parser)
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--name", metavar="NAME", help="what the device is to call it")


def _devices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


VERBS: Final[dict[str, tuple[Any, Any, str]]] = {
    "devices": (list_devices, _devices, "List the devices that the gateway knows."),
    "accept": (decide, _accept, "Let a device in: needed with [mqttsn] approval = true."),
    "reject": (decide, _device, "Keep a device out, and send it away if it is in."),
    "forget": (decide, _device, "Forget a device, its topics and what was decided about it."),
    "reset": (reset, _port, "Reset the device at a port."),
    "send": (send, _send, "Send a file to the device at a port; interrupted, it is resumed."),
}


def _parser(verb: str) -> argparse.ArgumentParser:
    _, add, summary = VERBS[verb]
    parser = argparse.ArgumentParser(
        prog=f"heliograph serial {verb}",
        description=f"{summary} The gateway's file is {FILE_NAME} in its data folder.",
    )
    parser.set_defaults(verb=verb)
    add(parser)
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="the broker's settings")
    parser.add_argument("--data", metavar="DIR", help="the folder of the broker or gateway")
    return parser


def _desk(options: argparse.Namespace) -> Desk:
    overrides = {} if options.data is None else {"broker.data_dir": options.data}
    chosen = settings.load(options.config, os.environ, overrides)
    return Desk(chosen.broker.data_dir / FILE_NAME)
