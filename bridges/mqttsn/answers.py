"""From MQTT's reasons and rules to the four return codes of MQTT-SN."""

from __future__ import annotations

from typing import Final

from bridges.mqttsn.codes import ReturnCode
from broker.packets.codes import ReasonCode
from broker.packets.errors import ProtocolViolation
from broker.topics.filters import check_filter, check_topic, is_wildcard, split_shared

REFUSED: Final = 0x80  # reasons from here on

# What will pass: the device is to try again later.
_PASSING: Final = frozenset(
    {
        ReasonCode.SERVER_UNAVAILABLE,
        ReasonCode.SERVER_BUSY,
        ReasonCode.RECEIVE_MAXIMUM_EXCEEDED,
        ReasonCode.QUOTA_EXCEEDED,
        ReasonCode.CONNECTION_RATE_EXCEEDED,
    }
)


def return_code(reason: int) -> ReturnCode:
    """What to tell a device when the broker has answered with `reason`."""
    if reason < REFUSED:
        return ReturnCode.ACCEPTED
    return ReturnCode.CONGESTION if reason in _PASSING else ReturnCode.NOT_SUPPORTED


def is_topic(topic: str | None, levels: int) -> bool:
    """Whether `topic` may be published to."""
    if topic is None:
        return False
    try:
        check_topic(topic, levels)
    except ProtocolViolation:
        return False
    return True


def is_filter(topic_filter: str | None, levels: int) -> bool:
    """Whether `topic_filter` may be subscribed to."""
    if topic_filter is None:
        return False
    try:
        shared = split_shared(topic_filter)
        check_filter(shared.filter if shared else topic_filter, levels)
    except ProtocolViolation:
        return False
    return True


def is_open(topic_filter: str) -> bool:
    """Whether the filter may match other topics than its own name: then no id comes with it."""
    return is_wildcard(topic_filter) or topic_filter.startswith("$share/")
