"""The topic names that a device and its gateway have a number for (MQTT-SN 1.2, section 6.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bridges.mqttsn.codes import TopicIdType

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHORT = 2  # bytes of a name that is its own number
_WILDCARDS = frozenset("+#")


class Ref(NamedTuple):
    """How a topic is named on the wire."""

    kind: TopicIdType
    topic_id: int


class Topics:
    """Both ways between names and numbers; at most `most` are registered."""

    __slots__ = ("_ids", "_most", "_names", "_predefined", "_predefined_names")

    def __init__(self, predefined: Mapping[str, int], most: int) -> None:
        self._predefined = dict(predefined)
        self._predefined_names = {number: name for name, number in predefined.items()}
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._most = most

    def ref(self, topic: str) -> Ref | None:
        """Return how to name a topic; None: it must be registered first."""
        if topic in self._predefined:
            return Ref(TopicIdType.PREDEFINED, self._predefined[topic])
        raw = topic.encode()
        if len(raw) == _SHORT and _WILDCARDS.isdisjoint(topic):
            return Ref(TopicIdType.SHORT, int.from_bytes(raw, "big"))
        known = self._ids.get(topic)
        return None if known is None else Ref(TopicIdType.NORMAL, known)

    def name(self, ref: Ref) -> str | None:
        """Return the topic that is meant, or None."""
        if ref.kind == TopicIdType.SHORT:
            raw = ref.topic_id.to_bytes(_SHORT, "big")
            return raw.decode() if raw.isascii() else None
        if ref.kind == TopicIdType.PREDEFINED:
            return self._predefined_names.get(ref.topic_id)
        return self._names.get(ref.topic_id)

    def learn(self, topic_id: int, topic: str) -> bool:
        """Both sides have agreed; False: there is no room for more."""
        if len(self._ids) >= self._most and topic not in self._ids:
            return False
        self._names.pop(self._ids.pop(topic, 0), None)
        self._ids.pop(self._names.pop(topic_id, ""), None)
        self._ids[topic] = topic_id
        self._names[topic_id] = topic
        return True

    def forget(self, topic_id: int) -> None:
        """The gateway does not know this number any more."""
        self._ids.pop(self._names.pop(topic_id, ""), None)

    def clear(self) -> None:
        """Nothing that was registered counts any more."""
        self._ids.clear()
        self._names.clear()
