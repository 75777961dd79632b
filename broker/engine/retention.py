"""The retained messages: one for each topic, bounded by count and by bytes, never older than their
expiry (section 3.3.1.3).
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from broker.packets.publication import PUBLISH, RETAIN
from broker.topics.retained import RetainedMessages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.clock import Clock
    from broker.packets.publication import Publication
    from broker.session.outgoing import Outgoing
    from broker.session.subscription import Subscription


SPARE_EXPIRIES = 64  # of messages that were replaced; so many may stay in the order


class Retention:
    """Owns the retained messages. `size` is what they hold in bytes."""

    __slots__ = ("_clock", "_expiries", "_max_messages", "_max_size", "_messages", "size")

    def __init__(self, clock: Clock, max_messages: int, max_size: int) -> None:
        self._clock = clock
        self._max_messages = max_messages
        self._max_size = max_size
        self._messages: RetainedMessages[Publication] = RetainedMessages()
        self._expiries: list[tuple[float, str]] = []  # a heap: (when, topic)
        self.size = 0

    def __len__(self) -> int:
        return len(self._messages)

    def store(self, publication: Publication) -> bool:
        """Replace, erase or add a topic's message [MQTT-3.3.1-5] [MQTT-3.3.1-7]; False when there
        is no room for it: then the topic has none, as an old one would be wrong.
        """
        if not publication.payload:  # [MQTT-3.3.1-6]
            self._forget(self._messages.delete(publication.topic))
            return True
        if not self.has_room(publication):  # [3.1.1:MQTT-3.3.1-7]
            self._forget(self._messages.delete(publication.topic))
            return False
        self._forget(self._messages.set(publication.topic, publication))
        self.size += publication.size
        if publication.expires_at is not None:
            self._note_expiry(publication.expires_at, publication.topic)
        return True

    def has_room(self, publication: Publication) -> bool:
        """Whether the message can be stored, or erases one; what has expired makes room."""
        if not publication.payload:
            return True
        self._forget_expired()
        old = self._messages.get(publication.topic)
        freed = 0 if old is None else old.size
        if self.size - freed + publication.size > self._max_size:
            return False
        return old is not None or len(self._messages) < self._max_messages

    def replay(self, subscription: Subscription) -> Iterator[Outgoing]:
        """The messages that match a new subscription, looked for when the first one is asked for
        and made one by one: many subscriptions that wait for a slow client hold nothing.
        """
        self._forget_expired()
        for _, publication in self._messages.match(subscription.filter):
            if publication.expired(self._clock.now):  # while the client took its time
                continue
            if subscription.no_local and publication.publisher == subscription.session.client_id:
                continue  # [MQTT-3.8.3-3]
            qos = min(publication.qos, subscription.qos)
            first = PUBLISH | qos << 1 | RETAIN  # [3.1.1:MQTT-3.3.1-8]
            yield publication, subscription, first

    # -- helpers ----------------------------------------------------------------------------------

    def _note_expiry(self, when: float, topic: str) -> None:
        expiries = self._expiries
        heapq.heappush(expiries, (when, topic))
        if len(expiries) > 2 * len(self._messages) + SPARE_EXPIRIES:
            expiries[:] = [
                (each.expires_at, topic)
                for topic, each in self._messages
                if each.expires_at is not None
            ]
            heapq.heapify(expiries)

    def _forget_expired(self) -> None:
        now = self._clock.now
        while self._expiries and self._expiries[0][0] <= now:
            _, topic = heapq.heappop(self._expiries)
            held = self._messages.get(topic)
            if held is not None and held.expired(now):
                self._forget(self._messages.delete(topic))

    def _forget(self, old: Publication | None) -> None:
        if old is not None:
            self.size -= old.size
