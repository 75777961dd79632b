"""One message for one session: what waits in a backlog, and what is in flight until it is
acknowledged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.packets.publication import Publication
    from broker.session.subscription import Subscription


class Outgoing:
    """A publication with the subscription that it is sent for; `retain` is the flag it will carry."""

    __slots__ = ("publication", "qos", "retain", "subscription")

    def __init__(
        self, publication: Publication, subscription: Subscription, qos: int, retain: bool
    ) -> None:
        self.publication = publication
        self.subscription = subscription
        self.qos = qos
        self.retain = retain
