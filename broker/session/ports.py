"""What a session asks of the connection that serves it at the moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from broker.packets.publication import Publication


class Carrier(Protocol):
    """The way to the client while it is connected."""

    blocked: bool  # the client reads too slowly: nothing more should be handed over now

    @property
    def sated(self) -> bool:
        """Whether there is enough to send for now; `pump` is called again when it is gone."""
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


class Ledger(Protocol):
    """Where every message that does not arrive is counted."""

    delivered: int

    def lose(self, reason: str, count: int = 1) -> None:
        """Count messages that will not reach a receiver, by reason."""
        ...
