"""What is told of ports and devices, every few seconds: snapshots, as topics of the broker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bridges.gateway.figures import Teller
from bridges.gateway.home_assistant import HomeAssistant
from bridges.gateway.snapshots import Census
from broker import __version__

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

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
        if self._timer is not None:
            self._timer.cancel()
            self._teller.leave()

    def snapshot(self) -> Snapshot:
        """All ports and devices as they are now."""
        self._census.begin()
        for room in self._house.rooms:
            self._census.count(room.name, room.gateway.devices, room.gateway.notebook.notes())
        strangers = self._keeping.quarantine.values()
        ports = [wire.figures() for wire in self._wires.values()]
        return ports, self._census.devices(strangers)

    def forget(self, client_id: str) -> None:
        """Remove what was told of a device."""
        self._teller.forget(self._census.forget(client_id))

    def _tell(self) -> None:
        self._timer = self._loop.call_later(self._interval, self._tell)
        self._teller.tell(*self.snapshot(), self._loop.time())
