"""What a session asks of its neighbours: the connection that serves it at the moment, the ledger of
losses, and the place where durable sessions are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from broker.packets.properties import Properties
    from broker.packets.publication import Publication
    from broker.session.outgoing import Outgoing
    from broker.session.session import Session


class Carrier(Protocol):
    """The way to the client while it is connected."""

    blocked: bool  # the client reads too slowly: nothing more should be handed over now
    version: int  # of the protocol

    @property
    def sated(self) -> bool:
        """Whether there is enough to send for now; `pump` is called again when it is gone."""
        ...

    @property
    def takes_runs(self) -> bool:
        """Whether `send_run` is worth trying."""
        ...

    def next_turn(self) -> None:
        """Call `pump` again when others have had their turn."""
        ...

    def send_publication(
        self,
        publication: Publication,
        first: int,
        packet_id: int,
        identifiers: tuple[int, ...],
    ) -> bool:
        """Send a PUBLISH whose first byte is `first`; False when it is larger than the client
        accepts.
        """
        ...

    def send_run(
        self, messages: list[Publication], first: int, packet_ids: list[int] | None
    ) -> bool:
        """Send several PUBLISHes, all or none; False when they must be sent one by one.

        `packet_ids` is None for QoS 0.
        """
        ...

    def send_pubrel(self, packet_id: int) -> None:
        """Send a PUBREL."""
        ...


class Lender(Protocol):
    """What a session has out of queues, and whose members it is."""

    leases: dict[int, Any]  # by packet id: QoS 1 and 2 messages that the client has not answered
    members: dict[str, Any]  # by filter, as the client wrote it: the queues that it consumes
    version_bit: int  # set in the first byte of what is stored as lent: for which version it is

    def restore(self, packet_id: int, first: int, row: tuple[Any, ...]) -> Outgoing:
        """Take back a QoS 2 message that was lent before a restart: (queue, number, ...)."""

    def connected(self) -> None:
        """The client is there."""

    def disconnected(self) -> None:
        """The client has gone."""

    def ended(self) -> None:
        """The session is over."""

    def pump(self) -> None:
        """There may be room in the client's window."""

    def on_pubacks(self, packet_ids: Iterable[int]) -> None:
        """The client has answered QoS 1 messages, some of which may be lent, with success."""

    def on_answer(self, packet_id: int, reason: int, properties: Properties) -> None:
        """The client has answered a message that may be lent, with PUBACK or PUBREC."""


class Ledger(Protocol):
    """Where every message that does not arrive is counted."""

    delivered: int

    def lose(self, reason: str, count: int = 1) -> None:
        """Count messages that will not reach a receiver, by reason."""
        ...


class Shelf(Protocol):
    """Where durable sessions, and what waits for them, are kept."""

    def touch(self, session: Session) -> None:
        """Something about a session has changed and must be written."""

    def load(self, session: Session) -> object:
        """Look for what waits for a session after `record.loaded`; `session.arrived` is called with
        it, and with the token that is returned here.
        """

    def trim(self, session: Session) -> object:
        """Drop what a session's bounds have no room for, the oldest first; `session.trimmed` is
        called with what is left, and with the token that is returned here.
        """

    def is_settled(self, session: Session, go_on: Callable[[], None]) -> bool:
        """Whether everything that was in flight for a session is stored; if not, `go_on` is called
        when it is.
        """

    def single(self, publication: Publication) -> Publication:
        """The message as one that is kept for one session alone, out of line."""

    def full(self, session: Session) -> None:
        """From now on (or, when its record says so, no longer) new messages are not for it."""
