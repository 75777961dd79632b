"""One rule, compiled: which messages it takes, and how they stand in the queues it names.

Rule kept here: whatever a message lacks is counted as a miss of the rule and never raised; a
condition is then false, a key None, the rest as it is without the rule.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeVar

from bridges.queues.conditions import Condition
from bridges.queues.sources import (
    as_key,
    as_priority,
    as_seconds,
    depends_on_topic_only,
    source,
)
from bridges.queues.subject import Miss
from bridges.queues.templates import Template
from broker.queues.entry import Entry
from broker.queues.policy import DEFAULT_PRIORITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridges.queues.subject import Subject
    from broker.settings import RouteSettings

V = TypeVar("V")
WHOLE = 100  # per cent


class Route:
    """Made by `Rules.compile`. `low` is where its share of the split begins."""

    __slots__ = (
        "_dedup_id",
        "_delay",
        "_hash",
        "_key",
        "_priority",
        "_ttl",
        "condition",
        "high",
        "is_fixed",
        "is_open",
        "label",
        "low",
        "misses",
        "settings",
        "templates",
    )

    def __init__(self, settings: RouteSettings, label: str, low: int = 0) -> None:
        """Raises ConditionError."""
        self.settings = settings
        self.label = label
        self.low, self.high = low, low + settings.share
        self.misses = 0
        self.condition = Condition(settings.when) if settings.when else None
        self.templates = [Template(text) for text in settings.publish_to]
        self.is_open = not settings.when and settings.share == WHOLE  # it takes all messages
        self.is_fixed = self._depends_on_topic_only()  # its entries are the same for all of a topic
        self._hash = blake2b((settings.split or label).encode(), digest_size=8)
        self._key = source(settings.key) if settings.key else None
        self._dedup_id = source(settings.dedup_id) if settings.dedup_id else None
        self._priority = _value(settings.priority)
        self._delay = _value(settings.delay)
        self._ttl = _value(settings.ttl)

    def takes(self, subject: Subject) -> bool:
        """Whether the message is one of its own."""
        if self.condition is not None and not self._holds(self.condition, subject):
            return False
        return self.settings.share == WHOLE or self.low <= self.point(subject) < self.high

    def point(self, subject: Subject) -> int:
        """Where the message stands among all, 0 to 99: by its key, or by itself without one."""
        key = self._read(self._key, as_key, None, subject)
        digest = self._hash.copy()
        if key is None:
            digest.update(subject.topic.encode(errors="surrogatepass") + b"\0" + subject.payload)
        else:
            digest.update(key.encode())
        return int.from_bytes(digest.digest()) % WHOLE

    def entries(self, subject: Subject) -> tuple[Entry, ...]:
        """How the message stands in each of the queues."""
        key = self.key(subject)
        kept = DEFAULT_PRIORITY if subject.priority is None else subject.priority
        priority = self._or_read(self._priority, as_priority, kept, subject)
        delay = self._or_read(self._delay, as_seconds, 0.0, subject)
        ttl = self._or_read(self._ttl, as_seconds, 0.0, subject) or None
        dedup_id = self._read(self._dedup_id, as_key, None, subject)
        return tuple(
            Entry(queue, key, priority, delay, ttl, dedup_id, self.label)
            for queue in self.settings.targets
        )

    def topics(self, subject: Subject) -> Iterator[str]:
        """The topics that the message is published to."""
        key = self.key(subject)
        for template in self.templates:
            try:
                yield template.topic(subject, key)
            except Miss:
                self.misses += 1

    def key(self, subject: Subject) -> str | None:
        """The key that the message gets, or else keeps."""
        return self._read(self._key, as_key, subject.key, subject)

    def missing(self, subject: Subject) -> Iterator[tuple[str, str]]:
        """What it would take from the message and cannot, and why."""
        conversions = {
            "key": (self._key, as_key),
            "priority": (self._priority, as_priority),
            "delay": (self._delay, as_seconds),
            "ttl": (self._ttl, as_seconds),
            "dedup_id": (self._dedup_id, as_key),
        }
        for name, (value, convert) in conversions.items():
            yield from _why_missing(name, value, convert, subject)
        for template in self.templates:
            yield from _why_missing(template.text, self._topic_of(template), str, subject)

    def _topic_of(self, template: Template) -> Callable[[Subject], str]:
        return lambda subject: template.topic(subject, self.key(subject))

    def _depends_on_topic_only(self) -> bool:
        each = self.settings
        sources = (each.key, each.priority, each.delay, each.ttl, each.dedup_id)
        taken = (text for text in sources if isinstance(text, str) and text)
        return all(depends_on_topic_only(text) for text in taken)

    def _holds(self, condition: Condition, subject: Subject) -> bool:
        try:
            return condition.holds(subject)
        except Miss:
            self.misses += 1
            return False

    def _or_read(
        self, value: Any, convert: Callable[[object], V], otherwise: V, subject: Subject
    ) -> V:
        """A value that the settings have, or take from the message."""
        if value is None:
            return otherwise
        if not callable(value):
            fixed: V = value
            return fixed
        return self._read(value, convert, otherwise, subject)

    def _read(
        self,
        take: Callable[[Subject], Any] | None,
        convert: Callable[[object], V],
        otherwise: V,
        subject: Subject,
    ) -> V:
        if take is None:
            return otherwise
        try:
            return convert(take(subject))
        except Miss:
            self.misses += 1
            return otherwise


def _value(setting: float | str) -> Any:
    """None for what is not said, a number, or what takes it from a message."""
    if isinstance(setting, str):
        return source(setting) if setting else None
    return setting


def _why_missing(
    name: str, value: Any, convert: Callable[[object], Any], subject: Subject
) -> Iterator[tuple[str, str]]:
    if callable(value):
        try:
            convert(value(subject))
        except Miss as miss:
            yield name, str(miss)
