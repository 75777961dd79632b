"""Builds the gateway from the settings, starts and stops it: the only place here that knows all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bridges.gateway.local_broker import LocalBroker
from bridges.gateway.udp import UdpSocket
from bridges.mqttsn.admission import Rule, Rules
from bridges.mqttsn.gateway import Gateway
from bridges.mqttsn.notebook import MemoryNotebook
from bridges.mqttsn.policy import Policy, never, same_host
from bridges.mqttsn.ports import Identity
from broker.settings.queue_rules import host_port

if TYPE_CHECKING:
    import asyncio

    from bridges.gateway.broker_side import BrokerSide
    from broker.settings import MqttSnSettings, Settings
    from broker.transport.hub import Hub

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
        self._admission = rules_of(settings.mqttsn)
        self.sockets: list[UdpSocket] = []

    async def open(self) -> None:
        """Open everything; raises OSError."""
        for place in self._settings.mqttsn.places:
            await self._open_socket(place.host, place.port)

    async def close(self) -> None:
        """Say goodbye to devices, and let durable sessions wait for them."""
        for each in self.sockets:
            each.close()
        self._side.close()

    async def _open_socket(self, host: str, port: int) -> None:
        settings = self._settings.mqttsn
        everybody = host_port(settings.advertise_to) if settings.advertise_to else None
        policy = policy_of(settings, t_adv=settings.advertise if everybody else 0, is_udp=True)
        gateway = Gateway(self._side.sessions("mqtt-sn"), MemoryNotebook(), self._admission, policy)
        sock = UdpSocket(gateway, self._loop, everybody)
        try:
            await sock.open(host, port)
        except OSError as error:
            raise OSError(
                f"mqttsn.listen: cannot take datagrams on {host}, port {port}: "
                f"{error.strerror or error}; choose another address or port, or stop who has it"
            ) from error
        self.sockets.append(sock)
        log.info("MQTT-SN on UDP: %s, port %d", *sock.address)


def rules_of(settings: MqttSnSettings) -> Rules:
    """Who may come in, and as whom."""
    rules = [
        Rule(
            each.client_id,
            each.address,
            each.broker_client_id,
            each.username or None,
            each.password.encode() or None,
        )
        for each in settings.devices
    ]
    return Rules(rules or [Rule()], unconnected_of(settings), settings.approval)


def unconnected_of(settings: MqttSnSettings) -> Identity | None:
    """As whom messages of QoS -1 are published."""
    if not settings.unconnected:
        return None
    password = settings.unconnected_password.encode() or None
    return Identity(settings.unconnected, settings.unconnected_username or None, password)


def policy_of(
    settings: MqttSnSettings, t_adv: int = 0, device_rate: int = 0, is_udp: bool = False
) -> Policy:
    """One gateway's policy."""
    return Policy(
        gateway_id=settings.gateway_id,
        predefined=settings.predefined,
        t_adv=t_adv,
        t_retry=settings.t_retry,
        n_retry=settings.n_retry,
        max_devices=settings.max_devices,
        may_move=same_host if is_udp else never,
        max_topics=settings.max_topics,
        device_bytes=settings.device_bytes,
        device_rate=device_rate,
    )
