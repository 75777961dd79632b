"""`heliograph run`: gather the settings and hand them to the server."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from broker import settings
from broker.cli.bridges import check_bridges


def main(arguments: Sequence[str]) -> int:
    """Run the broker until it is told to stop."""
    options = _parser().parse_args(arguments)
    try:
        chosen = settings.load(options.config, os.environ, overrides(options))
        check_bridges(chosen)
    except settings.SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    spawned = None
    if chosen.has_store:  # it gets ready while the broker is being imported
        from broker.storage.child import spawn

        spawned = spawn()
    from broker.server import run

    return run(chosen, spawned)


def overrides(options: argparse.Namespace) -> dict[str, object]:
    """What the command line sets, with the keys of `settings.load`."""
    chosen = {
        "listener": options.listen,
        "broker.data_dir": options.data,
        "store.level": options.level,
        "log.level": "debug" if options.verbose else None,
    }
    return {key: value for key, value in chosen.items() if value is not None}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heliograph run",
        description="Start the broker. Without options it listens on port 1883, and clients of "
        "this machine may connect without a password.",
        epilog="Every setting can also be an environment variable: "
        "HELIOGRAPH_LIMITS__MAX_PACKET_SIZE=64KiB.",
    )
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="settings file (TOML)")
    parser.add_argument(
        "--listen",
        metavar="URL",
        action="append",
        help="listen here (tcp://HOST:PORT, ws://HOST:PORT/PATH, unix:///FILE) instead of where "
        "the settings say; may be given several times",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="the folder for the broker's data: sessions, messages and retained messages survive "
        "there",
    )
    parser.add_argument(
        "--level",
        metavar="LEVEL",
        help="what an acknowledgement promises: strict (committed and synced; the default), commit "
        "(survives the end of the broker, not a power cut), relaxed (written soon after) or memory "
        "(never written)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log every detail")
    return parser
