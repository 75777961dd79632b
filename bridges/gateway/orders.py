"""What the command line asks of the running gateway, by way of the file that both know.

Rule kept here: an order is taken once. One that was taken and not finished when the gateway ended
has failed: what a reset or half a file has done to a device, nobody can know.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

LARGEST_FILE: Final = 8 << 20  # bytes of a file to be sent: it waits in the database
LONGEST_TEXT: Final = 500  # characters of an outcome
MOST_ORDERS: Final = 100  # rows that are kept, finished ones included


class Kind(Enum):
    """What is to be done."""

    ACCEPT = "accept"  # target: a client id; argument: a pattern for its address, or ""
    REJECT = "reject"  # target: a client id
    FORGET = "forget"  # target: a client id
    RESET = "reset"  # target: a port
    SEND = "send"  # target: a port; argument: the file's name; payload: what is in it


class Stage(Enum):
    """Where an order stands."""

    WAITING = "waiting"
    TAKEN = "taken"
    DONE = "done"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"  # by the one who gave it


# What nobody expects to happen hours later, when a gateway comes.
NOW_OR_NEVER: Final = frozenset({Kind.RESET, Kind.SEND})
FINAL: Final = frozenset({Stage.DONE, Stage.FAILED, Stage.WITHDRAWN})


@dataclass(frozen=True, slots=True)
class Order:
    """One order; `made` in seconds since 1970."""

    number: int
    kind: Kind
    target: str
    argument: str = ""
    payload: bytes = b""
    made: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended, in words for the one who gave it."""

    is_done: bool
    text: str = ""
