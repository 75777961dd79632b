"""What the store keeps for a durable session, and what of its backlog lies only there.

The session says "something has changed" (`touch`, `take`); the journal compares, when it next
writes, what is with what was written. So whatever began and ended in between is never written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.session.ports import Shelf
    from broker.session.session import Session


class Record:
    """The durable side of one session; `id` is its number in the store.

    `cursor` is the number of the last message taken out of what waits: those with higher numbers
    still do. `inflight` (packet id -> number of the message, 0 once it is released) and `received`
    are what the store holds now. `behind` messages of `behind_size` bytes wait in the store and not
    in memory; `loaded` is the number of the last one that was brought into memory.
    """

    __slots__ = (
        "behind",
        "behind_size",
        "cold_finished",
        "cursor",
        "expires_at",
        "full_since",
        "id",
        "in_order",
        "inflight",
        "is_cold",
        "is_dirty",
        "is_full",
        "is_over",
        "loaded",
        "loading",
        "purge_at",
        "received",
        "row",
        "shelf",
        "since",
        "since_size",
        "trimming",
        "written_cursor",
    )

    def __init__(self, number: int, shelf: Shelf, cursor: int) -> None:
        self.id = number
        self.shelf = shelf
        self.cursor = self.loaded = cursor
        self.inflight: dict[int, int] = {}
        self.received: set[int] = set()
        self.row: tuple[object, ...] | None = None  # as the store has it, without the cursor
        self.written_cursor = cursor
        self.is_dirty = False
        self.is_over = False  # the session has ended
        self.expires_at: float | None = None  # on the engine's clock
        # After a restart, until the client comes: what was in flight has not been read yet.
        self.is_cold = False
        self.cold_finished = 0
        self.behind = self.behind_size = 0
        self.since = self.since_size = 0  # of them, what came while a page is being loaded
        self.loading: object | None = None
        self.trimming: object | None = None
        self.in_order = False  # what waits in the store has been trimmed since the client came
        self.is_full = False  # messages from the number `full_since` on are not for this session
        self.full_since = 0
        self.purge_at = 0.0  # when expired messages may be looked for again

    def touch(self, session: Session) -> None:
        """Something about the session has changed."""
        if not self.is_dirty:
            self.is_dirty = True
            self.shelf.touch(session)

    def take(self, session: Session, number: int) -> None:
        """A message has left what waits."""
        if number > self.cursor:
            self.cursor = number
            if number > self.loaded:
                self.loaded = number
        if not self.is_dirty:
            self.is_dirty = True
            self.shelf.touch(session)

    def count_anew(self) -> None:
        """The store is asked what waits: what comes from now on is not in its answer."""
        self.since = self.since_size = 0

    def add_behind(self, size: int) -> None:
        """One more message waits in the store."""
        self.behind += 1
        self.behind_size += size
        if self.loading is not None or self.trimming is not None:
            self.since += 1
            self.since_size += size
