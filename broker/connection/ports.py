"""What a connection asks of its two neighbours: the link that carries its bytes, and the broker
behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from broker.connection.connection import Connection
    from broker.connection.states import State
    from broker.packets.errors import ProtocolViolation

# (connection, first byte, buffer, start and end of the body in it)
Handler = Callable[["Connection", int, bytes, int, int], None]

# all packets of one read: (first byte, start and end of the body)
Packets = list[tuple[int, int, int]]

# (connection, buffer, packets, index of the first) -> index of the next that is not of the run
RunHandler = Callable[["Connection", bytes, Packets, int], int]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection comes from: facts about its link that never change.

    `address` is the peer's IP address ("" for a Unix socket or in-process), `anonymous` the
    listener's policy ("loopback", "always" or "never"), `certificate_name` the common name of a
    verified client certificate.
    """

    listener: str = "local"
    address: str = ""
    port: int = 0
    anonymous: str = "always"
    certificate_name: str | None = None

    def __str__(self) -> str:
        if not self.address:
            return self.listener
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class Sink(Protocol):
    """The link: takes bytes when it is woken, at most once per loop turn."""

    def wake(self) -> None:
        """There is something to send: call `data_to_send` before the loop sleeps."""

    def flush(self) -> None:
        """Take what there is to send now: a burst must not pile up while the socket has room."""

    def unsent(self) -> int:
        """Bytes taken that the operating system has not accepted yet."""

    def hold_reading(self, held: bool) -> None:
        """Stop or go on reading from the peer."""

    def close(self) -> None:
        """Send what is left, then close."""

    def abort(self) -> None:
        """Close now; what is left is thrown away."""


class Host(Protocol):
    """The broker, as a connection sees it."""

    tables: dict[State, tuple[Handler, ...]]  # handlers by packet type, for every state
    runs: dict[int, RunHandler]  # for a connected client: handlers of runs, by first byte

    def on_violation(self, connection: Connection, violation: ProtocolViolation) -> None:
        """The peer broke a rule: answer and close as the standard says."""

    def on_fault(self, connection: Connection, fault: Exception) -> None:
        """A fault of ours: end this one connection, loudly."""

    def on_lost(self, connection: Connection) -> None:
        """The link is gone without a DISCONNECT."""

    def on_timeout(self, connection: Connection) -> None:
        """The connection's deadline has passed."""

    def arm(self, connection: Connection) -> None:
        """The connection's next deadline has changed, or there is none any more."""


class Traffic:
    """Counters of everything that went over any connection, in the words of the $SYS topics."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "delivered",
        "lost",
        "messages_received",
        "messages_sent",
        "publish_bytes_received",
        "publish_bytes_sent",
        "publish_received",
    )

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.messages_received = 0  # packets of any type
        self.messages_sent = 0
        self.publish_received = 0
        self.publish_bytes_received = 0
        self.publish_bytes_sent = 0
        self.delivered = 0  # PUBLISH packets sent
        self.lost: dict[str, int] = {}  # the loss ledger: reason -> messages that will not arrive

    def lose(self, reason: str, count: int = 1) -> None:
        """Count messages that will not reach a receiver."""
        if count:
            self.lost[reason] = self.lost.get(reason, 0) + count
