"""Which values a row of ours may hold: the judge of what is read from a damaged file.

Rule kept here: a value is judged by the name of its column, as the tables name them; one wrong
value condemns the row. Text comes as `Text`, the bytes that stand in the file, because a damaged
file may hold bytes that are no text at all.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Table

LARGEST = 2**62  # of our own numbers: leaves room above for all that are still to be given
LONGEST_TEXT = 65_535  # bytes of an MQTT string
LARGEST_UINT32 = 0xFFFF_FFFF

LARGEST_INT64 = 2**63 - 1

# column -> the lowest and the highest whole number
RANGES: Mapping[str, tuple[int, int]] = {
    "packet_id": (1, 65_535),
    "qos": (0, 2),
    "no_local": (0, 1),
    "retain_as_published": (0, 1),
    "retain": (0, 1),
    "first": (0, 255),
    "state": (0, 1),
    "clean": (0, 1),
    "expiry_interval": (0, LARGEST_UINT32),
    "delay": (0, LARGEST_UINT32),
    "size": (0, LARGEST_UINT32),
    "rank": (0, 9),
    "acquisitions": (0, LARGEST_UINT32),
    "failures": (0, LARGEST_UINT32),
    "token": (1, LARGEST_INT64),
    "slot": (0, 0),
}
# Where a column of that name means something else.
RANGES_OF: Mapping[tuple[str, str], tuple[int, int]] = {
    ("inflight", "state"): (0, 2),
    ("inflight", "number"): (-LARGEST, LARGEST),  # below zero: the number of one out of a queue
    ("queued", "state"): (0, 3),
}
ANY_RANGE = (0, LARGEST)
INSTANTS = frozenset(
    {
        *("expires_at", "due_at", "store_time", "wall_time", "due", "enqueued_at", "dead_at"),
        *("active_until", "tokens", "tokens_at", "until"),
    }
)
BLOBS = frozenset({"payload", "properties"})
ANY_TEXT = re.compile(r"[^\0]*")
QUEUE_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,160}")
TEXTS: Mapping[str, re.Pattern[str]] = {
    "client_id": re.compile(r"[^\0]*"),
    "username": re.compile(r"[^\0]*"),
    "publisher": re.compile(r"[^\0]*"),
    "share_name": re.compile(r"[^\0/+#]*"),
    "topic": re.compile(r"[^\0+#]+"),
    "filter": re.compile(r"[^\0]+"),
    "queue": QUEUE_NAME,
    "name": QUEUE_NAME,
    "dead_from": QUEUE_NAME,
    "dead_reason": ANY_TEXT,
    "dedup_id": ANY_TEXT,
    "key": ANY_TEXT,
    "consumer": ANY_TEXT,
    "active": ANY_TEXT,
    "policy": re.compile(r"\{[^\0]*\}"),
    "bindings": re.compile(r"\[[^\0]*\]"),
    "origin": re.compile("config|client"),
    "mode": re.compile("running|paused|draining"),
    "identifiers": re.compile(r"(\d{1,9}(,\d{1,9})*)?"),
}


class Text(bytes):
    """Text as its bytes stand in the file."""

    __slots__ = ()


Check = Callable[[Any], Any]  # gives the value as we use it, or raises ValueError


def good_row(checks: Sequence[Check], values: Sequence[Any]) -> tuple[Any, ...] | None:
    """The row with its text decoded; None if any value is wrong."""
    if len(values) != len(checks):
        return None
    try:
        return tuple(check(value) for check, value in zip(checks, values, strict=True))
    except ValueError:
        return None


def checks_of(table: Table) -> tuple[Check, ...]:
    """One check for each column of the table, in their order."""
    return tuple(_check_of(column) for column in table.columns)


def _check_of(column: Column[Any]) -> Check:
    check = _check_by_name(column.table.name, column.name)
    return _or_null(check) if column.nullable else check


def _check_by_name(table: str, name: str) -> Check:
    if name in TEXTS:
        return _text(TEXTS[name])
    if name in BLOBS:
        return _blob
    if name in INSTANTS:
        return _instant
    return _whole(*RANGES_OF.get((table, name), RANGES.get(name, ANY_RANGE)))


def _or_null(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _whole(low: int, high: int) -> Check:
    def check(value: Any) -> Any:
        if type(value) is int and low <= value <= high:
            return value
        raise ValueError(value)

    return check


def _text(pattern: re.Pattern[str]) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not Text or len(value) > LONGEST_TEXT:
            raise ValueError(value)
        text = value.decode()  # a UnicodeDecodeError is a ValueError, too
        if pattern.fullmatch(text):
            return text
        raise ValueError(value)

    return check


def _blob(value: Any) -> Any:
    if type(value) is bytes:
        return value
    raise ValueError(value)


def _instant(value: Any) -> Any:
    if type(value) in (int, float) and math.isfinite(value):
        return float(value)
    raise ValueError(value)
