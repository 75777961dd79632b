"""All gateways of this process together: a client id is at one place, and not one of our own.

One that is connected elsewhere is refused as long as that port is open; when it is unplugged, the
device may have been plugged in here, and its session goes on here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bridges.mqttsn.codes import ReturnCode
from bridges.mqttsn.ports import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bridges.mqttsn.gateway import Gateway
    from bridges.mqttsn.ports import Address, Admission


class Room(NamedTuple):
    """One gateway of the house; `is_open` says whether its port is there."""

    name: str
    gateway: Gateway
    is_open: Callable[[], bool]


class House:
    """The gateways by their names. `ours` are the broker's client ids of the gateway itself."""

    def __init__(self, ours: Iterable[str] = ()) -> None:
        self._rooms: dict[str, Room] = {}
        self._ours = frozenset(ours)

    def add(self, room: Room) -> None:
        """Know another gateway."""
        self._rooms[room.name] = room

    @property
    def rooms(self) -> Iterator[Room]:
        """All of them."""
        return iter(self._rooms.values())

    def expel(self, client_id: str) -> bool:
        """Send a device away wherever it is; False: it is nowhere."""
        return any(room.gateway.expel(client_id) for room in self.rooms)

    def forget(self, client_id: str) -> bool:
        """Forget what is noted of it; False: nothing is."""
        known = [room.gateway.forget(client_id) for room in self.rooms]
        return any(known)

    def is_ours(self, name: str, identity: Identity) -> bool:
        """Whether a device in the room `name` would be one of the gateway's own clients."""
        if identity.client_id not in self._ours:
            return False
        self._rooms[name].gateway.count("claims a client id of the gateway")
        return True

    def make_way(self, name: str, client_id: str) -> bool:
        """Whether `client_id` may be in the room `name`: it is not elsewhere, or not any more."""
        for room in self.rooms:
            device = room.gateway.find(client_id) if room.name != name else None
            if device is None:
                continue
            if room.is_open():
                room.gateway.count("its client id is claimed elsewhere")
                return False
            device.give_way("moved to another port")
        return True


class OnePlace:
    """The Admission of the gateway `name`: another one, and the rule above."""

    __slots__ = ("_admission", "_house", "_name")

    def __init__(self, house: House, name: str, admission: Admission) -> None:
        self._house = house
        self._name = name
        self._admission = admission

    def admit(self, address: Address, client_id: str) -> Identity | ReturnCode:
        """See Admission."""
        verdict = self._admission.admit(address, client_id)
        if not isinstance(verdict, Identity):
            return verdict
        if self._house.is_ours(self._name, verdict):
            return ReturnCode.NOT_SUPPORTED
        return verdict if self._house.make_way(self._name, client_id) else ReturnCode.CONGESTION

    def admit_unconnected(self, address: Address) -> Identity | None:
        """See Admission."""
        return self._admission.admit_unconnected(address)
