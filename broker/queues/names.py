"""Names of queues, and the topics by which MQTT clients reach them: `$queue/<name>...`."""

from __future__ import annotations

import re

PREFIX = "$queue/"
DEAD_LETTERS = ".dlq"
LONGEST = 128
_GOOD = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9_.:-]*")


def is_queue_name(name: str) -> bool:
    """1 to 128 letters, digits, `_`, `.`, `:` and `-`; no dot in front."""
    return len(name) <= LONGEST and _GOOD.fullmatch(name) is not None


def dead_letter_queue(name: str) -> str:
    """Where the dead letters of a queue go by default."""
    return name + DEAD_LETTERS


def takes_dead_letters(name: str) -> bool:
    """Whether it is a queue of dead letters, which has none of its own."""
    return name.endswith(DEAD_LETTERS)
