"""A Notebook whose pages are in the file: reads are from memory, writes go to the Writer.

Of devices that are away the last ones are remembered, as many as are allowed and as there is room
for what is known of them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from bridges.gateway.keeping_pending import DeviceKey
from bridges.mqttsn.ports import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from bridges.gateway.keeping_pending import DeviceChanges, KeptTopic, Pending
    from bridges.gateway.keeping_writer import Writer
    from bridges.mqttsn.ports import Note

MOST_AWAY: Final = 10_000
MOST_BYTES: Final = 32 << 20  # of names and wills, of all devices; those that are here stay
MOST_WAITING: Final = 16  # callbacks for one registration
_OVERHEAD: Final = 256  # bytes of a note


class KeptNotebook:
    """See Notebook. One gateway's; `number` gives a higher number with each call."""

    def __init__(self, gateway: str, writer: Writer, number: Callable[[], int]) -> None:
        self._gateway = gateway
        self._writer = writer
        self._number = number
        self._notes: dict[str, Note] = {}
        self._topics: dict[str, dict[int, str]] = {}
        self._away: dict[str, None] = {}  # the longest away first
        self._bytes = 0
        # client id -> topic id -> who waits for it to be kept
        self._waiting: defaultdict[str, dict[int, list[Callable[[], None]]]] = defaultdict(dict)

    # -- what was in the file ---------------------------------------------------------------------

    def load_note(self, note: Note) -> None:
        """In the order in which they were written."""
        self._take_note(note)

    def load_topic(self, client_id: str, topic_id: int, name: str) -> None:
        """After all notes."""
        self._take_topic(client_id, topic_id, name)

    def trim(self) -> None:
        """Keep the bounds after loading."""
        self._make_room()

    def clear(self) -> None:
        """Forget all devices."""
        for client_id in [*self._notes, *(self._topics.keys() - self._notes.keys())]:
            self.forget(client_id)

    # -- Notebook ---------------------------------------------------------------------------------

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
        """See Notebook. What is there already is not written again: flash memory wears out."""
        if self._notes.get(note.client_id) == note:
            return
        number = self._number()

        def change(changes: DeviceChanges) -> None:
            changes.note, changes.number = note, number

        if self._change(note.client_id, change):
            self._take_note(note)
            self._make_room()

    def add_topic(
        self, client_id: str, topic_id: int, topic: str, done: Callable[[], None]
    ) -> None:
        """See Notebook."""
        waiting = self._waiting.get(client_id, {}).get(topic_id)
        if self.topics(client_id).get(topic_id) == topic:
            if waiting is None:
                done()
            elif len(waiting) < MOST_WAITING:
                waiting.append(done)
            return

        def change(changes: DeviceChanges) -> None:
            changes.topics[topic_id] = topic
            self._waiting[client_id][topic_id] = [done]

        if self._change(client_id, change):
            self._take_topic(client_id, topic_id, topic)
            self._make_room()

    def when_kept(self, done: Callable[[], None]) -> None:
        """See Notebook."""
        self._writer.change(lambda pending: pending.wait(done))

    def forget(self, client_id: str) -> None:
        """See Notebook. Nobody who waits hears of it any more."""
        if client_id not in self._notes and client_id not in self._topics:
            return
        self._writer.change(lambda pending: pending.forget(DeviceKey(self._gateway, client_id)))
        self._waiting.pop(client_id, None)
        self._away.pop(client_id, None)
        note = self._notes.pop(client_id, None)
        if note is not None:
            self._bytes -= _size(note)
        self._bytes -= sum(map(len, self._topics.pop(client_id, {}).values()))

    # -- the writer's answer ----------------------------------------------------------------------

    def on_kept(self, kept: KeptTopic) -> None:
        """A registration is safe: tell who waits, unless it means something else by now."""
        waiting = self._waiting.get(kept.client_id, {})
        if self.topics(kept.client_id).get(kept.topic_id) != kept.name:
            return
        callbacks = waiting.pop(kept.topic_id, [])
        if not waiting:
            self._waiting.pop(kept.client_id, None)
        for done in callbacks:
            done()

    # -- helpers ----------------------------------------------------------------------------------

    def _change(self, client_id: str, change: Callable[[DeviceChanges], None]) -> bool:
        """Have something written; False: so much waits for the disk that this has to come again."""
        is_noted = False

        def note(pending: Pending) -> None:
            nonlocal is_noted
            changes = pending.device(DeviceKey(self._gateway, client_id))
            if changes is not None:
                change(changes)
                is_noted = True

        self._writer.change(note)
        return is_noted

    def _take_note(self, note: Note) -> None:
        client_id = note.client_id
        before = self._notes.get(client_id)
        self._bytes += _size(note) - (0 if before is None else _size(before))
        self._notes[client_id] = note
        self._away.pop(client_id, None)
        if note.stage is Stage.AWAY:
            self._away[client_id] = None

    def _take_topic(self, client_id: str, topic_id: int, name: str) -> None:
        if client_id not in self._notes:
            self._away[client_id] = None
        names = self._topics.setdefault(client_id, {})
        self._bytes += len(name) - len(names.get(topic_id, ""))
        names[topic_id] = name

    def _make_room(self) -> None:
        while self._away and (len(self._away) > MOST_AWAY or self._bytes > MOST_BYTES):
            self.forget(next(iter(self._away)))


def _size(note: Note) -> int:
    will = note.will
    return _OVERHEAD + (0 if will is None else len(will.topic) + len(will.message))
