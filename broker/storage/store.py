"""The store: one database, opened, written to, read, and repaired when it turns out broken.

A batch is applied once. After a commit whose end nobody has seen, the database itself is asked
which position it has reached.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from broker.storage import opening
from broker.storage.database import (
    FULL,
    READ_ONLY,
    CannotOpen,
    Damaged,
    Trouble,
    driver_errors,
    transaction,
)
from broker.storage.queues.ports import QUESTIONS as OF_QUEUES
from broker.storage.reading import Reader
from broker.storage.tables import all_tables, retained
from broker.storage.writing import Applied, Writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from broker.storage.database import Database, Operations, Row, Salvage
    from broker.storage.queues.ports import Result

SALVAGES = 2  # of one opening: what is broken again after them is not the file


class Committed(NamedTuple):
    """What became of a batch; nothing if it had been applied before."""

    seconds: float = 0.0
    rows: int = 0
    results: tuple[Result, ...] | list[Result] = ()
    counts: tuple[Row, ...] | list[Row] = ()


class Store:
    """Everything but the conversation. Trouble is raised and whatever was asked may be asked again.

    `salvage` and `retained_window` are as in the configuration frame and `salvage.py`.
    """

    __slots__ = (
        *("_alarms", "_database", "_definitions", "_marked", "_position", "_reader"),
        *("_retained_window", "_salvage", "_writer", "trouble"),
    )

    def __init__(self, database: Database, retained_window: int, salvage: Salvage) -> None:
        self._database = database
        self._retained_window = retained_window
        self._salvage = salvage
        self._writer = Writer(database.dialect)
        self._reader = Reader(database.dialect)
        self._position: int | None = None  # of the database; None: it has to be asked
        self._marked = False  # whether the database says that it is open
        self._alarms: list[str] = []
        self._definitions: list[Row] = []  # queues of the configuration
        self.trouble: Trouble | None = None  # it works, but not for everything

    # -- opening ----------------------------------------------------------------------------------

    def open(self, first: bool = True, queues: Sequence[Row] = ()) -> dict[str, Any]:
        """What the broker has to know; `first`: it knows nothing yet; `queues`: those of the
        configuration. Raises CannotOpen or Trouble.
        """
        self._definitions = list(queues)
        self._database.lock()
        if first and (restored := self._database.take_restore(stamp())) is not None:
            self._alarms.append(restored)
        for _ in range(SALVAGES):
            try:
                return self._open()
            except Damaged as damage:
                self.repair(damage)
        try:
            return self._open()
        except Damaged as damage:
            raise CannotOpen(f"the database stays broken, check the disk: {damage}") from damage

    def _open(self) -> dict[str, Any]:
        self._database.make(opening.create_schema)
        may_miss = self._database.has_lost_its_log()
        self._bring_up_to_date()
        with transaction(self._database) as connection:
            if may_miss and not opening.was_clean(connection):
                self._alarms.append(LOG_MISSING)
            opened = opening.load(connection, self._retained_window)
            definitions = [] if self._database.read_only else self._definitions
            opened |= self._writer.queues.open(connection, definitions)
        self._position = opened["meta"][0]
        self._writer.sweep_later(opening.orphans(opened["members"], opened["audiences"]))
        try:
            self._mark()
        except Trouble as trouble:  # to read is better than nothing
            self.trouble = trouble
        return opened | {
            "alarms": self.take_alarms(),
            "database": self._database.name(),
            "longest_name": self._database.longest_name,
        }

    def _bring_up_to_date(self) -> None:
        with transaction(self._database) as connection:
            state = opening.state_of_schema(connection)
        if state == opening.NEWER:
            aside = self._database.set_aside(stamp())
            self._alarms.append(NEWER.format(aside))
            self._database.make(opening.create_schema)
        elif state != opening.CURRENT:
            if self._database.read_only:
                raise CannotOpen("the database is older and read-only: make it writable")
            with transaction(self._database, synced=True) as connection:
                CHANGES[state](connection)

    def _mark(self) -> None:
        """Not closed properly until `close` says so; in the main file, for the log may get lost."""
        self._insist_on_writing()
        with transaction(self._database, synced=True) as connection:
            opening.mark(connection, clean=False)
        self._database.checkpoint()
        self._marked = True

    def _insist_on_writing(self) -> None:
        if not self._database.read_only:
            return
        self._database.forget()
        _ = self._database.connection  # made again, writable if that is now possible
        if self._database.read_only:
            raise Trouble(READ_ONLY, "the database or its folder is read-only")

    # -- working ----------------------------------------------------------------------------------

    def apply(self, position: int, synced: bool, changes: Operations) -> Committed:
        """All of the changes in one transaction, unless they have been applied before."""
        begun = time.perf_counter()
        if position <= self._known_position():
            return Committed()
        if not self._marked:
            self._mark()
        self._position = None
        try:
            applied = self._commit(synced, changes)
        except Trouble as trouble:
            if trouble.kind != FULL or not self._database.make_room():
                raise
            applied = self._commit(synced, changes)
        self._writer.committed()
        self._position = position
        self.trouble = self._database.room()
        return Committed(time.perf_counter() - begun, *applied)

    def _commit(self, synced: bool, changes: Operations) -> Applied:
        try:
            with transaction(self._database, synced=synced) as connection:
                return self._writer.apply(connection, changes)
        except (DBAPIError, driver_errors(self._database.dialect)) as error:
            # A fault of ours: it must not stand in the way for ever.
            return self._apply_what_works(synced, changes, error)

    def _apply_what_works(self, synced: bool, changes: Operations, error: Exception) -> Applied:
        """A batch with a row that the database refuses: all the other rows."""
        with transaction(self._database, synced=synced) as connection:
            applied, refused = self._writer.apply_row_by_row(connection, changes)
        why = str(getattr(error, "orig", error)).strip()
        self._alarms.append(REFUSED.format(len(refused), ", ".join(sorted(set(refused))), why))
        return applied

    def _known_position(self) -> int:
        if self._position is None:
            with transaction(self._database) as connection:
                self._position = opening.position_of(connection)
        return self._position

    def answer(self, name: str, arguments: Row) -> Any:
        with transaction(self._database) as connection:
            if name == "stats":
                return self._stats(connection)
            if name in OF_QUEUES:
                return self._writer.queues.answer(connection, name, arguments)
            return self._reader.answer(connection, name, arguments)

    def _stats(self, connection: Connection) -> dict[str, Any]:
        count = {
            str(table.name): connection.execute(
                select(func.count()).select_from(table)
            ).scalar_one()
            for table in all_tables(connection.dialect)
        }
        size = connection.execute(select(func.sum(retained.c.size))).scalar()
        return {
            "database": self._database.name(),
            **self._database.sizes(),
            "rows": count,
            "retained_bytes": int(size or 0),
            "position": opening.position_of(connection),
        }

    @property
    def notices(self) -> int | None:
        """The file descriptor by which the database calls, if it does."""
        return self._database.notices

    def take_notices(self) -> list[str]:
        """Names of queues in which something has become ready."""
        return self._database.take_notices()

    @property
    def is_tidy(self) -> bool:
        return self._writer.is_swept or self._database.read_only

    def tidy(self) -> None:
        """Deletes a piece of what nobody waits for any more. For when there is nothing to do."""
        with transaction(self._database, synced=False) as connection:
            self._writer.sweep(connection)
        self._writer.committed()
        self.trouble = self._database.room()

    def probe(self) -> None:
        """Whether `trouble` is over. Raises Trouble when writing does not work at all."""
        if not self._marked:
            self._mark()
        self.trouble = self._database.room()

    # -- damage and the end -----------------------------------------------------------------------

    def repair(self, damage: Damaged) -> None:
        """Replaces the database by what can be read of it."""
        salvaged = self._database.salvage(self._salvage, stamp())
        self._alarms.append(told(damage, salvaged))
        self._position = None
        self._marked = False

    def take_alarms(self) -> list[str]:
        alarms, self._alarms = self._alarms, []
        return alarms

    def close(self) -> None:
        """Everything is in the main file afterwards, and it says so."""
        if self._marked:
            with suppress(Trouble, Damaged), transaction(self._database, synced=True) as connection:
                opening.mark(connection, clean=True)
            with suppress(Exception):
                self._database.checkpoint()
        self._database.close()


CHANGES = {opening.NEW: opening.create_schema, opening.OLDER: opening.migrate}

LOG_MISSING = (
    "the write-ahead log is missing beside a database that was not closed properly: what was "
    "stored last before the crash may be lost. Never copy or delete one of the two files alone; "
    "heliograph store backup copies them properly"
)
REFUSED = (
    "the database has refused {} rows ({}): {}. They are lost, everything else is stored. This is "
    "a defect of Heliograph: please report it"
)
NEWER = (
    "the database was written by a newer release of Heliograph. It is now {}, and the broker has "
    "started with an empty one. Run the newer release to have it back"
)


def told(damage: Damaged, salvaged: Any) -> str:
    """A sentence for the operator."""
    saved = ", ".join(f"{count} of {name}" for name, count in salvaged.rows.items() if count)
    lost = "; ".join(salvaged.lost)
    return (
        f"the database was damaged ({damage}). It is now {salvaged.moved_to}, and a new one holds "
        f"what could be read: {saved or 'nothing'}. Lost: {lost or 'nothing that is known of'}. "
        "Check the disk or the SD card, and restore a backup if more is needed"
    )


def stamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
