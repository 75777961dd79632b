"""What waits for a session: messages that could not be sent yet, oldest first. It knows how much it
holds; the session bounds it.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.packets.publication import Publication
    from broker.session.outgoing import Outgoing
    from broker.session.subscription import Subscription

# What one waiting message costs beside its payload; a flood of empty messages must meet the byte
# limit, too.
OVERHEAD = 100
QOS_1 = 0x32  # the first byte of a PUBLISH from QoS 1 on
SPARE = 64  # messages that do not count any more and may stay in the queue
SEARCH_PAUSE = 1.0  # seconds between two searches of a whole backlog


class Backlog:
    """A FIFO of waiting messages that knows how many bytes it holds on to, and how many are of QoS
    0. With `last_values` a newer message of a topic takes an older one out.
    """

    __slots__ = ("_latest", "_search_at", "_waiting", "qos_0", "size")

    def __init__(self, last_values: bool = False) -> None:
        self._waiting: deque[Outgoing] = deque()
        # What is not the latest of its topic any more stays in the queue, but does not count.
        self._latest: dict[str, Outgoing] | None = {} if last_values else None
        self._search_at = inf  # no message in it expires before
        self.size = 0
        self.qos_0 = 0

    def __len__(self) -> int:
        return len(self._waiting if self._latest is None else self._latest)

    def __iter__(self) -> Iterator[Outgoing]:
        return (each for each in self._waiting if self._counts(each))

    def holds_topic(self, topic: str) -> bool:
        """Whether a new message of this topic takes an older one out."""
        return self._latest is not None and topic in self._latest

    def push(self, outgoing: Outgoing) -> None:
        """Add a message behind all others."""
        if self._latest is not None:
            self._replace(self._latest, outgoing)
        self._waiting.append(outgoing)
        self.qos_0 += outgoing[2] < QOS_1
        self.size += outgoing[0].size + OVERHEAD
        expires_at = outgoing[0].expires_at
        if expires_at is not None and expires_at < self._search_at:
            self._search_at = expires_at

    def push_page(self, page: list[Outgoing]) -> int:
        """Add messages of QoS 1 and 2 behind all others; how many older ones were taken out."""
        before = len(self) + len(page)
        if self._latest is not None:
            for outgoing in page:
                self.push(outgoing)
            return before - len(self)
        self._waiting.extend(page)
        self.size += sum([each[0].size for each in page]) + len(page) * OVERHEAD
        for publication, _, _ in page:
            expires_at = publication.expires_at
            if expires_at is not None and expires_at < self._search_at:
                self._search_at = expires_at
        return 0

    def pop(self) -> Outgoing:
        """Take the oldest message; there must be one."""
        outgoing = self._waiting.popleft()
        if self._latest is not None:
            while not self._counts(outgoing):
                outgoing = self._waiting.popleft()
            del self._latest[outgoing[0].topic]
        self._discount(outgoing)
        return outgoing

    def run(self, most: int) -> tuple[list[Publication], Subscription]:
        """The oldest messages, at most so many, as long as they are plain QoS 1, never expire and
        share a subscription; there must be one. They stay.
        """
        _, subscription, _ = self._waiting[0]
        messages: list[Publication] = []
        if self._latest is None:
            for publication, each, first in islice(self._waiting, most):
                if each is not subscription or first != QOS_1 or publication.expires_at is not None:
                    break
                messages.append(publication)
        return messages, subscription

    def drop_run(self, messages: list[Publication]) -> None:
        """Take out what `run` has returned."""
        for each in messages:
            self._waiting.popleft()
            self.size -= each.size + OVERHEAD

    def take_all(self) -> Iterator[Outgoing]:
        """Empty the backlog, oldest first."""
        while len(self):
            yield self.pop()

    def forget_qos_0(self) -> int:
        """Drop the QoS 0 messages and return how many there were."""
        forgotten = self.qos_0
        if forgotten:
            self._keep_only([each for each in self.take_all() if each[2] >= QOS_1])
        return forgotten

    def forget_expired(self, now: float) -> int:
        """Drop what has expired and return how many there were; looks at all messages, but only
        when one may have expired and not more than once in SEARCH_PAUSE.
        """
        if now < self._search_at:
            return 0
        before = len(self)
        self._search_at = inf
        self._keep_only([each for each in self.take_all() if not each[0].expired(now)])
        self._search_at = max(self._search_at, now + SEARCH_PAUSE)
        return before - len(self)

    def _keep_only(self, kept: list[Outgoing]) -> None:
        for outgoing in kept:
            self.push(outgoing)

    def _counts(self, outgoing: Outgoing) -> bool:
        return self._latest is None or self._latest.get(outgoing[0].topic) is outgoing

    def _discount(self, outgoing: Outgoing) -> None:
        self.qos_0 -= outgoing[2] < QOS_1
        self.size -= outgoing[0].size + OVERHEAD

    def _replace(self, latest: dict[str, Outgoing], outgoing: Outgoing) -> None:
        topic = outgoing[0].topic
        replaced = latest.pop(topic, None)
        latest[topic] = outgoing
        if replaced is None:
            return
        self._discount(replaced)
        if len(self._waiting) > 2 * len(latest) + SPARE:
            self._waiting = deque(each for each in self._waiting if self._counts(each))
