"""A message in the hands of a consumer, or looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Delivery:
    """Instants are seconds since 1970 on the computer's clock, `properties` an MQTT 5 property
    block without its length. `token` proves the lease; 0: there is none.
    """

    number: int
    token: int
    queue: str
    key: str | None
    rank: int  # 9 - priority
    topic: str
    payload: bytes
    properties: bytes
    first: int  # first byte of the PUBLISH that brought it
    publisher: str
    enqueued_at: float
    lease_until: float | None
    acquisitions: int
    failures: int
    expires_at: float | None
    dead_from: str | None = None
    dead_reason: str | None = None
    dead_at: float | None = None
    state: int = 1  # of STATES
    consumer: str | None = None


STATES = ("ready", "leased", "waiting", "delayed")
