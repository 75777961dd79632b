"""Simulated devices on ptys, the real gateway and the real broker, in one process of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from firmware_sim.books.balance import Balance, balance_of
from firmware_sim.fleet.real import RealRun
from firmware_sim.scenario.scenario import Incident, Kind, Scenario
from firmware_sim.scenario.wires import WireSettings
from tests.support.process import HOST

if TYPE_CHECKING:
    from pathlib import Path

    from firmware_sim.books.books import Books
    from firmware_sim.fleet.fleet import Fleet
    from tests.integration.conftest import StartBroker

LONGEST = 60.0  # seconds; the run ends long before
ENOUGH = 20  # readings of each device
MODES = {"framed": "framed", "raw": "mqtt-sn", "slip": "slip", "text": "text"}
KINDS = (
    Kind("framed", 2, "framed", interval=0.2, qos=2, wire=WireSettings(errors=0.002)),
    Kind("raw", 1, "raw", interval=0.2),
    Kind("slip", 1, "slip", interval=0.2),
    Kind("text", 1, "text", interval=0.2, qos=0),
)


def balance_in(books: Books, kind: Kind) -> Balance:
    streams = books.ledger.streams.values()
    return balance_of(stream for stream in streams if stream.kind == kind.kind)


def has_seen_all(fleet: Fleet) -> bool:
    """All that happens has happened, the framed devices are back, and enough has arrived."""
    if fleet.now() < 5.0 or fleet.books.online["framed"] != 2:
        return False
    return all(balance_in(fleet.books, kind).arrived > ENOUGH * kind.count for kind in KINDS)


async def test_devices_on_wires_keep_their_books_through_the_gateway(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    ports = tmp_path / "ports"
    wires = [
        {"port": str(ports / f"{kind.kind}-{number:04}"), "mode": MODES[kind.way]}
        for kind in KINDS
        for number in range(1, kind.count + 1)
    ]
    broker = start_broker("tcp", settings={"serial": wires})
    dark = (Incident(3.0, devices="framed", lasts=0.3), Incident(4.0, "unplug", "*", 0.3))
    scenario = Scenario(
        "wires",
        tuple(replace(kind, topic="wires/{kind}/{device}", commands=1.0) for kind in KINDS),
        dark,
        duration=LONGEST,
        ramp=0.1,
        broker=f"mqtt://{HOST}:{broker.port}",
        ports=str(ports),
    )
    made = RealRun(scenario)
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(LONGEST):
        while not has_seen_all(made.fleet):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.1)
    made.stop()
    books = (await running).books
    for kind in KINDS:
        told = balance_in(books, kind)
        assert told.is_good, (kind.kind, told)
