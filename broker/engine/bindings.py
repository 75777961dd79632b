"""Which queues a topic feeds: the rules of the configuration, and what clients have bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.queues.entry import Entry
from broker.topics.tree import TopicTree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker.engine.ports import Rules, TopicRules
    from broker.packets.publication import Publication


class Bindings:
    """Answers for the router, which remembers the answers: `on_change` is told a filter whose
    topics must be asked about anew.
    """

    __slots__ = ("_leading", "_rules", "_tree", "on_change")

    def __init__(self, rules: Rules | None) -> None:
        self._rules = rules
        self._tree: TopicTree[Entry] = TopicTree()
        self._leading: dict[tuple[str, str], None] = {}  # those whose queues lead on, few if any
        self.on_change: Callable[[str], None] | None = None

    def for_topic(self, topic: str) -> TopicRules | None:
        """What becomes of a topic's messages; None: no queue wants them."""
        rules = None if self._rules is None else self._rules.for_topic(topic)
        bound = self._tree.match(topic)
        return Bound(rules, list(bound)) if bound else rules

    def circle(self, queue: str, topic_filter: str) -> Sequence[str]:
        """The circle that binding the queue to the filter would close; empty: none."""
        return () if self._rules is None else self._rules.circle(queue, topic_filter, self._leading)

    def bind(self, queue: str, topic_filter: str) -> None:
        """Have a queue take the messages of a (valid) filter."""
        if self._rules is not None and self._rules.leads_on(queue):
            self._leading[queue, topic_filter] = None
        self._tree.add(topic_filter, queue, Entry(queue, why=f"bound to {topic_filter}"))
        if self.on_change is not None:
            self.on_change(topic_filter)

    def unbind(self, queue: str, topic_filter: str) -> None:
        """Have it take them no more."""
        self._leading.pop((queue, topic_filter), None)
        self._tree.remove(topic_filter, queue)
        if self.on_change is not None:
            self.on_change(topic_filter)


class Bound:
    """The rules of a topic, and queues bound to it by clients. A rule's word counts first."""

    __slots__ = ("_bound", "_rules")

    def __init__(self, rules: TopicRules | None, bound: list[Entry]) -> None:
        self._rules = rules
        self._bound = bound

    def entries(self, publication: Publication) -> Sequence[Entry]:
        """See TopicRules; each queue once."""
        ruled = () if self._rules is None else self._rules.entries(publication)
        by_queue = {each.queue: each for each in (*self._bound, *ruled)}
        return list(by_queue.values())
