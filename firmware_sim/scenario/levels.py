"""What a device with real firmware can be told, and what not: nothing is passed over silently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmware_sim.firmware.identity import LONGEST_NAME, LONGEST_TOPIC
from firmware_sim.scenario.scenario import COMPILED, EMULATED, MODEL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from firmware_sim.scenario.scenario import Kind, Scenario

MOST_EMULATED = 64
MOST_COMPILED = 256
FASTEST: Final = 0.02  # seconds between two readings; the firmware looks at its clock every 10 ms
LONGEST_SLEEP: Final = 65_535  # seconds, as MQTT-SN has two bytes
FASTEST_UART: Final = 115_200  # of the emulated controllers, as their firmware sets it
_COMMAND: Final = len("/command")
_WHY_NOT: Final[Mapping[str, str]] = {
    "signals": "the firmware has a sensor of its own, a temperature",
    "flash": "the firmware keeps 16 readings in RAM",
    "volatile": "the firmware keeps 16 readings in RAM",
    "window": "the firmware has one message under way",
    "drift_ppm": "its clock is that of this computer",
    "battery": "nobody can see how much power it takes",
    "bugs": "the firmware is the one that is shipped",
    "version": "the firmware speaks MQTT-SN",
}


def given_problems(kind: Kind, given: Collection[str]) -> Iterator[tuple[str, str]]:
    """What was written of a kind and does not apply: keys, and complaints."""
    if "part" in given and kind.level != EMULATED:
        yield "part", 'is for level = "emulated": write that too, or leave it out'
    if kind.level == MODEL:
        return
    for key, why in _WHY_NOT.items():
        if key in given:
            yield key, f'is for level = "model"; {why}: leave it out'


def level_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    """What is wrong with a kind whose firmware is real: keys, and complaints."""
    if kind.level == MODEL:
        return
    if kind.way != "framed":
        yield "level", f'the firmware in C speaks on a framed wire: write way = "framed"{_or(kind)}'
    if kind.interval is not None and kind.interval < FASTEST:
        yield "interval", "the firmware measures every 20 ms at most: write 20 ms or more"
    if kind.sleeps and kind.sleep_limit > LONGEST_SLEEP:
        yield "interval", f"one that sleeps measures at least every {LONGEST_SLEEP // 7200} h"
    if kind.level == EMULATED and kind.wire.baud > FASTEST_UART:
        yield "wire", f"baud: the controller's UART does {FASTEST_UART} bit/s: write that or less"
    yield from _length_problems(kind)


def _or(kind: Kind) -> str:
    return "" if kind.way != "mqtt" else ', or level = "model"'


def _length_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    name = kind.names()[-1]
    if len(name) > LONGEST_NAME:
        most = LONGEST_NAME - (len(name) - len(kind.kind))
        yield (
            "kind",
            (
                f'"{name}" is a client id, and the firmware takes {LONGEST_NAME} bytes: '
                f"write a kind of at most {most} letters"
            ),
        )
    size, most = len(kind.topic_of(name).encode()), LONGEST_TOPIC - _COMMAND
    if size > most:
        yield "topic", f"takes {size} bytes, and the firmware has room for {most}: shorten it"


def scenario_level_problems(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """What is wrong with all of them together: dotted keys, and complaints."""
    for number, kind in enumerate(scenario.kinds, 1):
        if kind.level == EMULATED and scenario.time == "virtual":
            yield (
                f"devices[{number}].level",
                (
                    'an emulated controller has a clock of its own: write level = "compiled", or '
                    'time = "real" in [scenario]'
                ),
            )
    for level, most in ((EMULATED, MOST_EMULATED), (COMPILED, MOST_COMPILED)):
        count = sum(kind.count for kind in scenario.kinds if kind.level == level)
        if count > most:
            yield "devices", f"there are {count} {level} ones: at most {most} in one run"
