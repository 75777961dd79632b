"""What a batch puts into a PostgreSQL queue and takes out of it again is written once, as leased.

Rule kept here: nobody can tell the difference. So only in queues whose policy leaves nothing to
decide and where nothing comes before it; the database is asked, in the same transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from broker.storage.queues.cleaning import cleaned_lease
from broker.storage.queues.installing import SCHEMA, fetch
from broker.storage.queues.ports import (
    CONTENT,
    DEDUP_ID,
    DELAY,
    FIRST,
    KEY,
    PAYLOAD,
    PROPERTIES,
    PUBLISHER,
    QUEUE,
    RANK,
    SIZE,
    TOKEN,
    TOPIC,
    TTL,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Connection

    from broker.storage.database import Operations, Row

# What may bring a message back, or change a queue, between the putting and the leasing.
BETWEEN = {"queue_define", "queue_fail", "queue_leave", "queue_admin"}
CLEAR = f"SELECT * FROM {SCHEMA}._clear(%s, %s)"  # noqa: S608 - our own name


class Clear(NamedTuple):
    """A queue where what comes now is next."""

    queue: str
    now: float
    ttl: float | None  # of messages that bring none
    next_in: float | None  # seconds until something else may be ready


class Taken(NamedTuple):
    """What one queue gives at once: places among the rows of `queue_put`, in order of delivery."""

    places: list[int]
    ttl: float | None
    lease: float | None
    next_in: float | None


class AtOnce:
    """One batch's. `full`: queues where something comes before, as far as is known; the database is
    not asked of them. `now`: the instant at which the messages are put; None: any.
    """

    __slots__ = ("_asks", "_numbers", "_rows", "_taken", "now")

    def __init__(self, operations: Operations, full: Collection[str]) -> None:
        asks = asks_of(dict(operations))
        self._asks = {name: row for name, row in asks.items() if name not in full}
        self._rows: list[Row] = []
        self._numbers: Sequence[int] = ()
        self._taken: dict[str, Taken] = {}
        self.now: float | None = None

    def mark(self, connection: Connection, rows: list[Row]) -> list[Row]:
        """Rows of `queue_put`, those that go out at once as leased."""
        if not self._asks:
            return rows
        places = places_by_queue(rows)
        wanted = sorted(name for name in self._asks if places.get(name))
        if not wanted:
            return rows
        self._rows = list(rows)
        for found in (Clear(*each) for each in fetch(connection, CLEAR, (wanted, sorted(places)))):
            self.now = found.now
            self._taken[found.queue] = self._take(found, places[found.queue])
        return self._rows

    def number(self, numbers: Sequence[int]) -> None:
        """The rows have got these numbers."""
        self._numbers = numbers

    def answer(self, queue: str) -> Any:
        """What `lease` would say; None: it has to be asked."""
        taken = self._taken.get(queue)
        if taken is None:
            return None
        return [self._leased(place, taken) for place in taken.places], taken.next_in, self.now

    def _take(self, found: Clear, places: list[int]) -> Taken:
        rows = self._rows
        _, consumer, most, most_bytes, lease, first_token = self._asks[found.queue]
        ordered = sorted(places, key=lambda place: rows[place][RANK])
        taken = ordered[: how_many([rows[place][SIZE] for place in ordered[:most]], most_bytes)]
        for token, place in enumerate(taken, first_token):
            rows[place] = (*rows[place][:TOKEN], token, consumer, lease)
        until = [each for each in (found.next_in, lease) if each is not None]
        next_in = min(until, default=None) if len(taken) == len(places) else 0.0
        return Taken(taken, found.ttl, lease, next_in)

    def _leased(self, place: int, taken: Taken) -> Row:
        """As the function `_take` has it."""
        row, now = self._rows[place], self.now
        assert now is not None
        ttl = taken.ttl if row[TTL] is None else row[TTL]
        return (
            *(self._numbers[place], row[TOKEN], row[KEY], row[RANK], row[TOPIC], row[PAYLOAD]),
            *(row[PROPERTIES], row[FIRST], row[PUBLISHER], now),
            None if taken.lease is None else now + taken.lease,
            *(1, 0, None if ttl is None else now + ttl, None, None, None),
        )


def asks_of(operations: dict[str, list[Row]]) -> dict[str, Row]:
    """Who asks for messages of a queue that only one asks for, by queue."""
    if not BETWEEN.isdisjoint(operations):
        return {}
    asks: dict[str, list[Row]] = {}
    for row in operations.get("queue_lease", ()):
        asks.setdefault(row[1], []).append(row)
    return {name: cleaned_lease(rows[0]) for name, rows in asks.items() if len(rows) == 1}


def places_by_queue(rows: list[Row]) -> dict[str, list[int]]:
    """Where each queue's messages stand among the rows; none, where one of them is special."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row[QUEUE], []).append(place)
    for own in places.values():
        if not all(is_simple(rows[place]) for place in own):
            own.clear()
    return places


def is_simple(row: Row) -> bool:
    """Whether it is ready as soon as it is put, with all that there is of it in its row."""
    lives = row[TTL] is None or row[TTL] > 0
    is_new = row[DEDUP_ID] is None and row[TOKEN] is None
    return lives and is_new and not row[DELAY] and row[CONTENT] is None


def how_many(sizes: list[int], most_bytes: int) -> int:
    """So many of them are within a number of bytes: one in any case."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if count and total > most_bytes:
            return count
    return len(sizes)
