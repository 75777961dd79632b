"""What consumers say of the messages they hold: done, failed, given back, not done yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.storage.queues.ports import DEAD, GONE, LOST, OK
from broker.storage.queues.work import BUSY, Held, bounded
from broker.storage.tables import DELAYED, LEASED, READY

if TYPE_CHECKING:
    from broker.storage.database import Row
    from broker.storage.queues.work import Work

LONGEST_REASON = 1_000  # characters
RETRY = """
    UPDATE queued SET state = ?, due = ?, failures = ?, token = NULL, consumer = NULL
    WHERE number = ?
"""
RENEW = "UPDATE queued SET due = ? WHERE number = ? AND due IS NOT NULL"
# Nobody has had it: it is as if it had not been leased.
UNTOUCHED = """
    UPDATE queued SET state = 0, due = NULL, token = NULL, consumer = NULL,
        acquisitions = acquisitions - 1
    WHERE number = ?
"""
LEASED_TO = f"queue = ? AND {BUSY} AND state = 1 AND due IS NOT NULL AND consumer = ?"
RUN_OUT = f"queue = ? AND {BUSY} AND state = 1 AND due <= ? LIMIT ?"


def verdict(message: Held | None, token: int, now: float) -> str:
    """Whether the lease that the token proves still holds."""
    if message is None:
        return GONE
    if message.state != LEASED or message.token != token:
        return LOST
    return OK if message.due is None or message.due > now else LOST


def ack(work: Work, rows: list[Row]) -> None:
    found = work.held([row[1] for row in rows])
    done = []
    for call, number, token in rows:
        message = found.get(number)
        said = verdict(message, token, work.now)
        if message is not None and said is OK:
            done.append(message)
            del found[number]
        answer(work, call, said)
    if any(state.active is not None for state in work.queues.values()):
        for message in done:
            _extend(work, message)
    work.delete(done)


def renew(work: Work, rows: list[Row]) -> None:
    found = work.held([row[1] for row in rows])
    for call, number, token, seconds in rows:
        message = found.get(number)
        said = verdict(message, token, work.now)
        if message is not None and said is OK:
            work.run(RENEW, work.now + bounded(seconds), number)
            _extend(work, message)
        answer(work, call, said)


def _extend(work: Work, message: Held) -> None:
    state = work.queues[message.queue]
    if message.consumer is not None and state.active == message.consumer:
        state.activate(message.consumer, work.now, None)


def fail(work: Work, rows: list[Row]) -> None:
    for call, number, token, kind, delay, reason in rows:
        message = work.held([number]).get(number)
        said = verdict(message, token, work.now)
        if message is not None and said is OK:
            said = _fail(work, message, kind, delay, reason)
        answer(work, call, said)


def _fail(work: Work, message: Held, kind: str, delay: float | None, reason: str) -> str:
    if kind == "nack":
        return count_failure(work, message, delay)
    if kind == "return":
        return give_back(work, [message])[0]
    if kind == "untouched":
        work.run(UNTOUCHED, message.number)
        return OK
    work.bury([message], clean(reason) or "rejected")
    return DEAD


def count_failure(work: Work, message: Held, delay: float | None) -> str:
    """It is tried again after `delay` (None: as the policy says), or was so once too often."""
    policy = work.queues[message.queue].policy
    message = message._replace(failures=message.failures + 1)
    if 0 < policy.max_failures <= message.failures:
        work.bury([message], "failures")
        return DEAD
    pause = policy.retry_delay(message.failures, work.rng) if delay is None else bounded(delay)
    state, due = (DELAYED, work.now + pause) if pause > 0 else (READY, None)
    work.run(RETRY, state, due, message.failures, message.number)
    return OK


def give_back(work: Work, messages: list[Held]) -> list[str]:
    """To their old places, without a failure; those that have been so too often are dead."""
    said = []
    for each in messages:
        most = work.queues[each.queue].policy.max_acquisitions
        said.append(DEAD if 0 < most <= each.acquisitions else OK)
    pairs = list(zip(messages, said, strict=True))
    work.give_back([each for each, word in pairs if word is OK])
    work.bury([each for each, word in pairs if word is DEAD], "acquisitions")
    return said


def leave(work: Work, consumer: str, queues: set[str]) -> None:
    """A consumer has gone, and may have had something of these queues."""
    for name in sorted(queues & work.queues.keys()):
        give_back(work, work.select_held(LEASED_TO, name, consumer))
    for state in work.queues.values():
        if state.active == consumer:
            state.deactivate()


def end_leases(work: Work, queue: str, most: int) -> int:
    """Leases that have run out are failures; how many."""
    over = work.select_held(RUN_OUT, queue, work.now, most)
    for message in over:
        count_failure(work, message, 0.0)
    return len(over)


def answer(work: Work, call: int, value: object) -> None:
    if call:
        work.results.append((call, value))


def clean(reason: str) -> str:
    """A text that a database takes."""
    return reason[:LONGEST_REASON].encode(errors="replace").decode().replace("\0", "")
