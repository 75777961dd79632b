"""Loops: no message may come back to where it was by rules alone, or it would go round for ever.

A graph of queues, topics that rules publish to, and dead letters; it must have no circle.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from bridges.queues.templates import Template
from broker.queues.names import dead_letter_queue, takes_dead_letters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from broker.settings import QueueSettings, RouteSettings

    Binding = tuple[str, str]  # a queue, and a filter that clients have bound it to

Edge = tuple[str, str]
TOPIC = "topic "  # no queue's name has a space


def loop(routes: Sequence[RouteSettings], queues: Sequence[QueueSettings]) -> list[str]:
    """One circle, its first name repeated at its end; empty when there is none."""
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for start, end in (*_route_edges(routes), *_dead_letter_edges(routes, queues)):
        if start == end:
            return [start, end]
        sorter.add(end, start)
    try:
        sorter.prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


class Ways:
    """Where messages go from a queue by themselves, for what clients bind while the broker runs."""

    __slots__ = ("_configured", "_dead", "_forwarding", "_routes")

    def __init__(self, routes: Sequence[RouteSettings], queues: Sequence[QueueSettings]) -> None:
        self._routes = routes
        self._forwarding = {route.from_queue for route in routes}
        self._configured = {queue.name for queue in queues}
        self._dead = dict(_dead_letter_edges(routes, queues))

    def leads_on(self, queue: str) -> bool:
        """Whether rules move on what is in the queue, or its dead letters."""
        place: str | None = queue
        seen = set()
        while place is not None and place not in seen:
            if place in self._forwarding:
                return True
            seen.add(place)
            place = self._dead_letters_of(place)
        return False

    def circle(self, queue: str, topic_filter: str, bound: Iterable[Binding]) -> list[str]:
        """The circle that would be there if the queue were bound to the filter, its first name
        repeated at its end; empty: none.
        """
        if not self.leads_on(queue):
            return []
        came_from = {queue: ""}
        todo = [queue]
        for place in todo:
            for step in self._steps(place, bound):
                if step in came_from:
                    continue
                came_from[step] = place
                if _is_published(step, topic_filter):
                    return [*_way_to(step, came_from), queue]
                todo.append(step)
        return []

    def _steps(self, place: str, bound: Iterable[Binding]) -> Iterator[str]:
        if place.startswith(TOPIC):
            published = place.removeprefix(TOPIC)
            yield from (queue for _, queue in _published(published, self._routes))
            wanted = Template(published).filter
            yield from (queue for queue, bound_to in bound if overlap(bound_to, wanted))
            return
        for route in self._routes:
            if route.from_queue == place:
                yield from route.targets
                yield from map(_topic, route.publish_to)
        dead_letters = self._dead_letters_of(place)
        if dead_letters is not None:
            yield dead_letters

    def _dead_letters_of(self, queue: str) -> str | None:
        if queue in self._dead:
            return self._dead[queue]
        has_none = queue in self._configured or takes_dead_letters(queue)
        return None if has_none else dead_letter_queue(queue)


def _is_published(step: str, topic_filter: str) -> bool:
    is_topic = step.startswith(TOPIC)
    return is_topic and overlap(topic_filter, Template(step.removeprefix(TOPIC)).filter)


def _way_to(step: str, came_from: Mapping[str, str]) -> list[str]:
    way = [step]
    while before := came_from[way[-1]]:
        way.append(before)
    return way[::-1]


def _route_edges(routes: Sequence[RouteSettings]) -> Iterator[Edge]:
    for route in routes:
        if not route.from_queue:
            continue
        for queue in route.targets:
            yield route.from_queue, queue
        for text in route.publish_to:
            yield route.from_queue, _topic(text)
            yield from _published(text, routes)


def _published(text: str, routes: Iterable[RouteSettings]) -> Iterator[Edge]:
    """From a topic that is published to, into the queues whose rules match it."""
    published = Template(text).filter
    for route in routes:
        if any(overlap(wanted, published) for wanted in route.topic):
            for queue in route.targets:
                yield _topic(text), queue


def _topic(text: str) -> str:
    return TOPIC + text


def _dead_letter_edges(
    routes: Iterable[RouteSettings], queues: Iterable[QueueSettings]
) -> Iterator[Edge]:
    names = {name for route in routes for name in (*route.targets, route.from_queue) if name}
    own = {name: dead_letter_queue(name) for name in names if not takes_dead_letters(name)}
    for queue in queues:
        own.pop(queue.name, None)
        if queue.dead_letters and not takes_dead_letters(queue.name):
            own[queue.name] = queue.dead_letter_queue or dead_letter_queue(queue.name)
    yield from own.items()


def overlap(first: str, second: str) -> bool:
    """Whether some topic matches both filters. `second` may be one that matches no `$` topic."""
    if first.startswith("$") != second.startswith("$"):
        return False
    ones, others = first.split("/"), second.split("/")
    for one, other in zip(ones, others, strict=False):
        if "#" in {one, other}:
            return True
        if "+" not in {one, other} and one != other:
            return False
    longer = max(ones, others, key=len)
    return len(ones) == len(others) or longer[min(len(ones), len(others))] == "#"
