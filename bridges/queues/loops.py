"""Loops: no message may come back to where it was by rules alone, or it would go round for ever.

A graph of queues, topics that rules publish to, and dead letters; it must have no circle.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from bridges.queues.templates import Template
from broker.queues.names import dead_letter_queue, takes_dead_letters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from broker.settings import QueueSettings, RouteSettings

Edge = tuple[str, str]


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
    return f"topic {text}"  # no queue's name has a space


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
