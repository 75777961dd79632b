"""`heliograph explain route`: why a message goes into which queues.

The rules are a bridge's; it is found by its name, as the broker knows no bridges.
"""

from collections.abc import Sequence
from importlib import import_module


def main(arguments: Sequence[str]) -> int:
    """0: the message goes somewhere, 1: nowhere, 2: the question could not be understood."""
    code: int = import_module("bridges.queues.command_explain").main(arguments)
    return code
