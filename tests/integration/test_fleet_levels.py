"""Three levels of truth in one fleet, against the real gateway and the real broker: models, the
client in C compiled for this computer, and the same C in emulated controllers. And whatever ends
the run, no emulator outlives it.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from firmware_sim.books.balance import Balance, balance_of
from firmware_sim.fleet.real import RealRun
from firmware_sim.scenario.scenario import Incident, Kind, Scenario
from firmware_sim.scenario.wires import WireSettings
from tests.support.process import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from firmware_sim.fleet.fleet import Fleet
    from tests.integration.conftest import StartBroker
    from tests.support.process import BrokerProcess

LONGEST = 60.0  # seconds; a run ends long before
ENOUGH = 12  # readings of each device
NOISY = WireSettings(errors=0.002)
COMPILED = Kind("compiled", 2, "framed", "compiled", interval=0.2, qos=2, wire=NOISY)
ARDUINO = Kind("arduino", 1, "framed", "emulated", "arduino-uno", interval=0.2, wire=NOISY)
ARM = Kind("arm", 2, "framed", "emulated", "lm3s6965", interval=0.2, wire=NOISY)
KINDS = (Kind("model", 3, interval=0.2), COMPILED, ARDUINO, ARM)
EMULATORS = ("simavr-run", "qemu-system-arm")  # the kernel keeps 15 letters


def broker_for(start_broker: StartBroker, ports: Path, *kinds: Kind) -> BrokerProcess:
    """A broker whose gateway has the ports of these kinds."""
    names = [name for kind in kinds if kind.way == "framed" for name in kind.names()]
    wires = [{"port": str(ports / name), "mode": "framed"} for name in names]
    return start_broker("tcp", settings={"serial": wires})


def scenario(
    broker: BrokerProcess, ports: Path, *kinds: Kind, incidents: tuple[Incident, ...] = ()
) -> Scenario:
    url = f"mqtt://{HOST}:{broker.port}"
    return Scenario(
        "levels", kinds, incidents, duration=LONGEST, ramp=0.1, broker=url, ports=str(ports)
    )


def told_of(fleet: Fleet, kind: Kind) -> Balance:
    streams = fleet.books.ledger.streams.values()
    return balance_of(stream for stream in streams if stream.kind == kind.kind)


def have_all_arrived(fleet: Fleet, kinds: tuple[Kind, ...]) -> bool:
    return all(told_of(fleet, kind).arrived > ENOUGH * kind.count for kind in kinds)


def descendants(pid: int) -> dict[int, str]:
    """The processes that a process has started, and theirs, by their commands."""
    found: dict[int, str] = {}
    for child in subprocess.run(
        ["ps", "-o", "pid=,comm=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout.splitlines():
        number, command = child.split(maxsplit=1)
        found |= {int(number): command} | descendants(int(number))
    return found


def emulators_of(pid: int) -> list[int]:
    return [number for number, command in descendants(pid).items() if command in EMULATORS]


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONGEST):
        while not is_so():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.1)


async def test_a_fleet_of_three_levels_keeps_one_ledger(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    ports = tmp_path / "ports"
    broker = broker_for(start_broker, ports, *KINDS)
    commanded = tuple(replace(kind, topic="levels/{kind}/{device}", commands=1.0) for kind in KINDS)
    happens = (Incident(2.5, devices="*", lasts=0.3), Incident(3.5, "unplug", "*", 0.3))
    made = RealRun(scenario(broker, ports, *commanded, incidents=happens))
    running = asyncio.create_task(made.run())
    await until(lambda: made.fleet.now() > 6.0 and have_all_arrived(made.fleet, commanded))
    assert len(emulators_of(os.getpid())) == ARDUINO.count + ARM.count
    made.stop()
    books = (await running).books
    assert emulators_of(os.getpid()) == []
    assert list(ports.iterdir()) == []
    for kind in commanded:
        told = told_of(made.fleet, kind)
        assert told.is_good, (kind.kind, told)
        assert told.acknowledged > ENOUGH * kind.count
        orders = [each for each in books.commands.streams.values() if each.kind == kind.kind]
        assert all(any(line.copies for line in order) for order in orders), kind.kind


async def test_an_emulator_that_dies_is_told_and_the_others_go_on(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    ports = tmp_path / "ports"
    kinds = (COMPILED, ARM)
    broker = broker_for(start_broker, ports, *kinds)
    made = RealRun(scenario(broker, ports, *kinds))
    running = asyncio.create_task(made.run())
    await until(lambda: have_all_arrived(made.fleet, kinds))
    os.kill(emulators_of(os.getpid())[0], signal.SIGKILL)
    notes, before = made.fleet.record.notes, told_of(made.fleet, COMPILED).arrived
    await until(lambda: bool(notes) and told_of(made.fleet, COMPILED).arrived > before + 5)
    made.stop()
    (gone,) = (await running).books.gone
    assert gone in ARM.names()
    assert f"{gone} is gone: the emulator has ended" in notes[0][1]
    assert all(told_of(made.fleet, kind).is_good for kind in kinds)


@contextmanager
def simulating(broker: BrokerProcess, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The command with an emulated device, once that has come to the broker."""
    path = folder / "levels.toml"
    path.write_text(
        '[scenario]\nduration = "1 min"\nramp = 0\n'
        '[[devices]]\nkind = "arduino"\nway = "framed"\nlevel = "emulated"\ninterval = "200 ms"\n'
    )
    url = f"mqtt://{HOST}:{broker.port}"
    command = [sys.executable, "-m", "firmware_sim", str(path), "--broker", url]
    options = ["--ports", str(folder / "ports")]
    run = subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},  # one that is killed does not clear up
    )
    with run:
        assert run.stderr is not None
        assert any("running" in line for line in run.stderr)
        yield run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_emulator_outlives_its_run(
    start_broker: StartBroker, tmp_path: Path, number: signal.Signals
) -> None:
    broker = broker_for(start_broker, tmp_path / "ports", ARDUINO)
    with simulating(broker, tmp_path) as run:
        (emulator,) = emulators_of(run.pid)
        handle = os.pidfd_open(emulator)
        run.send_signal(number)
        try:
            assert select.select([handle], [], [], LONGEST)[0], "the emulator lives"
        finally:
            os.close(handle)
        told = run.communicate(timeout=LONGEST)[0]
    assert run.returncode == (-number if number is signal.SIGKILL else 0)
    assert ("The ledger balances" in told) is (number is not signal.SIGKILL)


def test_a_run_whose_emulator_has_ended_is_not_good(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = broker_for(start_broker, tmp_path / "ports", ARDUINO)
    with simulating(broker, tmp_path) as run:
        (emulator,) = emulators_of(run.pid)
        handle = os.pidfd_open(emulator)
        os.kill(emulator, signal.SIGKILL)
        assert select.select([handle], [], [], LONGEST)[0]
        os.close(handle)
        run.terminate()
        told = run.communicate(timeout=LONGEST)[0]
    assert "emulators that have ended by themselves: arduino-0001" in told
    assert run.returncode == 1
