"""A message in the hands of a consumer, or looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
READY, LEASED = 0, 1


def of_a_lease(queue: str, row: tuple[Any, ...], offset: float) -> Delivery:
    """From a row of a lease, whose instants are `offset` seconds behind the clock on the wall."""
    number, token, key, rank, topic, payload, properties, first, publisher, *times = row
    enqueued_at, lease_until, acquisitions, failures, expires_at, *dead = times
    return Delivery(
        number,
        token,
        queue,
        key,
        rank,
        topic,
        payload,
        properties,
        first,
        publisher,
        enqueued_at + offset,
        None if lease_until is None else lease_until + offset,
        acquisitions,
        failures,
        None if expires_at is None else expires_at + offset,
        dead[0],
        dead[1],
        None if dead[2] is None else dead[2] + offset,
    )


def of_a_look(queue: str, row: tuple[Any, ...], offset: float) -> Delivery:
    """A row of a look: as that of a lease, then state, instant when it is due, consumer."""
    *leased, state, due, consumer = row
    delivery = of_a_lease(queue, tuple(leased), offset)
    delivery.token = 0
    delivery.state = state
    delivery.consumer = consumer
    delivery.lease_until = None if due is None or state != LEASED else due + offset
    return delivery
