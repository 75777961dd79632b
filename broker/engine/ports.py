"""What the core asks of the world. Each port is answered at once or later, through the callback it
is given.

Answers must come on the thread that runs the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from broker.packets.codes import ReasonCode

if TYPE_CHECKING:
    from broker.connection.ports import Origin
    from broker.engine.durability import Levels
    from broker.packets.publication import Publication
    from broker.queues.delivery import Delivery
    from broker.queues.entry import Entry, Forward


@dataclass(frozen=True, slots=True)
class Attempt:
    """A client that wants to connect: what it says of itself, and where it comes from."""

    client_id: str
    username: str | None
    password: bytes | None
    origin: Origin
    version: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to an attempt. `why` is for the operator's log and never sent to the client.

    `username` is the identity to go by from now on (None = as the client said).
    """

    reason: ReasonCode = ReasonCode.SUCCESS
    username: str | None = None
    why: str = ""


class Authenticator(Protocol):
    """Decides who may connect."""

    def authenticate(self, attempt: Attempt, answer: Callable[[Verdict], None]) -> None:
        """Call `answer` exactly once."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an enhanced authentication: `verdict` None asks the client to continue with
    `data` (section 4.12).
    """

    data: bytes | None = None
    verdict: Verdict | None = None


class AuthenticationExchange(Protocol):
    """One exchange with one client."""

    def step(self, data: bytes | None, answer: Callable[[Step], None]) -> None:
        """Take the client's authentication data and call `answer` exactly once."""


class AuthenticationMethod(Protocol):
    """An authentication method, found by its name."""

    def begin(self, attempt: Attempt) -> AuthenticationExchange:
        """Begin an exchange, for a CONNECT or a re-authentication."""


AuthenticationMethods = Mapping[str, AuthenticationMethod]


Row = tuple[Any, ...]
Operations = list[tuple[str, list[Row]]]  # what to do, by name, and with which rows


class Store(Protocol):
    """Keeps what must survive. Which operations and questions there are stands in
    docs/internals.md.
    """

    def submit(self, position: int, synced: bool, operations: Operations) -> None:
        """Commit all of it in one transaction, on the disk if `synced`; the journal is told when
        that is done. Positions rise by one.
        """

    def ask(self, name: str, arguments: Row, answer: Callable[[Any], None]) -> None:
        """Read something; what was submitted before counts. `answer` is called later."""


@dataclass(frozen=True, slots=True)
class Durability:
    """That there is a store, and what it is for. `wall` reads the computer's clock (seconds since
    1970); what no answer waits for is written within `relaxed_interval` seconds.
    """

    store: Store
    levels: Levels
    wall: Callable[[], float]
    relaxed_interval: float = 1.0


@dataclass(frozen=True, slots=True)
class Client:
    """Who is asking, for the authorizer."""

    client_id: str
    username: str | None
    address: str


class Authorizer(Protocol):
    """Decides who may do what. Answers at once."""

    def may_publish(self, client: Client, topic: str) -> bool:
        """Whether the client may publish to this topic."""

    def may_subscribe(self, client: Client, topic_filter: str) -> bool:
        """Whether the client may subscribe with this filter (for a shared one: the filter after the
        share name).
        """


class TopicRules(Protocol):
    """The rules that concern one topic."""

    def entries(self, publication: Publication) -> Sequence[Entry]:
        """Into which queues a message of this topic goes, each queue at most once. Never raises."""


class ForwardRules(Protocol):
    """The rules that move messages on out of one queue."""

    def forward(self, delivery: Delivery) -> Forward:
        """Where a message of this queue goes. Never raises."""


class Rules(Protocol):
    """What fills the queues, as the configuration has it."""

    @property
    def forwards(self) -> Collection[str]:
        """The queues whose messages are moved on."""

    @property
    def misses(self) -> Mapping[str, int]:
        """How often each rule, by its name, could not be read of a message: no JSON, no such field,
        another type.
        """

    def for_topic(self, topic: str) -> TopicRules | None:
        """The rules of a topic, worth keeping; None: there are none."""

    def for_queue(self, queue: str) -> ForwardRules | None:
        """The rules of a queue; None: its messages stay."""

    def leads_on(self, queue: str) -> bool:
        """Whether messages of a queue, or its dead letters, are moved on: only then can it be part
        of a circle.
        """

    def circle(
        self, queue: str, topic_filter: str, bound: Iterable[tuple[str, str]]
    ) -> Sequence[str]:
        """The circle in which messages would go for ever if the queue were bound to the filter, for
        people; empty: none. `bound`: queues that lead on, and filters that they are bound to.
        """
