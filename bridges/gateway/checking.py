"""What the settings cannot know of themselves: whether a text stands for a serial port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridges.gateway.from_settings import port_settings
from broker.settings import SettingsError

if TYPE_CHECKING:
    from broker.settings import SerialSettings, Settings


def check_ports(chosen: Settings) -> None:
    """Raise SettingsError unless every port can be looked for."""
    problems = [
        port.place.problem("port", wrong) for port in chosen.serial if (wrong := _wrong(port))
    ]
    if problems:
        raise SettingsError(problems)


def _wrong(port: SerialSettings) -> str:
    try:
        port_settings(port)
    except ValueError as error:
        return str(error)
    return ""
