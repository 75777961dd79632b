"""What has changed and is not yet in the file: of each thing the latest state, not its history.

So a disk that is full for an hour costs as much memory as there are devices, and a device that has
come and gone within one commit costs two deletions that find nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table

    from bridges.gateway.orders import Stage
    from bridges.mqttsn.ports import Note

Rows = dict[tuple["Table", str], "dict[str, Any] | None"]  # None: delete it

MOST_PENDING: Final = 20_000  # devices, and rows of the other tables


class DeviceKey(NamedTuple):
    """Each gateway has devices of its own."""

    gateway: str
    client_id: str


class KeptTopic(NamedTuple):
    """A registration that is safe now."""

    gateway: str
    client_id: str
    topic_id: int
    name: str


@dataclass(slots=True)
class DeviceChanges:
    """First everything is forgotten, if at all; then the rest is written."""

    forgets: bool = False
    note: Note | None = None
    number: int = 0
    topics: dict[int, str] = field(default_factory=dict)

    def then(self, later: DeviceChanges) -> DeviceChanges:
        """Both, one after the other."""
        if later.forgets:
            return later
        self.topics.update(later.topics)
        if later.note is not None:
            self.note, self.number = later.note, later.number
        return self


class Pending:
    """Filled by the loop, taken by the thread; guarded by the Writer's lock."""

    __slots__ = ("devices", "outcomes", "rows", "waiting")

    def __init__(self) -> None:
        self.devices: dict[DeviceKey, DeviceChanges] = {}
        self.rows: Rows = {}
        self.outcomes: dict[int, tuple[Stage, str]] = {}  # of orders, by their numbers
        self.waiting: list[Callable[[], None]] = []  # for all of it to be safe

    def __bool__(self) -> bool:
        return bool(self.has_changes or self.waiting)

    @property
    def has_changes(self) -> bool:
        """Whether there is something to write."""
        return bool(self.devices or self.rows or self.outcomes)

    def device(self, key: DeviceKey) -> DeviceChanges | None:
        """The place for what has changed with a device; None: too much waits already."""
        changes = self.devices.get(key)
        if changes is None and len(self.devices) < MOST_PENDING:
            changes = self.devices[key] = DeviceChanges()
        return changes

    def forget(self, key: DeviceKey) -> None:
        """What has not been written need not be."""
        if key in self.devices or len(self.devices) < MOST_PENDING:
            self.devices[key] = DeviceChanges(forgets=True)

    def put(self, table: Table, key: str, row: dict[str, Any] | None) -> None:
        """A row of one of the tables that have a single key."""
        if (table, key) in self.rows or len(self.rows) < MOST_PENDING:
            self.rows[table, key] = row

    def wait(self, done: Callable[[], None]) -> None:
        """Call `done` when all that is here is safe."""
        if len(self.waiting) < MOST_PENDING:
            self.waiting.append(done)

    def put_back(self, older: Pending) -> None:
        """What could not be written is written together with what has come since."""
        for key, changes in self.devices.items():
            before = older.devices.get(key)
            older.devices[key] = changes if before is None else before.then(changes)
        self.devices = older.devices
        self.rows = older.rows | self.rows
        self.outcomes = older.outcomes | self.outcomes
        self.waiting = (older.waiting + self.waiting)[:MOST_PENDING]

    def kept_topics(self) -> list[KeptTopic]:
        """The registrations in it."""
        return [
            KeptTopic(*key, topic_id, name)
            for key, changes in self.devices.items()
            for topic_id, name in changes.topics.items()
        ]
