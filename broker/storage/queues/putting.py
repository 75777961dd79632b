"""Messages enter their queues: doubles are left out, old values replaced, limits kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.storage.queues.ports import (
    CONSUMER,
    CONTENT,
    DEDUP_ID,
    DELAY,
    KEY,
    LEASE,
    NUMBER,
    QUEUE,
    SIZE,
    TOKEN,
)
from broker.storage.queues.work import bounded, by_queue
from broker.storage.tables import DELAYED, LEASED, READY, queued

if TYPE_CHECKING:
    from broker.storage.database import Row
    from broker.storage.queues.state import QueueState
    from broker.storage.queues.work import Work

PLACES = [f"?{place}" for place in range(1, len(queued.c) + 1)]
# A number that is there already is a batch's that has come again.
INSERT = f"INSERT OR IGNORE INTO queued VALUES ({', '.join(PLACES)})"  # noqa: S608 - question marks
# Nothing but what is ready and has never been handed out; most messages are so.
READY_ONES = "number queue rank key enqueued_at expires_at topic first publisher size content"
NAMES = f"{READY_ONES} properties payload".replace(" ", ", ")
INSERT_READY = (
    f"INSERT OR IGNORE INTO queued (state, acquisitions, failures, {NAMES})"  # noqa: S608
    f" VALUES (0, 0, 0, {', '.join('?' * 13)})"
)
# Behind another of its key it waits (with its delay, if it has one).
IN_LINE = """CASE WHEN ?3 <> 1 AND EXISTS
    (SELECT 1 FROM queued WHERE queue = ?2 AND key = ?6) THEN 2 ELSE ?3 END"""
INSERT_IN_LINE = INSERT.replace("?3", IN_LINE, 1)
INSERT_CONTENT = "INSERT OR IGNORE INTO queue_payload (id, payload, uses) VALUES (?, ?, ?)"
SEEN = "SELECT 1 FROM queue_seen WHERE queue = ? AND dedup_id = ? AND until > ?"
SEE = "INSERT OR REPLACE INTO queue_seen VALUES (?, ?, ?)"
OF_A_KEY = "queue = ? AND key = ? AND state <> 1"


def put_contents(work: Work, rows: list[Row]) -> None:
    work.run_many(INSERT_CONTENT, rows)


def put(work: Work, rows: list[Row]) -> None:
    for name, group in by_queue(rows, QUEUE).items():
        state = work.queue(name)
        _put_into(work, state, group)
        work.make_fit(state)


def _put_into(work: Work, state: QueueState, rows: list[Row]) -> None:
    policy = state.policy
    if policy.dedup_window > 0:
        rows = [row for row in rows if not _is_double(work, state, row)]
    if policy.last_value or policy.on_full == "dead_letter":
        for row in rows:  # each may make, or take, the room of the next
            _put_one(work, state, row)
    else:
        _insert(work, state, rows)


def _is_double(work: Work, state: QueueState, row: Row) -> bool:
    if row[DEDUP_ID] is None:
        return False
    if work.fetch(SEEN, state.name, row[DEDUP_ID], work.now):
        work.note(state.name, "duplicate")
        work.release((row[CONTENT],))
        return True
    work.run(SEE, state.name, row[DEDUP_ID], work.now + state.policy.dedup_window)
    return False


def _put_one(work: Work, state: QueueState, row: Row) -> None:
    policy = state.policy
    if policy.last_value and row[KEY] is not None:
        work.lose(work.select_held(OF_A_KEY, state.name, row[KEY]), "replaced")
    is_too_much = policy.on_full == "dead_letter" and state.is_full_for(row[SIZE])
    _insert(work, state, [row])
    if is_too_much and row[TOKEN] is None:
        work.bury(list(work.held([row[NUMBER]]).values()), "full")


def _insert(work: Work, state: QueueState, rows: list[Row]) -> None:
    is_keyed = state.policy.is_keyed
    special = [row for row in rows if is_keyed or row[TOKEN] is not None or row[DELAY] > 0]
    plain = [] if is_keyed else rows
    if special and plain:
        plain = [row for row in rows if row[TOKEN] is None and not row[DELAY] > 0]
    count = _insert_plain(work, state, plain) if plain else 0
    count += _insert_special(work, state, special) if special else 0
    state.count(len(rows), sum(row[SIZE] for row in rows))
    if count != len(rows):
        work.recount(state)


def _insert_plain(work: Work, state: QueueState, rows: list[Row]) -> int:
    now, ttl = work.now, state.policy.ttl
    return work.run_many(INSERT_READY, [_ready(row, now, ttl) for row in rows])


def _insert_special(work: Work, state: QueueState, rows: list[Row]) -> int:
    now, ttl = work.now, state.policy.ttl
    for row in rows:
        if row[TOKEN] is not None:
            state.activate(row[CONSUMER], now, row[LEASE])
            state.spend(1, now)
    statement = INSERT_IN_LINE if state.policy.is_keyed else INSERT
    return work.run_many(statement, [_stored(row, now, ttl) for row in rows])


def _ready(row: Row, now: float, usual_ttl: float) -> Row:
    number, queue, rank, key, _, ttl, _, topic, payload, properties, *rest = row
    times = (now, _expires_at(ttl, now, usual_ttl))
    return (number, queue, rank, key, *times, topic, *rest[:4], properties, payload)


def _expires_at(ttl: float | None, now: float, usual_ttl: float) -> float | None:
    if ttl is None:
        return now + usual_ttl if usual_ttl else None
    return now + bounded(ttl)


def _stored(row: Row, now: float, usual_ttl: float) -> Row:
    (number, queue, rank, key, delay, ttl, _, topic, payload, properties, *rest) = row
    first, publisher, size, content, token, consumer, lease_seconds = rest
    state, due = READY, None
    if token is not None:
        state = LEASED
        due = None if lease_seconds is None else now + bounded(lease_seconds)
    elif delay > 0:
        state, due = DELAYED, now + bounded(delay)
    lease = (token, consumer, int(state == LEASED), 0)
    times = (now, _expires_at(ttl, now, usual_ttl), None, None, None)
    message = (topic, first, publisher, size, content, properties, payload)
    return (number, queue, state, rank, due, key, *lease, *times, *message)
