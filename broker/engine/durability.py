"""How much an acknowledgement promises: the levels, and which of them holds for a topic."""

from __future__ import annotations

from enum import IntEnum

from broker.topics.filters import matches

BROKERS_OWN = "$SYS/"  # said anew after every start


class Level(IntEnum):
    """What has happened to a message when its publisher is told that it is taken."""

    MEMORY = 0  # it is in memory, and nowhere else
    RELAXED = 1  # it is in memory, and will be written soon
    COMMIT = 2  # it is written: the end of the process does not harm it, that of the power may
    STRICT = 3  # it is on the disk


class Levels:
    """The level for every topic: of the first filter that matches it, else the default."""

    __slots__ = ("_by_filter", "default", "highest")

    def __init__(
        self,
        default: Level = Level.STRICT,
        by_filter: tuple[tuple[str, Level], ...] = (),
    ) -> None:
        self.default = default
        self._by_filter = by_filter
        self.highest = max((level for _, level in by_filter), default=default)
        self.highest = max(self.highest, default)  # somebody may have been promised so much

    def of(self, topic: str) -> Level:
        """The level that holds for a topic."""
        if topic.startswith(BROKERS_OWN):
            return Level.MEMORY
        for topic_filter, level in self._by_filter:
            if matches(topic_filter, topic):
                return level
        return self.default
