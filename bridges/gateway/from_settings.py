"""From the settings to what the parts of the gateway are told: they do not know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from bridges.mqttsn.admission import Rule, Rules
from bridges.mqttsn.policy import Policy, never, same_host
from bridges.mqttsn.ports import Identity
from bridges.serial.port_settings import PortSettings, Rs485

if TYPE_CHECKING:
    from bridges.serial.port_settings import Flow, Lines, Reset
    from broker.settings import MqttSnSettings, SerialSettings


def port_settings(port: SerialSettings) -> PortSettings:
    """What the carrier is told."""
    return PortSettings(
        port=port.port,
        bauds=port.baud,
        flow=cast("Flow", port.flow),  # the settings know the same words
        lines=cast("Lines", port.lines),
        reset=cast("Reset", port.reset),
        rs485=Rs485() if port.rs485 else None,
    )


def identity_of(port: SerialSettings) -> Identity:
    """Who the port's own client is to the broker."""
    client_id = port.client_id or f"serial-{port.shown_name}"
    return Identity(client_id, port.username or None, port.password.encode() or None)


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
