"""What people, and the configuration, do to queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker.queues.policy import QueuePolicy
from broker.storage.queues.asking import numbers_behind
from broker.storage.queues.leasing import MOST, expire, reap, too_old_for
from broker.storage.queues.ports import IN_USE, UNKNOWN
from broker.storage.queues.settling import UNTOUCHED, answer, give_back
from broker.storage.queues.work import BUSY, NUMBERED, Held, as_json
from broker.storage.tables import LEASED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker.storage.database import Row
    from broker.storage.queues.state import QueueState
    from broker.storage.queues.work import Work

    # The highest number and the instant when it began: what came later is left alone.
    Bounds = tuple[int, float]

# All but the first of each key wait; those that are leased are let go as they are.
LINE_UP = """
    UPDATE queued SET state = 2 WHERE queue = ?1 AND key IS NOT NULL AND state IN (0, 3)
        AND EXISTS (SELECT 1 FROM queued AS other WHERE other.queue = ?1
            AND other.key = queued.key AND other.number < queued.number)
"""
BREAK_LINES = f"""
    UPDATE queued SET state = CASE WHEN due > ?2 THEN 3 ELSE 0 END,
        due = CASE WHEN due > ?2 THEN due END WHERE queue = ?1 AND {BUSY} AND state = 2
"""  # noqa: S608 - our own words
HELD_NOW = f"SELECT 1 FROM queued WHERE queue = ? AND {BUSY} AND state = 1 LIMIT 1"  # noqa: S608
LEASED_BY = (
    f"queue = ? AND {BUSY} AND state = 1 AND due IS NOT NULL AND substr(consumer, 1, length(?)) = ?"
)
# Lent without an end to a session that is not written to have it (2: lent): nobody would get it.
LEASED_WITH = f"queue = ? AND {BUSY} AND state = 1 AND token >= ? AND token < ?"
LENT_TO_NOBODY = f"""
    UPDATE queued SET due = ? WHERE queue = ? AND {BUSY} AND state = 1 AND due IS NULL
        AND substr(consumer, 1, length(?)) = ?
        AND number NOT IN (SELECT -number FROM inflight WHERE state = 2)
"""  # noqa: S608 - our own words
# All but what is leased, each part by its index; what is in line goes first, for then nothing has
# to come forward that goes, too.
SLICE = 500  # messages that one batch purges or sends back at most: others wait meanwhile
OLD_ENOUGH = "number <= ? AND coalesce(dead_at, enqueued_at) <= ? LIMIT ?"
NOT_LEASED = (
    f"queue = ? AND {BUSY} AND state = 2 AND {OLD_ENOUGH}",
    f"queue = ? AND {BUSY} AND state = 3 AND {OLD_ENOUGH}",
    *(f"queue = ? AND state = 0 AND rank = {rank} AND {OLD_ENOUGH}" for rank in range(10)),
)
NEWEST = "SELECT coalesce(max(number), 0) FROM queued"
CAME_FROM = f"""
    SELECT number, dead_from FROM queued
    WHERE {NUMBERED} AND coalesce(dead_at, enqueued_at) <= ?
"""  # noqa: S608 - our own words
EDIT = """
    UPDATE queued SET size = size + ? - length(coalesce(payload,
            (SELECT payload FROM queue_payload WHERE id = queued.content), x'')),
        payload = ?, content = NULL
    WHERE number = ?
"""
OLDEST_READY = (
    f"SELECT {', '.join(Held._fields)}, coalesce(dead_at, enqueued_at) FROM queued "  # noqa: S608
    "WHERE queue = ? AND state = 0 AND rank = ? ORDER BY number LIMIT ?"
)
FORGET_SEEN = """
    DELETE FROM queue_seen WHERE (queue, dedup_id) IN
        (SELECT queue, dedup_id FROM queue_seen WHERE until <= ? LIMIT ?)
"""


def define(work: Work, rows: list[Row]) -> None:
    for name, policy, origin, bindings in rows:
        state = work.queue(name)
        if state.origin == "config" != origin:
            continue
        was, was_keyed = state.to_row(), state.policy.is_keyed
        state.policy = QueuePolicy.from_json(policy)
        state.origin, state.bindings = origin, bindings
        state.is_changed = state.is_changed or state.to_row() != was
        if was_keyed != state.policy.is_keyed:
            _reorder(work, state)
        work.make_fit(state)


def _reorder(work: Work, state: QueueState) -> None:
    if state.policy.is_keyed:
        work.run(LINE_UP, state.name)
    else:
        work.run(BREAK_LINES, state.name, work.now)


def administer(work: Work, rows: list[Row]) -> None:
    for call, verb, name, arguments in rows:
        answer(work, call, _administer(work, verb, name, arguments))


def _administer(work: Work, verb: str, name: str, arguments: Sequence[Any]) -> Any:
    if verb in OF_ALL_QUEUES and not name:
        return OF_ALL_QUEUES[verb](work, *arguments)
    state = work.queues.get(name)
    if state is None:
        return UNKNOWN
    return VERBS[verb](work, state, *arguments)


def set_mode(mode: str) -> Callable[..., Any]:
    def change(_: Work, state: QueueState) -> str:
        state.mode = mode
        state.is_changed = True
        return mode

    return change


def purge(work: Work, state: QueueState, bounds: Bounds | None = None) -> tuple[int, Any]:
    """A slice of what was there when the first was asked for, and what to ask for the next with
    (None: it was the last). What is leased stays, and nothing waits behind it.
    """
    bounds = bounds or _bounds(work)
    found = _not_leased(work, state, bounds)
    work.delete(found)
    return len(found), bounds if len(found) == SLICE else None


def _bounds(work: Work) -> Bounds:
    return work.fetch(NEWEST)[0][0], work.now


def _not_leased(work: Work, state: QueueState, bounds: Bounds) -> list[Held]:
    found: list[Held] = []
    for which in NOT_LEASED:
        if len(found) < SLICE:
            found += work.select_held(which, state.name, *bounds, SLICE - len(found))
    return found


def delete(work: Work, state: QueueState, number: int) -> int:
    message = work.held([number]).get(number)
    if message is None or message.queue != state.name or message.state == LEASED:
        return 0
    return work.delete([message])


def drop(work: Work, state: QueueState, bounds: Bounds | None = None) -> tuple[int, Any] | str:
    """A slice of what is in it, and with the last one the queue itself."""
    if work.fetch(HELD_NOW, state.name):
        return IN_USE
    count, bounds = purge(work, state, bounds)
    if bounds is not None:
        return count, bounds
    if state.messages:  # they came since
        return IN_USE
    for table, column in (("queue", "name"), ("queue_counter", "queue"), ("queue_seen", "queue")):
        work.run(f"DELETE FROM {table} WHERE {column} = ?", state.name)  # noqa: S608 - our own names
    del work.queues[state.name]
    return count, None


# -- dead letters go back --------------------------------------------------------------------------


def redrive(
    work: Work,
    state: QueueState,
    numbers: Sequence[int] | None,
    to: str | None,
    payload: bytes | None,
    place: tuple[int, Bounds] | None = None,
) -> tuple[int, Any] | str:
    """A slice, by their numbers, of what was there when the first was asked for, or of `numbers`;
    and what to ask for the next with (None: it was the last).
    """
    if to is not None and to not in work.queues:
        return UNKNOWN
    if payload is not None and (numbers is None or len(set(numbers)) != 1):
        return 0, None
    after, bounds = place or (0, _bounds(work))
    looked_at = _next_numbers(work, state, numbers, after)
    letters = _letters(work, state, looked_at, bounds)
    if payload is not None:
        letters = [(_edited(work, each, payload), source) for each, source in letters]
    moved = sum(_send_back(work, each, to or source) for each, source in letters)
    is_last = len(looked_at) < SLICE or looked_at[-1] >= bounds[0]
    return moved, None if is_last else (looked_at[-1], bounds)


def _next_numbers(
    work: Work, state: QueueState, numbers: Sequence[int] | None, after: int
) -> list[int]:
    if numbers is None:
        return numbers_behind(work, state.name, after, SLICE)
    return sorted({each for each in numbers if each > after})[:SLICE]


def _letters(
    work: Work, state: QueueState, numbers: Sequence[int], bounds: Bounds
) -> list[tuple[Held, str | None]]:
    """Those of them that may be sent back, and where they came from."""
    newest, since = bounds
    told = {row[0]: row[1:] for row in work.fetch(CAME_FROM, as_json(numbers), since)}
    found = sorted(work.held(told).values())
    return [
        (each, told[each.number][0])
        for each in found
        if each.queue == state.name and each.state != LEASED and each.number <= newest
    ]


def _send_back(work: Work, letter: Held, to: str | None) -> int:
    """1; or 0: nobody knows where it came from."""
    if to is None:
        return 0
    work.move([letter], work.queue(to), 0, 0, None, None, None, work.now)
    return 1


def _edited(work: Work, message: Held, payload: bytes) -> Held:
    state = work.queues[message.queue]
    work.run(EDIT, len(payload), payload, message.number)
    work.release([message.content])
    edited = work.held([message.number])[message.number]
    state.count(0, edited.size - message.size)
    return edited


# -- what time takes -------------------------------------------------------------------------------


def reap_one(work: Work, state: QueueState) -> int:
    return reap_all(work, [state])


def reap_all(work: Work, states: list[QueueState]) -> int:
    """In each of these queues, and what was seen long ago: MOST of each kind at once."""
    count = work.run(FORGET_SEEN, work.now, MOST)
    left = MOST
    for state in states:
        if left > 0:
            done = reap(work, state, left) + _reap_old(work, state, left)
            left, count = left - done, count + done
    return count


def _reap_old(work: Work, state: QueueState, most: int) -> int:
    """What has been here for too long. The oldest of each priority stands in front."""
    too_old = too_old_for(state, work.now)
    stale: list[Held] = []
    for rank in range(10):
        for *row, since in work.fetch(OLDEST_READY, state.name, rank, most):
            if since > too_old:
                break
            stale.append(Held._make(row))
    expire(work, state, stale[:most])
    return len(stale[:most])


def disown(work: Work, prefix: str) -> int:
    """What consumers whose names begin so hold comes back, but for what their sessions have in
    flight; how much that was.
    """
    count = 0
    for name in list(work.queues):
        work.run(LENT_TO_NOBODY, work.now, name, prefix, prefix)
        held = work.select_held(LEASED_BY, name, prefix, prefix)
        give_back(work, held)
        count += len(held)
    for state in work.queues.values():
        if state.active is not None and state.active.startswith(prefix):
            state.deactivate()
    return count


def reclaim(work: Work, state: QueueState, first_token: int, most: int) -> int:
    """What was leased with these tokens has reached nobody: as if it had not been."""
    held = work.select_held(LEASED_WITH, state.name, first_token, first_token + most)
    work.run_many(UNTOUCHED, [(each.number,) for each in held])
    return len(held)


OF_ALL_QUEUES: dict[str, Callable[..., Any]] = {
    "reap": lambda work: reap_all(work, list(work.queues.values())),
    "disown": disown,
}
VERBS: dict[str, Callable[..., Any]] = {
    "purge": purge,
    "pause": set_mode("paused"),
    "resume": set_mode("running"),
    "drain": set_mode("draining"),
    "redrive": redrive,
    "delete": delete,
    "drop": drop,
    "reap": reap_one,
    "reclaim": reclaim,
}
