"""Simulated fleets against a real broker: over every transport, and through its death."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from paho.mqtt.publish import single

from firmware_sim.books.balance import Balance, balance_of
from firmware_sim.books.diagnosis import diagnose
from firmware_sim.device.bugs import Bug
from firmware_sim.fleet.fleet import FleetError
from firmware_sim.fleet.real import RealRun
from firmware_sim.scenario.scenario import Incident, Kind, Scenario
from tests.support.process import HOST, free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from firmware_sim.books.ledger import Stream
    from firmware_sim.fleet.fleet import Outcome
    from tests.integration.conftest import StartBroker
    from tests.support.process import BrokerProcess, Certificates

LONGEST = 60.0  # seconds; `enough` ends a run long before
KINDS = (
    Kind("one", 6, interval=0.05),
    Kind("two", 6, interval=0.05, qos=2),
    Kind("old", 6, interval=0.05, version="3.1.1"),
    Kind("zero", 2, interval=0.05, qos=0),
)


def scenario(broker: BrokerProcess, *kinds: Kind, name: str, **keys: object) -> Scenario:
    """A short one; `name` keeps topics and client ids of tests apart."""
    own = tuple(
        replace(kind, kind=f"{name}-{kind.kind}", topic="sim/{kind}/{device}") for kind in kinds
    )
    url = f"mqtt://{HOST}:{broker.port}"
    settings = {"duration": LONGEST, "ramp": 0.2, "broker": url, **keys}
    return Scenario(name, own, **settings)  # type: ignore[arg-type]


async def run(
    asked: Scenario,
    meanwhile: Callable[[RealRun], Awaitable[None]],
    authority: str = "",
) -> Outcome:
    """A run that ends when `meanwhile` has come to its end."""
    made = RealRun(asked, authority)

    async def watch() -> None:
        try:
            await meanwhile(made)
        finally:
            made.stop()

    watching = asyncio.create_task(watch())
    outcome = await made.run()
    await watching
    return outcome


async def until(made: RealRun, is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONGEST / 2):
        while made.fleet.phase == "connecting" or not is_so():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.02)


def arrived(number: int) -> Callable[[RealRun], Awaitable[None]]:
    async def wait(made: RealRun) -> None:
        await until(made, lambda: made.fleet.books.ledger.arrived >= number)

    return wait


def balance(outcome: Outcome, kind: str = "") -> Balance:
    streams = outcome.books.ledger.streams.values()
    return balance_of(stream for stream in streams if stream.kind.endswith(kind))


async def test_a_fleet_of_all_versions_and_qualities_balances(broker: BrokerProcess) -> None:
    outcome = await run(scenario(broker, *KINDS, name="mixed"), arrived(200))
    total = balance(outcome)
    assert total.is_good
    assert total.made == total.acknowledged == total.arrived
    assert diagnose(outcome.books.devices.values()) == []


async def test_kinds_of_one_fleet_come_by_every_transport(
    broker: BrokerProcess, certificates: Certificates
) -> None:
    schemes = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}
    kinds = [
        Kind(
            f"{scheme}-{version.replace('.', '-')}",
            2,
            broker=f"{scheme}://{HOST}:{broker.endpoints[transport].port}",
            version=version,
            interval=0.05,
            commands=0.5,
        )
        for transport, scheme in schemes.items()
        for version in ("5", "3.1.1")
    ]
    outcome = await run(
        scenario(broker, *kinds, name="ways"), arrived(300), str(certificates.authority)
    )
    for kind in kinds:
        told = balance(outcome, kind.kind)
        assert told.is_good
        assert told.made == told.arrived > 10
    assert balance_of(outcome.books.commands.streams.values()).arrived > 0


async def test_the_ledger_balances_when_the_broker_is_killed_in_the_middle(
    start_broker: StartBroker,
) -> None:
    broker = start_broker("tcp")

    async def kill(made: RealRun) -> None:
        ledger = made.fleet.books.ledger
        await until(made, lambda: ledger.arrived >= 200)
        await asyncio.to_thread(broker.kill)
        made_before = ledger.made
        await until(made, lambda: ledger.made >= made_before + 100)
        await asyncio.to_thread(broker.start)
        arrived_before = ledger.arrived
        await until(made, lambda: ledger.arrived >= arrived_before + 300)

    outcome = await run(scenario(broker, *KINDS, name="killed"), kill)
    assert outcome.books.downs
    for kind in ("one", "two", "old", "zero"):
        assert balance(outcome, kind).is_good, (kind, balance(outcome, kind))
    assert balance(outcome, "two").repeated == 0
    assert balance(outcome, "one").lost == balance(outcome, "old").lost == 0


async def test_what_was_not_acknowledged_survives_a_brown_out(broker: BrokerProcess) -> None:
    dark = (Incident(0.6, devices="dark-*", lasts=0.3), Incident(1.2, "unplug", "dark-*", 0.3))
    outcome = await run(
        scenario(broker, *KINDS[:3], name="dark", incidents=dark, duration=2.0),
        lambda made: until(made, lambda: made.fleet.phase == "closing"),
    )
    total = balance(outcome)
    assert total.is_good
    assert total.made == total.acknowledged == total.arrived
    assert {text.partition(" of ")[0] for _, text in outcome.record.notes} >= {
        "brown-out",
        "unplug",
    }


async def test_commands_wait_for_devices_that_sleep(broker: BrokerProcess) -> None:
    kind = Kind("node", 4, interval=1.2, sleeps=True, commands=0.3)

    async def wait(made: RealRun) -> None:
        streams = made.fleet.books.commands.streams.values()
        await until(made, lambda: bool(streams) and all(has_begun(one) for one in streams))

    def has_begun(stream: Stream) -> bool:
        """The first commands, in whatever mood they found the device."""
        return len(stream) > 6 and all(stream.line(seq).copies for seq in range(6))

    outcome = await run(scenario(broker, kind, name="sleepy"), wait)
    assert balance(outcome).is_good


async def test_what_the_broker_has_retained_from_another_run_is_not_counted(
    start_broker: StartBroker,
) -> None:
    broker = start_broker()
    await asyncio.to_thread(
        single,
        "sim/old-one/old-one-0001",
        b'{"seq":0}',
        qos=1,
        retain=True,
        hostname=HOST,
        port=broker.port,
    )
    outcome = await run(scenario(broker, KINDS[0], name="old"), arrived(20))
    assert outcome.books.ledger.strangers == 0
    assert balance(outcome).is_good


async def test_broken_firmware_is_named_at_a_real_broker(broker: BrokerProcess) -> None:
    bugs = (Bug.DUPLICATE_IDS, Bug.PAYLOAD_GARBAGE, Bug.NEVER_ACKS, Bug.CLOCK_WRONG)
    kinds = [Kind("fine", 3, interval=0.2, commands=1.0)]
    kinds += [
        Kind(bug.replace("_", "-"), 2, interval=0.2, bugs=frozenset({bug}), commands=0.2)
        for bug in bugs
    ]
    wanted = {f"bad-{bug.replace('_', '-')}": bug for bug in bugs}

    async def wait(made: RealRun) -> None:
        found = lambda: {each.kind for each in diagnose(made.fleet.books.devices.values())}  # noqa: E731
        await until(made, lambda: found() >= set(wanted))

    outcome = await run(scenario(broker, *kinds, name="bad"), wait)
    found = {(each.kind, each.bug) for each in diagnose(outcome.books.devices.values())}
    assert found == set(wanted.items())
    assert balance(outcome).is_good


async def test_a_broker_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_sim.fleet.real.REACHED_WITHIN", 0.5)
    port = free_port()
    made = RealRun(Scenario("none", (Kind("x"),), broker=f"mqtt://{HOST}:{port}"))
    with pytest.raises(FleetError, match=rf"cannot subscribe at mqtt://{HOST}:{port}: .*refused"):
        await made.run()


def test_ctrl_c_ends_a_run_with_its_report(broker: BrokerProcess, tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text('[[devices]]\nkind = "ctrl-c"\ninterval = "100 ms"\n')
    url = f"mqtt://{HOST}:{broker.port}"
    command = [sys.executable, "-m", "firmware_sim", str(path), "--broker", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while b"running" not in process.stderr.readline():
            assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        told, _ = process.communicate(timeout=LONGEST)
    assert b"stopped early" in told
    assert b"The ledger balances" in told
    assert process.returncode == 0
