"""What the gateway's parts need of a broker, wherever it is: sessions of MQTT-SN devices, and byte
streams for devices that speak MQTT themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.mqttsn.ports import Broker


class Stream(Protocol):
    """A client's byte stream to the broker. Nothing comes out of it while something is put in."""

    def send(self, data: bytes) -> None:
        """Pass bytes on."""

    def hold(self, held: bool) -> None:
        """Read nothing for a while, or go on."""

    def close(self) -> None:
        """Break it, as a lost socket; nothing is called any more."""


class BrokerSide(Protocol):
    """The broker in this process, or one elsewhere. `name` tells this gateway from others there,
    `client_id` is the gateway's own, if it has one, `prefix` is where its figures go,
    `on_forgotten` is called when the broker may have lost them.
    """

    name: str
    client_id: str
    prefix: str
    on_forgotten: Callable[[], None]

    def sessions(self, name: str, stamp: Callable[[], str] | None = None) -> Broker:
        """Where the sessions of the port or socket `name` come from. `stamp` says when what comes
        now was sent, for subscribers to know.
        """

    def stream(self, name: str, on_data: Callable[[bytes], None]) -> Stream:
        """Open a stream; `on_data` gets what the broker sends, b"" when it has closed."""

    def tell(self, topic: str, payload: bytes, retain: bool) -> None:
        """Publish for the gateway itself."""

    def close(self) -> None:
        """Stop: what waits to be sent is sent."""
