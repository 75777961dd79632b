"""Builds the gateway from the settings, starts and stops it: the only place here that knows all."""

from __future__ import annotations

import asyncio
import logging
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Final

from bridges.gateway.approvals import Approvals
from bridges.gateway.from_settings import identity_of, policy_of, port_settings, rules_of
from bridges.gateway.house import House, OnePlace, Room
from bridges.gateway.keeping import FILE_NAME, Keeping
from bridges.gateway.keeping_file import KeepingError
from bridges.gateway.local_broker import LocalBroker
from bridges.gateway.orders import Kind, Outcome
from bridges.gateway.reports import Reports
from bridges.gateway.stamp import Stamp
from bridges.gateway.udp import UdpSocket
from bridges.gateway.wire import Wire
from bridges.mqttsn.gateway import Gateway
from bridges.serial.carrier import Carrier
from broker.settings.queue_rules import host_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridges.gateway.broker_side import BrokerSide
    from bridges.gateway.files import Progress
    from bridges.gateway.orders import Order
    from bridges.mqttsn.policy import Policy
    from broker.settings import SerialSettings, Settings
    from broker.transport.hub import Hub

FILES_FOLDER: Final = "serial-files"  # in data_dir

log = logging.getLogger("heliograph")


async def start(hub: Hub, settings: Settings, loop: asyncio.AbstractEventLoop) -> Assembly:
    """The gateway in the broker's process. Raises OSError with a sentence that says what to do."""
    expiry = settings.mqttsn.session_expiry
    side = LocalBroker(hub, settings.auth.allow_anonymous, expiry)
    assembly = Assembly(side, settings, loop)
    await assembly.open()
    return assembly


class Assembly:
    """All ports and sockets, and what they share."""

    def __init__(
        self, side: BrokerSide, settings: Settings, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._side = side
        self._settings = settings
        self._loop = loop
        folder = settings.broker.data_dir
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self.keeping = Keeping(folder / FILE_NAME, loop)
        except KeepingError as error:
            raise OSError(str(error)) from error
        self.house = House(_own_clients(side, settings))
        self.sockets: list[UdpSocket] = []
        self.wires: dict[str, Wire] = {}
        rules = rules_of(settings.mqttsn)
        self.approvals = Approvals(self.keeping, rules, loop, self.house.expel, self._forget)
        self.reports = Reports(
            *(side, self.keeping, self.house, self.wires),
            *(settings.mqttsn.home_assistant, settings.broker.sys_interval, loop),
        )

    async def open(self) -> None:
        """Open everything; raises OSError. A port that is not there is waited for."""
        try:
            for number, place in enumerate(self._settings.mqttsn.places):
                await self._open_socket(number, place.host, place.port)
        except OSError:
            await self.close()
            raise
        for port in self._settings.serial:
            self._start_wire(port)
        self.reports.start()
        self.keeping.on_order = self.take_order

    async def close(self) -> None:
        """Say goodbye to devices, and let durable sessions wait for them."""
        self.reports.close()
        self.approvals.close()
        for each in self.sockets:
            each.close()
        await asyncio.gather(*map(_closed, self.wires.values()))  # each may linger for a moment
        self._side.close()
        await self.keeping.close()

    # -- orders -----------------------------------------------------------------------------------

    def take_order(self, order: Order) -> None:
        """Do what the command line asks, now or in a while; `finish` tells it how that went."""
        do = _ORDERS.get(order.kind)
        outcome = self.approvals.take(order) if do is None else do(self, order)
        if outcome is not None:
            self.keeping.finish(order, outcome)

    def _forget(self, client_id: str) -> bool:
        """Forget a device; False: nothing was known of it."""
        self.reports.forget(client_id)
        return self.house.forget(client_id)

    def _reset(self, order: Order) -> Outcome:
        wire = self.wires.get(order.target)
        if wire is None:
            return self._no_such_port(order.target)
        if wire.reset_device():
            return Outcome(True, f"the device at {order.target} is reset")
        return Outcome(False, f"{order.target} is not open, or has no DTR and RTS")

    def _send(self, order: Order) -> Outcome | None:
        wire = self.wires.get(order.target)
        if wire is None:
            return self._no_such_port(order.target)

        def report(progress: Progress) -> None:
            if progress.is_over:
                self.keeping.finish(order, Outcome(progress.is_done, progress.text))
            else:
                self.keeping.progress(order, f"{progress.sent} of {progress.size} bytes")

        objection = wire.send_file(order.argument, order.payload, report)
        return Outcome(False, objection) if objection else None

    def _no_such_port(self, name: str) -> Outcome:
        known = ", ".join(self.wires) or "none"
        return Outcome(False, f"there is no port {name} in the settings; there: {known}")

    # -- opening ----------------------------------------------------------------------------------

    async def _open_socket(self, number: int, host: str, port: int) -> None:
        settings = self._settings.mqttsn
        everybody = host_port(settings.advertise_to) if settings.advertise_to else None
        policy = policy_of(settings, t_adv=settings.advertise if everybody else 0, is_udp=True)
        name = "udp" if number == 0 else f"udp-{number + 1}"
        gateway = self._gateway(name, policy)
        sock = UdpSocket(gateway, self._loop, everybody)
        self.house.add(Room(name, gateway, lambda: True))
        try:
            await sock.open(host, port)
        except OSError as error:
            raise OSError(
                f"mqttsn.listen: cannot take datagrams on {host}, port {port}: "
                f"{error.strerror or error}; choose another address or port, or stop who has it"
            ) from error
        self.sockets.append(sock)
        log.info("MQTT-SN on UDP: %s, port %d", *sock.address)

    def _start_wire(self, port: SerialSettings) -> None:
        name = port.shown_name
        policy = policy_of(self._settings.mqttsn, device_rate=port.bytes_per_second)
        stamp = Stamp() if port.stamp else None
        gateway = self._gateway(name, policy, stamp)
        rng = Random(SystemRandom().getrandbits(64))  # noqa: S311  for nonces and pauses
        folder = self._settings.broker.data_dir / FILES_FOLDER / name
        identity = identity_of(port)
        wire = Wire(port, gateway, self._side, identity, folder, self._loop, rng, stamp)
        self.house.add(Room(name, gateway, lambda: wire.is_open))
        self.wires[name] = wire
        memory = self.keeping.bauds
        wire.start(Carrier(port_settings(port), wire.machine, wire, self._loop, rng, memory))

    def _gateway(self, name: str, policy: Policy, stamp: Stamp | None = None) -> Gateway:
        sessions, notebook = self._side.sessions(name, stamp), self.keeping.notebook(name)
        admission = OnePlace(self.house, name, self.approvals.door(name))
        return Gateway(sessions, notebook, admission, policy)


async def _closed(wire: Wire) -> None:
    """Whatever goes wrong with it, the others are to be closed as well."""
    try:
        await wire.close()
    except Exception:
        log.exception("fault at the end of the serial port %s", wire.name)


def _own_clients(side: BrokerSide, settings: Settings) -> set[str]:
    """Who would be thrown out of the broker by a device of the same client id."""
    ports = {identity_of(port).client_id for port in settings.serial}
    return (ports | {side.client_id, settings.mqttsn.unconnected}) - {""}


_ORDERS: Final[dict[Kind, Callable[[Assembly, Order], Outcome | None]]] = {
    Kind.RESET: Assembly._reset,
    Kind.SEND: Assembly._send,
}
