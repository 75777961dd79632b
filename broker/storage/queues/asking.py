"""Looking at queues without touching them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker.queues.names import dead_letter_queue
from broker.storage.queues.leasing import PAYLOAD
from broker.storage.queues.work import BUSY, NUMBERED, as_json

if TYPE_CHECKING:
    from broker.storage.database import Row
    from broker.storage.queues.state import QueueState
    from broker.storage.queues.work import Work

RANKS = range(10)
BY_STATE = f"SELECT count(*), min(number) FROM queued WHERE queue = ? AND {BUSY} AND state = ?"  # noqa: S608
FIRST_OF_RANK = "SELECT min(number) FROM queued WHERE queue = ? AND state = 0 AND rank = ?"
SINCE = "SELECT enqueued_at FROM queued WHERE number = ?"
READY_BEHIND = """
    SELECT number FROM queued WHERE queue = ? AND state = 0 AND rank = ? AND number > ?
    ORDER BY number LIMIT ?
"""
BUSY_BEHIND = (
    f"SELECT number FROM queued WHERE queue = ? AND {BUSY} AND number > ? ORDER BY number LIMIT ?"  # noqa: S608
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
    (leased, _), (waiting, first_waiting), (delayed, first_delayed) = (
        work.fetch(BY_STATE, state.name, each)[0] for each in (1, 2, 3)
    )
    firsts = [work.fetch(FIRST_OF_RANK, state.name, rank)[0][0] for rank in RANKS]
    oldest = min((n for n in (first_waiting, first_delayed, *firsts) if n is not None), default=0)
    since = work.fetch(SINCE, oldest)
    dead = work.queues.get(state.policy.dead_letter_queue or dead_letter_queue(state.name))
    return {
        "name": state.name,
        "mode": state.mode,
        "origin": state.origin,
        "policy": state.policy.to_json(),
        "messages": state.messages,
        "bytes": state.bytes,
        "ready": state.messages - leased - waiting - delayed,
        "leased": leased,
        "waiting": waiting,
        "delayed": delayed,
        "oldest_age": max(0.0, now - since[0][0]) if since else None,
        "dead": dead.messages if dead is not None else 0,
        "active": state.active,
    }


def peek(work: Work, name: str, after: int, most: int, most_bytes: int, now: float) -> list[Row]:
    """Messages by their numbers, at least one if there is one."""
    del now  # nothing is put right
    numbers = [
        number for rank in RANKS for (number,) in work.fetch(READY_BEHIND, name, rank, after, most)
    ]
    numbers += [number for (number,) in work.fetch(BUSY_BEHIND, name, after, most)]
    fitting: list[int] = []
    for number, size in work.fetch(SIZES, as_json(sorted(numbers)[:most])):
        most_bytes -= size
        if fitting and most_bytes < 0:
            break
        fitting.append(number)
    return work.fetch(LOOK, as_json(fitting))
