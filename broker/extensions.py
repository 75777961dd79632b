"""Where the broker meets its bridges: it loads them by name, and only when the settings want them.

What they must offer is said here; what they are, nobody in the broker knows.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import asyncio

    from broker.engine.engine import Engine
    from broker.engine.ports import Rules
    from broker.settings import Settings
    from broker.transport.hub import Hub

RULES = "bridges.queues.routes"  # Rules.compile(routes, queues), raises RuleError
HTTP_DOOR = "bridges.queues.http_server"
GATEWAY = "bridges.gateway.assembly"


class Door(Protocol):
    """A way in that is open."""

    async def close(self) -> None:
        """Let nobody in any more; whoever is in gets a moment."""


class RuleProblems(Exception):  # noqa: N818  several of them
    """The rules cannot be used; the text says which, where, and what would be right."""


class DoorError(Exception):
    """It cannot be opened; the text says what to do."""


def rules_of(settings: Settings) -> Rules | None:
    """The rules that fill queues; None: there are none. Raises RuleProblems."""
    if not settings.routes:
        return None
    module = import_module(RULES)
    try:
        return cast("Rules", module.Rules.compile(settings.routes, settings.defined_queues))
    except module.RuleError as error:
        raise RuleProblems(str(error)) from error


async def open_http(
    engine: Engine, settings: Settings, loop: asyncio.AbstractEventLoop
) -> Door | None:
    """The HTTP door to the queues; None: nobody wants it. Raises DoorError."""
    if not settings.http.listen:
        return None
    try:
        return cast("Door", await import_module(HTTP_DOOR).start(engine, settings, loop))
    except OSError as error:
        raise DoorError(str(error)) from error


async def open_gateway(
    hub: Hub, settings: Settings, loop: asyncio.AbstractEventLoop
) -> Door | None:
    """The gateway for serial ports and MQTT-SN; None: nobody wants it. Raises DoorError."""
    if not settings.has_gateway:
        return None
    try:
        return cast("Door", await import_module(GATEWAY).start(hub, settings, loop))
    except OSError as error:
        raise DoorError(str(error)) from error
