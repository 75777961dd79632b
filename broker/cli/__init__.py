"""The `heliograph` command: one sub-command, one module, imported only when it is asked for.

Rule kept here: importing this costs next to nothing, so `heliograph run` starts at once and
`heliograph pub` does not load the server.
"""

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

# name -> (module with `main(arguments) -> exit code`, what it does)
COMMANDS = {
    "run": ("broker.cli.run", "start the broker (also without any command)"),
    "check": ("broker.cli.check", "say whether a settings file is good, or what is wrong with it"),
    "passwd": ("broker.cli.passwd", "add, change or remove a user in a password file"),
    "explain": ("broker.cli.explain", "say into which queues a message goes, and why"),
    "store": ("broker.cli.store", "back up, restore, check and measure what is stored"),
    "queue": ("broker.cli.queue", "look at the queues of a running broker, and look after them"),
    "serial": ("bridges.gateway.command_serial", "ports, frames and devices of the serial gateway"),
    "gateway": ("bridges.gateway.command_gateway", "run the gateway alone, beside any MQTT broker"),
    "sim": ("firmware_sim.command", "run simulated devices against a broker, and keep the books"),
    "pub": ("broker.cli.pub", "publish messages, with mosquitto_pub's options"),
    "sub": ("broker.cli.sub", "print messages, with mosquitto_sub's options"),
}

USAGE_EXIT = 2  # the command line could not be understood


def run_command(arguments: Sequence[str]) -> int:
    """Do what the arguments say; return the exit code."""
    first = arguments[0] if arguments else "run"
    if first in COMMANDS:
        return start(first, arguments[1:])
    if first in {"--version", "version"}:
        print(f"heliograph {version()}")
        return 0
    if first in {"--help", "-h", "help"}:
        print(overview())
        return 0
    if first.startswith("-"):  # `heliograph -c FILE` means `heliograph run -c FILE`
        return start("run", arguments)
    return complain_unknown(first)


def start(command: str, arguments: Sequence[str]) -> int:
    """Run one sub-command; Ctrl-C and a closed pipe are ordinary ways to end it."""
    module, _ = COMMANDS[command]
    try:
        code: int = import_module(module).main(arguments)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone: `heliograph sub ... | head`
        # or the interpreter complains about the same pipe once more when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def version() -> str:
    """Our version."""
    from broker import __version__

    return __version__


def overview() -> str:
    """What `heliograph --help` prints."""
    lines = [f"  {name:8}{summary}" for name, (_, summary) in COMMANDS.items()]
    return "\n".join(
        (
            "usage: heliograph [COMMAND] [OPTIONS]",
            "",
            "Heliograph is an MQTT 3.1.1 and 5 broker.",
            "",
            *lines,
            "",
            "  --version  print the version",
            "",
            "`heliograph COMMAND --help` tells more.",
        )
    )


def complain_unknown(command: str) -> int:
    """Say that there is no such command, and which one was probably meant."""
    near = get_close_matches(command, COMMANDS, 1)
    hint = f'did you mean "{near[0]}"?' if near else "`heliograph --help` lists the commands."
    print(f'heliograph: there is no command "{command}": {hint}', file=sys.stderr)
    return USAGE_EXIT
