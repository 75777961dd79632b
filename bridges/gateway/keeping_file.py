"""The file: made, opened, read whole, and written to in one transaction for everything that waits.

What is damaged or of a newer version is moved aside; of a damaged file the decisions of people
(who is accepted, who is rejected) are saved. Topic registrations are not: a table with holes would
give an id a second meaning, while an empty one lets devices register anew.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError

from bridges.gateway import keeping_tables as tables
from bridges.gateway.orders import FINAL, MOST_ORDERS, NOW_OR_NEVER, Kind, Order, Stage
from bridges.mqttsn.ports import Address, Note, Will
from bridges.mqttsn.ports import Stage as DeviceStage
from broker.storage.damaged import DamagedTable, Source, connect
from broker.storage.database import CannotOpen, Damaged, Trouble, transaction
from broker.storage.files import free_name
from broker.storage.rows import Text
from broker.storage.sqlite import SQLiteDatabase, size_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

    from bridges.gateway.keeping_pending import DeviceChanges, DeviceKey, Pending, Rows

STALE: Final = 60.0  # seconds after which nobody waits for a reset or a file any more
AT_ONCE: Final = 64  # orders


class KeepingError(Exception):
    """The file cannot be used; the text says what to do."""


class NewerError(Exception):
    """A later Heliograph has written it."""


@dataclass(slots=True)
class Content:
    """All that is in the file, orders excepted; notes in the order in which they were written."""

    notes: list[tuple[str, Note, int]] = field(default_factory=list)  # gateway, note, number
    topics: list[tuple[str, str, int, str]] = field(default_factory=list)
    approvals: list[tuple[str, str, str | None]] = field(default_factory=list)
    quarantine: list[tuple[str, str, str, int, float]] = field(default_factory=list)
    bauds: list[tuple[str, int, int]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


class File:
    """One connection, of the thread that has opened it. `told` are sentences for the log."""

    __slots__ = ("_database", "_path", "_version", "told")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = SQLiteDatabase(path, begin="BEGIN IMMEDIATE")
        self._version = -1
        self.told: list[str] = []

    def open(self) -> Content:
        """Lock it and read it. Raises KeepingError."""
        try:
            self._lock()
            return self._content()
        except KeepingError:
            self.close()
            raise
        except (CannotOpen, Trouble, OSError) as error:
            self.close()
            raise KeepingError(
                f"{self._path} cannot be used: {error}. Make the file and its folder readable and "
                "writable for the gateway, and see that its disk has room"
            ) from error

    def write(self, batch: Pending) -> None:
        """Commit all of it, synced. Raises Trouble or Damaged; then nothing is committed."""
        with transaction(self._database, synced=True) as connection:
            _write_devices(connection, batch.devices)
            _write_rows(connection, batch.rows)
            for number, (stage, text) in batch.outcomes.items():
                _tell_outcome(connection, number, stage, text)

    def take_orders(self) -> list[Order]:
        """Those that are new; nobody gets them again. Raises Trouble or Damaged."""
        made: Any = self._database.connection.connection.driver_connection
        try:  # changes when somebody else has written: no table is looked at for nothing
            (version,) = made.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error as error:
            self._database.forget()
            raise self._database.explain(error) from error
        if version == self._version:
            return []
        with transaction(self._database, synced=True) as connection:
            orders, are_all = _take(connection)
        self._version = version if are_all else -1
        return orders

    def forget(self) -> None:
        """Connect anew for the next transaction."""
        self._database.forget()
        self._version = -1

    def close(self) -> None:
        """Give the lock back."""
        with suppress(Exception):
            self._database.close()

    def _lock(self) -> None:
        try:
            self._database.lock()
        except CannotOpen as error:
            raise KeepingError(
                f"another gateway uses {self._path}: stop it, or give each one a folder of its own "
                "(data_dir)"
            ) from error

    def _content(self) -> Content:
        saved: list[dict[str, Any]] = []
        try:
            return self._read()
        except (Damaged, DBAPIError, sqlite3.Error, UnicodeDecodeError) as error:
            saved = self._set_aside("damaged", f"is damaged ({getattr(error, 'orig', error)})")
        except NewerError:
            self._set_aside("newer", "was written by a newer Heliograph")
        content = self._read()
        if saved:
            with transaction(self._database, synced=True) as connection:
                connection.execute(insert(tables.approval), saved)
            content.approvals = [
                (row["client_id"], row["verdict"], row["address"]) for row in saved
            ]
        return content

    def _read(self) -> Content:
        self._database.make(_create)
        with transaction(self._database, synced=True) as connection:
            if self._database.read_only:
                raise KeepingError(f"{self._path} is read-only: make it and its folder writable")
            _check_version(connection)
            _end_old_orders(connection)
            return _read_all(connection)

    def _set_aside(self, ending: str, what: str) -> list[dict[str, Any]]:
        """Make place for a new one; the decisions that can still be read."""
        self._database.forget()
        stamp = time.strftime("%Y%m%d-%H%M%S")
        aside = free_name(self._path, f"{ending}-{stamp}")
        for suffix in ("-wal", "-shm", ""):  # the file last: an interrupted move is done again
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        saved = _decisions(aside) if ending == "damaged" else []
        self.told.append(
            f"{self._path} {what}; it is now {aside}, and a new one begins. Devices have to "
            "connect and register their topics again; decisions about devices that could be "
            f"saved: {len(saved)}"
        )
        return saved


# ---- reading ----


def _create(connection: Connection) -> None:
    path = connection.exec_driver_sql("PRAGMA database_list").one()[2]
    Path(path).chmod(0o600)  # wills and files are in it
    tables.create(connection)


def _check_version(connection: Connection) -> None:
    owner = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if owner != tables.APPLICATION_ID or version < 1:
        raise Damaged("it is another program's")
    if version > tables.VERSION:
        raise NewerError
    if version < tables.VERSION:
        tables.migrate(connection, version)


def _end_old_orders(connection: Connection) -> None:
    order = tables.order
    was_taken = order.c.stage == Stage.TAKEN.value
    connection.execute(
        update(order)
        .where(was_taken)
        .values(stage=Stage.FAILED.value, outcome="the gateway ended before it was done")
    )
    is_stale = (
        (order.c.stage == Stage.WAITING.value)
        & order.c.kind.in_([kind.value for kind in NOW_OR_NEVER])
        & (order.c.made < time.time() - STALE)
    )
    connection.execute(
        update(order)
        .where(is_stale)
        .values(stage=Stage.FAILED.value, outcome="no gateway was running")
    )


def _read_all(connection: Connection) -> Content:
    def rows(table: Table) -> list[Any]:
        return list(connection.execute(select(table)))

    try:
        notes = [_note_of(row) for row in rows(tables.note)]
        return Content(
            sorted(notes, key=lambda each: each[2]),
            [tuple(row) for row in rows(tables.topic)],
            [tuple(row) for row in rows(tables.approval)],
            [tuple(row) for row in rows(tables.quarantine)],
            sorted((tuple(row) for row in rows(tables.baud)), key=lambda each: each[2]),
            [row.topic for row in rows(tables.told)],
        )
    except (ValueError, TypeError) as error:
        raise Damaged(f"a row makes no sense: {error}") from error


def _note_of(row: Any) -> tuple[str, Note, int]:
    will = None
    if row.will_topic is not None:
        will = Will(row.will_topic, row.will_message, row.will_qos, bool(row.will_retain))
    note = Note(
        row.client_id,
        Address(row.peer, row.node),
        DeviceStage(row.stage),
        bool(row.clean_session),
        row.keep_alive,
        row.sleep,
        will,
    )
    return row.gateway, note, row.number


def _decisions(path: Path) -> list[dict[str, Any]]:
    """What can be read of the table of decisions in a damaged file."""
    source = Source("approval", ("client_id",), (Text(b""),), ("client_id", "verdict", "address"))
    found: dict[str, dict[str, Any]] = {}
    if not size_of(path):
        return []
    connection = connect(str(path))
    try:
        for row in DamagedTable(connection, source).rows():
            client_id, verdict, address = (_plain(each) for each in row)
            if client_id and verdict in {"accepted", "rejected"}:
                found[client_id] = {
                    "client_id": client_id,
                    "verdict": verdict,
                    "address": address,
                }
    except (sqlite3.Error, UnicodeDecodeError):  # the texts of SQLite's errors quote what is broken
        pass  # no more of it
    finally:
        connection.close()
    return list(found.values())


def _plain(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else None


# ---- writing ----


def _write_devices(connection: Connection, devices: dict[DeviceKey, DeviceChanges]) -> None:
    forgotten = [
        {"the_gateway": key.gateway, "the_client": key.client_id}
        for key, changes in devices.items()
        if changes.forgets
    ]
    if forgotten:
        connection.execute(_FORGET_NOTE, forgotten)
        connection.execute(_FORGET_TOPICS, forgotten)
    notes = [
        _row_of(key, changes.note, changes.number)
        for key, changes in devices.items()
        if changes.note is not None
    ]
    if notes:
        connection.execute(_UPSERTS[tables.note], notes)
    registered = [
        {**key._asdict(), "topic_id": topic_id, "name": name}
        for key, changes in devices.items()
        for topic_id, name in changes.topics.items()
    ]
    if registered:
        connection.execute(_UPSERTS[tables.topic], registered)


def _row_of(key: DeviceKey, note: Note, number: int) -> dict[str, Any]:
    will = note.will
    return {
        "gateway": key.gateway,
        "client_id": key.client_id,
        "peer": note.address.peer,
        "node": note.address.node,
        "stage": note.stage.value,
        "clean_session": note.clean_session,
        "keep_alive": note.keep_alive,
        "sleep": note.sleep,
        "will_topic": None if will is None else will.topic,
        "will_message": None if will is None else will.message,
        "will_qos": 0 if will is None else will.qos,
        "will_retain": will is not None and will.retain,
        "number": number,
    }


def _write_rows(connection: Connection, rows: Rows) -> None:
    written: defaultdict[Table, list[dict[str, Any]]] = defaultdict(list)
    deleted: defaultdict[Table, list[dict[str, Any]]] = defaultdict(list)
    for (table, key), row in rows.items():
        if row is None:
            deleted[table].append({"the_key": key})
        else:
            written[table].append(row)
    for table, keys in deleted.items():
        connection.execute(_DELETES[table], keys)
    for table, values in written.items():
        connection.execute(_UPSERTS[table], values)


def _upsert(table: Table) -> Any:
    statement = insert(table)
    keys = [column.name for column in table.primary_key.columns]
    changed = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name not in keys
    }
    if not changed:
        return statement.on_conflict_do_nothing()
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


_UPSERTS: Final = {
    table: _upsert(table) for table in tables.metadata.sorted_tables if table is not tables.order
}


def _delete(table: Table) -> Any:
    return delete(table).where(next(iter(table.primary_key.columns)) == bindparam("the_key"))


_DELETES: Final = {
    table: _delete(table)
    for table in (tables.approval, tables.quarantine, tables.baud, tables.told)
}


def _forgetting(table: Table) -> Any:
    return delete(table).where(
        table.c.gateway == bindparam("the_gateway"), table.c.client_id == bindparam("the_client")
    )


_FORGET_NOTE: Final = _forgetting(tables.note)
_FORGET_TOPICS: Final = _forgetting(tables.topic)


# ---- orders ----


def _tell_outcome(connection: Connection, number: int, stage: Stage, text: str) -> None:
    values: dict[str, Any] = {"stage": stage.value, "outcome": text}
    if stage in FINAL:
        values["payload"] = b""
    connection.execute(update(tables.order).where(tables.order.c.number == number).values(values))


def _take(connection: Connection) -> tuple[list[Order], bool]:
    """The next ones, with one file at most; and whether they are all."""
    _prune(connection)
    order = tables.order
    wanted = (order.c.number, order.c.kind, order.c.target, order.c.argument, order.c.made)
    found = connection.execute(
        select(*wanted)
        .where(order.c.stage == Stage.WAITING.value)
        .order_by(order.c.number)
        .limit(AT_ONCE)
    ).all()
    orders: list[Order] = []
    files = 0
    for row in found:
        files += row.kind == Kind.SEND.value
        if row.kind != Kind.SEND.value or files == 1:
            orders.append(_taken(connection, row))
    return orders, len(found) < AT_ONCE and files <= 1


def _taken(connection: Connection, row: Any) -> Order:
    where = tables.order.c.number == row.number
    payload = connection.execute(select(tables.order.c.payload).where(where)).scalar_one()
    connection.execute(update(tables.order).where(where).values(stage=Stage.TAKEN.value))
    return Order(row.number, Kind(row.kind), row.target, row.argument, payload, row.made)


def _prune(connection: Connection) -> None:
    order = tables.order
    highest = select(func.max(order.c.number)).scalar_subquery()
    connection.execute(
        delete(order).where(
            order.c.number <= highest - MOST_ORDERS,
            order.c.stage.in_([stage.value for stage in FINAL]),
        )
    )
