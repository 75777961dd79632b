"""Looking at queues without touching them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker.queues.names import dead_letter_queue
from broker.storage.queues.leasing import PAYLOAD
from broker.storage.queues.work import BUSY, NUMBERED, as_json
from broker.storage.tables import DELAYED, LEASED, WAITING

if TYPE_CHECKING:
    from broker.storage.database import Row
    from broker.storage.queues.state import QueueState
    from broker.storage.queues.work import Work

RANKS = range(10)
NEAR = 1_000  # rows that are looked at whosever they are, before it is done queue by queue
FEW = 1_000  # that are counted of a state before the others are
READY = "queue = ? AND state = 0"
IN_STATE = f"queue = ? AND {BUSY} AND state = ?"
# How many of each state, up to so many.
AT_MOST = "SELECT count(*) FROM (SELECT 1 FROM queued WHERE {} LIMIT ?)"
COUNT_READY, COUNT_STATE = AT_MOST.format(READY), AT_MOST.format(IN_STATE)
FIRST_OF_RANK = "SELECT min(number) FROM queued WHERE queue = ? AND state = 0 AND rank = ?"
# In this index what has no instant stands by its number, and the rest by its instant.
FIRST_WITHOUT_END = f"""
    SELECT number FROM queued WHERE {IN_STATE} AND due IS NULL ORDER BY number LIMIT 1
"""  # noqa: S608 - our own words
FIRST_OF_NEXT = f"""
    SELECT min(number) FROM
        (SELECT number FROM queued WHERE {IN_STATE} AND due IS NOT NULL ORDER BY due LIMIT {NEAR})
"""  # noqa: S608 - our own words
SINCE = "SELECT enqueued_at FROM queued WHERE number = ?"
NEAR_BEHIND = f"""
    SELECT number FROM
        (SELECT number, queue FROM queued WHERE number > ? ORDER BY number LIMIT {NEAR})
    WHERE queue = ? LIMIT ?
"""  # noqa: S608 - our own words
READY_BEHIND = """
    SELECT number FROM queued WHERE queue = ? AND state = 0 AND rank = ? AND number > ?
    ORDER BY number LIMIT ?
"""
BUSY_BEHIND = tuple(
    f"SELECT number FROM queued WHERE {IN_STATE} AND {due} AND number > ? ORDER BY number LIMIT ?"  # noqa: S608
    for due in ("due IS NULL", "due IS NOT NULL")
)
SIZES = f"SELECT number, size FROM queued WHERE {NUMBERED} ORDER BY number"  # noqa: S608
LOOK = f"""
    SELECT number, 0, key, rank, topic, {PAYLOAD}, properties, first, publisher, enqueued_at,
        CASE WHEN state = 1 THEN due END, acquisitions, failures, expires_at,
        dead_from, dead_reason, dead_at, state, due, consumer
    FROM queued WHERE {NUMBERED} ORDER BY number
"""  # noqa: S608 - our own words


def stats(work: Work, name: str | None, now: float) -> list[dict[str, Any]]:
    """Of one queue, or all, in the order of their names."""
    names = sorted(work.queues) if name is None else [name]
    return [_stats(work, work.queues[each], now) for each in names if each in work.queues]


def _stats(work: Work, state: QueueState, now: float) -> dict[str, Any]:
    ready, leased, waiting, delayed = _by_state(work, state)
    oldest = _oldest(work, state.name)
    since = work.fetch(SINCE, oldest)
    dead = work.queues.get(state.policy.dead_letter_queue or dead_letter_queue(state.name))
    return {
        "name": state.name,
        "mode": state.mode,
        "origin": state.origin,
        "policy": state.policy.to_json(),
        "messages": state.messages,
        "bytes": state.bytes,
        "ready": ready,
        "leased": leased,
        "waiting": waiting,
        "delayed": delayed,
        "oldest_age": max(0.0, now - since[0][0]) if since else None,
        "dead": dead.messages if dead is not None else 0,
        "active": state.active,
        "bindings": state.bindings,
    }


def _by_state(work: Work, state: QueueState) -> list[int]:
    """Ready, leased, waiting, delayed. The sum is known: so most of them, a million perhaps, need
    not be counted.
    """
    most, counts = FEW, _counts(work, state.name, FEW)
    while sum(each >= most for each in counts) > 1:
        most *= 8
        counts = _counts(work, state.name, most)
    largest = max(range(len(counts)), key=counts.__getitem__)
    counts[largest] = state.messages - sum(counts) + counts[largest]
    return counts


def _counts(work: Work, name: str, most: int) -> list[int]:
    ((ready,),) = work.fetch(COUNT_READY, name, most)
    busy = (work.fetch(COUNT_STATE, name, each, most) for each in (LEASED, WAITING, DELAYED))
    return [ready, *(count for ((count,),) in busy)]


def _oldest(work: Work, name: str) -> int:
    """The number of the oldest that is not leased, 0 if there is none. Of those that are delayed,
    the next are looked at.
    """
    firsts = [work.fetch(FIRST_OF_RANK, name, rank) for rank in RANKS]
    for state in (WAITING, DELAYED):
        firsts.append(work.fetch(FIRST_WITHOUT_END, name, state))
        firsts.append(work.fetch(FIRST_OF_NEXT, name, state))
    return min((row[0] for rows in firsts for row in rows if row[0] is not None), default=0)


def peek(work: Work, name: str, after: int, most: int, most_bytes: int, now: float) -> list[Row]:
    """Messages by their numbers, at least one if there is one."""
    del now  # nothing is put right
    fitting: list[int] = []
    for number, size in work.fetch(SIZES, as_json(numbers_behind(work, name, after, most))):
        most_bytes -= size
        if fitting and most_bytes < 0:
            break
        fitting.append(number)
    return work.fetch(LOOK, as_json(fitting))


def numbers_behind(work: Work, name: str, after: int, most: int) -> list[int]:
    """Of the next messages of a queue, in their order."""
    near = work.fetch(NEAR_BEHIND, after, name, most)
    if len(near) == most:
        return [number for (number,) in near]
    rows = [row for rank in RANKS for row in work.fetch(READY_BEHIND, name, rank, after, most)]
    for state in (LEASED, WAITING, DELAYED):
        for statement in BUSY_BEHIND:
            rows += work.fetch(statement, name, state, after, most)
    return sorted(number for (number,) in rows)[:most]
