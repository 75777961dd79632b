"""A broker that tells on SIGUSR1 how many asyncio tasks it has: `python -m tests.support.watched`.

Otherwise it is the command as it stands. The answer goes to the file that the environment names.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from broker.__main__ import main
from broker.server import Server
from tests.support.process import DIALECTS

ANSWER = "HELIO_TASKS"  # the variable with the name of the file

DIALECTS["watched"] = replace(
    DIALECTS["heliograph"],
    command=lambda path: [sys.executable, "-m", "tests.support.watched", "run", "-c", str(path)],
)


def tell() -> None:
    """Write down the names of all tasks, a whole file at once."""
    names = sorted(task.get_name() for task in asyncio.all_tasks())
    path = Path(os.environ[ANSWER])
    beside = path.with_suffix(".new")
    beside.write_text("\n".join(names))
    beside.replace(path)


def watch() -> None:
    """Let every server that is started answer."""
    start = Server.start

    async def start_and_watch(server: Server) -> None:
        await start(server)
        server.loop.add_signal_handler(signal.SIGUSR1, tell)

    Server.start = start_and_watch  # type: ignore[method-assign]


if __name__ == "__main__":
    watch()
    sys.exit(main())
