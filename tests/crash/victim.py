"""The broker that is killed: how it is set up, killed with all its processes, and started again.

`DEATHS` are the ways to die: the broker alone (its children see the end of their stream and go by
themselves, while the next broker starts already), all processes at once, or the children first.
Two more are there to check the check: `calm` is SIGTERM, after which every broker that saves
anything has it all; `spared` only breaks the connections, which no broker may be harmed by.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.process import DIALECTS, BrokerProcess, Section

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from tests.crash.power_cut import Disk
    from tests.support.postgresql import PostgreSQL
    from tests.support.process import Endpoint

LONGEST_DEATH = 10.0  # seconds from SIGKILL to the end: far more than needed
CHILDLESS = 0.2  # seconds at most that a broker lives without its children before it is killed too

# Everything that is taken in must be kept: limits are not what this test is about.
ROOMY = {"limits": {"backlog_messages": 1_000_000, "backlog_bytes": 2**30}}
MOSQUITTO_ROOMY = "max_queued_messages 0"


class Victim:
    """One broker with one data folder, through many lives.

    With a `disk`, deaths cut its power; with a `server`, that is killed too and started again.
    """

    def __init__(
        self,
        directory: Path,
        broker: str = "heliograph",
        *,
        store: Section | None = None,
        disk: Disk | None = None,
        server: PostgreSQL | None = None,
    ) -> None:
        self.kills = 0
        self.disk = disk
        self.server = server
        settings: dict[str, Any] = {**ROOMY, "store": store} if store else dict(ROOMY)
        self.process = Broker(
            directory, settings=settings, dialect=add_dialect(broker, disk, directory)
        )
        (directory / "data").mkdir(exist_ok=True)

    @property
    def port(self) -> int:
        return self.process.port

    async def start(self) -> None:
        """Returns when it accepts, at once if it lives."""
        if not self.process.is_running:
            await asyncio.to_thread(self.process.start)

    async def start_and_kill_early(self, delay: float) -> None:
        """It dies while it starts, or just after."""
        starting = asyncio.create_task(self.start())
        await asyncio.sleep(delay)
        if self.process.is_running:
            end_family(self.process.pid)
        with suppress(AssertionError):  # it says that the broker did not start
            await starting
        await self.die("all", random.Random(0))

    async def die(self, how: str, chance: random.Random) -> None:
        """Returns when it is over and, with a disk, the power has been cut."""
        self.kills += 1
        await DEATHS[how](self.process, chance)
        if self.disk is not None:
            self.disk.cut(chance)
        if self.server is not None:
            self.server.kill()
            self.server.start()


class Broker(BrokerProcess):
    """That can be asked whether it lives."""

    @property
    def is_running(self) -> bool:
        return self._process is not None


def add_dialect(broker: str, disk: Disk | None, directory: Path) -> str:
    """The broker's dialect with what this test needs, under a name of its own."""
    name = f"{broker}-in-{directory}"
    known = DIALECTS[broker]
    render = render_mosquitto if broker == "mosquitto" else known.render
    prefix = environment_of(disk)
    DIALECTS[name] = replace(
        known, render=render, command=lambda path: [*prefix, *known.command(path)]
    )
    return name


def environment_of(disk: Disk | None) -> list[str]:
    if disk is None:
        return []
    return ["env", *(f"{name}={value}" for name, value in disk.environment.items())]


def render_mosquitto(
    endpoints: Sequence[Endpoint], tables: Mapping[str, Section], directory: Path
) -> str:
    text = DIALECTS["mosquitto"].render(endpoints, {"listener": tables["listener"]}, directory)
    saving = ("persistence true", "autosave_interval 1", f"persistence_location {directory}/data/")
    return text + "\n".join((*saving, MOSQUITTO_ROOMY)) + "\n"


# ---- dying ----


async def die_alone(broker: Broker, _: random.Random) -> None:
    broker.kill()


async def die_together(broker: Broker, _: random.Random) -> None:
    if broker.is_running:
        end_family(broker.pid)
    broker.kill()


async def die_children_first(broker: Broker, chance: random.Random) -> None:
    """It goes on under load for a moment, and may bear new ones."""
    for child in family(broker.pid)[1:]:
        end_of(child)
    await asyncio.sleep(chance.uniform(0.0, CHILDLESS))
    await die_together(broker, chance)


async def end_calmly(broker: Broker, _: random.Random) -> None:
    broker.stop()


async def spare(broker: Broker, _: random.Random) -> None:
    """It lives on."""


DEATHS: dict[str, Callable[[Broker, random.Random], Awaitable[None]]] = {
    "alone": die_alone,
    "all": die_together,
    "children first": die_children_first,
    "calm": end_calmly,
    "spared": spare,
}


def family(pid: int) -> list[int]:
    """A process and all its descendants, parents before children."""
    found = [pid]
    for parent in found:  # grows while we walk
        with suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def end_family(pid: int) -> None:
    """Stopped first, so that no child is born while they are counted."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    for process in family(pid):
        end_of(process)


def end_of(pid: int) -> None:
    """SIGKILL to a process that need not be our child, and its end."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        ended, _, _ = select.select([handle], [], [], LONGEST_DEATH)
        assert ended, f"process {pid} does not end"
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)
