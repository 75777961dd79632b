"""The tree of subscriptions: which values were added under a filter that matches this topic?

Filters without wildcards stand in one plain dict; only filters with wildcards need nodes. A topic
visits a node at most once, and only nodes whose path matches its first levels, so hostile filters
can cost no more than the nodes they are made of. All walks are loops: no depth overflows. Answers
equal `filters.matches`, the reference, for every filter.
"""

# ruff: noqa: A002 - "filter" is the standard's word for it, and the builtin is not used here

from collections.abc import Hashable
from typing import Generic, TypeAlias, TypeVar

from broker.topics.filters import is_wildcard

V = TypeVar("V")


class _One(Generic[V]):
    """The entry of a filter that has one key: 48 bytes where a dict takes 250."""

    __slots__ = ("key", "value")

    def __init__(self, key: Hashable, value: V) -> None:
        self.key = key
        self.value = value


_Entries: TypeAlias = _One[V] | dict[Hashable, V]


class _Node(Generic[V]):
    """One level of the filters that have wildcards; the wildcards have places beside the names."""

    __slots__ = ("entries", "named", "plus", "rest")

    def __init__(self) -> None:
        self.named: dict[str, _Node[V]] | None = None
        self.plus: _Node[V] | None = None
        self.rest: _Node[V] | None = None  # "#"; has entries and no children
        self.entries: _Entries[V] | None = None  # of the filter that ends here

    def is_empty(self) -> bool:
        return self.entries is None and not self.named and self.plus is None and self.rest is None

    def child(self, level: str) -> "_Node[V] | None":
        if level == "+":
            return self.plus
        if level == "#":
            return self.rest
        return None if self.named is None else self.named.get(level)

    def put(self, level: str, child: "_Node[V]") -> None:
        if level == "+":
            self.plus = child
        elif level == "#":
            self.rest = child
        elif self.named is None:
            self.named = {level: child}
        else:
            self.named[level] = child

    def drop(self, level: str) -> None:
        if level == "+":
            self.plus = None
        elif level == "#":
            self.rest = None
        elif self.named is not None:
            del self.named[level]
            self.named = self.named or None


class TopicTree(Generic[V]):
    """Valid filters, each with its keys (who subscribed) and their values (how)."""

    __slots__ = ("_literals", "_root", "_size")

    def __init__(self) -> None:
        self._literals: dict[str, _Entries[V]] = {}
        self._root: _Node[V] = _Node()
        self._size = 0

    def __len__(self) -> int:
        """How many (filter, key) pairs there are."""
        return self._size

    def add(self, filter: str, key: Hashable, value: V) -> bool:
        """Set the value of (filter, key); True when the pair is new, False when it was there."""
        is_new = not _has(self._entries(filter), key)
        if is_wildcard(filter):
            node = self._grown(filter)
            node.entries = _with(node.entries, key, value)
        else:
            self._literals[filter] = _with(self._literals.get(filter), key, value)
        self._size += is_new
        return is_new

    def remove(self, filter: str, key: Hashable) -> V | None:
        """Take the pair out and return its value; None when there is no such pair."""
        held = self._entries(filter)
        if held is None or not _has(held, key):
            return None
        self._size -= 1
        value = _get(held, key)
        left = _without(held, key)
        if is_wildcard(filter):
            self._leave(filter, left)
        elif left is None:
            del self._literals[filter]
        else:
            self._literals[filter] = left
        return value

    def get(self, filter: str, key: Hashable) -> V | None:
        """The value of exactly this pair, or None."""
        return _get(self._entries(filter), key)

    def match(self, topic: str) -> list[V]:
        """All values of all filters that match `topic`, in an order that repeats."""
        found: list[V] = []
        _collect(self._literals.get(topic), found)
        if not self._root.is_empty():
            self._match_wildcards(topic, found)
        return found

    def _match_wildcards(self, topic: str, found: list[V]) -> None:
        nodes = [self._root]
        levels = topic.split("/")
        if topic.startswith("$"):  # its first level must be named, by no wildcard [MQTT-4.7.2-1]
            first = self._root.child(levels.pop(0))
            nodes = [] if first is None else [first]
        for level in levels:
            nodes = _step(nodes, level, found)
            if not nodes:
                return
        for node in nodes:
            _collect(node.entries, found)
            if node.rest is not None:  # "a/#" matches "a"
                _collect(node.rest.entries, found)

    def _entries(self, filter: str) -> _Entries[V] | None:
        if not is_wildcard(filter):
            return self._literals.get(filter)
        node: _Node[V] | None = self._root
        for level in filter.split("/"):
            if node is None:
                return None
            node = node.child(level)
        return None if node is None else node.entries

    def _grown(self, filter: str) -> _Node[V]:
        """The node where this filter ends, with all nodes on the way to it."""
        node = self._root
        for level in filter.split("/"):
            child = node.child(level)
            if child is None:
                child = _Node()
                node.put(level, child)
            node = child
        return node

    def _leave(self, filter: str, left: _Entries[V] | None) -> None:
        """Set what is left at the filter's end and take away the nodes that nothing needs now."""
        levels = filter.split("/")
        path = [self._root]
        for level in levels:
            child = path[-1].child(level)
            assert child is not None
            path.append(child)
        path[-1].entries = left
        while levels and path.pop().is_empty():
            path[-1].drop(levels.pop())


def _step(nodes: list[_Node[V]], level: str, found: list[V]) -> list[_Node[V]]:
    """One level down: collect what ends in "#" here, return the children that match `level`."""
    reached: list[_Node[V]] = []
    for node in nodes:
        if node.rest is not None:
            _collect(node.rest.entries, found)
        if node.named is not None:
            named = node.named.get(level)
            if named is not None:
                reached.append(named)
        if node.plus is not None:
            reached.append(node.plus)
    return reached


def _collect(entries: _Entries[V] | None, found: list[V]) -> None:
    if entries is None:
        return
    if isinstance(entries, dict):
        found.extend(entries.values())
    else:
        found.append(entries.value)


def _has(entries: _Entries[V] | None, key: Hashable) -> bool:
    if entries is None:
        return False
    return key in entries if isinstance(entries, dict) else entries.key == key


def _get(entries: _Entries[V] | None, key: Hashable) -> V | None:
    if entries is None:
        return None
    if isinstance(entries, dict):
        return entries.get(key)
    return entries.value if entries.key == key else None


def _with(entries: _Entries[V] | None, key: Hashable, value: V) -> _Entries[V]:
    if entries is None or (not isinstance(entries, dict) and entries.key == key):
        return _One(key, value)
    if not isinstance(entries, dict):
        entries = {entries.key: entries.value}
    entries[key] = value
    return entries


def _without(entries: _Entries[V], key: Hashable) -> _Entries[V] | None:
    """What is left without `key`, which is one of the keys."""
    if not isinstance(entries, dict):
        return None
    del entries[key]
    if len(entries) > 1:
        return entries
    last, value = next(iter(entries.items()))
    return _One(last, value)
