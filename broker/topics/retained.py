"""Retained messages: the last value of each topic, and which of them a filter matches.

Values stand in one plain dict. Beside it stands an index for filters with wildcards, made as small
as it can be: a branch is a dict from a level's name to either another branch or, while a single
topic lies below, that topic itself. Each topic's path is closed with END, which no level can be
called, so no path is the beginning of another one and "a" may be retained beside "a/b". Every
branch but the root has at least two topics below it: that is what pruning keeps.
"""

# ruff: noqa: A002 - "filter" is the standard's word for it, and the builtin is not used here

from collections.abc import Iterable, Iterator
from typing import Generic, TypeAlias, TypeVar, Union

from broker.topics.filters import is_wildcard, levels_match

V = TypeVar("V")

_Branch: TypeAlias = "dict[str, _Slot]"
_Slot: TypeAlias = Union[str, "_Branch"]

END = "/"


class RetainedMessages(Generic[V]):
    """Topic -> value. Topics and filters are valid ones."""

    __slots__ = ("_index", "_values")

    def __init__(self) -> None:
        self._values: dict[str, V] = {}
        self._index: _Branch = {}

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[tuple[str, V]]:
        return iter(self._values.items())

    def get(self, topic: str) -> V | None:
        return self._values.get(topic)

    def set(self, topic: str, value: V) -> V | None:
        """Retain `value`; returns the one it replaced."""
        replaced = self._values.get(topic)
        if topic not in self._values:
            _insert(self._index, topic)
        self._values[topic] = value
        return replaced

    def delete(self, topic: str) -> V | None:
        """Forget the topic; returns what it held."""
        if topic in self._values:
            _remove(self._index, topic)
        return self._values.pop(topic, None)

    def match(self, filter: str) -> list[tuple[str, V]]:
        """All (topic, value) that `filter` matches; the same calls before give the same order."""
        if is_wildcard(filter):
            return [(topic, self._values[topic]) for topic in _search(self._index, filter)]
        value = self._values.get(filter)
        return [] if value is None else [(filter, value)]


def _path(topic: str) -> list[str]:
    path = topic.split("/")
    path.append(END)
    return path


def _insert(branch: _Branch, topic: str) -> None:
    path = _path(topic)
    for depth, level in enumerate(path):
        slot = branch.get(level)
        if slot is None:
            branch[level] = topic
            return
        if isinstance(slot, str):
            branch[level] = _forked(slot, topic, path, depth + 1)
            return
        branch = slot


def _forked(resident: str, topic: str, path: list[str], depth: int) -> _Branch:
    """The branch from `depth` on that holds two topics, forked where they begin to differ."""
    resident_path = _path(resident)
    first: _Branch = {}
    branch = first
    while resident_path[depth] == path[depth]:
        deeper: _Branch = {}
        branch[path[depth]] = deeper
        branch = deeper
        depth += 1
    branch[resident_path[depth]] = resident
    branch[path[depth]] = topic
    return first


def _remove(branch: _Branch, topic: str) -> None:
    trail: list[tuple[_Branch, str]] = []
    for level in _path(topic):
        slot = branch[level]
        if isinstance(slot, str):
            del branch[level]
            break
        trail.append((branch, level))
        branch = slot
    _lift_last(branch, trail)


def _lift_last(branch: _Branch, trail: list[tuple[_Branch, str]]) -> None:
    """Put a topic that is alone in its branch into the branch's own place, and so on upwards."""
    while trail and len(branch) == 1:
        last = next(iter(branch.values()))
        if not isinstance(last, str):
            return
        branch, level = trail.pop()
        branch[level] = last


def _search(index: _Branch, filter: str) -> list[str]:
    found: list[str] = []
    if filter.startswith(("+", "#")):  # [MQTT-4.7.2-1]
        index = {level: slot for level, slot in index.items() if not level.startswith("$")}
    wanted = filter.split("/")
    branches = [index]
    for level in wanted:
        if level == "#":
            found.extend(_leaves(branches))
            return found
        branches = _step(branches, level, wanted, found)
    for branch in branches:
        own = branch.get(END)
        if isinstance(own, str):
            found.append(own)
    return found


def _step(
    branches: list[_Branch], level: str, wanted: list[str], found: list[str]
) -> list[_Branch]:
    """One level down: collect the single topics that match, return the branches below `level`."""
    reached: list[_Branch] = []
    for branch in branches:
        for slot in _chosen(branch, level):
            if not isinstance(slot, str):
                reached.append(slot)
            elif levels_match(wanted, slot.split("/")):
                found.append(slot)
    return reached


def _chosen(branch: _Branch, level: str) -> Iterable[_Slot]:
    if level == "+":
        return branch.values()
    slot = branch.get(level)
    return () if slot is None else (slot,)


def _leaves(branches: list[_Branch]) -> Iterator[str]:
    """All topics below these branches."""
    waiting = branches[::-1]
    while waiting:
        for slot in waiting.pop().values():
            if isinstance(slot, str):
                yield slot
            else:
                waiting.append(slot)
