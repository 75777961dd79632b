"""`python -m tests.crash`: kills the broker under load, again and again, and counts what is lost.

Prints its seed and a summary, writes it to build/torture.json; the exit status is 1 when anything
acknowledged was lost, repeated against the rules, reordered or spoilt.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.crash import wire
from tests.crash.ledger import FAULTS
from tests.crash.power_cut import Disk
from tests.crash.rounds import Plan, Torture
from tests.crash.victim import Victim
from tests.support.postgresql import PostgreSQL

if TYPE_CHECKING:
    from collections.abc import Sequence

BUILD = Path(__file__).parents[2] / "build"
CHECKS = ("calm", "spared")  # of the test itself: see victim.py
CUTS = ("none", "power", "server", *CHECKS)


def main(arguments: Sequence[str]) -> int:
    options = read_options(arguments)
    plan = Plan(rounds=options.rounds, seed=options.seed, longest=options.longest, tell=say)
    say(f"seed {options.seed}")
    with ExitStack() as stack:
        BUILD.mkdir(exist_ok=True)
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="torture-", dir=BUILD))
        )
        server = None
        if options.database == "postgresql":
            server = stack.enter_context(PostgreSQL())
        summary = torture(
            directory,
            plan,
            broker=options.broker,
            level=options.level,
            cut=options.cut,
            server=server,
        )
    asked = {name: str(value) for name, value in vars(options).items() if name != "json"}
    options.json.write_text(json.dumps(asked | summary, indent=2) + "\n")
    say(as_text(summary))
    return int(any(summary[fault] for fault in FAULTS))


def torture(
    directory: Path,
    plan: Plan,
    *,
    broker: str = "heliograph",
    level: str = "strict",
    cut: str = "none",
    server: PostgreSQL | None = None,
) -> dict[str, Any]:
    """One whole torture in a folder that keeps the broker's data and log; its summary."""
    disk = Disk(directory / "data", directory / "unsynced") if cut == "power" else None
    store = {"level": level} if level != "strict" else {}
    if server is not None:
        store["url"] = server.new_database()
    if broker == "mosquitto":  # hands a QoS 2 message on when PUBREL comes
        plan = replace(plan, taken_over_by=wire.PUBCOMP)
    if broker == "mosquitto" or level == "memory":
        plan = replace(plan, has_queues=False)
    if cut in CHECKS:
        plan = replace(plan, deaths=(cut,), early_deaths=0.0)
    elif cut == "power":  # nobody survives it
        plan = replace(plan, deaths=("all", "children first"))
    dying_server = server if cut == "server" else None
    victim = Victim(directory, broker, store=store, disk=disk, server=dying_server)
    work = Torture(victim, plan)
    try:
        asyncio.run(work.run())
    finally:
        work.victim.process.kill()
    return work.summary()


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--longest", type=float, default=1.5, help="seconds of load in a round")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    levels = ("strict", "commit", "relaxed", "memory")
    parser.add_argument("--level", choices=levels, default="strict")
    parser.add_argument("--cut", choices=CUTS, default="none", help="what dies beside the process")
    parser.add_argument("--broker", choices=("heliograph", "mosquitto"), default="heliograph")
    parser.add_argument("--json", type=Path, default=BUILD / "torture.json")
    options = parser.parse_args(arguments)
    if options.cut in ("power", "server") and (options.cut == "server") != (
        options.database == "postgresql"
    ):
        parser.error("the power is cut with SQLite, the server is killed with PostgreSQL")
    return options


def as_text(summary: dict[str, Any]) -> str:
    counts = {name: value for name, value in summary.items() if isinstance(value, int | float)}
    rows = [f"{name.replace('_', ' '):16}{value:>10}" for name, value in counts.items()]
    rows += [f"lost by {name}: {value}" for name, value in summary["lost_by"].items()]
    return "\n".join([*rows, *summary["examples"]])


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
