"""`heliograph serial`: what is at the serial ports, and the devices behind them.

A table of verbs, each in a module that is imported when it is asked for.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE_EXIT: Final = 2
_DEVICES: Final = "bridges.gateway.command_devices"

# name -> (module with `main(arguments) -> exit code`, what it does); a module of several verbs has
# `main_of(verb, arguments)`
COMMANDS: Final = {
    "ports": ("bridges.gateway.command_ports", "list serial ports, with a line for the settings"),
    "monitor": ("bridges.gateway.command_monitor", "show what goes over a port, live"),
    "stats": ("bridges.gateway.command_stats", "ports and devices of a running gateway in figures"),
    "devices": (_DEVICES, "list devices: here, asleep, away, waiting to be accepted"),
    "accept": (_DEVICES, "let a device in"),
    "reject": (_DEVICES, "keep a device out"),
    "forget": (_DEVICES, "forget all about a device"),
    "reset": (_DEVICES, "reset the device at a port"),
    "send": (_DEVICES, "send a file to the device at a port"),
}


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; return the exit code."""
    verb = arguments[0] if arguments else "--help"
    if verb in {"--help", "-h", "help"}:
        print(overview())
        return 0 if arguments else USAGE_EXIT
    if verb not in COMMANDS:
        return _complain(verb)
    module = import_module(COMMANDS[verb][0])
    if COMMANDS[verb][0] == _DEVICES:
        code: int = module.main_of(verb, arguments[1:])
    else:
        code = module.main(arguments[1:])
    return code


def overview() -> str:
    """What `heliograph serial --help` prints."""
    lines = [f"  {name:9}{summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        (
            "usage: heliograph serial VERB [OPTIONS]",
            "",
            *lines,
            "",
            "`heliograph serial VERB --help` tells more.",
        )
    )


def _complain(verb: str) -> int:
    near = get_close_matches(verb, COMMANDS, 1)
    hint = (
        f'did you mean "{near[0]}"?' if near else "`heliograph serial --help` lists what there is."
    )
    print(f'heliograph serial: there is no "{verb}": {hint}', file=sys.stderr)
    return USAGE_EXIT
