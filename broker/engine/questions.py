"""What the engine asks the store, and when: at the end of a loop turn. In the middle of one, the
batch that must go before the question would tell half of what a packet does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.clock import Clock
    from broker.engine.changes import Changes
    from broker.engine.ports import Row, Store
    from broker.engine.timeline import Timeline
    from broker.session.outgoing import Outgoing
    from broker.session.session import Session

PAGE = 500  # messages read at once for a session
PAGE_SIZE = 262_144  # ... and bytes
MOST_RESUMING = 4  # connections that wait for one session to be read; the earliest are let go
ANY = 2**62  # a bound that nothing reaches


class Questions:
    """The questions of this turn. `seal` gives the store what it must know before it answers (True:
    everything); `schedule` asks for a call of `ask` when the turn ends.
    """

    __slots__ = (
        *("_changes", "_clock", "_resuming", "_schedule", "_seal", "_store"),
        *("_timeline", "_waiting", "on_resumed"),
    )

    def __init__(
        self,
        store: Store,
        changes: Changes,
        clock: Clock,
        timeline: Timeline,
        seal: Callable[[bool], None],
        schedule: Callable[[], None],
    ) -> None:
        self.on_resumed: Callable[[Session], None] | None = None  # what was in flight is there
        self._store = store
        self._changes = changes
        self._clock = clock
        self._timeline = timeline
        self._seal = seal
        self._schedule = schedule
        self._waiting: list[Callable[[], None]] = []
        self._resuming: dict[Session, list[Callable[[], None]]] = {}

    def ask(self) -> None:
        """The turn ends: ask all."""
        waiting, self._waiting = self._waiting, []
        for ask in waiting:
            ask()

    def backlog(self, session: Session, take: Callable[[list[Outgoing]], None]) -> None:
        """Read the next page of what waits for a session; an empty one is the last."""
        record = session.record
        assert record is not None

        def arrived(rows: list[Row]) -> None:
            take(self._changes.page(session, rows))

        def ask() -> None:
            if self._changes.messages:
                self._seal(False)
            record.count_anew()
            self._store.ask("backlog", (record.id, record.loaded, PAGE, PAGE_SIZE), arrived)

        self._put_off(ask)

    def trim(self, session: Session) -> object:
        """Drop what a session's bounds have no room for, and what has expired; the token for
        `session.trimmed`.
        """
        record, bounds = session.record, session.bounds
        assert record is not None
        mode = "last_value" if bounds.last_values else "oldest"
        most = (bounds.messages, bounds.size) if bounds.makes_room else (ANY, ANY)
        token = object()

        def trimmed(value: tuple[int, int, int, int, int, int]) -> None:
            cursor, dropped, _, expired, left, left_size = value
            session.trimmed(token, cursor, dropped, expired, left, left_size)

        def ask() -> None:
            self._seal(True)
            record.count_anew()
            now = self._timeline.stored(self._clock.now)
            self._store.ask("trim", (record.id, mode, *most, now), trimmed)

        self._put_off(ask)
        return token

    def resume(self, session: Session, go_on: Callable[[], None]) -> None:
        """Read what was in flight before a restart, then `go_on`."""
        record = session.record
        assert record is not None

        def restored(value: dict[str, list[Any]]) -> None:
            waiting = self._resuming.pop(session)
            if record.is_cold and not record.is_over:
                lent = {row[1]: row for row in value.get("lent", ())}
                self._changes.restore(session, value["inflight"], value["received"], lent)
                if self.on_resumed is not None:
                    self.on_resumed(session)
            for go_on in waiting:
                go_on()

        waiting = self._resuming.setdefault(session, [])
        waiting.append(go_on)
        del waiting[:-MOST_RESUMING]
        if len(waiting) == 1:
            self._store.ask("resume", (record.id,), restored)

    def retained(self, name: str, arguments: Row, answer: Callable[[Any], None]) -> None:
        """Ask about retained messages; the answer counts in all of them until now."""

        def ask() -> None:
            if self._changes.retained:
                self._seal(False)
            self._store.ask(name, arguments, answer)

        self._put_off(ask)

    def queues(self, name: str, arguments: Row, answer: Callable[[Any], None]) -> None:
        """Ask about queues; the answer counts in all that was done to them until now."""

        def ask() -> None:
            self._seal(False)
            self._store.ask(name, arguments, answer)

        self._put_off(ask)

    def _put_off(self, ask: Callable[[], None]) -> None:
        self._waiting.append(ask)
        self._schedule()
