"""What all links of one event loop share: the engine, its timer, and the one flush at the end of
each loop turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from broker.connection.connection import Connection
    from broker.connection.ports import Origin, Sink
    from broker.engine.engine import Engine

SPARE_LINKS = 1024  # above the limit of clients: room to say no with a reason, not by hanging up


class Flushable(Protocol):
    """A link that has something to send."""

    def flush(self) -> None:
        """Send it."""

    def close(self) -> None:
        """Send what is left, then close."""


class Hub:
    """Connects links with the engine: `touched` links are flushed together, deadlines wake the
    engine.
    """

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.loop = loop
        self.now = loop.time
        self.links: set[Flushable] = set()
        self._touched: list[Flushable] = []
        self._timer: asyncio.TimerHandle | None = None
        engine.clock.now = loop.time()
        engine.deadlines.on_earlier = self._set_timer
        if engine.journal is not None:
            engine.journal.on_work = self._end_turn

    @property
    def is_crowded(self) -> bool:
        """Whether a new link cannot even be told no."""
        return len(self.links) >= self.engine.policy.max_connections + SPARE_LINKS

    def open(self, origin: Origin, sink: Sink) -> Connection:
        """Begin a conversation for a new link."""
        return self.engine.open(origin, sink, self.now())

    def touch(self, link: Flushable) -> None:
        """Flush this link before the loop sleeps: all it gets until then goes in one write."""
        if not self._touched:
            self.loop.call_soon(self._flush)
        self._touched.append(link)

    def _flush(self) -> None:
        touched, self._touched = self._touched, []
        for link in touched:
            try:
                link.flush()
            except Exception as fault:  # noqa: BLE001  the links after this one must be flushed
                self._report("flushing a link", fault)

    def _end_turn(self) -> None:
        """What this turn has changed goes to the store in one batch."""
        if self.engine.journal is not None:
            self.loop.call_soon(self.engine.journal.turn)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.engine.next_deadline()
        self._timer = None if deadline is None else self.loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.engine.tick(self.now())
        finally:
            self._set_timer()

    def _report(self, what: str, fault: Exception) -> None:
        self.loop.call_exception_handler({"message": f"fault while {what}", "exception": fault})

    def hang_up(self) -> None:
        """Close the links that are still there: of clients that never connected."""
        for link in list(self.links):
            link.close()

    def stop(self) -> None:
        """Wake the engine no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.engine.deadlines.on_earlier = None
