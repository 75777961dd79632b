"""A fleet: the devices of a scenario, what happens to them, and the books of it all.

It runs in any world, virtual or real. Who carries the messages (`Ways`) and who verifies them is
given to it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from firmware_sim.books.books import Books
from firmware_sim.fleet.commanding import Commander
from firmware_sim.fleet.crew import Outfitter, chance, muster
from firmware_sim.fleet.record import SAMPLES, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from firmware_sim.books.ledger import Stream
    from firmware_sim.clients.client import Message
    from firmware_sim.fleet.crew import Device
    from firmware_sim.scenario.scenario import Incident, Kind, Scenario
    from firmware_sim.wire.worlds import World

    _Happening = Callable[["Fleet", list[Device]], None]

SHORTEST_SAMPLE: Final = 0.5  # seconds


class FleetError(Exception):
    """The fleet cannot run; the text says what to do."""


class Ways(Outfitter, Protocol):
    """Who carries the messages of a run."""

    def command(self, message: Message, stream: Stream, seq: int, now: float) -> bool:
        """Publish a command to a device; False: not possible now."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that is over. `lasted` in seconds; `started` on the wall's clock."""

    scenario: Scenario
    books: Books
    record: Record
    devices: list[Device]
    started: float
    lasted: float
    target: str


class Fleet:
    """All devices of a run. `phase` is for people."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.books = Books()
        self.record = Record(max(scenario.duration / SAMPLES, SHORTEST_SAMPLE))
        self.devices: list[Device] = []
        self.phase = "connecting"
        self._world: World
        self._commanders: list[Commander] = []

    def now(self) -> float:
        """Seconds since the launch."""
        return 0.0 if self.phase == "connecting" else self._world.now

    def launch(self, world: World, ways: Ways, epoch: float) -> None:
        """Switch the devices on, one after the other, and let things happen.

        The world's time is 0.0 now, the wall's `epoch`.
        """
        self.phase = "running"
        self.books.epoch = epoch
        self._world = world
        self.devices = muster(self.scenario, self.books, ways)
        rng = chance(self.scenario, "ramp")
        for device in self.devices:
            self._world.at(rng.uniform(0.0, self.scenario.ramp), partial(self._power_on, device))
        for incident in self.scenario.incidents:
            self._world.at(incident.at, partial(self._strike, incident))
        self._world.at(0.0, self._sample)
        for kind in self.scenario.kinds:
            if kind.commands is not None:
                self._command(kind, ways)

    def heard(self, device: Device) -> None:
        """A device's way has something to tell it."""
        device.application.hear(self._world.now)
        self._world.wake(device.application)

    def broken(self, device: Device, why: str) -> None:
        """A device's emulator has ended by itself: it is gone for the rest of the run."""
        now = self._world.now
        self.record.note(now, f"{device.plan.name} is gone: {why}")
        self.books.gone.append(device.plan.name)
        self.books.down(device.evidence, why)
        device.application.power_off(now)
        self._world.remove(device.application)

    def finish(self) -> None:
        """Nothing new; what is under way may come in."""
        self.phase = "draining"
        now = self._world.now
        for commander in self._commanders:
            commander.stop()
            self._world.remove(commander)
        for device in self.devices:
            device.application.finish(now)
            self._world.wake(device.application)

    def is_settled(self) -> bool:
        """Whether all is at its place."""
        if self.books.ledger.awaited:
            return False
        return all(device.application.is_settled for device in self.devices)

    def leave(self) -> None:
        """Take the last sample, and let the devices say goodbye."""
        if self.phase == "connecting":
            return
        self._sample()
        self.phase = "closing"
        now = self._world.now
        for device in self.devices:
            device.client.forget(now)
            device.application.close(now)
            self._world.remove(device.application)

    def close(self) -> None:
        """Give back what the ways hold."""
        for device in self.devices:
            device.client.close(self._world.now)

    def _power_on(self, device: Device) -> None:
        if self.phase != "running":
            return
        device.application.power_on(self._world.now)
        self._world.add(device.application)
        self._world.wake(device.application)

    def _strike(self, incident: Incident) -> None:
        """Something happens to some devices, and perhaps again later."""
        now = self._world.now
        if self.phase != "running" or now >= self.scenario.duration:
            return  # also when the end is late: nobody would give the power back
        met = [device for device in self.devices if incident.meets(device.kind.kind)]
        self.record.note(now, f"{incident.what} of {incident.devices}: {len(met)} devices")
        begin, end = _INCIDENTS[incident.what]
        begin(self, met)
        self._world.at(now + incident.lasts, partial(end, self, met))
        if incident.every is not None:
            self._world.at(now + incident.every, partial(self._strike, incident))

    def _brown_out(self, devices: list[Device]) -> None:
        now = self._world.now
        for device in devices:
            device.application.power_off(now)
            device.client.cut(now)

    def _power_returns(self, devices: list[Device]) -> None:
        for device in devices:
            self._power_on(device)

    def _unplug(self, devices: list[Device]) -> None:
        for device in devices:
            device.client.unplug(self._world.now)

    def _plug(self, devices: list[Device]) -> None:
        for device in devices:
            device.client.plug(self._world.now)

    def _command(self, kind: Kind, ways: Ways) -> None:
        devices = [device for device in self.devices if device.kind is kind]
        commander = Commander(kind, devices, self.books.commands, ways.command)
        commander.start(self.scenario.ramp)
        self._commanders.append(commander)
        self._world.add(commander)

    def _sample(self) -> None:
        if self.phase == "closing":
            return
        now = self._world.now
        self.record.take(now, self.books, self.devices, self._qualities())
        self._world.at(now + self.record.every, self._sample)

    def _qualities(self) -> dict[str, float]:
        """The mean of each kind's links, where it is known."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for device in self.devices:
            quality = device.client.quality()
            if quality is not None:
                found[device.kind.kind].append(quality)
        return {kind: sum(values) / len(values) for kind, values in found.items()}


_INCIDENTS: Final[Mapping[str, tuple[_Happening, _Happening]]] = {
    "brown-out": (Fleet._brown_out, Fleet._power_returns),
    "unplug": (Fleet._unplug, Fleet._plug),
}
