"""What the tests ask of a client library, whichever it is.

An adapter in `adapters/` wraps each library behind `ForeignClient`. The names are the standard's;
`Properties` maps a v5 property's name to its value (`user_property` to a list of pairs, in order).
What a library cannot do or does not tell stands in its row of `LIBRARIES` (clients.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from tests.support.process import Endpoint

V311 = 4  # protocol versions as they stand in CONNECT
V5 = 5
PATIENCE = (
    10.0  # seconds; everything awaited here takes milliseconds, so that only a loss reaches it
)
FOREVER = 0xFFFFFFFF  # session expiry interval: the session does not expire

Properties = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as the library handed it over."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=dict)

    def same_text(self) -> tuple[str, bytes]:
        return self.topic, self.payload


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Options:
    """How to connect. `clean` is Clean Start; `stay` asks for a session that stays."""

    endpoint: Endpoint
    client_id: str
    version: int = V311
    clean: bool = True
    stay: bool = False
    will: Will | None = None
    username: str | None = None
    password: str | None = None
    show_certificate: bool = False
    acknowledges: bool = True  # False: receives without PUBACK, as if it crashed in between
    properties: Properties = field(default_factory=dict)

    @property
    def clean_session(self) -> bool:
        """3.1.1 says both with one bit."""
        return self.clean and not self.stay

    @property
    def connect_properties(self) -> Properties:
        expiry = {"session_expiry_interval": FOREVER} if self.stay else {}
        return {**expiry, **self.properties} if self.version == V5 else {}


@dataclass(frozen=True, slots=True)
class Connack:
    """What the library told of the broker's CONNACK; None where it does not tell."""

    session_present: bool | None = None
    properties: Properties = field(default_factory=dict)


class RefusedError(Exception):
    """The broker refused the connection; `reason_code` is the number in the CONNACK."""

    def __init__(self, reason_code: int) -> None:
        super().__init__(reason_code)
        self.reason_code = reason_code


class ForeignClient(Protocol):
    """One client of one library."""

    async def connect(self) -> Connack:
        """Returns when the CONNACK is there; raises `RefusedError` when it refuses."""

    async def subscribe(
        self, topic_filter: str, qos: int = 0, properties: Properties | None = None, **options: int
    ) -> int | None:
        """Returns the SUBACK's reason code.

        Options: `no_local`, `retain_as_published`, `retain_handling`.
        """

    async def unsubscribe(self, topic_filter: str) -> int | None:
        """Returns the UNSUBACK's reason code where the library tells."""

    async def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> int | None:
        """Returns when the QoS's handshake is done, with the reason code if the library tells."""

    async def next_message(self) -> Message: ...

    async def disconnected(self) -> int | None:
        """Returns when the broker has hung up, with its DISCONNECT's reason code if one came."""

    async def close(self) -> None:
        """DISCONNECT, if still connected; frees everything. May be called again."""


Make = Callable[[Options], ForeignClient]


async def patiently(awaited: Awaitable[Result], what: str) -> Result:
    """Awaits with a deadline, and says what did not come."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await awaited
    except TimeoutError:
        raise AssertionError(f"within {PATIENCE:.0f} s there was no {what}") from None
