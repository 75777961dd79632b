"""Topics with placeholders, `alarms/{3}`: where rules publish what comes out of a queue.

Rule kept here: what is filled in is one level of a topic, so nobody can reach another topic by a
key or a client id of their making.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bridges.queues.subject import Miss

if TYPE_CHECKING:
    from bridges.queues.subject import Subject

PLACEHOLDER = re.compile(r"\{(\d+|key|client)\}")
FORBIDDEN = frozenset("/+#\0")
LONGEST_TOPIC = 65_535  # bytes


class Template:
    """One topic to publish to."""

    __slots__ = ("_parts", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = PLACEHOLDER.split(text)  # text, name, text, name, ... text

    @property
    def filter(self) -> str:
        """A topic filter that matches whatever can come out."""
        levels = self.text.split("/")
        return "/".join("+" if PLACEHOLDER.search(level) else level for level in levels)

    def topic(self, subject: Subject, key: str | None) -> str:
        """The topic for one message. Raises Miss."""
        parts = list(self._parts)
        for index in range(1, len(parts), 2):
            parts[index] = _filled(parts[index], subject, key)
        topic = "".join(parts)
        if not topic or topic.startswith("$") or len(topic.encode()) > LONGEST_TOPIC:
            raise Miss(f"{topic[:60]!r} is not a topic to publish to")
        return topic


def _filled(name: str, subject: Subject, key: str | None) -> str:
    value = _value(name, subject, key)
    if FORBIDDEN.isdisjoint(value):
        return value
    raise Miss(f"{{{name}}} is {value[:60]!r}, which is not one level of a topic")


def _value(name: str, subject: Subject, key: str | None) -> str:
    if name == "client":
        return subject.client
    if name == "key":
        if key is None:
            raise Miss("the message has no key")
        return key
    place = int(name)
    if place > len(subject.levels):
        raise Miss(f"the topic has no level {place}")
    return subject.levels[place - 1]
