"""Wills: the last message of a client whose connection ended badly, now or after its delay
(sections 3.1.2.5, 3.1.3.2.2). With a store they outlive the broker's own end, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.packets.properties import Property

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.clock import Clock
    from broker.engine.deadlines import Deadlines, Timer
    from broker.engine.journal import Journal
    from broker.packets.types import Will


class Wills:
    """Owns the wills that wait for their delay, and says to the store which wills there are."""

    __slots__ = ("_clock", "_deadlines", "_journal", "_publish", "_waiting")

    def __init__(
        self,
        clock: Clock,
        deadlines: Deadlines,
        publish: Callable[[Will, str, str | None], None],
        journal: Journal | None = None,
    ) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._publish = publish
        self._journal = journal
        self._waiting: dict[str, tuple[Timer, Callable[[], None]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def remember(self, client_id: str, will: Will | None, username: str | None) -> None:
        """A client has connected: its will must be published even if the broker ends before it."""
        if will is None:
            self._forget(client_id)
        else:
            self._store(client_id, will, username, None)

    def discard(self, client_id: str) -> None:
        """The connection ended well: there is nothing to publish."""
        self._forget(client_id)

    def execute(
        self, will: Will, client_id: str, username: str | None, delay: float | None = None
    ) -> None:
        """The connection ended without DISCONNECT 0x00: publish at once or after the Will Delay
        [MQTT-3.1.2-8], of which only `delay` seconds may be left.
        """
        if delay is None:
            delay = will.properties.get(Property.WILL_DELAY_INTERVAL, 0)
        if not delay:
            self._forget(client_id)
            self._publish(will, client_id, username)
            return

        def publish() -> None:
            self._waiting.pop(client_id, None)
            self._forget(client_id)
            self._publish(will, client_id, username)

        timer = self._deadlines.after(delay, self._clock.now, publish)
        self._waiting[client_id] = (timer, publish)
        self._store(client_id, will, username, self._clock.now + delay)

    def restore(
        self, will: Will, client_id: str, username: str | None, due_at: float | None
    ) -> None:
        """Go on with a will from before a restart; without `due_at` its client was connected, and
        lost its connection with the broker's end.
        """
        if self._journal is not None:
            self._journal.has_will(client_id)
        left = None if due_at is None else max(0.0, due_at - self._clock.now)
        self.execute(will, client_id, username, left)

    def cancel(self, client_id: str) -> None:
        """The client came back to its session in time: nothing is published [MQTT-3.1.3-9]."""
        entry = self._waiting.pop(client_id, None)
        if entry is not None:
            entry[0].cancel()
            self._deadlines.disarm(entry[0])
            self._forget(client_id)

    def session_ended(self, client_id: str) -> None:
        """The session is gone before the delay has passed: publish now [MQTT-3.1.2-8]."""
        entry = self._waiting.get(client_id)
        if entry is not None:
            entry[0].cancel()
            self._deadlines.disarm(entry[0])
            entry[1]()

    def _store(
        self, client_id: str, will: Will, username: str | None, due_at: float | None
    ) -> None:
        if self._journal is not None:
            self._journal.leave_will(client_id, will, username, due_at)

    def _forget(self, client_id: str) -> None:
        if self._journal is not None:
            self._journal.forget_will(client_id)
