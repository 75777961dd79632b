"""One message for one session: what waits in a backlog, and what is in flight until it is
acknowledged.

A plain tuple (publication, subscription, first byte of its PUBLISH): one is made for every QoS 1
and 2 delivery, and a tuple costs a quarter of an object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from broker.packets.publication import PUBLISH

if TYPE_CHECKING:
    from broker.packets.publication import Publication
    from broker.session.subscription import Subscription

Outgoing: TypeAlias = "tuple[Publication, Subscription, int]"


def qos_of(first: int) -> int:
    """The QoS in a PUBLISH packet's first byte."""
    return first >> 1 & 3


def granted(publication: Publication, subscription: Subscription) -> int:
    """The first byte of the PUBLISH: the lower QoS of the two, RETAIN only as published."""
    qos = min(publication.qos, subscription.qos)  # [MQTT-3.8.4-8]
    retain = publication.retain and subscription.retain_as_published  # [MQTT-3.3.1-12]
    return PUBLISH | qos << 1 | retain
