"""The shell around one Gateway: what happened is followed by one turn, and time by one timer.

Rule kept here: no task and no timer for a packet. Whatever wakes the gateway in a turn of the event
loop is passed on once, at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from bridges.mqttsn.gateway import Gateway


class Gate:
    """Calls `pass_on(now)` when the gateway may have something to send, and ticks it."""

    __slots__ = ("_armed_for", "_is_awake", "_is_closed", "_loop", "_pass_on", "_timer", "gateway")

    def __init__(
        self,
        gateway: Gateway,
        loop: asyncio.AbstractEventLoop,
        pass_on: Callable[[float], None],
    ) -> None:
        self.gateway = gateway
        self._loop = loop
        self._pass_on = pass_on
        self._is_awake = False
        self._is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        gateway.on_work = self.wake

    def wake(self) -> None:
        """There may be something to send: before the loop sleeps."""
        if not self._is_awake and not self._is_closed:
            self._is_awake = True
            self._loop.call_soon(self._turn)

    def close(self) -> None:
        """Turn no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        if self._is_closed:
            return
        self._is_awake = False
        self._pass_on(self._loop.time())
        self._arm()

    def _arm(self) -> None:
        """A deadline that has moved away is looked at in its old time: nothing is re-armed."""
        deadline = self.gateway.next_deadline()
        if deadline is None or (self._timer is not None and self._armed_for <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = deadline
        self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.gateway.tick(self._loop.time())
        finally:
            self._turn()
