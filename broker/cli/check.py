"""`heliograph check FILE`: every problem of a settings file, or that there is none."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from broker import settings
from broker.cli.bridges import check_bridges


def main(arguments: Sequence[str]) -> int:
    """Print the file's problems to standard error, one per line; 1 if there are any."""
    parser = argparse.ArgumentParser(
        prog="heliograph check",
        description="Say whether the broker can run with this settings file. Environment "
        "variables (HELIOGRAPH_SECTION__KEY) count too, as they would for the broker.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    path = parser.parse_args(arguments).file
    try:
        chosen = settings.load(path, os.environ)
        check_bridges(chosen)
    except settings.SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path}: good. The broker would listen on {places(chosen)}.")
    print(f"Sessions and messages would be kept in {keeping(chosen)}.")
    return 0


def places(chosen: settings.Settings) -> str:
    """The listeners' URLs as a list in a sentence."""
    return ", ".join(listener.url for listener in chosen.listeners)


def keeping(chosen: settings.Settings) -> str:
    """Where the store would be and how safe, as the end of a sentence; without a password."""
    if all(level == "memory" for level in levels(chosen)):
        return 'memory only (level "memory")'
    place = chosen.store.shown_url or chosen.broker.data_dir / settings.STORE_FILE
    return f'{place}, level "{chosen.store.level}"'


def levels(chosen: settings.Settings) -> set[str]:
    """Every durability level that some topic has."""
    return {chosen.store.level, *(rule.level for rule in chosen.durability)}
