"""A fleet in virtual time: a week of a weather station in a second, the same every time.

There is no broker outside: the hub takes its place. A device whose way is MQTT has a connection to
it in memory; one on a wire has a virtual UART, with all its faults, and a port at the hub.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from firmware_sim.fleet.board import BoardWay
from firmware_sim.fleet.boards import Boards
from firmware_sim.fleet.crew import chance
from firmware_sim.fleet.fleet import Fleet, Outcome
from firmware_sim.fleet.hub import Hub, HubClient
from firmware_sim.fleet.hub_port import HubPort
from firmware_sim.fleet.wired import WiredWay
from firmware_sim.scenario.wires import uart_of
from firmware_sim.wire.faults import Incidents
from firmware_sim.wire.worlds import Line, VirtualWorld

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware_sim.books.ledger import Stream
    from firmware_sim.clients.client import Message
    from firmware_sim.fleet.crew import Device
    from firmware_sim.fleet.ways import Way
    from firmware_sim.scenario.scenario import Scenario

EPOCH: Final = 1_767_225_600.0  # 2026-01-01 00:00 UTC: the wall's clock at midnight
TARGET: Final = "a hub in memory"
STEPS: Final = 200  # a run is shown so often


class VirtualRun:
    """One run."""

    def __init__(self, scenario: Scenario) -> None:
        self.fleet = Fleet(scenario)
        self._scenario = scenario
        self._world = VirtualWorld()
        self._hub = Hub(self.fleet.books)
        self._stopped = False
        self._boards = Boards(scenario, "virtual")

    def stop(self) -> None:
        """End it early; all the same it is wound up in order."""
        self._stopped = True

    def run(self, show: Callable[[], None] = lambda: None) -> Outcome:
        """Run to the end; `show` is called now and then."""
        try:
            self._boards.prepare()
            return self._run(show)
        finally:
            self._boards.close()

    def _run(self, show: Callable[[], None]) -> Outcome:
        fleet, scenario = self.fleet, self._scenario
        epoch = EPOCH + scenario.starts_at
        fleet.launch(self._world, self, epoch)
        for step in range(1, STEPS + 1):
            if self._stopped:
                fleet.record.note(self._world.now, "stopped early")
                break
            self._world.run(scenario.duration * step / STEPS - self._world.now)
            show()
        lasted = self._world.now
        fleet.finish()
        self._world.run(scenario.drain, fleet.is_settled)
        fleet.leave()
        return Outcome(scenario, fleet.books, fleet.record, fleet.devices, epoch, lasted, TARGET)

    # ---- Ways ----

    def way_of(self, device: Device) -> Way:
        """See Ways."""
        heard = partial(self.fleet.heard, device)
        if device.kind.way != "mqtt":
            return self._wired(device, heard)
        acks = "never_acks" not in device.kind.bugs
        return HubClient(device, self._hub, self._world, heard, acks=acks)

    def command(self, message: Message, stream: Stream, seq: int, now: float) -> bool:
        """See Ways."""
        return self._hub.command(message, stream, seq, now)

    def board_of(self, device: Device) -> BoardWay:
        """See Ways."""
        board = self._boards.compiled(device.plan.name)
        way = BoardWay(board, self._world, partial(self.fleet.heard, device))
        self._plug(device, way)
        return way

    def _wired(self, device: Device, heard: Callable[[], None]) -> Way:
        way = WiredWay(device, self._world, device.rng, heard)
        self._plug(device, way)
        return way

    def _plug(self, device: Device, way: WiredWay | BoardWay) -> None:
        wire, name = device.kind.wire, device.plan.name
        port = HubPort(self._hub, device.kind.way, wire.baud, chance(self._scenario, f"{name}/hub"))
        rng = chance(self._scenario, f"{name}/wire")
        incidents = Incidents(wire.faults, rng, self._world.now)
        way.line = Line(uart_of(wire, rng), port, way, incidents)
        way.line.power_off(self._world.now)
        port.wake = partial(self._world.wake, way.line)
        way.line.plug(self._world.now)
        self._world.add(way.line)
