"""What an MQTT 3.1.1 broker does not allow: it has no word for that, so it closes the connection.

Rule kept here: a message or subscription without an answer, over which the broker has closed three
connections in a row, is refused in its place. It is sent alone from the second time on, so that no
other one is refused for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker.packets.types import Publish, Subscribe, Unsubscribe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker.packets.types import Packet

MOST_BREAKS: Final = 3
_MOST_CLIENTS: Final = 1000  # that are remembered; the others begin anew

Matter = tuple[type, str]  # what is asked, and of which topic


def matter(packet: Packet) -> Matter:
    """What a request is about; two with the same are refused for the same reason."""
    if isinstance(packet, Publish):
        return Publish, packet.topic
    if isinstance(packet, Subscribe):
        return Subscribe, packet.requests[0].filter
    assert isinstance(packet, Unsubscribe)
    return Unsubscribe, packet.filters[0]


class Suspicion:
    """Of one client, whatever becomes of its sessions."""

    __slots__ = ("_breaks", "suspect")

    def __init__(self) -> None:
        self.suspect: Matter | None = None
        self._breaks = 0

    def broken(self, unanswered: Iterable[Packet]) -> None:
        """A connection that the broker had accepted is gone, and these have no answer."""
        matters = [matter(packet) for packet in unanswered]
        if self.suspect in matters:
            self._breaks += 1
        else:
            self.suspect = matters[0] if matters else None
            self._breaks = 1

    def is_about(self, packet: Packet) -> bool:
        """Whether this is the one."""
        return self.suspect is not None and self.suspect == matter(packet)

    def is_certain(self, packet: Packet) -> bool:
        """Whether to refuse it."""
        return self._breaks >= MOST_BREAKS and self.is_about(packet)

    def clear(self, packet: Packet) -> None:
        """It has been answered, by the broker or in its place."""
        if self.is_about(packet):
            self.suspect = None
            self._breaks = 0


class Suspicions:
    """Of all clients."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, Suspicion] = {}  # the longest unused first

    def of(self, client_id: str) -> Suspicion:
        """The client's, a new one if there is none."""
        found = self._known.pop(client_id, None) or Suspicion()
        self._known[client_id] = found
        if len(self._known) > _MOST_CLIENTS:
            del self._known[next(iter(self._known))]
        return found
