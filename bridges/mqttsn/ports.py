"""What the gateway asks of the world: a broker, a notebook that survives a restart, and somebody
who says which devices may come in.

A session is an MQTT client of its own with any broker, in this process or elsewhere. Message ids
are the device's or the broker's own, end to end: what a device sends as 7 goes to the broker as
packet id 7, and the other way round. So the exactly-once of QoS 2 is between the two who keep
state, and the gateway may restart in between.

Nobody calls back while being called: what a Session has to say comes in a later turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bridges.mqttsn.codes import ReturnCode


class Address(NamedTuple):
    """Where a device is: what the shell calls the peer ("" on a wire with one device), and the
    wireless node behind it if the peer is a forwarder.
    """

    peer: str = ""
    node: bytes | None = None

    def __str__(self) -> str:
        return self.peer if self.node is None else f"{self.peer}/{self.node.hex()}"


class Datagram(NamedTuple):
    """One message on its way out; `peer` None: to everybody on the link."""

    peer: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a device is to the broker."""

    client_id: str
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes when the session is closed with `publish_will`."""

    topic: str
    message: bytes = b""
    qos: int = 0
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Opening:
    """How a session is to be opened. `clean_session` False: it outlives the connection.

    The broker's end may have at most `receive_maximum` messages of QoS 1 and 2 unanswered.
    """

    identity: Identity
    clean_session: bool = True
    will: Will | None = None
    receive_maximum: int = 1
    address: Address = field(default_factory=Address)  # where the device is


@dataclass(slots=True)
class Message:
    """A PUBLISH in either direction; `msg_id` is 0 for QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    msg_id: int = 0
    dup: bool = False


class Receiver(Protocol):
    """The device's side of a session. Reasons are those of MQTT 5; 0x80 and above refuse."""

    def on_opened(self, session_present: bool) -> None:
        """The broker has accepted the client."""

    def on_refused(self, reason: int) -> None:
        """It has not, or cannot be reached; the session is over."""

    def on_closed(self) -> None:
        """The session is over, and not by `close`. An adapter that can resume it does not say so,
        and repeats what was not answered.
        """

    def on_publish(self, message: Message) -> None:
        """A message for the device. QoS 1 and 2 are answered when the device has answered."""

    def on_pubrel(self, msg_id: int) -> None:
        """QoS 2 towards the device, second step."""

    def on_puback(self, msg_id: int, reason: int) -> None:
        """The broker owns (or refuses) a message of QoS 1."""

    def on_pubrec(self, msg_id: int, reason: int) -> None:
        """The broker owns (or refuses) a message of QoS 2."""

    def on_pubcomp(self, msg_id: int) -> None:
        """The exchange of a QoS 2 message is complete."""

    def on_suback(self, msg_id: int, reason: int) -> None:
        """The QoS granted, or a refusal."""

    def on_unsuback(self, msg_id: int) -> None:
        """The subscription is no more."""


class Session(Protocol):
    """One client of the broker. What is asked before `on_opened` is kept and done then."""

    def publish(self, message: Message) -> None:
        """Publish for the device; answered by `on_puback` or `on_pubrec`."""

    def pubrel(self, msg_id: int) -> None:
        """QoS 2 from the device, second step; answered by `on_pubcomp`."""

    def puback(self, msg_id: int) -> None:
        """The device owns a message of QoS 1."""

    def pubrec(self, msg_id: int) -> None:
        """The device owns a message of QoS 2; answered by `on_pubrel`."""

    def pubcomp(self, msg_id: int) -> None:
        """The device has completed the exchange."""

    def subscribe(self, msg_id: int, topic_filter: str, qos: int) -> None:
        """Answered by `on_suback`."""

    def unsubscribe(self, msg_id: int, topic_filter: str) -> None:
        """Answered by `on_unsuback`."""

    def change_will(self, will: Will | None) -> bool:
        """Another will, or none. (MQTT has no such packet: connect anew and keep the session.)
        False: it cannot be changed, for the session would not be kept.
        """

    def fence(self, done: Callable[[bool], None]) -> None:
        """Call `done` after all that the broker has sent by now. (A PINGREQ does it.) True says
        that the broker is known to have more for the device: no PINGRESP waits for a store.
        """

    def hold(self, held: bool) -> None:
        """Read nothing more from the broker for a while, or go on."""

    def close(self, publish_will: bool) -> None:
        """The end of the connection; nothing is called any more."""


class Broker(Protocol):
    """Where sessions come from."""

    def open(self, opening: Opening, receiver: Receiver) -> Session:
        """Connect a client; answered by `on_opened` or `on_refused`."""

    def end_session(self, identity: Identity) -> None:
        """The device is forgotten: its durable session must not wait for it for ever."""


class Admission(Protocol):
    """Which devices may come in, and who they are to the broker."""

    def admit(self, address: Address, client_id: str) -> Identity | ReturnCode:
        """The device's identity, or the answer to its CONNECT: CONGESTION lets it come again."""

    def admit_unconnected(self, address: Address) -> Identity | None:
        """As whom to publish what comes with QoS -1 from there; None: not at all."""


class Stage(Enum):
    """Where a device stood when its note was written."""

    ACTIVE = "active"
    ASLEEP = "asleep"
    AWAY = "away"


@dataclass(frozen=True, slots=True)
class Note:
    """What must be known of a device after a restart. Times in seconds."""

    client_id: str
    address: Address
    stage: Stage
    clean_session: bool
    keep_alive: int
    sleep: int = 0
    will: Will | None = None


class Notebook(Protocol):
    """Notes and topic registrations that survive a restart. A lost `write` costs the device a
    CONNECT; an id is not told to a device before it is kept.
    """

    def notes(self) -> Iterable[Note]:
        """All of them."""

    def read(self, client_id: str) -> Note | None:
        """One device's note."""

    def topics(self, client_id: str) -> Mapping[int, str]:
        """One device's topic names by their ids."""

    def write(self, note: Note) -> None:
        """Note this instead of what was there; topics stay."""

    def add_topic(
        self, client_id: str, topic_id: int, topic: str, done: Callable[[], None]
    ) -> None:
        """Keep a registration; call `done`, now or later, when it is safe."""

    def when_kept(self, done: Callable[[], None]) -> None:
        """Call `done`, now or later, when all that was written by now is safe. It may never be
        called where too much waits: whoever asked is asked again.
        """

    def forget(self, client_id: str) -> None:
        """Forget the note and the topics."""
