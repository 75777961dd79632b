"""The gateway's file as the command line sees it: orders are given here, and their outcome is read.

Rule kept here: an order that nobody waits for any more does not happen by surprise, so whoever
gives up on a reset or a file withdraws it. Decisions about devices wait for the next gateway.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, event, func, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from bridges.gateway import keeping_tables as tables
from bridges.gateway.orders import FINAL, MOST_ORDERS, NOW_OR_NEVER, Kind, Stage
from broker.storage.sqlite import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine

PATIENCE: Final = 10.0  # seconds for a running gateway to take an order: it looks every second
BETWEEN_LOOKS: Final = 0.05
BUSY: Final = "PRAGMA busy_timeout = 5000"


class DeskError(Exception):
    """Something the person at the terminal can put right."""


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """What the file says of a device; `address` is a pattern where it is only decided about."""

    client_id: str
    state: str  # as noted: active, asleep, away; quarantined, or "" for one that never came
    gateway: str = ""
    address: str = ""
    verdict: str = ""  # accepted, rejected, "" for not decided
    attempts: int = 0
    topics: int = 0
    last_seen: float | None = None  # since 1970


class Desk:
    """The file at `path`. Everything may raise DeskError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            raise DeskError(
                f"there is no {path}: a gateway makes it when it starts with a serial port or "
                "MQTT-SN in its settings. Choose its folder with -c FILE or --data DIR"
            )
        self._engine = create_engine("sqlite://", creator=self._connect, poolclass=NullPool)
        event.listen(self._engine, "begin", _begin)
        self._writing = self._engine.execution_options(begin="BEGIN IMMEDIATE")

    def is_gateway_running(self) -> bool:
        """Whether somebody keeps the file."""
        try:
            lock = os.open(f"{self._path}.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def give(self, kind: Kind, target: str, argument: str = "", payload: bytes = b"") -> int:
        """Write an order; its number."""
        order = tables.order
        is_waiting = order.c.stage == Stage.WAITING.value
        values = {
            "kind": kind.value,
            "target": target,
            "argument": argument,
            "payload": payload,
            "made": time.time(),
            "stage": Stage.WAITING.value,
            "outcome": "",
        }
        with self._transaction(self._writing) as connection:
            count = connection.execute(select(func.count()).where(is_waiting)).scalar_one()
            if count >= MOST_ORDERS:
                raise DeskError(f"{count} orders wait already: does the gateway run?")
            return connection.execute(insert(order).values(values)).lastrowid

    def look(self, number: int) -> tuple[Stage, str]:
        """Where an order stands, and in words."""
        order = tables.order
        with self._transaction(self._engine) as connection:
            row = connection.execute(
                select(order.c.stage, order.c.outcome).where(order.c.number == number)
            ).one_or_none()
        return (Stage.FAILED, "the order is gone") if row is None else (Stage(row[0]), row[1])

    def withdraw(self, number: int) -> bool:
        """Take it back; False: it has been taken."""
        order = tables.order
        with self._transaction(self._writing) as connection:
            changed = connection.execute(
                update(order)
                .where(order.c.number == number, order.c.stage == Stage.WAITING.value)
                .values(stage=Stage.WITHDRAWN.value, payload=b"")
            )
            return changed.rowcount == 1

    def devices(self) -> list[KnownDevice]:
        """All devices of the file, by name."""
        with self._transaction(self._engine) as connection:
            found = _noted(connection)
            for row in connection.execute(select(tables.quarantine)):
                found.setdefault((row.client_id, row.gateway), _stranger(row))
            decided = _decided(connection, {client_id for client_id, _ in found})
        return sorted([*found.values(), *decided], key=lambda each: (each.client_id, each.gateway))

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.begin() as connection:
                yield connection
        except (DBAPIError, sqlite3.Error, UnicodeDecodeError) as error:
            cause = getattr(error, "orig", None) or error
            raise DeskError(
                f"{self._path} cannot be used ({cause}): run this as the gateway's user"
            ) from error

    def _connect(self) -> sqlite3.Connection:
        made = sqlite3.connect(f"file:{quoted(self._path)}?mode=rw", uri=True, isolation_level=None)
        try:
            made.execute(BUSY)
            made.execute("PRAGMA synchronous = FULL")
            self._check(made)
        except BaseException:
            made.close()
            raise
        return made

    def _check(self, made: sqlite3.Connection) -> None:
        (owner,) = made.execute("PRAGMA application_id").fetchone()
        (version,) = made.execute("PRAGMA user_version").fetchone()
        if owner != tables.APPLICATION_ID:
            raise DeskError(f"{self._path} is no file of a gateway")
        if version != tables.VERSION:
            raise DeskError(
                f"{self._path} is of version {version}, this command knows {tables.VERSION}: "
                "use the command that came with the gateway, or restart the gateway"
            )


def follow(
    desk: Desk,
    number: int,
    kind: Kind,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> tuple[bool, str]:
    """Wait for an order's end, saying how far it is; whether it is done, and in words."""
    given = now()
    said = ""
    while True:
        is_running = desk.is_gateway_running()  # before the look: it may end when all is done
        stage, text = desk.look(number)
        if stage in FINAL:
            return stage is Stage.DONE, text
        if stage is Stage.WAITING and (not is_running or now() - given > PATIENCE):
            if (ended := _end(desk, number, kind)) is not None:
                return ended
        elif stage is Stage.TAKEN and not is_running:
            return False, "the gateway ended before it was done"
        if text and text != said:
            say(text)
            said = text
        sleep(BETWEEN_LOOKS)


def _begin(connection: Connection) -> None:
    """Who reads first and writes then may find that another has written in between."""
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _end(desk: Desk, number: int, kind: Kind) -> tuple[bool, str] | None:
    """Nobody takes the order; None: somebody just has."""
    running = desk.is_gateway_running()
    why = "the gateway does not take orders" if running else "no gateway is running on this file"
    if kind not in NOW_OR_NEVER:
        return not running, f"{why}: it will be done when one starts"
    return (False, f"{why}: nothing was done") if desk.withdraw(number) else None


def _noted(connection: Connection) -> dict[tuple[str, str], KnownDevice]:
    note, topic = tables.note, tables.topic
    counts = {
        (row.client_id, row.gateway): row.registered
        for row in connection.execute(
            select(topic.c.client_id, topic.c.gateway, func.count().label("registered")).group_by(
                topic.c.gateway, topic.c.client_id
            )
        )
    }
    verdicts = _verdicts(connection)
    return {
        (row.client_id, row.gateway): KnownDevice(
            row.client_id,
            row.stage,
            row.gateway,
            row.peer if row.node is None else f"{row.peer}/{row.node.hex()}",
            verdicts.get(row.client_id, ("", None))[0],
            topics=counts.get((row.client_id, row.gateway), 0),
        )
        for row in connection.execute(select(note))
    }


def _stranger(row: Any) -> KnownDevice:
    return KnownDevice(
        row.client_id,
        "quarantined",
        row.gateway,
        row.address,
        attempts=row.attempts,
        last_seen=row.last_seen,
    )


def _decided(connection: Connection, known: set[str]) -> list[KnownDevice]:
    """Those that are decided about and have not come."""
    return [
        KnownDevice(client_id, "", "", address or "", verdict)
        for client_id, (verdict, address) in _verdicts(connection).items()
        if client_id not in known
    ]


def _verdicts(connection: Connection) -> dict[str, tuple[str, str | None]]:
    rows = connection.execute(select(tables.approval))
    return {row.client_id: (row.verdict, row.address) for row in rows}
