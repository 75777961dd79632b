"""A scenario: which devices there are, what they do, what happens to them, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from firmware_sim.device.signals import length_of
from firmware_sim.scenario import wires
from firmware_sim.scenario.rules import DAY, HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from firmware_sim.device.battery import BatterySettings
    from firmware_sim.device.bugs import Bug
    from firmware_sim.device.signals import Row

WAYS: Final = ("mqtt", *wires.WAYS)
MODEL, COMPILED, EMULATED = LEVELS = ("model", "compiled", "emulated")
MOST_DEVICES = 50_000
LONGEST = 400 * DAY
MOST_DIGITS: Final = 4  # of a device's number, unless there are more devices


class ScenarioError(Exception):
    """The scenario cannot be run; `problems` has every reason as "file:line: key: what"."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


@dataclass(frozen=True, slots=True)
class SignalSettings:
    """One signal: its type in `SIGNALS` and its keywords, or the rows of a recording."""

    type: str
    keywords: Mapping[str, Any]
    rows: tuple[Row, ...] = ()

    def rate(self) -> float:
        """Rows per second, of a recording."""
        speed: float = self.keywords.get("speed", 1.0)
        return len(self.rows) / length_of(self.rows) * speed if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One [[devices]]. Times in seconds; `interval` None: only when its signals have news."""

    kind: str
    count: int = 1
    way: str = "mqtt"
    level: str = MODEL  # of truth: in Python; in C, for this computer; in C, in a controller
    part: str = "arduino-uno"  # the controller
    broker: str = ""  # another one than the scenario's
    version: str = "5"
    topic: str = "sim/{kind}/{device}"
    signals: tuple[SignalSettings, ...] = (SignalSettings("temperature", {}),)
    interval: float | None = 60.0
    qos: int = 1
    sleeps: bool = False
    session: str = ""  # "": durable if it sleeps or has QoS 2, else clean
    keep_alive: int = 60
    commands: float | None = None  # how often each is sent one
    flash: int = 256
    volatile: bool = False  # what waits is in RAM
    window: int = 4
    drift_ppm: float = 0.0  # at most, in either direction
    battery: BatterySettings | None = None
    bugs: frozenset[Bug] = frozenset()
    wire: wires.WireSettings = field(default_factory=wires.WireSettings)

    def names(self) -> list[str]:
        """Of its devices."""
        digits = max(len(str(self.count)), MOST_DIGITS)
        return [f"{self.kind}-{number:0{digits}}" for number in range(1, self.count + 1)]

    def topic_of(self, name: str) -> str:
        """Where this device publishes."""
        return self.topic.replace("{kind}", self.kind).replace("{device}", name)

    def rate(self) -> float:
        """Messages per second of one device, without what its sensors tell by chance."""
        replayed = (signal.rate() for signal in self.signals)
        return sum(replayed, 0.0 if self.interval is None else 1 / self.interval)

    @property
    def sleep_limit(self) -> float:
        """The longest that one that sleeps says it will sleep."""
        return max((self.interval or 60.0) * 2, 60.0)

    @property
    def is_durable(self) -> bool:
        """Whether its session outlives its connection."""
        if self.session:
            return self.session == "durable"
        return self.sleeps or (self.qos == 2 and self.version == "5")


@dataclass(frozen=True, slots=True)
class Incident:
    """One [[event]]: at `at`, for `lasts` seconds, some devices have no power, or no wire."""

    at: float
    what: str = "brown-out"
    devices: str = "*"  # kinds, with * and ?
    lasts: float = 5.0
    every: float | None = None

    def meets(self, kind: str) -> bool:
        """Whether it happens to devices of this kind."""
        return fnmatchcase(kind, self.devices)


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it."""

    name: str
    kinds: tuple[Kind, ...]
    incidents: tuple[Incident, ...] = ()
    seed: int = 1
    duration: float = 60.0
    time: str = "real"
    starts_at: float = 8 * HOUR
    drain: float = 20.0  # seconds without an arrival, at the end
    ramp: float = 2.0  # seconds over which the devices are switched on
    broker: str = "mqtt://127.0.0.1:1883"
    ports: str = "ports"
    subscribers: int = 1
    subscriber_qos: int = 2
    about: str = ""

    @property
    def devices(self) -> int:
        """How many there are."""
        return sum(kind.count for kind in self.kinds)


def scaled(scenario: Scenario, devices: int) -> Scenario:
    """The scenario with about this many devices, at least one of each kind."""
    ratio = devices / scenario.devices
    kinds = [replace(kind, count=max(round(kind.count * ratio), 1)) for kind in scenario.kinds]
    return replace(scenario, kinds=tuple(kinds))
