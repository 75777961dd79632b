"""The engine's notices as log lines for the person who runs the broker; floods of one kind are
summed up.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from broker.engine import notices

if TYPE_CHECKING:
    from collections.abc import Callable

LINES_PER_SECOND = 20  # of one kind; the rest is counted and told later

_VERSIONS = {3: "3.1", 4: "3.1.1", 5: "5"}

Line = tuple[int, str, tuple[object, ...]]  # level, format, arguments


class EventLog:
    """An Observer that writes to a logger. `now` reads a monotonic clock in seconds."""

    def __init__(self, logger: logging.Logger, now: Callable[[], float]) -> None:
        self._logger = logger
        self._now = now
        self._second = 0
        self._written: dict[type, int] = {}

    def __call__(self, notice: notices.Notice) -> None:
        """Write one line, or count it when there are too many."""
        level, text, arguments = LINES[type(notice)](notice)
        if not self._logger.isEnabledFor(level):
            return
        self._turn_second()
        written = self._written[type(notice)] = self._written.get(type(notice), 0) + 1
        if written <= LINES_PER_SECOND:
            fault = getattr(notice, "fault", None)
            self._logger.log(level, text, *arguments, exc_info=fault)

    def _turn_second(self) -> None:
        second = int(self._now())
        if second == self._second:
            return
        for kind, written in self._written.items():
            if written > LINES_PER_SECOND:
                left_out = written - LINES_PER_SECOND
                self._logger.warning("... and %d more of %s", left_out, kind.__name__)
        self._second = second
        self._written.clear()


def _connected(notice: notices.ClientConnected) -> Line:
    text = "%s connected from %s as MQTT %s%s%s"
    user = f", user {notice.username[:80]!a}" if notice.username else ""
    session = ", session resumed" if notice.session_present else ""
    version = _VERSIONS[notice.version]
    return logging.INFO, text, (_named(notice.client_id), notice.origin, version, user, session)


def _refused(notice: notices.ConnectRefused) -> Line:
    text = "refused %s from %s (%s): %s"
    reason = f"0x{notice.reason:02X} {notice.reason.name.lower().replace('_', ' ')}"
    arguments = (_named(notice.client_id), notice.origin, reason, notice.why)
    return logging.WARNING, text, arguments


def _disconnected(notice: notices.ClientDisconnected) -> Line:
    text = "%s from %s is gone: %s"
    return logging.INFO, text, (_named(notice.client_id), notice.origin, notice.cause)


def _violation(notice: notices.ViolationSeen) -> Line:
    text = "closed %s from %s: %s"
    return logging.WARNING, text, (_named(notice.client_id), notice.origin, notice.violation)


def _fault(notice: notices.FaultSeen) -> Line:
    text = "a fault of the broker ended the connection of %s from %s; please report it"
    return logging.ERROR, text, (_named(notice.client_id), notice.origin)


def _denied(notice: notices.AccessDenied) -> Line:
    text = "%s (user %r) may not %s %r"
    user = notice.username and notice.username[:80]
    arguments = (_named(notice.client_id), user, notice.action, notice.topic[:200])
    return logging.WARNING, text, arguments


def _binding_refused(notice: notices.BindingRefused) -> Line:
    who = "the binding is taken away" if notice.client_id is None else _named(notice.client_id)
    text = "queue %s may not be bound to %r (%s): messages would go round for ever, %s"
    circle = " -> ".join(notice.circle)
    return logging.WARNING, text, (notice.queue, notice.topic_filter[:200], who, circle)


LINES: dict[type, Callable[[Any], Line]] = {
    notices.ClientConnected: _connected,
    notices.ConnectRefused: _refused,
    notices.ClientDisconnected: _disconnected,
    notices.ViolationSeen: _violation,
    notices.FaultSeen: _fault,
    notices.AccessDenied: _denied,
    notices.BindingRefused: _binding_refused,
}


def _named(client_id: str) -> str:
    """A client id for a log line: printable and short, whatever the client sent."""
    return ascii(client_id[:80]) if client_id else "a client without id"
