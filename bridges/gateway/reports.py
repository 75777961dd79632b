"""What is told of ports and devices, every few seconds: snapshots, as topics of the broker.

Rule kept here: however many devices there are, no more than a piece of them is looked at in one
turn of the loop.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bridges.gateway.figures import Teller
from bridges.gateway.home_assistant import HomeAssistant
from bridges.gateway.snapshots import Census
from broker import __version__

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Generator, Mapping

    from bridges.gateway.broker_side import BrokerSide
    from bridges.gateway.figures import DeviceFigures, PortFigures
    from bridges.gateway.house import House
    from bridges.gateway.keeping import Keeping
    from bridges.gateway.wire import Wire

Snapshot = tuple["list[PortFigures]", "list[DeviceFigures]"]


class Reports:
    """Takes snapshots, and tells them every `interval` seconds; 0: never."""

    def __init__(
        self,
        side: BrokerSide,
        keeping: Keeping,
        house: House,
        wires: Mapping[str, Wire],
        home_assistant: str,
        interval: float,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._keeping = keeping
        self._house = house
        self._wires = wires
        self._interval = interval
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._round: Generator[None, None, None] | None = None  # that has begun
        self._census = Census(time.time() - loop.time())
        found = (
            [HomeAssistant(home_assistant, side.name, __version__, side.prefix)]
            if home_assistant
            else []
        )
        self._teller = Teller(side.tell, side.prefix, keeping.told, found)
        side.on_forgotten = self._teller.say_again

    def start(self) -> None:
        """Tell from now on."""
        if self._interval:
            self._tell()

    def close(self) -> None:
        """Say that the gateway is not there any more."""
        self._round = None
        if self._timer is not None:
            self._timer.cancel()
            self._teller.leave()

    def forget(self, client_id: str) -> None:
        """Remove what was told of a device; a round that knows of it begins anew."""
        self._teller.forget(self._census.forget(client_id))
        if self._round is not None:
            self._round = self._all()

    def _tell(self) -> None:
        self._timer = self._loop.call_later(self._interval, self._tell)
        if self._round is None:
            self._round = self._all()
            self._go_on()

    def _go_on(self) -> None:
        """A piece in each turn of the loop."""
        steps, self._round = self._round, None
        if steps is None:
            return
        for _ in steps:
            self._round = steps
            self._loop.call_soon(self._go_on)
            return

    def _all(self) -> Generator[None, None, None]:
        ports, devices = yield from self._look()
        yield from self._teller.telling(ports, devices, self._loop.time())

    def _look(self) -> Generator[None, None, Snapshot]:
        self._census.begin()
        for room in self._house.rooms:
            gateway = room.gateway
            yield from self._census.counting(room.name, gateway.devices, gateway.notebook.notes())
        strangers = list(self._keeping.quarantine.values())
        devices = yield from self._census.closing(strangers)
        return [wire.figures() for wire in self._wires.values()], devices
