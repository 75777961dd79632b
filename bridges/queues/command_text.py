"""How the command shows queues and messages to people.

Rule kept here: what came from a message or from a broker never reaches the terminal as it is:
control characters are escaped.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_PAYLOAD = 60  # characters in a table
UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
HEADINGS = ("QUEUE", "MODE", "READY", "LEASED", "WAITING", "DELAYED", "DEAD", "OLDEST", "CONSUMERS")
COUNTS = ("ready", "leased", "waiting", "delayed", "dead")


def queue_table(queues: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each queue, below a heading."""
    rows = [
        (
            plain(each["name"]),
            plain(each["mode"]),
            *(f"{each[name]:,}" for name in COUNTS),
            age(each["oldest_age"]),
            str(each["consumers"]),
        )
        for each in queues
    ]
    return table(HEADINGS, rows, left=2)


def queue_details(queue: Mapping[str, Any]) -> list[str]:
    """All about one queue."""
    facts = {name: value for name, value in queue.items() if name not in {"policy", "rates"}}
    facts["oldest_age"] = age(facts.get("oldest_age"))
    lines = [f"{plain(name):12} {_shown(value)}" for name, value in facts.items()]
    rates = queue.get("rates") or {}
    lines += [f"{plain(name) + '/s':12} {value:,.1f}" for name, value in rates.items()]
    lines.append("policy:")
    lines += [f"  {plain(name):18} {_shown(value)}" for name, value in queue["policy"].items()]
    return lines


def message_table(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each message, below a heading."""
    headings = ("ID", "STATE", "SINCE", "TRIES", "KEY", "TOPIC", "PAYLOAD")
    rows = [
        (
            str(each["id"]),
            plain(each["dead_reason"] or each["state"]),
            instant(each["enqueued_at"]),
            f"{each['delivery_count']} ({each['failures']} failed)",
            shortened(each["key"] or "-", 24),
            shortened(each["topic"], 40),
            shortened(payload_text(each), LONGEST_PAYLOAD),
        )
        for each in messages
    ]
    return table(headings, rows, left=len(headings))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Columns as wide as they must be; the first `left` begin at the left."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if place < left else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headings, *rows)
    ]


def payload_of(message: Mapping[str, Any]) -> bytes:
    """The payload of a message in JSON."""
    if "payload" in message:
        text: str = message["payload"]
        return text.encode()
    return base64.b64decode(message["payload_base64"])


def payload_text(message: Mapping[str, Any]) -> str:
    """The payload to look at; bytes that are no text in hexadecimal."""
    if "payload" in message:
        return str(message["payload"])
    data = payload_of(message)
    return f"0x{data[:LONGEST_PAYLOAD].hex()} ({len(data):,} bytes)"


def shortened(text: str, longest: int) -> str:
    """At most so many characters, none of which does anything to a terminal."""
    safe = plain(text[: longest + 1])
    return safe if len(safe) <= longest else safe[: longest - 1] + "…"


def plain(text: object) -> str:
    """The text with everything escaped that does not print."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


def age(seconds: float | None) -> str:
    """A duration in two units at most: "3 min 20 s"."""
    if seconds is None:
        return "-"
    left = int(seconds)
    parts: list[str] = []
    for unit, size in UNITS:
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts) or "0 s"


def instant(seconds: float) -> str:
    """An instant as local time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def _shown(value: object) -> str:
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,}"
    return plain("-" if value is None or value == "" else value)
