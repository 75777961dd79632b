"""A notebook in memory: for tests, and for gateways that may forget everything with a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridges.mqttsn.ports import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bridges.mqttsn.ports import Note


class MemoryNotebook:
    """A Notebook; of devices that are away, the `most` last ones are remembered."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._notes: dict[str, Note] = {}
        self._away: dict[str, None] = {}  # the longest away first
        self._topics: dict[str, dict[int, str]] = {}

    def notes(self) -> Iterable[Note]:
        """See Notebook."""
        return list(self._notes.values())

    def read(self, client_id: str) -> Note | None:
        """See Notebook."""
        return self._notes.get(client_id)

    def topics(self, client_id: str) -> Mapping[int, str]:
        """See Notebook."""
        return self._topics.get(client_id, {})

    def write(self, note: Note) -> None:
        """See Notebook."""
        self._notes[note.client_id] = note
        self._away.pop(note.client_id, None)
        if note.stage is Stage.AWAY:
            self._away[note.client_id] = None
            if len(self._away) > self._most:
                self.forget(next(iter(self._away)))

    def add_topic(
        self, client_id: str, topic_id: int, topic: str, done: Callable[[], None]
    ) -> None:
        """See Notebook."""
        self._topics.setdefault(client_id, {})[topic_id] = topic
        done()

    def when_kept(self, done: Callable[[], None]) -> None:
        """See Notebook."""
        done()

    def forget(self, client_id: str) -> None:
        """See Notebook."""
        self._notes.pop(client_id, None)
        self._away.pop(client_id, None)
        self._topics.pop(client_id, None)
