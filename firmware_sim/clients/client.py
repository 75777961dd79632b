"""What a device's application needs of its way to the broker, whatever carries it: MQTT-SN on a
framed wire, lines of text, or MQTT over TCP.

An application never waits: it asks, and hears by events what became of it. `token` is the
application's own number for a message; each message that was taken is answered exactly once, by
Acknowledged or by Failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Message(NamedTuple):
    """A message in either direction. QoS -1 is MQTT-SN's, without a connection."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Up(NamedTuple):
    """The broker (or the gateway) has accepted the device."""

    session_present: bool = False


class Down(NamedTuple):
    """The connection is gone, and not by `disconnect` or `sleep`; it is tried again by itself."""

    why: str


class Acknowledged(NamedTuple):
    """The other side owns the message; for QoS 0: it has left the device."""

    token: int


class Failed(NamedTuple):
    """The message will not arrive; `why` in words."""

    token: int
    why: str


class Arrived(NamedTuple):
    """A message for the device."""

    message: Message


class Asleep(NamedTuple):
    """The other side knows that the device sleeps, and keeps its messages."""


class Collected(NamedTuple):
    """All that had waited for the sleeping device has come."""


ClientEvent = Up | Down | Acknowledged | Failed | Arrived | Asleep | Collected


class Client(Protocol):
    """A device's way to the broker. Times in seconds on a clock that runs evenly."""

    @property
    def is_up(self) -> bool:
        """Whether the other side has accepted the device, and it is awake."""

    def connect(self, now: float) -> None:
        """Connect, and again whenever the connection is lost; answered by Up."""

    def publish(self, message: Message, token: int, now: float) -> bool:
        """Publish; False: no room now, or not possible on this way. Nothing follows then."""

    def subscribe(self, topic_filter: str, qos: int, now: float) -> None:
        """Subscribe, now and after each loss of the session."""

    def sleep(self, duration: float, now: float) -> None:
        """Be silent for at most `duration` seconds; answered by Asleep."""

    def wake(self, now: float) -> None:
        """Collect what waits (answered by Collected, then it sleeps on), or `connect` to stay."""

    def disconnect(self, now: float) -> None:
        """Say goodbye; nothing follows."""

    def take_events(self) -> Sequence[ClientEvent]:
        """Take what has happened since the last call, in order."""


class Machine(Protocol):
    """Carries bytes, without I/O and without a clock."""

    def plugged(self, now: float) -> None:
        """The wire is there, perhaps again; the device was not reset."""

    def receive(self, data: bytes, now: float) -> None:
        """Bytes have arrived; b"" means that the wire is gone."""

    def tick(self, now: float) -> None:
        """The deadline has come."""

    def next_deadline(self) -> float | None:
        """When to tick, if ever."""

    def data_to_send(self) -> bytes:
        """Take everything that goes out now."""


class ClientMachine(Client, Machine, Protocol):
    """A client on a wire."""
