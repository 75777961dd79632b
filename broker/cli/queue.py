"""`heliograph queue`: look at the queues of a running broker, and look after them.

The command belongs to the bridge of the queues, which is loaded by its name.
"""

from collections.abc import Sequence
from importlib import import_module


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; return the exit code."""
    code: int = import_module("bridges.queues.command").main(arguments)
    return code
