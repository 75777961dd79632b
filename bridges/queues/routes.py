"""The rules: which messages go into which queues, and what becomes of them there.

Rule kept here: everything that can be wrong with a rule is told when it is compiled; afterwards no
message can make one fail. Rules that look at topics only are settled once for each topic.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bridges.queues.conditions import ConditionError
from bridges.queues.loops import Ways, loop
from bridges.queues.route import Route
from bridges.queues.subject import Subject
from broker.queues.entry import Forward
from broker.settings import SettingsError
from broker.topics.tree import TopicTree

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from broker.packets.publication import Publication
    from broker.queues.delivery import Delivery
    from broker.queues.entry import Entry
    from broker.settings import Problem, QueueSettings, RouteSettings, Settings

# A rule, and what it makes of every message it takes, if that depends on the topic only.
Step = tuple[Route, "tuple[Entry, ...] | None"]


class RuleError(SettingsError):
    """Rules cannot be used; `problems` has every reason."""


class Rules:
    """All rules, in the order of the file."""

    __slots__ = ("_by_queue", "_tree", "_ways", "routes")

    def __init__(self, routes: Sequence[Route], queues: Sequence[QueueSettings] = ()) -> None:
        self.routes = routes
        self._ways = Ways([route.settings for route in routes], queues)
        self._tree: TopicTree[int] = TopicTree()
        self._by_queue: dict[str, QueueRules] = {}
        for number, route in enumerate(routes):
            for topic_filter in route.settings.topic:
                self._tree.add(topic_filter, number, number)
        for queue in {route.settings.from_queue for route in routes} - {""}:
            own = [route for route in routes if route.settings.from_queue == queue]
            self._by_queue[queue] = QueueRules(own)

    @classmethod
    def compile(
        cls, routes: Sequence[RouteSettings], queues: Sequence[QueueSettings] = ()
    ) -> Rules:
        """Raises RuleError with every problem, conditions and loops; `queues` say where dead
        letters go.
        """
        made: list[Route] = []
        problems: list[Problem] = []
        used: Counter[str] = Counter()  # how much of each split is given away
        for number, settings in enumerate(routes, 1):
            low = used[settings.split] if settings.split else 0
            used[settings.split] += settings.share
            try:
                made.append(Route(settings, settings.name or f"route {number}", low))
            except ConditionError as error:
                problems.append(settings.place.problem("when", str(error)))
        problems.extend(_loop_problems(routes, queues))
        if problems:
            raise RuleError(problems)
        return cls(made, queues)

    @property
    def forwards(self) -> Collection[str]:
        """The queues whose messages are moved on."""
        return self._by_queue.keys()

    def leads_on(self, queue: str) -> bool:
        """Whether messages of a queue, or its dead letters, are moved on."""
        return self._ways.leads_on(queue)

    def circle(
        self, queue: str, topic_filter: str, bound: Iterable[tuple[str, str]]
    ) -> Sequence[str]:
        """The circle in which messages would go if a client bound the queue to the filter; empty:
        none. `bound`: what else is, of queues that lead on.
        """
        return self._ways.circle(queue, topic_filter, bound)

    @property
    def misses(self) -> Mapping[str, int]:
        """How often each rule could not be read of a message."""
        return {route.label: route.misses for route in self.routes}

    def matching(self, topic: str) -> list[Route]:
        """The rules of a topic, in their order."""
        return [self.routes[number] for number in sorted(set(self._tree.match(topic)))]

    def for_topic(self, topic: str) -> SettledRules | TopicRules | None:
        """The rules of a topic, worth keeping; None: there are none."""
        routes = self.matching(topic)
        if not routes:
            return None
        anyone = Subject(topic, b"")
        steps: list[Step] = [
            (route, route.entries(anyone) if route.is_fixed else None) for route in routes
        ]
        if all(route.is_open and route.is_fixed for route in routes):
            return SettledRules(_collect(steps, anyone))
        return TopicRules(steps)

    def for_queue(self, queue: str) -> QueueRules | None:
        """The rules of a queue; None: its messages stay."""
        return self._by_queue.get(queue)


class SettledRules:
    """All messages of this topic go the same way."""

    __slots__ = ("_entries",)

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self._entries = entries

    def entries(self, _: Publication) -> tuple[Entry, ...]:
        """Into which queues a message goes."""
        return self._entries


class TopicRules:
    """The messages of this topic have to be looked at."""

    __slots__ = ("_steps",)

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps

    def entries(self, publication: Publication) -> tuple[Entry, ...]:
        """Into which queues a message goes."""
        return _collect(self._steps, Subject.of_publication(publication))


class QueueRules:
    """What becomes of the messages in one queue."""

    __slots__ = ("routes",)

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes

    def forward(self, delivery: Delivery) -> Forward:
        """Where a message goes from here; nowhere: it stays."""
        subject = Subject.of_delivery(delivery)
        entries: dict[str, Entry] = {}
        topics: dict[str, None] = {}
        for route in self.routes:
            if route.takes(subject):
                for entry in route.entries(subject):
                    entries.setdefault(entry.queue, entry)
                topics.update(dict.fromkeys(route.topics(subject)))
                if route.settings.last:
                    break
        return Forward(tuple(entries.values()), tuple(topics))


def compile_settings(settings: Settings) -> Rules | None:
    """The rules of all settings; None when there are none. Raises RuleError."""
    rules = Rules.compile(settings.routes, settings.defined_queues)
    return rules if rules.routes else None


def _collect(steps: Sequence[Step], subject: Subject) -> tuple[Entry, ...]:
    """Each queue once: the first rule that names it decides."""
    taken: dict[str, Entry] = {}
    for route, fixed in steps:
        if not route.is_open and not route.takes(subject):
            continue
        for entry in route.entries(subject) if fixed is None else fixed:
            taken.setdefault(entry.queue, entry)
        if route.settings.last:
            break
    return tuple(taken.values())


def _loop_problems(
    routes: Sequence[RouteSettings], queues: Sequence[QueueSettings]
) -> list[Problem]:
    circle = loop(routes, queues)
    if not circle:
        return []
    wrong = f"messages would go round for ever: {' -> '.join(circle)}; take one of these steps out"
    for route in routes:
        if route.from_queue in circle:
            return [route.place.problem("from_queue", wrong)]
    (place, *_) = (queue.place for queue in queues if queue.name in circle)
    return [place.problem("dead_letter_queue", wrong)]
