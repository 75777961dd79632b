"""Puts the engine back into the state that the store has kept, before the first client comes.

What was in flight, and what waits, stays in the store until its client is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from broker.engine.queue_clients import address, is_queue_topic
from broker.packets.properties import WILL, decode_properties
from broker.packets.types import Will
from broker.session.record import Record
from broker.session.session import NEVER
from broker.session.subscription import Subscription
from broker.topics.filters import split_shared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.clock import Clock
    from broker.engine.journal import Journal
    from broker.engine.ports import Row
    from broker.engine.queue_clients import QueueClients
    from broker.engine.retention import Retention
    from broker.engine.router import Router
    from broker.engine.sessions import Sessions
    from broker.engine.wills import Wills
    from broker.session.session import Session


class Recovery:
    """Builds the parts' state from what the store says when it is opened."""

    def __init__(
        self,
        clock: Clock,
        journal: Journal,
        sessions: Sessions,
        router: Router,
        retention: Retention,
        wills: Wills,
        queues: QueueClients | None = None,
    ) -> None:
        self._queues = queues
        self._clock = clock
        self._journal = journal
        self._sessions = sessions
        self._router = router
        self._retention = retention
        self._wills = wills
        self._by_id: dict[int, Session] = {}

    def restore(self, opened: Mapping[str, Any]) -> None:
        """Take over everything: the keys are those of docs/internals.md."""
        self._journal.begin_again(opened["meta"], self._clock.now)
        self._journal.longest_name = opened.get("longest_name", 0)
        if self._queues is not None:
            self._journal.next_number = max(self._journal.next_number, opened.get("queued_next", 1))
            self._queues.queueing.restore(opened)
        for row in opened["sessions"]:
            self._restore_session(row)
        for row in opened["subscriptions"]:
            self._restore_subscription(row)
        self._restore_audiences(opened["members"], opened["audiences"])
        for row in opened["sessions"]:
            *_, waiting, size = row
            self._by_id[row[0]].count_behind(waiting, size)
        self._restore_retained(opened)
        for row in opened["wills"]:
            self._restore_will(row)
        for session in self._by_id.values():
            self._set_expiry(session)

    # -- helpers ----------------------------------------------------------------------------------

    def _restore_session(self, row: Row) -> None:
        number, client_id, username, expiry_interval, expires_at, cursor, oldest, *_ = row
        session = self._sessions.new(client_id or "", username)
        session.expiry_interval = expiry_interval
        record = session.record = Record(number, self._journal, cursor)
        record.row = (client_id, username, expiry_interval, expires_at)
        if expires_at is not None:
            record.expires_at = self._journal.timeline.engine(expires_at)
        record.is_cold = True
        record.cold_finished = cursor if oldest is None else min(oldest - 1, cursor)
        self._by_id[number] = session
        if client_id is not None:
            self._sessions.restore(session)

    def _restore_subscription(self, row: Row) -> None:
        number, wanted, qos, no_local, retain_as_published, identifiers, replaying = row
        session = self._by_id.get(number)
        if session is None:
            return
        shared = split_shared(wanted)
        subscription = Subscription(
            session,
            wanted if shared is None else shared.filter,
            qos,
            bool(no_local),
            bool(retain_as_published),
            _split(identifiers),
            "" if shared is None else shared.share_name,
        )
        subscription.replaying = bool(replaying)
        if session.subscriptions is None:
            session.subscriptions = {}
        session.subscriptions[wanted] = subscription
        if not session.client_id:  # it has ended: it gets nothing new
            return
        if not is_queue_topic(wanted):
            self._router.add(subscription)
        elif self._queues is not None and address(wanted) is not None:
            self._queues.restore(wanted, subscription)

    def _restore_audiences(self, members: list[Row], stored: list[Row]) -> None:
        by_audience: dict[int, list[Subscription]] = {}
        for audience_id, number, qos, retain_as_published, identifiers, *names in members:
            session = self._by_id.get(number)
            if session is not None:
                by_audience.setdefault(audience_id, []).append(
                    Subscription(
                        session,
                        names[0],
                        qos,
                        False,
                        bool(retain_as_published),
                        _split(identifiers),
                        names[1],
                    )
                )
        bounds = {audience_id: (lowest, highest) for audience_id, lowest, highest in stored}
        for audience_id, subscriptions in by_audience.items():
            audience = self._journal.audiences.restore(audience_id, subscriptions)
            if audience_id in bounds:
                audience.lowest, audience.highest = bounds[audience_id]
                self._journal.hold(audience)

    def _restore_retained(self, opened: Mapping[str, Any]) -> None:
        rows = opened["retained"]
        if rows is None:
            self._retention.leave_stored(opened["retained_count"], opened["retained_bytes"])
        else:
            self._retention.restore([self._journal.publication(*row[:6]) for row in rows])

    def _restore_will(self, row: Row) -> None:
        client_id, username, topic, payload, qos, retain, encoded, _, due_at = row
        properties, _ = decode_properties(encoded, 0, len(encoded), WILL)
        will = Will(topic, payload, qos, bool(retain), properties)
        if due_at is not None:
            due_at = self._journal.timeline.engine(due_at)
        elif self._sessions.get(client_id) is None:  # it ended with its connection
            due_at = self._clock.now
        self._wills.restore(will, client_id, username, due_at)

    def _set_expiry(self, session: Session) -> None:
        """Let a session expire when it would have; one that was connected when the broker ended has
        lost its connection now.
        """
        record = session.record
        assert record is not None
        if not session.client_id:
            self._sessions.settle(session)
        elif record.expires_at is None:
            self._sessions.keep(session)
        elif record.expires_at <= self._clock.now:
            self._sessions.expire(session)
        elif session.expiry_interval != NEVER:
            self._sessions.expire_after(session, record.expires_at - self._clock.now)


def _split(identifiers: str) -> tuple[int, ...]:
    return tuple(map(int, identifiers.split(","))) if identifiers else ()
