"""Discovery for Home Assistant: each port and each MQTT-SN device is a device there, made of the
topics that are told anyway.

The format is device discovery (Home Assistant 2024.12 and later): one retained message at
`<prefix>/device/<id>/config` with `device`, `origin` and `components`, of which each has a
`platform` and a `unique_id`. An empty one removes the device with all it has.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from bridges.gateway.figures import (
    OFFLINE,
    ONLINE,
    QUARANTINED,
    STATE_TOPIC,
    SYS,
    device_base,
    port_base,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bridges.gateway.figures import DeviceFigures, PortFigures

_NOT_ID: Final = re.compile(r"[^a-zA-Z0-9_-]+")
_LONGEST_ID: Final = 40

Component = dict[str, Any]


def _count(name: str, icon: str = "mdi:counter") -> Component:
    return {
        "platform": "sensor",
        "name": name,
        "state_class": "total_increasing",
        "entity_category": "diagnostic",
        "icon": icon,
    }


def _bytes(name: str, state_class: str) -> Component:
    return {
        "platform": "sensor",
        "name": name,
        "device_class": "data_size",
        "unit_of_measurement": "B",
        "state_class": state_class,
        "entity_category": "diagnostic",
    }


def _text(name: str, icon: str) -> Component:
    return {"platform": "sensor", "name": name, "entity_category": "diagnostic", "icon": icon}


_ROUND_TRIP: Final[Component] = {
    "platform": "sensor",
    "name": "Round trip",
    "device_class": "duration",
    "unit_of_measurement": "ms",
    "state_class": "measurement",
    "entity_category": "diagnostic",
}

# The topic below the port's or device's -> what is made of it.
PORT_COMPONENTS: Final[dict[str, Component]] = {
    "state": {
        "platform": "binary_sensor",
        "name": "Connection",
        "device_class": "connectivity",
        "payload_on": "open",
        "payload_off": "closed",
    },
    "round_trip/milliseconds": _ROUND_TRIP,
    "frames/resent": _count("Frames sent again", "mdi:repeat"),
    "frames/damaged": _count("Damaged frames", "mdi:alert-circle-outline"),
    "errors/overrun": _count("Overruns", "mdi:alert-circle-outline"),
    "bytes/received": _bytes("Received", "total_increasing"),
    "bytes/sent": _bytes("Sent", "total_increasing"),
    "reconnects": _count("Reconnects", "mdi:usb-port"),
    "peer/restarts": _count("Restarts", "mdi:restart"),
    "mode": _text("Mode", "mdi:serial-port"),
}

DEVICE_COMPONENTS: Final[dict[str, Component]] = {
    "state": {
        "platform": "sensor",
        "name": "Status",
        "device_class": "enum",
        "options": ["active", "asleep", "awake", "away", "quarantined"],
        "icon": "mdi:access-point",
    },
    "last_seen": {
        "platform": "sensor",
        "name": "Last seen",
        "device_class": "timestamp",
        "entity_category": "diagnostic",
    },
    "round_trip/milliseconds": _ROUND_TRIP,
    "messages/repeated": _count("Messages sent again", "mdi:repeat"),
    "messages/held/bytes": _bytes("Held messages", "measurement"),
}


class HomeAssistant:
    """A Discovery. `prefix` is Home Assistant's own (`homeassistant`), `name` tells this gateway
    from others with the same broker, and `base` is the Teller's prefix.
    """

    def __init__(self, prefix: str, name: str, version: str, base: str = SYS) -> None:
        self._prefix = prefix
        self._name = name
        self._version = version
        self._base = base

    def messages(
        self, ports: Sequence[PortFigures], devices: Iterable[DeviceFigures]
    ) -> Iterator[tuple[str, str]]:
        """See Discovery."""
        known = {port.name: safe_id("heliograph", self._name, "port", port.name) for port in ports}
        for port in ports:
            facts = {"name": f"Serial port {port.name}", "model": "Serial port"}
            facts |= {"sw_version": port.firmware} if port.firmware else {}
            facts |= {"serial_number": port.uid} if port.uid else {}
            base = self._base + port_base(port)
            yield self._message(known[port.name], facts, base, PORT_COMPONENTS)
        for device in devices:
            if device.state == QUARANTINED:  # a stranger makes nothing appear in a house
                continue
            identifier = safe_id(
                "heliograph", self._name, "mqttsn", device.gateway, device.client_id
            )
            facts = {"name": device.client_id, "model": "MQTT-SN device"}
            facts |= {"via_device": known[device.gateway]} if device.gateway in known else {}
            base = self._base + device_base(device)
            yield self._message(identifier, facts, base, DEVICE_COMPONENTS)

    def _message(
        self, identifier: str, facts: dict[str, str], base: str, table: dict[str, Component]
    ) -> tuple[str, str]:
        components = {}
        for topic, component in table.items():
            unique_id = f"{identifier}_{topic.replace('/', '_')}"
            components[unique_id] = component | {
                "unique_id": unique_id,
                "state_topic": base + topic,
            }
        payload = {
            "device": {"identifiers": [identifier], "manufacturer": "Heliograph", **facts},
            "origin": {"name": "Heliograph", "sw_version": self._version},
            "availability_topic": self._base + STATE_TOPIC,
            "payload_available": ONLINE,
            "payload_not_available": OFFLINE,
            "components": components,
        }
        return f"{self._prefix}/device/{identifier}/config", json.dumps(payload)


def safe_id(*names: str) -> str:
    """An id of the characters that Home Assistant allows; different names make different ids."""
    readable = _NOT_ID.sub("_", "_".join(names))
    if readable == "_".join(names) and len(readable) <= 2 * _LONGEST_ID and _is_plain(names):
        return readable
    digest = sha256("\0".join(names).encode()).hexdigest()[:12]
    return f"{readable[:_LONGEST_ID]}_{digest}"


def _is_plain(names: tuple[str, ...]) -> bool:
    """Whether the names can be told apart in their joined form; else a digest has to."""
    return not any("_" in name for name in names)
