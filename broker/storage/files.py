"""Files that change places: one store file for another, and nothing is lost in between.

Rule kept here: a write-ahead log never lies beside a file that it does not belong to, and nothing
is written over that somebody may want back.
"""

import os
from contextlib import suppress
from pathlib import Path


def switch(path: Path, ready: Path, moved_to: Path) -> None:
    """Put `ready` in the place of `path`, which goes with its log to `moved_to`."""
    with suppress(FileNotFoundError):
        Path(f"{path}-wal").rename(f"{moved_to}-wal")
    Path(f"{path}-shm").unlink(missing_ok=True)  # says nothing that the log does not say
    if path.exists():
        _give_other_name(path, moved_to)
    ready.replace(path)
    sync(path.parent)


def free_name(path: Path, ending: str) -> Path:
    """`<name>.<ending>`, with a number behind it if that is taken."""
    name = path.with_name(f"{path.name}.{ending}")
    number = 1
    while name.exists() or Path(f"{name}-wal").exists():
        number += 1
        name = path.with_name(f"{path.name}.{ending}-{number}")
    return name


def sync(path: Path) -> None:
    """Return when the file, or the names in the folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _give_other_name(path: Path, name: Path) -> None:
    """Where links exist, the place is never empty meanwhile."""
    try:
        name.hardlink_to(path)
    except OSError:
        path.rename(name)


def waiting_restore(path: Path) -> Path:
    """Where a backup waits for the broker's next start."""
    return path.with_name(f"{path.name}.restore")
