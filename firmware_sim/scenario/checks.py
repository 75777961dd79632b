"""What no single key can tell: things of a scenario that do not go together, or are too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firmware_sim.device.bugs import Bug
from firmware_sim.network.endpoint import parse_endpoint
from firmware_sim.scenario import wires
from firmware_sim.scenario.levels import level_problems, scenario_level_problems
from firmware_sim.scenario.rules import in_words
from firmware_sim.scenario.scenario import MOST_DEVICES, ScenarioError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmware_sim.scenario.scenario import Kind, Scenario

MOST_WIRES = 1024
MOST_PER_SECOND = 20_000.0  # messages of a whole fleet; one process makes no more
MOST_MESSAGES = 20_000_000  # of a whole run, 19 bytes each in the ledger
TYPICAL_MESSAGE = 120  # bytes of a reading on a wire


def checked(scenario: Scenario) -> Scenario:
    """The scenario, if it can be run as it is now. Raises ScenarioError."""
    problems = [f"{key}: {wrong}" for key, wrong in scenario_problems(scenario)]
    if problems:
        raise ScenarioError(problems)
    return scenario


def check_span(keywords: Mapping[str, Any]) -> None:
    """A range has room. Raises ValueError."""
    low, high = keywords.get("low", 0.0), keywords.get("high", 100.0)
    if low >= high:
        raise ValueError(f"low, {low:g}, is not below high, {high:g}: write a range with room")


def kind_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    """What is wrong with a kind: keys, and complaints."""
    checks = (_way_problems, _bug_problems, _wire_problems, _rate_problems, level_problems)
    for check in checks:
        yield from check(kind)


def _way_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    if kind.broker:
        try:
            parse_endpoint(kind.broker)
        except ValueError as error:
            yield "broker", str(error)
    if kind.way != "mqtt" and kind.broker:
        yield (
            "broker",
            f'is for way = "mqtt": a "{kind.way}" device reaches its broker by a gateway',
        )
    if kind.way == "text" and kind.qos != 0:
        yield "qos", "lines of text are not acknowledged: write qos = 0"
    if kind.sleeps and kind.way == "text":
        yield "sleeps", "lines of text know no sleep: leave it out"
    if kind.way == "mqtt" and kind.session == "durable" and kind.qos == 2 and kind.version != "5":
        yield "session", 'QoS 2 in a durable session needs version = "5" here'


def _bug_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    if Bug.NEVER_ACKS in kind.bugs and kind.way != "mqtt":
        yield "bugs", '"never_acks" is for way = "mqtt"'
    if Bug.NEVER_ACKS in kind.bugs and kind.commands is None:
        yield "bugs", '"never_acks" cannot be seen without commands: add commands = "5 s"'
    if Bug.DUPLICATE_IDS in kind.bugs and kind.count < 2:
        yield "bugs", '"duplicate_ids" needs a second device: write count = 2 or more'


def _wire_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    try:
        _ = kind.wire.faults
    except ValueError as error:
        yield "wire", str(error)


def _rate_problems(kind: Kind) -> Iterator[tuple[str, str]]:
    if kind.way not in wires.WAYS or kind.interval is None:
        return
    capacity = kind.wire.baud / 10
    wanted = TYPICAL_MESSAGE / kind.interval
    if wanted > capacity:
        yield (
            "interval",
            (
                f"a wire of {kind.wire.baud} baud carries {capacity:.0f} bytes per second, and "
                f"this wants {wanted:.0f}: "
                f"write {in_words(_round_up(TYPICAL_MESSAGE / capacity))} or more"
            ),
        )


def _round_up(seconds: float) -> float:
    return -(-seconds * 1000 // 1) / 1000


def scenario_problems(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """What is wrong with all of it: dotted keys, and complaints."""
    if not scenario.kinds:
        yield "devices", 'there are none: add [[devices]] with kind = "soil"'
    try:
        parse_endpoint(scenario.broker)
    except ValueError as error:
        yield "scenario.broker", str(error)
    yield from _size_problems(scenario)
    yield from scenario_level_problems(scenario)
    yield from _topic_problems(scenario)
    for number, incident in enumerate(scenario.incidents, 1):
        place = f"event[{number}]"
        if not any(incident.meets(kind.kind) for kind in scenario.kinds):
            kinds = ", ".join(kind.kind for kind in scenario.kinds)
            yield f"{place}.devices", f"there is no such kind: known here: {kinds}"
        if incident.every is not None and incident.every <= incident.lasts:
            yield f"{place}.every", "it begins anew before it ends: write more than lasts"


def _topic_problems(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Each device has a topic of its own."""
    if len(scenario.kinds) < 2 or scenario.devices > MOST_DEVICES:
        return
    taken: dict[str, str] = {}
    for number, kind in enumerate(scenario.kinds, 1):
        for name in kind.names():
            topic = kind.topic_of(name)
            if other := taken.get(topic):
                yield f"devices[{number}].topic", f'"{topic}" is that of {other}: write another one'
                break
            taken[topic] = name


def _size_problems(scenario: Scenario) -> Iterator[tuple[str, str]]:
    wired = sum(kind.count for kind in scenario.kinds if kind.way in wires.WAYS)
    if scenario.devices > MOST_DEVICES:
        yield "devices", f"there are {scenario.devices}: at most {MOST_DEVICES} in one run"
    if wired > MOST_WIRES:
        yield "devices", f"there are {wired} on wires: at most {MOST_WIRES} in one run"
    rate = sum(kind.count * kind.rate() for kind in scenario.kinds)
    if scenario.time == "real" and rate > MOST_PER_SECOND:
        yield (
            "devices",
            (
                f"they would send {rate:.0f} messages per second: at most {MOST_PER_SECOND:.0f}, "
                "so write longer intervals or fewer devices"
            ),
        )
    if rate * scenario.duration > MOST_MESSAGES:
        yield (
            "scenario.duration",
            (
                f"that makes {rate * scenario.duration:.0f} messages: at most {MOST_MESSAGES} in "
                "one run, so write a shorter duration or longer intervals"
            ),
        )
