"""What a rule takes from a message: "topic:4", "property:device", "json:device.id", "client".

Rule kept here: what comes out fits where it goes (a key any database can hold, a priority from 0 to
9, seconds in a range), or it is a Miss.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from bridges.queues.subject import Miss
from broker.queues.entry import bounded
from broker.queues.policy import HIGHEST_PRIORITY, LOWEST_PRIORITY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridges.queues.subject import Subject

LONGEST_TIME = 100 * 365 * 86_400.0  # seconds


def source(text: str) -> Callable[[Subject], Any]:
    """What takes a value out of a message, raising Miss; `text` is one that the settings let
    through.
    """
    kind, _, detail = text.partition(":")
    return _KINDS[kind](detail)


def depends_on_topic_only(text: str) -> bool:
    """Whether all messages of a topic have the same value there."""
    return text.partition(":")[0] == "topic"


def as_key(value: object) -> str:
    """A value as the key of a message, or as what tells two messages apart."""
    text = _text(value)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise Miss("a half of a surrogate pair cannot be a key") from None
    if b"\0" in data:
        raise Miss("a key cannot have a character 0")
    return bounded(text)


def as_priority(value: object) -> int:
    """A value as a priority, 0 to 9."""
    number = _number(value)
    if number.is_integer() and LOWEST_PRIORITY <= number <= HIGHEST_PRIORITY:
        return int(number)
    raise Miss(f"{number:g} is not a priority from {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}")


def as_seconds(value: object) -> float:
    """A value as a duration."""
    number = _number(value)
    if 0.0 <= number <= LONGEST_TIME:
        return number
    raise Miss(f"{number:g} is not a number of seconds")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise Miss("null, a list or an object cannot be a key")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Miss("it is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise Miss("it is not a number") from None
    if math.isnan(number):
        raise Miss("it is not a number")
    return number


# ---- the kinds ----


def _topic(detail: str) -> Callable[[Subject], Any]:
    if not detail:
        return lambda subject: subject.topic
    place = int(detail)

    def take(subject: Subject) -> str:
        levels = subject.levels
        if place <= len(levels):
            return levels[place - 1]
        raise Miss(f"the topic has no level {place}")

    return take


def _property(name: str) -> Callable[[Subject], Any]:
    def take(subject: Subject) -> str:
        try:
            return subject.properties[name]
        except KeyError:
            raise Miss(f"there is no user property {name}") from None

    return take


def _json(path: str) -> Callable[[Subject], Any]:
    steps = path.split(".")

    def take(subject: Subject) -> Any:
        value = subject.value
        for step in steps:
            value = _inside(value, step)
        return value

    return take


def _inside(value: Any, step: str) -> Any:
    """A field of an object, or an element of a list by its place from 0 on."""
    if isinstance(value, dict) and step in value:
        return value[step]
    if isinstance(value, list) and step.isdecimal() and len(step) < 9 and int(step) < len(value):
        return value[int(step)]
    raise Miss(f"there is no field {step}")


def _client(_: str) -> Callable[[Subject], Any]:
    def take(subject: Subject) -> str:
        if subject.client:
            return subject.client
        raise Miss("no client published it")

    return take


_KINDS: Final[Mapping[str, Callable[[str], Callable[[Subject], Any]]]] = {
    "topic": _topic,
    "property": _property,
    "json": _json,
    "client": _client,
}
