"""The keys of a scenario file: one key, one line, with the rule its values keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmware_sim.device.bugs import Bug
from firmware_sim.device.signals import SIGNALS
from firmware_sim.firmware.images import PARTS
from firmware_sim.scenario import wires
from firmware_sim.scenario.rules import (
    DAY,
    HOUR,
    NAME,
    Choice,
    Choices,
    Duration,
    Flag,
    Number,
    Range,
    Rule,
    Text,
    TimeOfDay,
    Whole,
)
from firmware_sim.scenario.scenario import LEVELS, LONGEST, MOST_DEVICES, WAYS

if TYPE_CHECKING:
    from collections.abc import Mapping


_TOPIC = Text(
    r"(?=[^#+$\0]*\{device\})[^#+$\0]+",
    'write a topic with {device} in it, without # and +, such as "farm/{device}/climate"',
)
_FIELD = Text(r"[a-z][a-z0-9_]*", "write small letters, digits and _", 30)
_INTERVAL = Duration(0.001, 30 * DAY)

_SCENARIO: Final[Mapping[str, Rule]] = {
    "name": NAME,
    "about": Text(r"[^\0]*", "write a sentence", 2000),
    "seed": Whole(0, 2**63 - 1),
    "duration": Duration(0.1, LONGEST, '60 or "10 min"'),
    "time": Choice(("real", "virtual")),
    "starts_at": TimeOfDay(),
    "drain": Duration(0.0, HOUR),
    "ramp": Duration(0.0, DAY),
    "broker": Text(r".+", 'write a URL such as "mqtt://127.0.0.1"'),
}
_VERIFY: Final[Mapping[str, Rule]] = {"subscribers": Whole(1, 16), "qos": Whole(1, 2)}
_UART: Final[Mapping[str, Rule]] = {"ports": Text(r"[^\0]+", "write the path of a folder", 1000)}
_BATTERY = Range(
    "a battery",
    {
        "capacity": Number(0.001, 1e6),
        "asleep": Number(0.0, 1e5),
        "awake": Number(0.0, 1e5),
        "sending": Number(0.0, 1e5),
        "rate": Number(1.0, 1e9),
        "start": Number(0.0, 60.0),
    },
)
SIGNAL_KEYS: Final[Mapping[str, Mapping[str, Rule]]] = {
    "temperature": {
        "mean": Number(-100, 200),
        "swing": Number(0, 100),
        "weather": Number(0, 100),
    },
    "drift": {
        "name": _FIELD,
        "start": Number(),
        "per_hour": Number(0, 1e9),
        "low": Number(),
        "high": Number(),
    },
    "door": {"per_hour": Number(0.001, 3600), "open_for": Duration(0.1, DAY)},
    "vibration": {
        "rest": Number(0, 1e6),
        "burst": Number(0, 1e6),
        "per_hour": Number(0.001, 3600),
    },
    "counter": {"name": _FIELD, "per_hour": Number(0, 1e9)},
    "replay": {
        "file": Text(r"[^\0]+", "write the path of a CSV file", 1000),
        "speed": Number(0.001, 1e5),
    },
}
DEVICES: Final[Mapping[str, Rule]] = {
    "kind": NAME,
    "count": Whole(1, MOST_DEVICES),
    "way": Choice(WAYS),
    "level": Choice(LEVELS),
    "part": Choice(tuple(PARTS)),
    "broker": Text(r".+", 'write a URL such as "wss://127.0.0.1"'),
    "version": Choice(("3.1.1", "5")),
    "topic": _TOPIC,
    "interval": _INTERVAL,
    "qos": Whole(0, 2),
    "sleeps": Flag(),
    "session": Choice(("durable", "clean")),
    "keep_alive": Whole(1, 65_535),
    "commands": _INTERVAL,
    "flash": Whole(1, 1_000_000),
    "volatile": Flag(),
    "window": Whole(1, 20),
    "drift_ppm": Number(0, 100_000),
    "battery": _BATTERY,
    "bugs": Choices(tuple(Bug)),
    "wire": Range("a wire", wires.RULES),
}
_EVENT: Final[Mapping[str, Rule]] = {
    "at": Duration(0.0, LONGEST),
    "what": Choice(("brown-out", "unplug")),
    "devices": Text(r"[A-Za-z0-9_*?-]+", 'write a kind, or several with *, such as "hall-*"'),
    "lasts": Duration(0.001, DAY),
    "every": Duration(0.1, LONGEST),
}
SECTIONS: Final = {"scenario": _SCENARIO, "verify": _VERIFY, "uart": _UART}
LISTS: Final = {"devices": DEVICES, "event": _EVENT}
NEEDED: Final = {"devices": {"kind": '"soil"'}, "event": {"at": '"1 min"'}}


assert set(SIGNAL_KEYS) == {*SIGNALS, "replay"}, "every signal has its keys"
