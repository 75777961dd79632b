"""Opens whatever a port's text stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridges.serial.local_port import open_local
from bridges.serial.tcp_port import open_tcp

if TYPE_CHECKING:
    import asyncio

    from bridges.serial.port import Port
    from bridges.serial.port_names import Found
    from bridges.serial.port_settings import PortSettings
    from bridges.serial.port_spec import PortSpec


async def open_port(
    spec: PortSpec,
    found: Found,
    settings: PortSettings,
    baud: int,
    loop: asyncio.AbstractEventLoop,
) -> Port:
    """Open it; nothing is read before `start`. Raises PortError, which says what helps."""
    if spec.is_network:
        return await open_tcp(spec, found, settings, baud, loop)
    return open_local(found, settings, baud, loop)
