"""The retained messages: one for each topic, bounded by count and by bytes, never older than their
expiry (section 3.3.1.3). With a store they are kept there, too; when they are more than a window of
them, only there.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from broker.engine.questions import PAGE, PAGE_SIZE
from broker.packets.publication import PUBLISH, RETAIN
from broker.topics.retained import RetainedMessages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.clock import Clock
    from broker.engine.journal import Journal
    from broker.engine.ports import Row
    from broker.packets.publication import Publication
    from broker.session.outgoing import Outgoing
    from broker.session.subscription import Subscription


SPARE_EXPIRIES = 64  # of messages that were replaced; so many may stay in the order
LARGE = 1_048_576  # so many bytes below the limit count as full
COUNT_AGAIN = 1.0  # seconds between two questions how much the store holds


class Retention:
    """Owns the retained messages. `size` is what they hold in bytes."""

    __slots__ = (
        "_clock",
        "_count_at",
        "_expiries",
        "_is_counting",
        "_journal",
        "_max_messages",
        "_max_size",
        "_messages",
        "_paged",
        "_was_full",
        "_window",
        "size",
        "stored",
        "stored_size",
    )

    def __init__(
        self,
        clock: Clock,
        max_messages: int,
        max_size: int,
        journal: Journal | None = None,
        window: int = 0,
    ) -> None:
        self._clock = clock
        self._max_messages = max_messages
        self._max_size = max_size
        self._journal = journal
        self._window = window
        self._messages: RetainedMessages[Publication] = RetainedMessages()
        self._expiries: list[tuple[float, str]] = []  # a heap: (when, topic)
        self.size = 0
        self._paged = False  # what is stored is not in memory
        self._count_at = 0.0
        self._is_counting = self._was_full = False
        # What the store alone holds, as it said last, and what came since: too much, if anything.
        self.stored = self.stored_size = 0

    def __len__(self) -> int:
        return len(self._messages) + self.stored

    def store(self, publication: Publication) -> bool:
        """Replace, erase or add a topic's message [MQTT-3.3.1-5] [MQTT-3.3.1-7]; False when there
        is no room for it: then the topic has none, as an old one would be wrong.
        """
        topic = publication.topic
        level = 0 if self._journal is None else self._journal.levels.of(topic)
        has_room = self.has_room(publication)
        if self._journal is not None and level:
            if has_room:  # [3.1.1:MQTT-3.3.1-7]
                self._journal.retain(publication, level)
            else:
                self._journal.forget_retained(topic)
            if self._paged:
                self._count(publication)
                return has_room
        if not publication.payload or not has_room:  # [MQTT-3.3.1-6]
            self._forget(self._messages.delete(topic))
            return has_room
        self._hold(publication)
        if level and len(self._messages) > self._window:
            self._leave_to_the_store()
        return True

    def has_room(self, publication: Publication) -> bool:
        """Whether the message can be stored, or erases one; what has expired makes room."""
        if not publication.payload:
            return True
        if self._journal is not None and not self._journal.fits(publication.topic):
            return False
        self._forget_expired()
        old = self._messages.get(publication.topic)
        freed = 0 if old is None else old.size
        if self.size + self.stored_size - freed + publication.size > self._max_size:
            return self._may_have_room()
        return old is not None or len(self) < self._max_messages or self._may_have_room()

    def replay(self, subscription: Subscription) -> Iterator[Outgoing | None]:
        """The messages that match a new subscription, looked for when the first one is asked for
        and made one by one: many subscriptions that wait for a slow client hold nothing. None says
        that more must be read first.
        """
        self._forget_expired()
        clock = self._clock
        for _, publication in self._messages.match(subscription.filter):
            outgoing = _outgoing(publication, subscription, clock.now)
            if outgoing is not None:
                yield outgoing
        if self._journal is None:
            return
        if self._paged:
            yield from StoredReplay(subscription, self._journal, self._clock)
        if subscription.replaying:
            self._journal.replayed(subscription)

    def restore(self, messages: list[Publication]) -> None:
        """Take over what the store holds, all of it."""
        for each in messages:
            self._hold(each)

    def leave_stored(self, count: int, size: int) -> None:
        """The store holds more than is taken into memory."""
        self._paged = True
        self.stored, self.stored_size = count, size

    # -- helpers ----------------------------------------------------------------------------------

    def _hold(self, publication: Publication) -> None:
        self._forget(self._messages.set(publication.topic, publication))
        self.size += publication.size
        if publication.expires_at is not None:
            self._note_expiry(publication.expires_at, publication.topic)

    def _leave_to_the_store(self) -> None:
        """Forget what is stored: there is too much of it."""
        assert self._journal is not None
        self._paged = True
        for topic, publication in list(self._messages):
            if self._journal.levels.of(topic):
                self._forget(self._messages.delete(topic))
                self.stored += 1
                self.stored_size += publication.size

    def _count(self, publication: Publication) -> None:
        if publication.payload:
            self.stored += 1
            self.stored_size += publication.size

    def _may_have_room(self) -> bool:
        """What only the store holds is estimated, and too high, as a message that replaces another
        counts as a new one: ask, and believe there is room until the answer has said that there is
        none.
        """
        if not self._paged or self._journal is None:
            return False
        now = self._clock.now
        if not self._is_counting and now >= self._count_at:
            self._is_counting = True
            now = self._journal.timeline.stored(now)
            self._journal.questions.retained("retained_totals", (now,), self._counted)
        if self._is_counting:
            return not self._journal.is_behind
        return not self._was_full

    def _counted(self, totals: tuple[int, int]) -> None:
        self.stored, self.stored_size = totals
        self._is_counting = False
        self._count_at = self._clock.now + COUNT_AGAIN
        is_large = self.size + self.stored_size >= self._max_size - LARGE
        self._was_full = is_large or len(self) >= self._max_messages

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
                if self._journal is not None and self._journal.levels.of(topic):
                    self._journal.forget_retained(topic)

    def _forget(self, old: Publication | None) -> None:
        if old is not None:
            self.size -= old.size


class StoredReplay:
    """The stored messages that match a subscription, page by page, in the order of their topics;
    None while a page is being read.
    """

    __slots__ = ("_after", "_clock", "_is_asked", "_journal", "_page", "_subscription")

    def __init__(self, subscription: Subscription, journal: Journal, clock: Clock) -> None:
        self._subscription = subscription
        self._journal = journal
        self._clock = clock
        self._page: deque[Publication] = deque()
        self._after: str | None = ""  # the topic that was read last; None: there are no more
        self._is_asked = False

    def __iter__(self) -> StoredReplay:
        return self

    def __next__(self) -> Outgoing | None:
        """The next message. Raises StopIteration after the last."""
        while self._page:
            publication = self._page.popleft()
            outgoing = _outgoing(publication, self._subscription, self._clock.now)
            if outgoing is not None:
                return outgoing
        if self._after is None:
            raise StopIteration
        if not self._is_asked:
            self._ask(self._after)
        return None

    def _ask(self, after: str) -> None:
        self._is_asked = True
        now = self._journal.timeline.stored(self._clock.now)
        question = (self._subscription.filter, after, PAGE, PAGE_SIZE, now)
        self._journal.questions.retained("retained", question, self._arrived)

    def _arrived(self, answer: tuple[list[Row], str | None]) -> None:
        rows, self._after = answer
        self._page.extend(self._journal.publication(*row) for row in rows)
        self._is_asked = False
        carrier = self._subscription.session.carrier
        if carrier is not None:
            carrier.next_turn()


def _outgoing(publication: Publication, subscription: Subscription, now: float) -> Outgoing | None:
    """A retained message for one subscription; None when it is not for it (any more)."""
    if publication.expired(now):  # while the client took its time
        return None
    if subscription.no_local and publication.publisher == subscription.session.client_id:
        return None  # [MQTT-3.8.3-3]
    qos = min(publication.qos, subscription.qos)
    return publication, subscription, PUBLISH | qos << 1 | RETAIN  # [3.1.1:MQTT-3.3.1-8]
