"""The devices of a scenario: each with its own seeded chance.

Rule kept here: one more device changes no other.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Protocol

from firmware_sim.device.battery import Battery
from firmware_sim.device.bugs import Bug
from firmware_sim.device.signals import SIGNALS, Replay
from firmware_sim.fleet.application import Application, Plan
from firmware_sim.fleet.onlooker import Onlooker
from firmware_sim.scenario.scenario import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from firmware_sim.books.books import Books
    from firmware_sim.books.evidence import Evidence
    from firmware_sim.device.signals import Signal
    from firmware_sim.fleet.ways import Firmware, Powered, Watched, Way
    from firmware_sim.scenario.scenario import Kind, Scenario, SignalSettings


class Device:
    """One device as the shell sees it: its kind, its application, and its way to the broker."""

    __slots__ = ("application", "client", "evidence", "kind", "plan", "rng")

    def __init__(self, kind: Kind, plan: Plan, evidence: Evidence, rng: Random) -> None:
        self.kind, self.plan, self.evidence, self.rng = kind, plan, evidence, rng
        self.client: Powered
        self.application: Firmware


class Outfitter(Protocol):
    """Who gives devices what they need."""

    def way_of(self, device: Device) -> Way:
        """A model's way to the broker."""

    def board_of(self, device: Device) -> Watched:
        """The board with a device's firmware, on its wire."""


def muster(scenario: Scenario, books: Books, outfitter: Outfitter) -> list[Device]:
    """Make all devices."""
    return [
        _outfitted(scenario, device, books, outfitter)
        for kind in scenario.kinds
        for device in _recruits(scenario, kind, books)
    ]


def chance(scenario: Scenario, what: str) -> Random:
    """A generator of its own for some part of a run."""
    return Random(f"{scenario.seed}/{what}")  # noqa: S311 - it has to repeat


def topic_filter(kind: Kind) -> str:
    """What a subscriber asks for to get the readings of a kind."""
    levels = kind.topic.replace("{kind}", kind.kind).split("/")
    return "/".join("+" if "{device}" in level else level for level in levels)


def _recruits(scenario: Scenario, kind: Kind, books: Books) -> Iterator[Device]:
    names = kind.names()
    for number, name in enumerate(names):
        rng = chance(scenario, name)
        shared = Bug.DUPLICATE_IDS in kind.bugs
        plan = _plan(kind, name, names[number & ~1] if shared else name, rng)
        yield Device(kind, plan, books.enrol(name, kind.kind, plan.topic, kind.qos), rng)


def _plan(kind: Kind, name: str, client_id: str, rng: Random) -> Plan:
    return Plan(
        name=name,
        client_id=client_id,
        topic=kind.topic_of(name),
        qos=kind.qos,
        interval=kind.interval,
        sleeps=kind.sleeps,
        sleep_limit=kind.sleep_limit,
        listens=kind.commands is not None,
        flash=kind.flash,
        window=kind.window,
        volatile=kind.volatile,
        drift=rng.uniform(-1.0, 1.0) * kind.drift_ppm * 1e-6,
        bugs=kind.bugs,
    )


def _outfitted(scenario: Scenario, device: Device, books: Books, outfitter: Outfitter) -> Device:
    if device.kind.level == MODEL:
        device.client = way = outfitter.way_of(device)
        device.application = _application(scenario, device, books, way)
    else:
        device.client = board = outfitter.board_of(device)
        device.application = Onlooker(device.plan, board, books, device.evidence)
    return device


def _application(scenario: Scenario, device: Device, books: Books, way: Way) -> Application:
    battery = device.kind.battery
    return Application(
        device.plan,
        way,
        [_signal(scenario, device, settings) for settings in device.kind.signals],
        None if battery is None else Battery(battery, device.rng.uniform(0.85, 1.0)),
        books,
        device.evidence,
        device.rng,
        scenario.starts_at,
    )


def _signal(scenario: Scenario, device: Device, settings: SignalSettings) -> Signal:
    if settings.rows:
        return Replay(settings.rows, scenario.starts_at, **settings.keywords)
    rng = chance(scenario, f"{device.plan.name}/{settings.type}")
    return SIGNALS[settings.type](rng, **settings.keywords)
