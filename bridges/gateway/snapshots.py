"""From the machines to figures: what a link and a device can say of themselves, and who has been
here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bridges.gateway.figures import AWAY, MOST_DEVICES, QUARANTINED, DeviceFigures
from bridges.mqttsn.states import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridges.gateway.figures import PortFigures
    from bridges.gateway.keeping import Waiting
    from bridges.mqttsn.device import Device
    from bridges.mqttsn.ports import Note
    from bridges.serial.link import Link

_STATES: Final = {State.ACTIVE: "active", State.ASLEEP: "asleep", State.AWAKE: "awake"}
Key = tuple[str, str]  # gateway, client id


def with_link(port: PortFigures, link: Link) -> PortFigures:
    """A port's figures with those of its link."""
    counters = link.counters
    peer = link.peer
    return replace(
        port,
        state=link.state.value,
        uid="" if peer is None else printed(peer.uid),
        firmware="" if peer is None else peer.firmware,
        round_trip=link.round_trip,
        frames_sent=counters.frames_sent,
        frames_received=counters.frames_received,
        resent=link.resent,
        duplicates=link.duplicates,
        damaged=counters.damaged,
        restarts=counters.restarts,
        dropped=counters.dropped,
    )


def printed(uid: bytes) -> str:
    """A uid as people read it: its text if it is one, else in hexadecimal digits."""
    text = uid.decode("ascii", "replace")
    return text if text.isprintable() and text.isascii() else uid.hex()


class Census:
    """The devices of all gateways: those that are here, those with a note, and those of this run
    that have gone and left none. `offset`: seconds since 1970 when the loop's clock was zero.
    """

    def __init__(self, offset: float, most: int = MOST_DEVICES) -> None:
        self._offset = offset
        self._most = most
        self._gone: dict[Key, DeviceFigures] = {}  # the longest away first
        self._here: dict[Key, DeviceFigures] = {}
        self._before: dict[Key, DeviceFigures] = {}
        self._gateways: dict[str, None] = {}  # as many as the settings name

    def begin(self) -> None:
        """A new round: `count` each gateway, then take the `devices`."""
        self._before, self._here = self._here, {}

    def count(self, gateway: str, devices: Iterable[Device], notes: Iterable[Note]) -> None:
        """Those that are here, and those that are noted as away."""
        self._gateways[gateway] = None
        for note in notes:
            key = (gateway, note.client_id)
            known = self._before.get(key) or self._gone.get(key)
            address = str(note.address)
            self._here[key] = DeviceFigures(
                note.client_id, gateway, address, last_seen=known.last_seen if known else None
            )
        for device in devices:
            if device.state in _STATES:
                self._here[gateway, device.client_id] = self._figures(gateway, device)

    def devices(self, strangers: Iterable[Waiting] = ()) -> list[DeviceFigures]:
        """All of them, at the end of a round."""
        for key in self._before.keys() - self._here.keys():
            self._gone[key] = replace(self._before[key], state=AWAY, held=0, sleep=0)
        for key in self._gone.keys() & self._here.keys():
            del self._gone[key]
        while len(self._gone) > self._most:
            del self._gone[next(iter(self._gone))]
        waiting = [
            DeviceFigures(each.client_id, each.gateway, each.address, QUARANTINED, each.last_seen)
            for each in strangers
            if (each.gateway, each.client_id) not in self._here
        ]
        return [*self._here.values(), *self._gone.values(), *waiting]

    def forget(self, client_id: str) -> list[DeviceFigures]:
        """Know nothing of the device any more; what is to be removed, wherever it has been."""
        for known in (self._gone, self._before, self._here):
            for key in [key for key in known if key[1] == client_id]:
                del known[key]
        return [DeviceFigures(client_id, gateway) for gateway in self._gateways]

    def _figures(self, gateway: str, device: Device) -> DeviceFigures:
        return DeviceFigures(
            device.client_id,
            gateway,
            str(device.address),
            _STATES[device.state],
            round(self._offset + device.last_seen),
            device.round_trip or None,
            device.repeats,
            device.held,
            device.sleep,
        )
