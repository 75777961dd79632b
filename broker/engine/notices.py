"""What the engine tells the world: facts as values. Whoever observes them logs or counts them; the
engine does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from broker.connection.ports import Origin
    from broker.packets.codes import ReasonCode
    from broker.packets.errors import ProtocolViolation


@dataclass(frozen=True, slots=True)
class ClientConnected:
    """A CONNECT was accepted."""

    client_id: str
    username: str | None
    origin: Origin
    version: int
    session_present: bool
    keep_alive: int


@dataclass(frozen=True, slots=True)
class ConnectRefused:
    """A CONNECT was refused; `why` tells the operator what he can do."""

    client_id: str
    username: str | None
    origin: Origin
    reason: ReasonCode
    why: str


@dataclass(frozen=True, slots=True)
class ClientDisconnected:
    """A connected client is gone; `cause` says how, in words."""

    client_id: str
    origin: Origin
    cause: str


@dataclass(frozen=True, slots=True)
class ViolationSeen:
    """A peer broke the protocol; its connection was closed."""

    client_id: str
    origin: Origin
    violation: ProtocolViolation


@dataclass(frozen=True, slots=True)
class FaultSeen:
    """An exception of ours ended a connection: a defect to be mended."""

    client_id: str
    origin: Origin
    fault: Exception


@dataclass(frozen=True, slots=True)
class AccessDenied:
    """The authorizer refused a publish or subscribe."""

    client_id: str
    username: str | None
    action: str
    topic: str


@dataclass(frozen=True, slots=True)
class BindingRefused:
    """A client wanted to bind a queue to a filter (`client_id` None: it was bound when the broker
    stopped): with the rules that would be a circle.
    """

    client_id: str | None
    queue: str
    topic_filter: str
    circle: Sequence[str]


Notice: TypeAlias = (
    ClientConnected
    | ConnectRefused
    | ClientDisconnected
    | ViolationSeen
    | FaultSeen
    | AccessDenied
    | BindingRefused
)
Observer: TypeAlias = Callable[[Notice], None]
