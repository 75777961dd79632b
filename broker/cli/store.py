"""`heliograph store`: back the store up, put a backup back, check it, say what is in it.

Rule kept here: all of it works while the broker runs. Exit code 0: good; 1: a problem was found, or
it did not work, and the message says what to do.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from broker import settings


class StoreCommandError(Exception):
    """Something the person at the terminal can put right."""


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say; 1 with a message if that cannot be done."""
    options = _parser().parse_args(arguments)
    try:
        chosen = settings.load(options.config, os.environ, overrides(options))
    except settings.SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    from sqlalchemy.exc import DBAPIError

    from broker.storage.backup import BackupError
    from broker.storage.database import NO_TEXT, UNREADABLE_SCHEMA, CannotOpen

    try:
        return ACTIONS[options.action](chosen, options)
    except (StoreCommandError, BackupError, CannotOpen, OSError) as error:
        print(f"heliograph store: {error}", file=sys.stderr)
    except DBAPIError as error:
        print(f"heliograph store: {place(chosen)} cannot be read: {error.orig}", file=sys.stderr)
    except UNREADABLE_SCHEMA:
        print(f"heliograph store: {place(chosen)} cannot be read: {NO_TEXT}", file=sys.stderr)
    return 1


def overrides(options: argparse.Namespace) -> dict[str, object]:
    """What the command line sets, with the keys of `settings.load`."""
    return {} if options.data is None else {"broker.data_dir": options.data}


def file_of(chosen: settings.Settings) -> Path:
    """SQLite's file."""
    return chosen.broker.data_dir / settings.STORE_FILE


def place(chosen: settings.Settings) -> str:
    """Where the store is, for people; without a password."""
    return chosen.store.shown_url or str(file_of(chosen))


# ---- what can be done ----


def back_up(chosen: settings.Settings, options: argparse.Namespace) -> int:
    """Write a backup."""
    from broker.storage import backup

    if chosen.store.url:
        command = backup.postgresql_backup(chosen.store.url, options.file)
        raise StoreCommandError(
            f"the store is in PostgreSQL, whose own tool backs it up:\n{command}"
        )
    size = backup.back_up(file_of(chosen), options.file)
    print(f"{options.file}: a checked copy of {file_of(chosen)}, {size:,} bytes.")
    return 0


def restore(chosen: settings.Settings, options: argparse.Namespace) -> int:
    """Put a backup back."""
    from broker.storage import backup

    if chosen.store.url:
        command = backup.postgresql_restore(chosen.store.url, options.file)
        raise StoreCommandError(
            "the store is in PostgreSQL, whose own tool puts a backup back; "
            f"stop the broker first:\n{command}"
        )
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    print(backup.restore(file_of(chosen), options.file, stamp))
    return 0


def check(chosen: settings.Settings, options: argparse.Namespace) -> int:
    """Say what is wrong, or that nothing is."""
    from broker.storage import checking

    with checking.looking_at(chosen.store.url, existing_file(chosen)) as connection:
        found = checking.check(connection)
    if options.json:
        print(json.dumps({"store": place(chosen), "problems": found}))
    else:
        for line in found:
            print(f"{place(chosen)}: {line}", file=sys.stderr)
        print(advice(chosen) if found else f"{place(chosen)}: good.")
    return 1 if found else 0


def stats(chosen: settings.Settings, options: argparse.Namespace) -> int:
    """Print what is in the store."""
    from broker.storage import checking

    path = existing_file(chosen)
    with checking.looking_at(chosen.store.url, path) as connection:
        figures = checking.stats(connection, path)
    print(json.dumps(figures) if options.json else as_text(place(chosen), figures))
    return 0


ACTIONS: Mapping[str, Callable[[settings.Settings, argparse.Namespace], int]] = {
    "backup": back_up,
    "restore": restore,
    "check": check,
    "stats": stats,
}


def existing_file(chosen: settings.Settings) -> Path:
    """SQLite's file; it need not be there if the store is elsewhere."""
    path = file_of(chosen)
    if chosen.store.url or path.exists():
        return path
    raise StoreCommandError(
        f"there is no store at {path}: choose it with -c FILE or --data DIR, as the broker does"
    )


def advice(chosen: settings.Settings) -> str:
    """What to do about a store with problems."""
    if chosen.store.url:
        return "Put a backup back with pg_restore, or tell us if there was no accident."
    return (
        "Restart the broker: it moves a damaged file aside and saves what can be read. "
        "Or put a backup back: `heliograph store restore FILE`."
    )


def as_text(where: str, figures: dict[str, Any]) -> str:
    """The figures as lines to read."""
    sizes = ", ".join(f"{name} {size:,}" for name, size in figures["bytes"].items())
    lines = [
        f"{where} ({figures['database']})",
        f"bytes on the disk: {sizes}",
        (
            f"bytes of messages: {figures['message_bytes']:,} waiting or under way, "
            f"{figures['retained_bytes']:,} retained"
        ),
        "rows:",
        *(f"  {name:14}{count:>14,}" for name, count in figures["rows"].items()),
    ]
    if oldest := figures["oldest_message"]:
        lines.append(f'oldest message: number {oldest["number"]}, topic "{oldest["topic"]}"')
    if figures["most_waiting"]:
        lines.append("most waiting (messages, bytes, client id):")
        lines += (
            f"  {row['messages']:>12,} {row['bytes']:>16,}  {row['client_id']}"
            for row in figures["most_waiting"]
        )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heliograph store",
        description="Look after what the broker keeps on the disk. The broker may be running.",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add(actions, "backup", "write a checked copy of the store").add_argument(
        "file", type=Path, metavar="FILE"
    )
    _add(
        actions, "restore", "put a backup back: at once, or when the broker starts next"
    ).add_argument("file", type=Path, metavar="FILE")
    for name, summary in (
        ("check", "say whether the store is whole, or what is wrong with it"),
        ("stats", "say how much is in the store, and who has most waiting"),
    ):
        _add(actions, name, summary).add_argument(
            "--json", action="store_true", help="for programs to read"
        )
    return parser


def _add(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=summary)
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="settings file (TOML)")
    parser.add_argument("--data", metavar="DIR", help="the folder for the broker's data")
    return parser
