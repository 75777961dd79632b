"""What the store asks of a database, and the ways in which one may fail.

`Trouble` passes and the work is tried again; `Damaged` needs a salvage; `CannotOpen` needs a
person. Everything else that a database raises is a fault of ours and ends the process, loudly.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import ClauseElement, Connection, CursorResult, Dialect

FULL, READ_ONLY, AWAY, LOCKED = "full", "read_only", "away", "locked"

Row = tuple[Any, ...]
Operations = list[tuple[str, list[Row]]]  # of one batch, in order

# (the file, a stamp for what is moved aside) -> what came out of it, see `store.told`.
Salvage: TypeAlias = "Callable[[Path, str], Any]"


class Trouble(Exception):  # noqa: N818 - it is no error yet: the work is tried again
    """It did not work now and may work later. `kind` is one of the four above."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text


class Damaged(Exception):  # noqa: N818 - a state, and what follows is a salvage
    """What is stored cannot be read any more."""


class CannotOpen(Exception):  # noqa: N818 - named as its message to people begins
    """It will not work until somebody does what the text says."""


class Database(Protocol):
    """One connection to SQLite or PostgreSQL, made when it is needed and made again when lost."""

    dialect: Dialect
    longest_name: int  # bytes of a client id, filter or topic that an index takes; 0 = any

    @property
    def read_only(self) -> bool:
        """Whether what is connected can only be read."""

    @property
    def connection(self) -> Connection:
        """The connection. Raises Trouble, Damaged or CannotOpen when there is none to be had."""

    @property
    def notices(self) -> int | None:
        """A file descriptor that can be read when there are notices; None: there never are."""

    def take_notices(self) -> list[str]:
        """The queues in which others have made something ready, each once. Raises nothing."""

    def name(self) -> str:
        """For people: `SQLite 3.40.1`."""

    def lock(self) -> None:
        """Keep every other broker out. Raises CannotOpen when one is already in."""

    def make(self, create: Callable[[Connection], None]) -> None:
        """Make a place that is not there yet. Raises Damaged for one that has lost everything."""

    def has_lost_its_log(self) -> bool:
        """Asked before the first connection: may there have been commits that are now gone?"""

    def set_aside(self, stamp: str) -> str:
        """Make room for an empty one; where it is now. Raises CannotOpen where that is no way."""

    def take_restore(self, stamp: str) -> str | None:
        """Put a backup in place that waits for the start; a sentence, None if there is none."""

    def salvage(self, salvage: Salvage, stamp: str) -> Any:
        """Have it replaced by what can be read of it; what `salvage` returns."""

    def prepare(self, synced: bool) -> None:
        """Called before a transaction is begun: shall its commit wait for the disk?"""

    def explain(self, error: Exception) -> Exception:
        """Trouble or Damaged, or the error itself when it is our own fault."""

    def forget(self) -> None:
        """Give the connection up after a failure, without a word to the database."""

    def make_room(self) -> bool:
        """On a full disk: give up what was kept for it; whether it is worth trying again."""

    def room(self) -> Trouble | None:
        """Asked after a commit: Trouble when it has worked by using the reserve."""

    def sizes(self) -> dict[str, int]:
        """What it takes on the disk, in bytes, by kind."""

    def checkpoint(self) -> None:
        """Move everything into the main file, so that it can be trusted without its log."""

    def close(self) -> None:
        """Close it properly."""


# SQLite's complaint about a damaged schema may quote bytes that are no text. Then Python raises
# this, which is none of a driver's errors.
UNREADABLE_SCHEMA = UnicodeDecodeError
NO_TEXT = "its schema is no text"


@contextmanager
def transaction(database: Database, *, synced: bool | None = None) -> Iterator[Connection]:
    """One transaction, committed at the end. Raises what `Database.explain` makes of a failure.

    `synced` None: it changes nothing that anybody was promised.
    """
    connection = database.connection
    try:
        if synced is not None:
            database.prepare(synced)
        if not connection.in_transaction():
            connection.begin()
        yield connection
        connection.commit()
    except (DBAPIError, driver_errors(database.dialect)) as error:
        reason = explained(database, error)
        database.forget()  # also when only a statement failed: a new connection knows no past
        raise reason from error
    except BaseException:
        connection.rollback()
        raise


def explained(database: Database, error: BaseException) -> Exception:
    """What it is, or what it came from: the end of a savepoint fails, too, on a full disk."""
    cause: BaseException | None = error
    while isinstance(cause, Exception):
        reason = database.explain(cause)
        if reason is not cause:
            return reason
        cause = cause.__context__
    assert isinstance(error, Exception)
    return error


def driver_errors(dialect: Dialect) -> type[Exception]:
    """What comes from the driver where it is used past SQLAlchemy."""
    return cast("type[Exception]", dialect.loaded_dbapi.Error)


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL for the driver, made once. `parameters` are in the order of the text's placeholders."""

    text: str
    parameters: tuple[str, ...]
    constants: dict[str, Any]

    @classmethod
    def compile(cls, statement: ClauseElement, dialect: Dialect) -> Statement:
        made = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        assert isinstance(made, SQLCompiler)
        return cls(str(made), tuple(made.positiontup or ()), dict(made.params))

    def run(self, connection: Connection, **values: Any) -> CursorResult[Any]:
        known = {**self.constants, **values}
        return connection.exec_driver_sql(self.text, tuple(known[each] for each in self.parameters))

    def fetch(self, connection: Connection, **values: Any) -> list[Row]:
        """The driver's own tuples: SQLAlchemy's rows cost more, and marshal refuses them."""
        result = self.run(connection, **values)
        assert result.cursor is not None
        rows = result.cursor.fetchall()
        result.close()
        return cast("list[Row]", rows)
