"""What PostgreSQL would refuse, made into what it takes: no row may spoil a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from broker.storage.queues.ports import (
    CONSUMER,
    DEDUP_ID,
    DELAY,
    KEY,
    LEASE,
    PUBLISHER,
    TOPIC,
    TTL,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.storage.database import Row

LARGEST = (1 << 63) - 1
LONGEST = 10 * 365 * 86_400.0  # seconds; nobody waits for longer
LONGEST_REASON = 1_000  # characters
MOST_AT_ONCE = 1_000  # messages in one answer

Cleaning: TypeAlias = "tuple[tuple[int, Callable[[Any], Any]], ...]"  # place in a row -> how


def cleaned(row: Row, cleaning: Cleaning) -> Row:
    """The row, with the columns at these places as a database takes them."""
    for place, clean in cleaning:
        value = row[place]
        if value is not None and (better := clean(value)) is not value:
            row = (*row[:place], better, *row[place + 1 :])
    return row


def text(value: str) -> str:
    if value.isascii() and "\0" not in value:
        return value
    return value.encode(errors="replace").decode().replace("\0", "")


def reason(value: str) -> str:
    return text(value[:LONGEST_REASON])


def number(value: int) -> int:
    """0, of which there is no message and no lease, for what is no number of ours."""
    return value if 0 < value <= LARGEST else 0


def duration(value: float) -> float:
    """One that can be counted with, whatever somebody has asked for."""
    if 0 <= value <= LONGEST:
        return value
    return LONGEST if value > 0 else 0.0


def cleaned_lease(row: Row) -> Row:
    """Of a row of `queue_lease`: queue, consumer, most, most_bytes, seconds, first token."""
    _, queue, consumer, most, most_bytes, seconds, first_token = row
    most = min(max(most, 1), MOST_AT_ONCE)
    until = None if seconds is None else duration(seconds)
    return (text(queue), text(consumer), most, min(most_bytes, LARGEST), until, first_token)


PUT_CLEANING: Cleaning = (
    *((place, text) for place in (KEY, DEDUP_ID, TOPIC, PUBLISHER, CONSUMER)),
    *((place, duration) for place in (DELAY, TTL, LEASE)),
)
ACK_CLEANING: Cleaning = ((1, number), (2, number))
FAIL_CLEANING: Cleaning = (*ACK_CLEANING, (4, duration), (5, reason))
RENEW_CLEANING: Cleaning = (*ACK_CLEANING, (3, duration))
