"""Why a message goes where it goes: the rules asked one by one, for people.

Rule kept here: what is decided is decided by the rules themselves; this only says it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bridges.queues.subject import Miss, Subject
from broker.topics.filters import matches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bridges.queues.route import Route
    from bridges.queues.routes import Rules
    from broker.queues.entry import Entry


@dataclass(frozen=True, slots=True)
class Step:
    """What one rule says of the message. `why` is a sentence for each thing it looked at."""

    rule: str
    takes: bool
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What all rules say, and where the message goes; `onward`: and from those queues."""

    steps: tuple[Step, ...]
    entries: tuple[Entry, ...] = ()
    topics: tuple[str, ...] = ()
    onward: dict[str, Explanation] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "rules": [
                {"rule": step.rule, "takes": step.takes, "why": list(step.why)}
                for step in self.steps
            ],
            "queues": [_entry_as_json(entry) for entry in self.entries],
            "publish_to": list(self.topics),
            "onward": {queue: each.as_json() for queue, each in self.onward.items()},
        }


def _entry_as_json(entry: Entry) -> dict[str, Any]:
    return {
        "queue": entry.queue,
        "key": entry.key,
        "priority": entry.priority,
        "delay": entry.delay,
        "ttl": entry.ttl,
        "dedup_id": entry.dedup_id,
        "rule": entry.why,
    }


def explain(rules: Rules, subject: Subject) -> Explanation:
    """What becomes of a message that is published."""
    routes = [route for route in rules.routes if route.settings.topic]
    return _onward(rules, _asked(routes, subject), subject)


def _onward(rules: Rules, reached: Explanation, subject: Subject) -> Explanation:
    """And what becomes of it in the queues that it reaches; rules have no loops."""
    onward = {}
    for entry in reached.entries:
        next_rules = rules.for_queue(entry.queue)
        if next_rules is not None:
            moved = _moved(subject, entry)
            onward[entry.queue] = _onward(rules, _asked(next_rules.routes, moved), moved)
    return replace(reached, onward=onward)


def _moved(subject: Subject, entry: Entry) -> Subject:
    """The message as it stands in a queue."""
    return Subject(
        subject.topic,
        subject.payload,
        subject.first,
        subject.block,
        subject.client,
        entry.key,
        entry.priority,
    )


def _asked(routes: Sequence[Route], subject: Subject) -> Explanation:
    steps: list[Step] = []
    entries: dict[str, Entry] = {}
    topics: dict[str, None] = {}
    stopped_by = ""
    for route in routes:
        step = _step(route, subject, entries, stopped_by)
        steps.append(step)
        if step.takes:
            for entry in route.entries(subject):
                entries.setdefault(entry.queue, entry)
            topics.update(dict.fromkeys(route.topics(subject)))
            stopped_by = route.label if route.settings.last else ""
    return Explanation(tuple(steps), tuple(entries.values()), tuple(topics))


def _step(route: Route, subject: Subject, entries: dict[str, Entry], stopped_by: str) -> Step:
    wanted = route.settings.topic
    if wanted and not any(matches(each, subject.topic) for each in wanted):
        return Step(route.label, False, (f"the topic does not match {' or '.join(wanted)}",))
    if stopped_by:
        return Step(route.label, False, (f'not asked: the rule "{stopped_by}" says last = true',))
    why = [*_condition(route, subject), *_share(route, subject), *_absent(route, subject)]
    takes = route.takes(subject)
    named = [queue for queue in route.settings.targets if takes and queue in entries]
    earlier = (f'queue {each}: the earlier rule "{entries[each].why}" decides' for each in named)
    return Step(route.label, takes, (*why, *earlier))


def _condition(route: Route, subject: Subject) -> Iterator[str]:
    if route.condition is None:
        return
    try:
        outcome = "true" if route.condition.holds(subject) else "false"
    except Miss as miss:
        outcome = f"false, as it cannot be said: {miss}"
    yield f"{route.condition.text} is {outcome}"
    for name, value in route.condition.found(subject):
        yield f"{name}: {value}"


def _share(route: Route, subject: Subject) -> Iterator[str]:
    each = route.settings
    if each.share < 100:
        what = "this key" if route.key(subject) is not None else "this message"
        own = f"{route.low} to {route.high - 1}" + (f' of "{each.split}"' if each.split else "")
        yield f"its share is {own}; {what} stands at {route.point(subject)}"


def _absent(route: Route, subject: Subject) -> Iterator[str]:
    """What the rule would take from the message and cannot."""
    for name, miss in route.missing(subject):
        yield f"{name} cannot be taken from the message: {miss}"
