"""How a database of an older release becomes one of this: Alembic's revisions, one file each.

Imported only when they are needed: a database that is new or up to date never pays for Alembic.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

if TYPE_CHECKING:
    from sqlalchemy import Connection


def configuration(connection: Connection | None = None) -> Config:
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def knows(revision: str) -> bool:
    """Whether this release knows how to go on from that revision."""
    try:
        ScriptDirectory.from_config(configuration()).get_revision(revision)
    except CommandError:
        return False
    return True


def upgrade(connection: Connection, target: str = "head") -> None:
    """In the connection's transaction, which the caller commits."""
    command.upgrade(configuration(connection), target)
