"""How many connections there may be, in all and from one address, and how fast they may come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.engine.ports import Verdict
from broker.packets.codes import ReasonCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.clock import Clock
    from broker.connection.connection import Connection
    from broker.engine.policy import Policy

MOST_ADDRESSES = 10_000  # whose rate is remembered
BURST_SECONDS = 2.0  # an address may bring forward as many connections as this time would allow


class Admission:
    """Owns the set of connected clients and the counts by address."""

    __slots__ = ("_allowance", "_by_address", "_clock", "_connected", "_policy")

    def __init__(self, clock: Clock, policy: Policy) -> None:
        self._clock = clock
        self._policy = policy
        self._connected: dict[str, Connection] = {}
        self._by_address: dict[str, int] = {}
        self._allowance: dict[str, tuple[float, float]] = {}  # address -> (tokens, when counted)

    def __len__(self) -> int:
        return len(self._connected)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._connected.values()))

    def get(self, client_id: str) -> Connection | None:
        """The connection of a client."""
        return self._connected.get(client_id)

    def no_room(self, connection: Connection) -> Verdict | None:
        """Why a client cannot come in now; None when there is room."""
        policy = self._policy
        address = connection.origin.address
        returning = connection.client_id in self._connected
        if len(self._connected) >= policy.max_connections and not returning:
            return Verdict(
                ReasonCode.QUOTA_EXCEEDED, why="as many clients as limits.max_connections allows"
            )
        limit = policy.max_connections_per_address
        if address and limit and self._by_address.get(address, 0) >= limit and not returning:
            return Verdict(
                ReasonCode.QUOTA_EXCEEDED,
                why=f"as many clients from {address} as limits.max_connections_per_address allows",
            )
        return None

    def too_fast(self, connection: Connection) -> Verdict | None:
        """Count an attempt; why it comes too soon after others of its address, or None."""
        address = connection.origin.address
        if not address or not self._policy.connections_per_second_per_address:
            return None
        if not self._spend(address):
            return Verdict(
                ReasonCode.CONNECTION_RATE_EXCEEDED,
                why=f"{address} connects faster than limits.connection_rate allows",
            )
        return None

    def admit(self, connection: Connection) -> None:
        """Count a client in."""
        self._connected[connection.client_id] = connection
        address = connection.origin.address
        if address:
            self._by_address[address] = self._by_address.get(address, 0) + 1

    def leave(self, connection: Connection) -> None:
        """Count a client out."""
        if self._connected.get(connection.client_id) is not connection:
            return
        del self._connected[connection.client_id]
        address = connection.origin.address
        if address:
            left = self._by_address[address] - 1
            if left:
                self._by_address[address] = left
            else:
                del self._by_address[address]

    def _spend(self, address: str) -> bool:
        """Take one token from the address's bucket; False when it is empty."""
        rate = self._policy.connections_per_second_per_address
        most = max(1.0, rate * BURST_SECONDS)
        now = self._clock.now
        if len(self._allowance) >= MOST_ADDRESSES:
            self._allowance.clear()
        tokens, counted = self._allowance.get(address, (most, now))
        tokens = min(most, tokens + (now - counted) * rate)
        has_token = tokens >= 1.0
        self._allowance[address] = (tokens - has_token, now)
        return has_token
