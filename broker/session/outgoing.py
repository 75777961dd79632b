"""One message for one session: what waits in a backlog, and what is in flight until it is
acknowledged.

A plain tuple (publication, subscription, first byte of its PUBLISH): one is made for every QoS 1
and 2 delivery, and a tuple costs a quarter of an object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from broker.packets.publication import Publication
    from broker.session.subscription import Subscription

Outgoing: TypeAlias = "tuple[Publication, Subscription, int]"


def qos_of(first: int) -> int:
    """The QoS in a PUBLISH packet's first byte."""
    return first >> 1 & 3
