"""The gateway of one link or socket: who is there, where datagrams go, and in which order.

Rule kept here: answers go before messages, devices take turns, and nothing that a sender says can
touch a device at another address. Everything is bounded by the policy; what is refused or dropped
is counted in `counts`, by reason.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from bridges.mqttsn.codes import NO_CONNECTION, PROTOCOL_ID, ReturnCode
from bridges.mqttsn.decode import decode
from bridges.mqttsn.device import Device
from bridges.mqttsn.encode import encode
from bridges.mqttsn.errors import UnreadableError
from bridges.mqttsn.packets import (
    Advertise,
    Connack,
    Connect,
    Disconnect,
    Encapsulated,
    GwInfo,
    Packet,
    Pingreq,
    Publish,
    SearchGw,
)
from bridges.mqttsn.policy import Policy
from bridges.mqttsn.ports import Address, Datagram, Identity, Stage
from bridges.mqttsn.states import REQUESTS, State
from bridges.mqttsn.unconnected import Unconnected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bridges.mqttsn.ports import Admission, Broker, Note, Notebook

_NEVER: Final = float("inf")
_FEW_ALARMS: Final = 64  # beside two for each device: not worth looking through


class Gateway:
    """A machine for datagrams: `receive` takes one, `data_to_send` gives those that wait.

    The shell's to set: `is_writable` (while it is False, QoS 0 is kept last value per topic),
    `longest_message` (bytes of a payload that the link takes) and `on_work`, called whenever
    `data_to_send` or `next_deadline` may have news.
    """

    def __init__(
        self, broker: Broker, notebook: Notebook, admission: Admission, policy: Policy | None = None
    ) -> None:
        self.policy = policy or Policy()
        self.broker = broker
        self.notebook = notebook
        self.is_writable = True
        self.longest_message = self.policy.longest_message
        self.on_work: Callable[[], None] = _nothing
        self.counts: Counter[str] = Counter()
        self._admission = admission
        self._unconnected = Unconnected(self.policy, broker, admission, self.count)
        self._devices: dict[Address, Device] = {}
        self._by_client_id: dict[str, Device] = {}
        self._answers: deque[Datagram] = deque()
        self._ready: dict[Device, None] = {}  # in turn
        self._alarms: list[tuple[float, int, Device]] = []
        self._alarm_number = 0
        self._advertise_at = 0.0 if self.policy.t_adv else _NEVER

    # -- the machine's verbs ----------------------------------------------------------------------

    def receive(self, data: bytes, now: float, peer: str = "") -> None:
        """A datagram came from `peer`."""
        address = Address(peer)
        try:
            packet = decode(data)
            if isinstance(packet, Encapsulated):
                address = Address(peer, packet.node_id)
                packet = decode(packet.message)
        except UnreadableError as error:
            self.count(f"unreadable: {error.what}")
            return
        handler = _HANDLERS.get(type(packet), Gateway._to_device)
        handler(self, address, packet, now)

    def tick(self, now: float) -> None:
        """The deadline has come."""
        if now >= self._advertise_at:
            self._advertise_at = now + self.policy.t_adv
            advertise = encode(Advertise(self.policy.gateway_id, self.policy.t_adv))
            self._answers.append(Datagram(None, advertise))
        due = []
        while self._alarms and self._alarms[0][0] <= now:
            when, _, device = heapq.heappop(self._alarms)
            if device.armed_for == when:
                device.armed_for = None
                due.append(device)
        for device in due:
            device.tick(now)
            self._arm(device)

    def next_deadline(self) -> float | None:
        """When to tick."""
        while self._alarms and self._alarms[0][2].armed_for != self._alarms[0][0]:
            heapq.heappop(self._alarms)
        first = self._alarms[0][0] if self._alarms else _NEVER
        first = min(first, self._advertise_at)
        return None if first == _NEVER else first

    def data_to_send(
        self, now: float, room: int | None = None, most: int | None = None
    ) -> list[Datagram]:
        """Take what waits to go out, until `room` bytes are filled or there are `most` datagrams
        (None: all of it).
        """
        taken: list[Datagram] = []
        left = _NEVER if room is None else room
        number = _NEVER if most is None else most
        while left > 0 and len(taken) < number and self._answers:
            taken.append(self._answers.popleft())
            left -= len(taken[-1].data)
        while left > 0 and len(taken) < number and self._ready:
            datagram = self._next_of_a_device(now)
            if datagram is not None:
                taken.append(datagram)
                left -= len(datagram.data)
        return taken

    def _next_of_a_device(self, now: float) -> Datagram | None:
        """The next message of the device whose turn it is; None: it has none."""
        device = next(iter(self._ready))
        del self._ready[device]
        packet = device.next_packet(now)
        datagram = None
        if packet is not None:
            self._ready[device] = None
            datagram = _datagram(device.address, packet)
            device.spent(len(datagram.data), now)
        self._arm(device)
        return datagram

    def close(self) -> None:
        """Stop: see Device.leave. What it leaves to be sent is for `data_to_send`."""
        for device in list(self._devices.values()):
            device.leave()

    def resume(self, now: float) -> None:
        """Take up the devices that a gateway before this one has noted; once, at the start."""
        for note in self.notebook.notes():
            if note.clean_session and note.will is None:
                self.notebook.forget(note.client_id)
            elif note.stage is not Stage.AWAY and not self._is_full():
                self._resume(note, now)

    def expel(self, client_id: str) -> bool:
        """Send a device away, its will is published; False: it is not here."""
        device = self._by_client_id.get(client_id)
        if device is None:
            return False
        self.send(device.address, Disconnect())
        device.lose("expelled")
        return True

    def forget(self, client_id: str) -> bool:
        """Forget what is noted of a device that is not here; False: nothing is. A durable session
        of it is not to wait for ever.
        """
        note = self.notebook.read(client_id)
        if note is None:
            return False
        self.notebook.forget(client_id)
        identity = self._admission.admit(note.address, client_id)
        if isinstance(identity, Identity) and not note.clean_session:
            self.broker.end_session(identity)
        return True

    @property
    def devices(self) -> Iterable[Device]:
        """Those that are connected or about to be."""
        return self._devices.values()

    @property
    def answers(self) -> int:
        """How many answers wait for the link."""
        return len(self._answers)

    def drop_answers(self) -> None:
        """Those who asked are gone, or have forgotten it; who is still there asks again."""
        self.counts["answer dropped: the link was cut"] += len(self._answers)
        self._answers.clear()

    def find(self, client_id: str) -> Device | None:
        """The device that is connected under this name."""
        return self._by_client_id.get(client_id)

    # -- Host -------------------------------------------------------------------------------------

    def send(self, address: Address, packet: Packet) -> None:
        """See Host."""
        if len(self._answers) >= self.policy.max_control:
            self.count("answer dropped: the link is too slow")
            return
        self._answers.append(_datagram(address, packet))
        self.on_work()

    def ready(self, device: Device) -> None:
        """See Host."""
        self._ready[device] = None
        self._arm(device)
        self.on_work()

    def gone(self, device: Device) -> None:
        """See Host."""
        self._ready.pop(device, None)
        device.armed_for = None
        if self._devices.get(device.address) is device:
            del self._devices[device.address]
        if self._by_client_id.get(device.client_id) is device:
            del self._by_client_id[device.client_id]

    def count(self, what: str) -> None:
        """See Host."""
        self.counts[what] += 1

    # -- messages that are not one device's -------------------------------------------------------

    def _on_searchgw(self, address: Address, _packet: SearchGw, _now: float) -> None:
        """Answered to the one who asks, whatever the radius: nobody can make us shout."""
        self.send(address, GwInfo(self.policy.gateway_id))

    def _on_other_gateway(self, _address: Address, _packet: Packet, _now: float) -> None:
        self.count("another gateway")

    def _on_nested(self, _address: Address, _packet: Packet, _now: float) -> None:
        self.count("unreadable: a forwarder's header within another")

    def _on_connect(self, address: Address, packet: Connect, now: float) -> None:
        code = self._objection(address, packet)
        if code:
            self.send(address, Connack(code))
            return
        identity = self._admission.admit(address, packet.client_id)
        if not isinstance(identity, Identity):
            self.count("not admitted")
            self.send(address, Connack(identity))
            return
        device = self._find(address, packet.client_id)
        if device is None:
            self._make_way(address)
            self._make_room()
            device = Device(self, address, packet.client_id, identity, now)
            device.state = State.OPENING
            self._settle_in(device)
        device.receive(packet, now)

    def _on_pingreq(self, address: Address, packet: Pingreq, now: float) -> None:
        """With a client id it may come from a new address, if the policy lets it."""
        if packet.client_id:
            device = self._find(address, packet.client_id)
            if device is None:
                self._claimed_or_unknown(address, packet.client_id)
                return
        self._to_device(address, packet, now)

    def _on_publish(self, address: Address, packet: Publish, now: float) -> None:
        if packet.flags.qos == NO_CONNECTION and address not in self._devices:
            self._unconnected.publish(address, packet)
        else:
            self._to_device(address, packet, now)

    def _to_device(self, address: Address, packet: Packet, now: float) -> None:
        device = self._devices.get(address)
        if device is not None:
            device.receive(packet, now)
            return
        self.count("unknown sender")
        if type(packet) in REQUESTS:
            self.send(address, Disconnect())

    def _resume(self, note: Note, now: float) -> None:
        """A device that may not come in any more has to ask, as any other."""
        identity = self._admission.admit(note.address, note.client_id)
        if isinstance(identity, Identity):
            device = Device(self, note.address, note.client_id, identity, now)
            self._settle_in(device)
            device.resume(note)
            self.ready(device)

    # -- who is who -------------------------------------------------------------------------------

    def _objection(self, address: Address, packet: Connect) -> int:
        """Why this CONNECT cannot even be considered; 0 if it can."""
        client_id = packet.client_id
        if packet.protocol_id != PROTOCOL_ID:
            self.count("unknown protocol id")
            return ReturnCode.NOT_SUPPORTED
        if not 1 <= len(client_id) <= self.policy.longest_client_id or not client_id.isprintable():
            self.count("client id refused")
            return ReturnCode.NOT_SUPPORTED
        holder = self._by_client_id.get(client_id)
        if holder is None:
            is_new = address not in self._devices
            if is_new and self._is_full() and self._newcomer() is None:
                self.count("no room for another device")
                return ReturnCode.CONGESTION
        elif holder.address != address and not self.policy.may_move(holder.address, address):
            self.count("claims another device's client id")
            return ReturnCode.CONGESTION
        return 0

    def _find(self, address: Address, client_id: str) -> Device | None:
        """The device of that name, if it is at the address or may have moved there."""
        device = self._by_client_id.get(client_id)
        if device is None or device.address == address:
            return device
        if not self.policy.may_move(device.address, address):
            return None
        self._make_way(address)
        self.count("moved to a new address")
        del self._devices[device.address]
        device.address = address
        self._devices[address] = device
        return device

    def _make_way(self, address: Address) -> None:
        """Whoever was at the address is not there any more."""
        before = self._devices.get(address)
        if before is not None:
            before.lose("lost: another device at its address")

    def _make_room(self) -> None:
        """Whoever has yet to say its will cannot keep others out: it costs a sender nothing."""
        newcomer = self._newcomer() if self._is_full() else None
        if newcomer is not None:
            newcomer.give_way("gave way before it had said its will")

    def _newcomer(self) -> Device | None:
        """The first of those that are asked for their will and have never been here."""
        return next((each for each in self._devices.values() if each.is_newcomer), None)

    def _claimed_or_unknown(self, address: Address, client_id: str) -> None:
        known = client_id in self._by_client_id
        self.count("claims another device's client id" if known else "unknown sender")
        self.send(address, Disconnect())

    def _is_full(self) -> bool:
        return len(self._devices) >= self.policy.max_devices

    def _settle_in(self, device: Device) -> None:
        self._devices[device.address] = device
        self._by_client_id[device.client_id] = device

    def _arm(self, device: Device) -> None:
        """Wake for the device's deadline; one that has moved away is looked at in its old time."""
        if device.state is State.GONE:
            return
        deadline = device.next_deadline()
        if deadline is None or (device.armed_for is not None and device.armed_for <= deadline):
            return
        device.armed_for = deadline
        self._alarm_number += 1
        heapq.heappush(self._alarms, (deadline, self._alarm_number, device))
        if len(self._alarms) > 2 * len(self._devices) + _FEW_ALARMS:
            self._clear_alarms()

    def _clear_alarms(self) -> None:
        """Let go of those that are of no use any more: some are for tomorrow."""
        alarms = {alarm[2]: alarm for alarm in self._alarms if alarm[2].armed_for == alarm[0]}
        self._alarms = list(alarms.values())
        heapq.heapify(self._alarms)


def _nothing() -> None:
    """Nobody wants to know."""


def _datagram(address: Address, packet: Packet) -> Datagram:
    data = encode(packet)
    if address.node is not None:
        data = encode(Encapsulated(0, address.node, data))
    return Datagram(address.peer, data)


_HANDLERS: Final[dict[type, Callable[[Gateway, Address, Any, float], None]]] = {
    Advertise: Gateway._on_other_gateway,
    SearchGw: Gateway._on_searchgw,
    GwInfo: Gateway._on_other_gateway,
    Connect: Gateway._on_connect,
    Pingreq: Gateway._on_pingreq,
    Publish: Gateway._on_publish,
    Encapsulated: Gateway._on_nested,
}
