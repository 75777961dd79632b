"""All sessions by client identifier: begun, resumed, kept for a while after the connection, ended
(sections 3.1.2.4, 4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.engine.estate import Estate
from broker.session.session import NEVER, Bounds, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker.clock import Clock
    from broker.connection.ports import Traffic
    from broker.engine.deadlines import Deadlines, Timer
    from broker.engine.journal import Journal
    from broker.engine.router import Router


class Sessions:
    """Owns the sessions. Those without a connection have a timer here."""

    __slots__ = (
        "_bounds",
        "_by_client",
        "_clock",
        "_deadlines",
        "_expiring",
        "_journal",
        "_limit",
        "_router",
        "_traffic",
        "expired",
        "on_end",
    )

    def __init__(
        self,
        clock: Clock,
        deadlines: Deadlines,
        router: Router,
        traffic: Traffic,
        bounds: Bounds,
        limit: int,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._deadlines = deadlines
        self._router = router
        self._traffic = traffic
        self._bounds = bounds
        self._limit = limit
        self._by_client: dict[str, Session] = {}
        self._expiring: dict[str, Timer] = {}
        self.expired = 0  # how many ended by their expiry interval
        self.on_end: Callable[[str], None] | None = (
            None  # told the client id of every session that ends
        )

    def __len__(self) -> int:
        return len(self._by_client)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_client.values())

    def get(self, client_id: str) -> Session | None:
        """The session of a client, connected or not."""
        return self._by_client.get(client_id)

    @property
    def is_full(self) -> bool:
        """Whether no further session may begin."""
        return len(self._by_client) >= self._limit

    def begin(self, client_id: str, username: str | None) -> Session:
        """Make a new session [MQTT-3.1.2-6]; the client must have none."""
        session = self._by_client[client_id] = self.new(client_id, username)
        return session

    def make_durable(self, session: Session) -> None:
        """Keep it in the store, if it outlives its connection and there is one."""
        if self._journal is not None and session.record is None and session.expiry_interval:
            self._journal.begin(session)

    def keep(self, session: Session) -> None:
        """The session was disconnected: end it now, later or never, as its expiry interval says
        [MQTT-4.1.0-2].
        """
        if session.expiry_interval == 0:
            self.end(session)
            return
        delay = session.expiry_interval
        if delay != NEVER:
            self.expire_after(session, delay)
        if session.record is not None:
            session.record.expires_at = None if delay == NEVER else self._clock.now + delay
            session.record.touch(session)

    def expire_after(self, session: Session, delay: float) -> None:
        """End the session in `delay` seconds, if its client does not come back."""
        self._expiring[session.client_id] = self._deadlines.after(
            delay, self._clock.now, lambda: self.expire(session)
        )

    def restore(self, session: Session) -> None:
        """Put back a session that the store has kept."""
        self._by_client[session.client_id] = session

    def new(self, client_id: str, username: str | None) -> Session:
        """A session object; nobody knows it yet."""
        return Session(client_id, username, self._bounds, self._traffic, self._clock)

    def wake(self, session: Session) -> None:
        """The client is back: the session does not expire."""
        timer = self._expiring.pop(session.client_id, None)
        if timer is not None:
            timer.cancel()
            self._deadlines.disarm(timer)
        if session.record is not None and session.record.expires_at is not None:
            assert self._journal is not None
            session.record.expires_at = None
            self._journal.write_soon(session)  # or a crash would let it expire by the old instant

    def end(self, session: Session) -> None:
        """Throw the session away; what it had not begun to receive as a shared subscriber goes to
        others.
        """
        self.wake(session)
        del self._by_client[session.client_id]
        members = () if session.lending is None else session.lending.members
        for wanted, subscription in (session.subscriptions or {}).items():
            if wanted not in members:
                self._router.remove(subscription)
        if session.lending is not None:
            session.lending.ended()
        if self.on_end is not None:
            self.on_end(session.client_id)
        if self._journal is None or session.record is None:
            self._bequeath(session)
        else:
            estate = Estate(session, self._journal, self._traffic, self._bequeath)
            estate.settle()

    def settle(self, session: Session) -> None:
        """Go on with a session that had ended, but for what it left to others, before a restart."""
        assert self._journal is not None
        Estate(session, self._journal, self._traffic, self._bequeath).settle()

    def _bequeath(self, session: Session) -> None:
        if session.lending is not None:  # what was read after a restart
            session.lending.ended()
        for outgoing in session.surrender():
            if outgoing[0].expired(self._clock.now):  # [MQTT-3.3.2-5]
                self._traffic.lose("expired")
            elif not (outgoing[1].share_name and self._router.pass_on(outgoing)):
                self._traffic.lose("session_ended")

    def expire(self, session: Session) -> None:
        """Its time is over."""
        self.expired += 1
        self.end(session)
