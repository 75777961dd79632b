"""What a durable session leaves behind when it ends: messages of shared subscriptions go to other
members, also those that lie in the store and must be read first (section 4.8.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.connection.ports import Traffic
    from broker.engine.journal import Journal
    from broker.session.outgoing import Outgoing
    from broker.session.session import Session


class Estate:
    """Ends one session in the store, as soon as nothing of it is left to be given to others."""

    __slots__ = ("_bequeath", "_is_shared", "_journal", "_session", "_traffic")

    def __init__(
        self,
        session: Session,
        journal: Journal,
        traffic: Traffic,
        bequeath: Callable[[Session], None],
    ) -> None:
        self._session = session
        self._journal = journal
        self._traffic = traffic
        self._bequeath = bequeath
        subscriptions = (session.subscriptions or {}).values()
        self._is_shared = any(each.share_name for each in subscriptions)

    def settle(self) -> None:
        """Give on what is in memory, then what is in the store, then forget the session. What was
        in flight before a restart must be read even if it is for nobody else: some of it is stored
        for this session alone, and must go with it.
        """
        session, record = self._session, self._session.record
        assert record is not None
        if not record.is_cold and not (self._is_shared and record.behind):
            self._end()
            return
        session.client_id = ""  # the name is free for the client's next session
        self._journal.write_soon(session)
        if record.is_cold:
            self._journal.questions.resume(session, self._go_on)
        else:
            self._go_on()

    def _go_on(self) -> None:
        if not self._is_shared:
            self._end()
            return
        self._bequeath(self._session)
        self._journal.questions.backlog(self._session, self._take)

    def _end(self) -> None:
        session, record = self._session, self._session.record
        assert record is not None
        self._traffic.lose("session_ended", record.behind)
        record.behind = 0
        self._bequeath(session)
        self._journal.end(session)

    def _take(self, page: list[Outgoing]) -> None:
        session = self._session
        record = session.record
        assert record is not None
        session.inherit(page)
        self._bequeath(session)
        if page:
            record.take(session, page[-1][0].number)
            self._journal.write_soon(session)  # with what was given on: nobody gets it twice
            self._journal.questions.backlog(session, self._take)
        else:
            record.behind = 0
            self._journal.end(session)
