"""`python -m tests.integration.torture_serial`: pulled plugs, noise and kills at the gateway.

Two ports with 32 foreign devices each behind a radio, 32 more over UDP, and a framed device with a
wire of its own; messages of QoS 1 and 2 go in both directions all the while, some devices sleep.

    storm   so many plugs are pulled at random moments, on wires with damaged bytes
    kills   the broker is killed with -9 again and again

What must hold: the ledger (what was acknowledged arrives, QoS 2 once, topics in order), and that
the broker has as many descriptors, threads and asyncio tasks as before. `--seed` repeats the
storm's decisions and the noise; when what happens is the machine's to say.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bridges.serial.frames import Capability
from bridges.serial.link import Link, LinkSettings
from firmware_sim.clients.client import Up
from firmware_sim.wire.faults import errors
from firmware_sim.wire.uart import HOST
from tests.integration.peer import memory_of
from tests.support.serial_bench import Bench
from tests.support.sn_carriers import Foreign, RadioEnd, UdpCarrier
from tests.support.watched import ANSWER

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_sim.wire.pty import PtyWire
    from tests.support.serial_bench import Listener

RADIOS = ("one", "two")
ALONE = "three"
BAUD = 921_600
NOISE = 0.001  # damaged bytes
LONGEST_CALM = 0.4  # seconds, with the gateway there
LONGEST_PAUSE = 0.15  # seconds, of a wire that is pulled
LONGEST_WAIT = 6.0  # seconds for the gateway to come back and say something
SAY_EVERY = 0.01  # seconds
MOST_OPEN = 200  # messages that are not acknowledged yet
SETTLES = 240.0  # seconds, at the end
WARM_UP = 5  # pulls and kills, before anything is counted


class Torture:
    """One site and what is done to it; every device has topics of its own."""

    def __init__(self, folder: Path, seed: int, devices: int) -> None:
        self.rng = Random(f"torture {seed}")
        self.seed = seed
        self.pulls = self.kills = 0
        self.bench = Bench(folder, [*RADIOS, ALONE])
        self.bench.broker.dialect = "watched"
        self._answer = folder / "tasks"
        self.bench.broker.environment = {ANSWER: str(self._answer)}
        self._count = devices
        self._devices: list[tuple[Foreign, Callable[[], None]]] = []  # and how to wake each
        self._wires: list[PtyWire] = []
        self._listener: Listener

    async def build(self) -> None:
        """Everybody is there and has subscribed."""
        bench = self.bench
        self._listener = await bench.listener("listener", "up/#")
        for port in RADIOS:
            await self._build_radio(port)
        for number in range(self._count):
            device = self._foreign(f"udp-{number}")
            carrier = await UdpCarrier.open(bench, device)
            self._devices.append((device, carrier.pump))
        alone = bench.device(ALONE, seed=self.seed, faults=errors(NOISE), baud=BAUD, queue=64)
        alone.subscribe(f"down/{ALONE}/#", 2, *self._topics("down", ALONE))
        self._wires.append(alone.wire)
        self.alone = alone
        self._listener.expect(*self._topics("up", ALONE))
        await bench.until(lambda: all(device.sn.is_idle for device, _ in self._devices))
        await bench.until(lambda: alone.client.is_idle and alone.count(Up) > 0)

    async def storm(self, pulls: int) -> None:
        """Pull plugs at random moments while everybody talks."""
        await self._while_talking(self._pull_all(pulls))

    async def kill(self, rounds: int) -> None:
        """Kill the broker while everybody talks."""
        await self._while_talking(self._kill_all(rounds))

    async def settle(self) -> None:
        """Everybody wakes, and all that was acknowledged has arrived."""
        await self.bench.until(lambda: all(each.sn.is_idle for each, _ in self._devices), SETTLES)
        for device, wake in self._devices:
            if device.sn.state != "active":
                device.sn.connect()
                wake()
        await self.bench.settle(SETTLES)

    async def resources(self) -> dict[str, int]:
        """What the broker has in use now."""
        self._answer.unlink(missing_ok=True)
        os.kill(self.bench.broker.pid, signal.SIGUSR1)
        while not self._answer.exists():  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.01)
        return {
            "descriptors": self.bench.descriptors(),
            "threads": self.bench.threads(),
            "tasks": len(self._answer.read_text().split("\n")),
        }

    async def same_resources(self, before: dict[str, int]) -> dict[str, int]:
        """Wait until no more is in use than before; what is, otherwise."""
        deadline = time.monotonic() + 15
        while True:
            now = await self.resources()
            if all(now[name] <= before[name] for name in now) or time.monotonic() > deadline:
                return now
            await asyncio.sleep(0.1)

    # -- building ---------------------------------------------------------------------------------

    async def _build_radio(self, port: str) -> None:
        devices = [self._foreign(f"{port}-{number}") for number in range(self._count)]
        settings = LinkSettings(uid=port.encode(), capabilities=Capability.CRC_32)
        radio = RadioEnd(self.bench, Link(settings, Random(f"{port} {self.seed}")), *devices)
        wire = self.bench.wire(port, radio, seed=self.seed, faults=errors(NOISE), baud=BAUD)
        self._wires.append(wire)
        self._devices += [(device, wire.wake) for device in devices]

    def _foreign(self, name: str) -> Foreign:
        device = Foreign(self.bench.ledger, name, clean=False)
        device.sn.connect()
        device.subscribe(f"down/{name}/#", 2, *self._topics("down", name))
        self._listener.expect(*self._topics("up", name))
        return device

    def _topics(self, way: str, name: str) -> tuple[str, str]:
        return f"{way}/{name}/1", f"{way}/{name}/2"

    # -- what happens -----------------------------------------------------------------------------

    async def _while_talking(self, happening: object) -> None:
        talk = asyncio.create_task(self._talk())
        try:
            await happening  # type: ignore[misc]
        finally:
            talk.cancel()
            await asyncio.gather(talk, return_exceptions=True)

    async def _talk(self) -> None:
        """Somebody says something, again and again."""
        while True:
            if self.bench.ledger.open() < MOST_OPEN:
                self._say()
            await asyncio.sleep(SAY_EVERY)

    def _say(self) -> None:
        rng, qos = self.rng, self.rng.choice((1, 2))
        device, wake = rng.choice(self._devices)
        match rng.randrange(8):
            case 0:
                self.alone.publish(f"up/{ALONE}/{qos}", qos)
            case 1:
                self._listener.publish(f"down/{ALONE}/{qos}", qos)
            case 2 if device.sn.state == "asleep":
                device.sn.wake()
            case 3 if device.sn.state == "asleep":
                device.sn.connect()
            case 2 | 3 if device.sn.is_idle and device.sn.state == "active":
                device.sn.sleep(120)
            case 4 | 5:
                self._listener.publish(f"down/{device.name}/{qos}", qos)
            case _:
                if device.sn.state == "active":
                    device.publish(f"up/{device.name}/{qos}", qos)
        wake()

    async def _pull_all(self, pulls: int) -> None:
        share = [pulls // len(self._wires)] * len(self._wires)
        share[0] += pulls - sum(share)
        await asyncio.gather(*map(self._pull, self._wires, share))

    async def _pull(self, wire: PtyWire, pulls: int) -> None:
        """Out and in again; now and then before the gateway has noticed."""
        said = wire.line.uart.lanes[HOST].counters
        for _ in range(pulls):
            await asyncio.sleep(self.rng.random() * LONGEST_CALM)
            wire.unplug()
            await asyncio.sleep(self.rng.choice((0.0, self.rng.random() * LONGEST_PAUSE)))
            wire.replug()
            self.pulls += 1
            before = said.written
            with suppress(AssertionError):  # the gateway has not come back for so long: never mind
                await self.bench.until(lambda: said.written > before, LONGEST_WAIT)  # noqa: B023

    async def _kill_all(self, rounds: int) -> None:
        for _ in range(rounds):
            await asyncio.sleep(self.rng.random() * 4)
            await self.bench.kill()
            self.kills += 1


async def torture(
    folder: Path, seed: int, *, pulls: int, kills: int, devices: int, say: Callable[[str], None]
) -> None:
    """Raises AssertionError with what did not hold."""
    it = Torture(folder, seed, devices)
    async with it.bench as bench:
        await it.build()
        await it.storm(WARM_UP)
        await it.settle()
        before = await it.resources()
        memory = memory_of(bench.broker.pid)
        began = time.monotonic()
        await it.storm(pulls)
        say(f"{it.pulls} plugs pulled in {time.monotonic() - began:.0f} s")
        await it.settle()
        after = await it.same_resources(before)
        say(f"before {before}, after {after}; {_told(bench)}")
        grown = (memory_of(bench.broker.pid) - memory) / 1e6
        say(f"the broker's memory grew by {grown:.1f} MB")
        assert all(after[name] <= before[name] for name in after), f"leaked: {before} -> {after}"
        await it.kill(kills)
        await it.settle()
        say(f"{it.kills} kills; {_told(bench)}")


def _told(bench: Bench) -> str:
    ledger = bench.ledger
    sent = sum(map(len, ledger.sent.values()))
    kept = sum(map(len, ledger.acknowledged.values()))
    return f"{sent} sent, {kept} acknowledged, {ledger.arrived()} arrivals, no fault"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.torture_serial")
    parser.add_argument("--pulls", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--devices", type=int, default=32, help="of each port, and over UDP")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)  # noqa: T201  the command's answer
    with TemporaryDirectory() as folder:
        asyncio.run(
            torture(
                Path(folder),
                options.seed,
                pulls=options.pulls,
                kills=options.kills,
                devices=options.devices,
                say=lambda text: print(text, flush=True),  # noqa: T201  the command's answer
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
