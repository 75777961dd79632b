"""Scenarios as tests write them, and runs of them in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firmware_sim.books.balance import Balance, balance_of
from firmware_sim.fleet.virtual import VirtualRun
from firmware_sim.scenario.scenario import Incident, Kind, Scenario

if TYPE_CHECKING:
    from firmware_sim.fleet.fleet import Outcome


def scenario(*kinds: Kind, incidents: tuple[Incident, ...] = (), **keys: Any) -> Scenario:
    settings = {"duration": 600.0, "time": "virtual", "seed": 7, **keys}
    return Scenario("test", kinds, incidents, **settings)


def run(*kinds: Kind, incidents: tuple[Incident, ...] = (), **keys: Any) -> Outcome:
    return VirtualRun(scenario(*kinds, incidents=incidents, **keys)).run()


def balance(outcome: Outcome, kind: str = "") -> Balance:
    streams = outcome.books.ledger.streams.values()
    return balance_of(stream for stream in streams if kind in {"", stream.kind})
