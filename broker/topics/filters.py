"""Topic names and topic filters: which are valid, and which filter matches which name.

`matches` is the plain reading of chapter 4.7 and the reference that the trees are tested against.
Rules are cited by their MQTT 5 ids. Nothing here normalizes: "/a", "a", "a/" and "A" are four
different names. # [MQTT-4.7.3-4]
"""

# ruff: noqa: A002 - "filter" is the standard's word for it, and the builtin is not used here

from dataclasses import dataclass

from broker.packets.codes import ReasonCode
from broker.packets.errors import ProtocolViolation

MAX_STRING_BYTES = 65_535  # what the two length bytes of an MQTT string can say
SHARE_PREFIX = "$share/"

_NAME = ReasonCode.TOPIC_NAME_INVALID
_FILTER = ReasonCode.TOPIC_FILTER_INVALID


@dataclass(frozen=True, slots=True)
class SharedFilter:
    """A shared subscription's two parts: `$share/<share_name>/<filter>`."""

    share_name: str
    filter: str


def check_topic(topic: str, max_levels: int) -> None:
    """Raise ProtocolViolation (TOPIC_NAME_INVALID) unless `topic` is a valid topic name."""
    _check_string(topic, max_levels, _NAME)
    if "+" in topic or "#" in topic:  # [MQTT-4.7.0-1]
        raise ProtocolViolation(_NAME, "MQTT-4.7.0-1", _shown(topic))


def check_filter(filter: str, max_levels: int) -> None:
    """Raise ProtocolViolation (TOPIC_FILTER_INVALID) unless `filter` is a valid topic filter.

    A shared subscription is first split with `split_shared`; the filter inside is checked here.
    """
    _check_string(filter, max_levels, _FILTER)
    if "#" in filter and ("#" in filter[:-1] or filter[-2:] not in ("#", "/#")):  # [MQTT-4.7.1-1]
        raise ProtocolViolation(_FILTER, "MQTT-4.7.1-1", _shown(filter))
    if "+" in filter and not _plus_stands_alone(filter):  # [MQTT-4.7.1-2]
        raise ProtocolViolation(_FILTER, "MQTT-4.7.1-2", _shown(filter))


def is_wildcard(filter: str) -> bool:
    """Whether this (valid) filter can match more than the one topic it spells."""
    return "+" in filter or "#" in filter


def matches(filter: str, topic: str) -> bool:
    """Whether the valid `filter` matches the valid `topic`: the reference for all faster ways."""
    if topic.startswith("$") and filter.startswith(("+", "#")):  # [MQTT-4.7.2-1]
        return False
    return levels_match(filter.split("/"), topic.split("/"))


def levels_match(wanted: list[str], given: list[str]) -> bool:
    """Whether a filter's levels match a topic's, apart from the rule for `$` at the beginning."""
    for depth, level in enumerate(wanted):
        if level == "#":  # the parent level too: "a/#" matches "a"
            return True
        if depth == len(given) or (level != "+" and level != given[depth]):
            return False
    return len(wanted) == len(given)


def split_shared(filter: str) -> SharedFilter | None:
    """The parts of `$share/name/filter`; None for a filter that is not shared.

    Raises ProtocolViolation (TOPIC_FILTER_INVALID) when the name or the filter is not proper.
    """
    if not filter.startswith(SHARE_PREFIX):
        return None
    share_name, _, shared = filter[len(SHARE_PREFIX) :].partition("/")
    if not share_name:  # [MQTT-4.8.2-1]
        raise ProtocolViolation(_FILTER, "MQTT-4.8.2-1", _shown(filter))
    if not shared or is_wildcard(share_name):  # [MQTT-4.8.2-2]
        raise ProtocolViolation(_FILTER, "MQTT-4.8.2-2", _shown(filter))
    return SharedFilter(share_name, shared)


def _check_string(text: str, max_levels: int, reason: ReasonCode) -> None:
    """What names and filters have in common; cheap questions first, a depth bomb is one count."""
    if not text:
        raise ProtocolViolation(reason, "MQTT-4.7.3-1")
    if text.count("/") >= max_levels:
        raise ProtocolViolation(reason, "4.7.3", "levels", text.count("/") + 1, "limit", max_levels)
    if "\0" in text:
        raise ProtocolViolation(reason, "MQTT-4.7.3-2", _shown(text))
    if _is_too_long(text):
        raise ProtocolViolation(reason, "MQTT-4.7.3-3", "characters", len(text))


def _is_too_long(text: str) -> bool:
    if len(text) * 4 <= MAX_STRING_BYTES:  # a character takes at most four bytes
        return False
    return len(text.encode("utf-8", "surrogatepass")) > MAX_STRING_BYTES


def _plus_stands_alone(filter: str) -> bool:
    return all(level == "+" or "+" not in level for level in filter.split("/"))


def _shown(text: str) -> str:
    """As much of a peer's string as belongs into a message to people."""
    return repr(text if len(text) <= 80 else text[:80] + "...")
