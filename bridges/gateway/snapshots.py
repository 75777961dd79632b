"""From the machines to figures: what a link and a device can say of themselves, and who has been
here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bridges.gateway.figures import AWAY, MOST_DEVICES, QUARANTINED, DeviceFigures
from bridges.gateway.pieces import at_once, in_pieces
from bridges.mqttsn.states import State

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

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
        self._is_counting = False  # a round has begun and not come to its end

    def begin(self) -> None:
        """A new round: `count` each gateway, then take the `devices`."""
        if self._is_counting:  # nobody is lost with a round that was given up
            self._before |= self._here
        else:
            self._before = self._here
        self._here = {}
        self._is_counting = True

    def count(self, gateway: str, devices: Iterable[Device], notes: Iterable[Note]) -> None:
        """Those that are here, and those that are noted as away."""
        at_once(self.counting(gateway, devices, notes))

    def counting(
        self, gateway: str, devices: Iterable[Device], notes: Iterable[Note]
    ) -> Generator[None, None, None]:
        """The same in pieces."""
        self._gateways[gateway] = None
        for noted in in_pieces(notes):
            for note in noted:
                self._here[gateway, note.client_id] = self._noted(gateway, note)
            yield
        for piece in in_pieces(list(devices)):
            for device in piece:
                if device.state in _STATES:
                    self._here[gateway, device.client_id] = self._figures(gateway, device)
            yield

    def devices(self, strangers: Iterable[Waiting] = ()) -> list[DeviceFigures]:
        """All of them, at the end of a round."""
        return at_once(self.closing(strangers))

    def closing(
        self, strangers: Iterable[Waiting] = ()
    ) -> Generator[None, None, list[DeviceFigures]]:
        """The same in pieces."""
        for piece in in_pieces(list(self._before)):
            for key in piece:
                if key not in self._here:
                    self._gone[key] = replace(self._before[key], state=AWAY, held=0, sleep=0)
            yield
        for piece in in_pieces(list(self._gone)):
            for key in piece:
                if key in self._here or len(self._gone) > self._most:
                    del self._gone[key]
            yield
        self._is_counting = False
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

    def _noted(self, gateway: str, note: Note) -> DeviceFigures:
        known = self._before.get((gateway, note.client_id)) or self._gone.get(
            (gateway, note.client_id)
        )
        last_seen = known.last_seen if known else None
        return DeviceFigures(note.client_id, gateway, str(note.address), last_seen=last_seen)

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
