"""Wills: the last message of a client whose connection ended badly, now or after its delay
(sections 3.1.2.5, 3.1.3.2.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.packets.properties import Property

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.clock import Clock
    from broker.engine.deadlines import Deadlines, Timer
    from broker.packets.types import Will


class Wills:
    """Owns the wills that wait for their delay."""

    __slots__ = ("_clock", "_deadlines", "_publish", "_waiting")

    def __init__(
        self,
        clock: Clock,
        deadlines: Deadlines,
        publish: Callable[[Will, str, str | None], None],
    ) -> None:
        self._clock = clock
        self._deadlines = deadlines
        self._publish = publish
        self._waiting: dict[str, tuple[Timer, Callable[[], None]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def execute(self, will: Will, client_id: str, username: str | None) -> None:
        """The connection ended without DISCONNECT 0x00: publish at once or after the Will Delay
        [MQTT-3.1.2-8].
        """
        delay = will.properties.get(Property.WILL_DELAY_INTERVAL, 0)
        if not delay:
            self._publish(will, client_id, username)
            return

        def publish() -> None:
            self._waiting.pop(client_id, None)
            self._publish(will, client_id, username)

        timer = self._deadlines.after(delay, self._clock.now, publish)
        self._waiting[client_id] = (timer, publish)

    def cancel(self, client_id: str) -> None:
        """The client came back to its session in time: nothing is published [MQTT-3.1.3-9]."""
        entry = self._waiting.pop(client_id, None)
        if entry is not None:
            entry[0].cancel()
            self._deadlines.disarm(entry[0])

    def session_ended(self, client_id: str) -> None:
        """The session is gone before the delay has passed: publish now [MQTT-3.1.2-8]."""
        entry = self._waiting.get(client_id)
        if entry is not None:
            entry[0].cancel()
            self._deadlines.disarm(entry[0])
            entry[1]()
