"""Whether all that the broker had for a device that woke has come: PINGRESP tells the device so.

The broker is asked (Session.fence) when nothing is here. Rule kept here: while it is known to have
more, it is asked again; one that says nothing, or has more and does not send it, keeps no device
awake for ever.

    what is so                             what ends it
    not asked: the session is not open     it opens, or `collect_timeout`
    asked, no answer                       the answer, or `fence_timeout`
    the broker has more                    a message, or asked again, or `collect_timeout`
    passed                                 a message, or the next time it wakes
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.mqttsn.policy import Policy

_PAUSE: Final = 0.05  # seconds before a broker that has more is asked again
_LATE: Final = 0.5  # seconds: a tick so late says that nobody could be heard meanwhile


class Fence:
    """One device's. `lower` it when something has come, and when the device wakes."""

    __slots__ = ("_again_at", "_asked_at", "_began_at", "_number", "_policy", "is_passed")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._number = 0
        self._began_at: float | None = None  # since when nothing has come
        self._asked_at: float | None = None  # and there is no answer
        self._again_at: float | None = None  # not to be asked before
        self.is_passed = False

    def lower(self) -> None:
        """Begin anew: an answer to what was asked before says nothing any more."""
        self._number += 1
        self.is_passed = False
        self._began_at = self._asked_at = self._again_at = None

    def begin(self, now: float) -> None:
        """Nothing is here."""
        if self._began_at is None:
            self._began_at = now

    @property
    def may_ask(self) -> bool:
        """Whether it is time to ask the broker."""
        return self._asked_at is None and self._again_at is None

    def ask(self, now: float, changed: Callable[[], None]) -> Callable[[bool], None]:
        """What the session is to call."""
        self._asked_at = now
        number = self._number

        def answered(has_more: bool) -> None:
            if number == self._number:
                self._asked_at = None
                self._again_at = now + _PAUSE
                self.is_passed = not has_more
                changed()

        return answered

    def next_deadline(self) -> float | None:
        """When to tick."""
        if self.is_passed or self._began_at is None:
            return None
        if self._asked_at is not None:
            return self._asked_at + self._policy.fence_timeout
        limit = self._began_at + self._policy.collect_timeout
        return limit if self._again_at is None else min(limit, self._again_at)

    def tick(self, now: float) -> bool:
        """Whether the deadline has come: the device may sleep, or the broker be asked again."""
        deadline = self.next_deadline()
        if deadline is None or self._began_at is None or now < deadline:
            return False
        if self._asked_at is not None:
            return self._give_up(now, deadline)
        self._again_at = None
        self.is_passed = now >= self._began_at + self._policy.collect_timeout
        return True

    def _give_up(self, now: float, deadline: float) -> bool:
        """The broker says nothing, if it could have been heard."""
        if now > deadline + _LATE:
            self._asked_at = now
            return False
        self.is_passed = True
        return True
