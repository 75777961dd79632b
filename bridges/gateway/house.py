"""Who may come in, at all ports and sockets together: rules, what a person has decided, and who is
there already.

Rule kept here: a client id is at one place. One that is connected elsewhere is refused as long as
that port is open; when it is unplugged, the device may have been plugged in here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from bridges.gateway.keeping import REJECTED, Waiting
from bridges.mqttsn.codes import ReturnCode
from bridges.mqttsn.ports import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bridges.gateway.keeping import Keeping
    from bridges.mqttsn.admission import Rules
    from bridges.mqttsn.device import Device
    from bridges.mqttsn.gateway import Gateway
    from bridges.mqttsn.ports import Address


class Room(NamedTuple):
    """One gateway of the house; `is_open` says whether its port is there."""

    name: str
    gateway: Gateway
    is_open: Callable[[], bool]


class House:
    """The rooms, and who may come in."""

    def __init__(self, rules: Rules, keeping: Keeping | None) -> None:
        self._rules = rules
        self._keeping = keeping
        self._rooms: dict[str, Room] = {}
        if keeping is not None:
            for decision in keeping.decisions.values():
                if decision.verdict == REJECTED:
                    rules.reject(decision.client_id)
                else:
                    rules.accept(decision.client_id, decision.address)

    def door(self, name: str) -> Doorkeeper:
        """The Admission of the gateway `name`, which is to be `added`."""
        return Doorkeeper(self, name)

    def add(self, room: Room) -> None:
        """Know another gateway."""
        self._rooms[room.name] = room

    @property
    def rooms(self) -> Iterator[Room]:
        """All gateways."""
        return iter(self._rooms.values())

    # -- Admission, for a room --------------------------------------------------------------------

    def admit(self, name: str, address: Address, client_id: str) -> Identity | ReturnCode:
        """See Admission."""
        verdict = self._rules.admit(address, client_id)
        if not isinstance(verdict, Identity):
            self._note_quarantine(name, address, client_id)
        elif not self._make_way(name, client_id):
            return ReturnCode.CONGESTION
        return verdict

    def admit_unconnected(self, address: Address) -> Identity | None:
        """See Admission."""
        return self._rules.admit_unconnected(address)

    # -- what a person decides --------------------------------------------------------------------

    def accept(self, client_id: str, address: str | None) -> bool:
        """Let it in when it comes again; False: too much is decided already."""
        if self._keeping is not None and not self._keeping.accept(client_id, address):
            return False
        self._rules.accept(client_id, address)
        return True

    def reject(self, client_id: str) -> bool:
        """Refuse it for good, and send it away; False: too much is decided already."""
        if self._keeping is not None and not self._keeping.reject(client_id):
            return False
        self._rules.reject(client_id)
        for device in self._find(client_id):
            device.dismiss("rejected")
        return True

    def forget(self, client_id: str) -> bool:
        """Nothing is known of it any more; False: nothing was."""
        found = list(self._find(client_id))
        for device in found:
            device.dismiss("forgotten")
        is_noted = any(self._forget_notes(room.gateway, client_id) for room in self.rooms)
        was_decided = self._keeping is not None and self._keeping.undecide(client_id)
        self._rules.forget(client_id)
        return bool(found) or is_noted or was_decided

    # -- helpers ----------------------------------------------------------------------------------

    def _find(self, client_id: str) -> Iterator[Device]:
        for room in self.rooms:
            device = room.gateway.find(client_id)
            if device is not None:
                yield device

    def _forget_notes(self, gateway: Gateway, client_id: str) -> bool:
        is_noted = gateway.notebook.read(client_id) is not None
        if is_noted:
            gateway.notebook.forget(client_id)
        return is_noted

    def _make_way(self, name: str, client_id: str) -> bool:
        """Whether nobody of that name is elsewhere now."""
        for room in self.rooms:
            device = room.gateway.find(client_id) if room.name != name else None
            if device is None:
                continue
            if room.is_open():
                room.gateway.count("its client id is claimed elsewhere")
                return False
            device.give_way("moved to another port")
        return True

    def _note_quarantine(self, name: str, address: Address, client_id: str) -> None:
        keeping, quarantine = self._keeping, self._rules.quarantine
        if keeping is None:
            return
        waiting = quarantine.get(client_id)
        if waiting is not None:
            keeping.wait(Waiting(client_id, name, str(address), waiting.attempts, time.time()))
        for each in [each for each in keeping.quarantine if each not in quarantine]:
            keeping.release(each)


class Doorkeeper:
    """The Admission of one gateway."""

    __slots__ = ("_house", "_name")

    def __init__(self, house: House, name: str) -> None:
        self._house = house
        self._name = name

    def admit(self, address: Address, client_id: str) -> Identity | ReturnCode:
        """See Admission."""
        return self._house.admit(self._name, address, client_id)

    def admit_unconnected(self, address: Address) -> Identity | None:
        """See Admission."""
        return self._house.admit_unconnected(address)
