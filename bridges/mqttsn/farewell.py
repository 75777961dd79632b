"""The end of a session whose device is forgotten: connect with a clean session once, and leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridges.mqttsn.answers import return_code
from bridges.mqttsn.codes import ReturnCode
from bridges.mqttsn.ports import Opening

if TYPE_CHECKING:
    from bridges.mqttsn.ports import Broker, Identity, Message, Session

_MOST_TRIES: Final = 20


class Farewell:
    """A Receiver; begins at once, and comes again some times if the broker is not there."""

    __slots__ = ("_broker", "_opening", "_session", "_tries")

    def __init__(self, broker: Broker, identity: Identity) -> None:
        self._broker = broker
        self._opening = Opening(identity)
        self._tries = 1
        self._session: Session = broker.open(self._opening, self)

    def on_opened(self, session_present: bool) -> None:
        """See Receiver."""
        del session_present  # a clean session has nothing before it
        self._session.close(publish_will=False)

    def on_refused(self, reason: int) -> None:
        """See Receiver."""
        if return_code(reason) is ReturnCode.CONGESTION and self._tries < _MOST_TRIES:
            self._tries += 1
            self._session = self._broker.open(self._opening, self)

    # It is open for a moment, and asks for nothing.

    def on_closed(self) -> None:
        """See Receiver."""

    def on_publish(self, message: Message) -> None:
        """See Receiver."""

    def on_pubrel(self, msg_id: int) -> None:
        """See Receiver."""

    def on_puback(self, msg_id: int, reason: int) -> None:
        """See Receiver."""

    def on_pubrec(self, msg_id: int, reason: int) -> None:
        """See Receiver."""

    def on_pubcomp(self, msg_id: int) -> None:
        """See Receiver."""

    def on_suback(self, msg_id: int, reason: int) -> None:
        """See Receiver."""

    def on_unsuback(self, msg_id: int) -> None:
        """See Receiver."""
