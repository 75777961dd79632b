"""Topic ids of one device (sections 6.5 and 6.7): predefined, short, and registered ones.

An id, once given, keeps its name as long as the session lasts. `announced` are those that the
device has been told since it last started: it may have forgotten the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bridges.mqttsn.codes import LAST_TOPIC_ID, TopicIdType
from bridges.mqttsn.decode import text_of
from bridges.mqttsn.errors import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridges.mqttsn.policy import Policy

_SHORT = 2  # bytes


class TopicRef(NamedTuple):
    """How a topic is named in a PUBLISH."""

    kind: int
    topic_id: int


class Topics:
    """What the ids mean, and which are free."""

    __slots__ = ("_bytes", "_ids", "_last", "_names", "_policy", "_predefined_ids", "announced")

    def __init__(self, policy: Policy, registered: Mapping[int, str]) -> None:
        self._policy = policy
        self._predefined_ids = {name: key for key, name in policy.predefined.items()}
        self._names = dict(registered)
        self._ids = {name: key for key, name in registered.items()}
        self._bytes = sum(map(len, self._ids))
        self._last = max(registered, default=0)
        self.announced: set[int] = set()

    def __len__(self) -> int:
        return len(self._names)

    def name(self, kind: int, topic_id: int) -> str | None:
        """The topic that a device means; None if it means nothing."""
        if kind == TopicIdType.NORMAL:
            return self._names.get(topic_id)
        return shared_name(self._policy.predefined, kind, topic_id)

    def ref(self, topic: str) -> TopicRef | None:
        """How to name `topic` to the device; None: it must be registered first."""
        registered = self._ids.get(topic, 0)
        if registered in self.announced:
            return TopicRef(TopicIdType.NORMAL, registered)
        predefined = self._predefined_ids.get(topic)
        if predefined is not None:
            return TopicRef(TopicIdType.PREDEFINED, predefined)
        raw = topic.encode()
        if len(raw) == _SHORT:
            return TopicRef(TopicIdType.SHORT, raw[0] << 8 | raw[1])
        return None

    def registered_id(self, topic: str) -> int:
        """The id that `topic` has; 0: none."""
        return self._ids.get(topic, 0)

    def register(self, topic: str) -> int:
        """Give `topic` an id, the one it has if any; 0 when there is no room."""
        known = self._ids.get(topic)
        if known is not None:
            return known
        if not self.has_room(topic):
            return 0
        topic_id = self._last % LAST_TOPIC_ID + 1
        while topic_id in self._names:
            topic_id = topic_id % LAST_TOPIC_ID + 1
        self._last = topic_id
        self._names[topic_id] = topic
        self._ids[topic] = topic_id
        self._bytes += len(topic)
        return topic_id

    def has_room(self, topic: str) -> bool:
        """Whether `topic` has an id or can get one."""
        policy = self._policy
        return topic in self._ids or (
            len(topic.encode()) <= policy.longest_topic
            and len(self._names) < min(policy.max_topics, LAST_TOPIC_ID)
            and self._bytes + len(topic) <= policy.max_topic_bytes
        )


def shared_name(predefined: Mapping[int, str], kind: int, topic_id: int) -> str | None:
    """What an id means without any registration."""
    if kind == TopicIdType.PREDEFINED:
        return predefined.get(topic_id)
    if kind != TopicIdType.SHORT:
        return None
    try:
        return text_of(topic_id.to_bytes(_SHORT, "big"))
    except UnreadableError:
        return None
