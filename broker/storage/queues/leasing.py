"""What is ready goes to who asks, in order; before that, what time has changed is put right."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from broker.storage.queues.ports import UNKNOWN
from broker.storage.queues.settling import answer, end_leases
from broker.storage.queues.work import BUSY, HELD, Held, bounded

if TYPE_CHECKING:
    from broker.storage.database import Row
    from broker.storage.queues.state import QueueState
    from broker.storage.queues.work import Work

MOST = 1_000  # messages in one answer, and changes by time in one go
PAYLOAD = (
    "coalesce(payload, (SELECT payload FROM queue_payload WHERE id = queued.content), x'') AS body"
)
# As it is told, once its token and the end of the lease are put in; and the size.
TOLD = (
    f"number, 0, key, rank, topic, {PAYLOAD}, properties, first, publisher, enqueued_at, NULL,"
    " acquisitions + 1, failures, expires_at, dead_from, dead_reason, dead_at, size"
)
NEXT = f"SELECT {TOLD} FROM queued WHERE queue = ? AND state = 0 ORDER BY rank, number LIMIT ?"  # noqa: S608
ENQUEUED_AT, EXPIRES_AT, DEAD_AT, SIZE = 9, 13, 16, 17  # places in it
# By time: when the first lease ends, the first delay, the first life.
DUE = f"""
    SELECT (SELECT min(due) FROM queued WHERE queue = ?1 AND {BUSY} AND state = 1),
        (SELECT min(due) FROM queued WHERE queue = ?1 AND {BUSY} AND state = 3),
        (SELECT min(expires_at) FROM queued WHERE queue = ?1 AND expires_at IS NOT NULL)
"""  # noqa: S608 - our own words
LEASE = """
    UPDATE queued SET state = 1, due = ?, token = ?, consumer = ?, acquisitions = acquisitions + 1
    WHERE number = ?
"""
RIPEN = f"""
    UPDATE queued SET state = 0, due = NULL WHERE number IN
        (SELECT number FROM queued WHERE queue = ? AND {BUSY} AND state = 3 AND due <= ? LIMIT ?)
"""  # noqa: S608 - our own words
EXPIRED = f"{HELD} WHERE queue = ? AND expires_at <= ? AND state <> 1 LIMIT ?"
HOLDS = f"SELECT 1 FROM queued WHERE queue = ? AND {BUSY} AND state = 1 AND consumer = ? LIMIT 1"  # noqa: S608


def lease(work: Work, row: Row) -> None:
    call, name, consumer, most, most_bytes, seconds, token_base = row
    state = work.queues.get(name)
    if state is None:
        answer(work, call, UNKNOWN)
        return
    soon = put_right(work, state)
    wait = _barred(work, state, consumer, soon)
    if wait is not FREE:
        answer(work, call, ([], wait, work.now))
        return
    rows, more = _choose(work, state, _most(work, state, most), most_bytes)
    until = None if seconds is None else work.now + bounded(seconds)
    _hand_out(work, state, consumer, rows, until, token_base)
    instants = [each for each in (*soon, until if rows else None) if each is not None]
    wait = min(instants) - work.now if instants else None
    if more:
        wait = _until_next(work, state)
    told = [
        (row[0], token, *row[2:10], until, *row[11:SIZE])
        for token, row in enumerate(rows, token_base)
    ]
    answer(work, call, (told, wait, work.now))


def _hand_out(
    work: Work, state: QueueState, consumer: str, rows: list[Row], until: float | None, base: int
) -> None:
    if not rows:
        return
    taken = [(until, base + place, consumer, row[0]) for place, row in enumerate(rows)]
    work.run_many(LEASE, taken)
    state.spend(len(rows), work.now)
    state.activate(consumer, work.now, None if until is None else until - work.now)


# -- what may be taken -----------------------------------------------------------------------------

FREE = object()


def _barred(work: Work, state: QueueState, consumer: str, soon: tuple[float | None, ...]) -> Any:
    """FREE, or the seconds until asking again is worth it (None: until something happens)."""
    if state.mode == "paused":
        return None
    if state.policy.order != "single_active" or state.active in (None, consumer):
        return FREE
    if state.active_until is not None and state.active_until > work.now:
        return state.active_until - work.now
    if not work.fetch(HOLDS, state.name, state.active):
        return FREE
    return None if soon[0] is None else soon[0] - work.now


def _most(work: Work, state: QueueState, most: int) -> int:
    most = min(max(most, 1), MOST)
    if state.policy.max_rate > 0:
        most = min(most, int(state.allowance(work.now) + 1e-9))
    return most


def _until_next(work: Work, state: QueueState) -> float:
    """More is ready: when may it go?"""
    if state.policy.max_rate <= 0:
        return 0.0
    return max(0.0, (1.0 - state.allowance(work.now)) / state.policy.max_rate)


def _choose(work: Work, state: QueueState, most: int, most_bytes: int) -> tuple[list[Row], bool]:
    """The next ones that fit, at least one; whether there are more. Many that are too old are not
    all cleared away at once: everybody else waits meanwhile.
    """
    cleared = 0
    while cleared < MOST:
        chosen, stale, more = _look(work, state, most, most_bytes)
        if not stale:
            return chosen, more
        expire(work, state, list(work.held(stale).values()))
        cleared += len(stale)
    return [], True


def _look(
    work: Work, state: QueueState, most: int, most_bytes: int
) -> tuple[list[Row], list[int], bool]:
    chosen: list[Row] = []
    stale: list[int] = []
    too_old = too_old_for(state, work.now)
    rows = work.select(NEXT, state.name, most + 1)
    for row in rows:
        if is_stale(row, work.now, too_old):
            stale.append(row[0])
            continue
        if len(chosen) == most or (chosen and row[SIZE] > most_bytes):
            rows.close()
            return chosen, stale, True
        chosen.append(row)
        most_bytes -= row[SIZE]
    return chosen, stale, False


def too_old_for(state: QueueState, now: float) -> float:
    """What has come, or died, at that time or before is kept no longer."""
    retention = state.policy.retention
    return now - retention if retention > 0 else -math.inf


def is_stale(row: Row, now: float, too_old: float) -> bool:
    if row[EXPIRES_AT] is not None and row[EXPIRES_AT] <= now:
        return True
    since = row[ENQUEUED_AT] if row[DEAD_AT] is None else row[DEAD_AT]
    return bool(since <= too_old)


# -- what time has changed -------------------------------------------------------------------------


def put_right(work: Work, state: QueueState) -> tuple[float | None, ...]:
    """Leases that have ended, delays that are over, lives that are: then when the next lease and
    the next delay will.
    """
    soon = work.fetch(DUE, state.name)[0]
    if any(each is not None and each <= work.now for each in soon) and reap(work, state):
        soon = work.fetch(DUE, state.name)[0]
    return soon[:2]


def reap(work: Work, state: QueueState, most: int = MOST) -> int:
    """How many have changed."""
    count = end_leases(work, state.name, most)
    count += work.run(RIPEN, state.name, work.now, most)
    # last: what has just been given back may have expired meanwhile
    expired = [Held._make(row) for row in work.fetch(EXPIRED, state.name, work.now, most)]
    expire(work, state, expired)
    return count + len(expired)


def expire(work: Work, state: QueueState, messages: list[Held]) -> None:
    if state.policy.on_expiry == "dead_letter":
        work.bury(messages, "expired")
    else:
        work.lose(messages, "expired")
