"""What the operations of a batch work with: the connection, the time, the queues, and the ledger
of what happens to messages by itself.

Statements are SQLite's own and go to the driver as they are: for so few microseconds as a message
takes, building them is too slow.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from broker.queues.policy import QueuePolicy
from broker.storage.queues.state import COLUMNS, QueueState
from broker.storage.tables import READY, WAITING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from random import Random

    from broker.storage.database import Row
    from broker.storage.queues.ports import Result

LONGEST = 10 * 365 * 86_400.0  # seconds; nobody waits for longer


class Held(NamedTuple):
    """What must be known of a message to decide what becomes of it."""

    number: int
    queue: str
    state: int
    due: float | None
    key: str | None
    token: int | None
    consumer: str | None
    acquisitions: int
    failures: int
    size: int
    content: int | None


BUSY = "state <> 0"  # said beside any other state, for SQLite to see that the index serves it
HELD = f"SELECT {', '.join(Held._fields)} FROM queued"  # noqa: S608 - our own names
NUMBERED = "number IN (SELECT value FROM json_each(?))"
BY_NUMBERS = f"{HELD} WHERE {NUMBERED}"
DELETE = f"DELETE FROM queued WHERE {NUMBERED}"  # noqa: S608 - our own words
# The oldest of a key, if it stands in line, is next. A delay that has not passed still holds.
PROMOTE = """
    UPDATE queued SET state = CASE WHEN due > ?3 THEN 3 ELSE 0 END,
        due = CASE WHEN due > ?3 THEN due END
    WHERE number = (SELECT min(number) FROM queued WHERE queue = ?1 AND key = ?2) AND state = 2
"""
# To another queue, at its place by number; behind another of its key, if such ones wait there.
MOVE = """
    UPDATE queued SET queue = ?2,
        state = CASE WHEN ?3 AND EXISTS
            (SELECT 1 FROM queued AS other
                WHERE other.queue = ?2 AND other.key = queued.key AND other.number <> ?1)
            THEN 2 ELSE 0 END,
        due = NULL, token = NULL, consumer = NULL, expires_at = NULL, acquisitions = ?4,
        failures = ?5, dead_from = ?6, dead_reason = ?7, dead_at = ?8,
        enqueued_at = coalesce(?9, enqueued_at)
    WHERE number = ?1
"""
LOWEST_RANK = "SELECT max(rank) FROM queued WHERE queue = ? AND state = 0"
OLDEST_OF_RANK = f"{HELD} WHERE queue = ? AND state = 0 AND rank = ? ORDER BY number LIMIT ?"
DROPPED_AT_ONCE = 200
PUT_STATE = f"INSERT OR REPLACE INTO queue ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
PUT_COUNTER = "INSERT OR REPLACE INTO queue_counter VALUES (?, 0, ?, ?)"
RECOUNT = f"""
    SELECT count(*), coalesce(sum(size), 0) FROM
        (SELECT size FROM queued WHERE queue = ?1 AND state = 0
        UNION ALL SELECT size FROM queued WHERE queue = ?1 AND {BUSY})
"""  # noqa: S608 - our own words


class Work:
    """One batch's work on one connection."""

    __slots__ = ("_connection", "_events", "now", "queues", "results", "rng")

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.queues: dict[str, QueueState] = {}
        self.results: list[Result] = []
        self._events: Counter[tuple[str, str]] = Counter()
        self._connection: sqlite3.Connection

    def use(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    # -- statements -------------------------------------------------------------------------------

    def fetch(self, statement: str, *values: Any) -> list[Row]:
        return self._connection.execute(statement, values).fetchall()

    def select(self, statement: str, *values: Any) -> sqlite3.Cursor:
        """The rows one by one; whoever stops before the end closes it."""
        return self._connection.execute(statement, values)

    def run(self, statement: str, *values: Any) -> int:
        """How many rows it has changed."""
        return self._connection.execute(statement, values).rowcount

    def run_many(self, statement: str, rows: Sequence[Row]) -> int:
        return self._connection.executemany(statement, rows).rowcount

    def held(self, numbers: Iterable[int]) -> dict[int, Held]:
        """Those of them that are there."""
        rows = self._connection.execute(BY_NUMBERS, (as_json(numbers),))
        return {row[0]: Held._make(row) for row in rows}

    def select_held(self, condition: str, *values: Any) -> list[Held]:
        return [Held._make(row) for row in self.fetch(f"{HELD} WHERE {condition}", *values)]

    # -- queues -----------------------------------------------------------------------------------

    def load(self) -> None:
        """The queues as they stand in the tables."""
        states = (QueueState.from_row(row) for row in self.fetch(f"SELECT {COLUMNS} FROM queue"))  # noqa: S608
        self.queues = {state.name: state for state in states}
        sums = "SELECT queue, sum(messages), sum(bytes) FROM queue_counter GROUP BY queue"
        for name, messages, size in self.fetch(sums):
            if name in self.queues:
                self.queues[name].messages, self.queues[name].bytes = messages, size

    def queue(self, name: str, policy: QueuePolicy | None = None) -> QueueState:
        """The queue; made with that policy, or the default, when there is none."""
        state = self.queues.get(name)
        if state is None:
            state = self.queues[name] = QueueState(name, policy or QueuePolicy(), "client")
            state.is_changed = state.is_touched = True
        return state

    def recount(self, state: QueueState) -> None:
        ((messages, size),) = self.fetch(RECOUNT, state.name)
        state.count(messages - state.messages, size - state.bytes)

    def flush(self) -> list[tuple[str, int, int]]:
        """Write what is known and not yet in the tables; the sums that have changed."""
        states = self.queues.values()
        if changed := [state for state in states if state.is_changed]:
            self.run_many(PUT_STATE, [state.to_row() for state in changed])
        touched = [state for state in states if state.is_touched]
        sums = [(state.name, state.messages, state.bytes) for state in touched]
        self.run_many(PUT_COUNTER, sums)
        for state in (*changed, *touched):
            state.is_changed = state.is_touched = False
        return sums

    # -- the ledger -------------------------------------------------------------------------------

    def note(self, queue: str, what: str, count: int = 1) -> None:
        self._events[queue, what] += count

    def take_events(self) -> list[Result]:
        events, self._events = self._events, Counter()
        return [(0, (queue, what, count)) for (queue, what), count in events.items() if count]

    # -- messages go ------------------------------------------------------------------------------

    def delete(self, messages: Iterable[Held]) -> int:
        """They are gone, and the next of their keys come; how many."""
        gone = list(messages)
        if gone:
            self.run(DELETE, as_json(each.number for each in gone))
            self.release(each.content for each in gone)
            self._taken_away(gone)
        return len(gone)

    def lose(self, messages: Sequence[Held], what: str) -> int:
        """As `delete`, and it is noted: nobody has acknowledged them."""
        for each in messages:
            self.note(each.queue, what)
        return self.delete(messages)

    def bury(self, messages: Sequence[Held], reason: str) -> None:
        """To the dead letters of their queue; where there are none, they are lost."""
        lost = []
        for each in messages:
            source = self.queues[each.queue]
            if source.dead_letters is None:
                lost.append(each)
            else:
                target = self.queue(
                    source.dead_letters, QueuePolicy.for_dead_letters(source.policy)
                )
                counts = (each.acquisitions, each.failures)
                self.move([each], target, *counts, each.queue, reason, self.now, None)
                self.note(each.queue, "dead")
                self.make_fit(target)
        self.lose(lost, "lost")

    def move(self, messages: Sequence[Held], target: QueueState, *rest: Any) -> None:
        """To another queue. `rest`: acquisitions, failures, dead_from, dead_reason, dead_at, and a
        new enqueued_at or None.
        """
        is_keyed = target.policy.is_keyed
        rows = [(each.number, target.name, is_keyed, *rest) for each in messages]
        self.run_many(MOVE, rows)
        target.count(len(messages), sum(each.size for each in messages))
        self._taken_away(messages)

    def _taken_away(self, messages: Sequence[Held]) -> None:
        """They are no more in the queue that they say."""
        keys = []
        sizes: defaultdict[str, list[int]] = defaultdict(list)
        for _, queue, state, _, key, _, _, _, _, size, _ in messages:
            sizes[queue].append(size)
            if key is not None and state != WAITING and self.queues[queue].policy.is_keyed:
                keys.append((queue, key, self.now))
        for queue, gone in sizes.items():
            self.queues[queue].count(-len(gone), -sum(gone))
        if keys:
            self.run_many(PROMOTE, keys)

    def release(self, contents: Iterable[int | None]) -> None:
        """Payloads that have one user less."""
        uses = Counter(content for content in contents if content is not None)
        if uses:
            changed = [(count, content) for content, count in uses.items()]
            self.run_many("UPDATE queue_payload SET uses = uses - ? WHERE id = ?", changed)
            unused = "DELETE FROM queue_payload WHERE uses <= 0 AND id = ?"
            self.run_many(unused, [(content,) for content in uses])

    def make_fit(self, state: QueueState) -> None:
        """`drop_oldest`: of the lowest priority, until the limits hold or nothing is ready."""
        while state.policy.on_full == "drop_oldest" and state.is_too_full:
            ((rank,),) = self.fetch(LOWEST_RANK, state.name)
            if rank is None:
                break
            excess = max(1, state.messages - (state.policy.max_messages or state.messages))
            most = min(excess, DROPPED_AT_ONCE)
            rows = self.fetch(OLDEST_OF_RANK, state.name, rank, most)
            self.lose([Held._make(row) for row in rows], "dropped")

    def give_back(self, messages: Iterable[Held]) -> None:
        """Ready again, at their old places."""
        freed = "UPDATE queued SET state = ?, due = NULL, token = NULL, consumer = NULL"
        rows = [(READY, each.number) for each in messages]
        self.run_many(f"{freed} WHERE number = ?", rows)


def as_json(numbers: Iterable[int]) -> str:
    return json.dumps(list(numbers))


def by_queue(rows: Iterable[Row], place: int) -> dict[str, list[Row]]:
    """The rows of each queue, in their order."""
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row[place]].append(row)
    return found


def bounded(seconds: float) -> float:
    """A duration that can be counted with, whatever somebody has asked for."""
    return min(seconds, LONGEST) if seconds > 0 else 0.0
