"""Queues, their rules and doors: settings that do not go together."""

from collections.abc import Iterable, Iterator, Sequence

from broker.settings.problems import Place, Problem
from broker.settings.queue_tables import QueueSettings, RouteSettings, TokenSettings
from broker.settings.tables import Settings
from broker.settings.words import did_you_mean

DEAD_LETTERS = ".dlq"
QUEUES = "$queue/"  # what is published there goes past all rules


def queue_problems(settings: Settings) -> Iterator[Problem]:
    """All that is wrong with queues, rules and doors."""
    queues, routes, tokens = settings.defined_queues, settings.routes, settings.http.tokens
    yield from _without_a_store(settings)
    yield from _too_many(settings)
    yield from _named_twice("a queue", [(queue.name, queue.place) for queue in queues])
    yield from _named_twice("a route", [(route.name, route.place) for route in routes])
    yield from _named_twice("a token", [(token.name, token.place) for token in tokens])
    known = {queue.name for queue in queues}
    for queue in queues:
        yield from _policy_problems(queue, known)
    for route in routes:
        yield from _route_problems(route, known)
    yield from _split_problems(routes)
    yield from _same_hash(tokens)


def _without_a_store(settings: Settings) -> Iterator[Problem]:
    if settings.defined_queues and not settings.has_store:
        wrong = 'needs a store: set store.level to "strict" or "commit", or leave the queues out'
        yield settings.defined_queues[0].place.problem("", wrong)


def _too_many(settings: Settings) -> Iterator[Problem]:
    most = settings.queues.max_queues
    if len(settings.defined_queues) > most:
        wrong = f"is one queue more than queues.max_queues = {most} allows: raise that"
        yield settings.defined_queues[most].place.problem("", wrong)


def _named_twice(what: str, named: Iterable[tuple[str, Place]]) -> Iterator[Problem]:
    seen: set[str] = set()
    for name, place in named:
        if name and name in seen:
            wrong = f'there is {what} "{name}" before: choose another name, or leave one out'
            yield place.problem("name", wrong)
        seen.add(name)


# ---- a queue ----


def _policy_problems(queue: QueueSettings, known: set[str]) -> Iterator[Problem]:
    target = queue.dead_letter_queue
    if queue.retry_longest < queue.retry_first:
        yield queue.place.problem(
            "retry_longest", "is shorter than retry_first: make it as long, or leave it out"
        )
    if target and target == queue.name:
        yield queue.place.problem("dead_letter_queue", "is the queue itself: name another one")
    elif target and not _is_known(target, known):
        yield queue.place.problem("dead_letter_queue", _unknown(target, known))
    yield from _dead_letter_problems(queue)


def _dead_letter_problems(queue: QueueSettings) -> Iterator[Problem]:
    """What asks for dead letters where there are none."""
    if queue.dead_letters and not queue.name.endswith(DEAD_LETTERS):
        return
    why = f"a queue {DEAD_LETTERS} has none of its own"
    if not queue.dead_letters:
        why = "dead_letters = false"
    for key in ("on_full", "on_expiry"):
        if getattr(queue, key) == "dead_letter":
            yield queue.place.problem(key, f"asks for dead letters, but {why}: change one of them")
    if queue.dead_letter_queue:
        yield queue.place.problem("dead_letter_queue", f"is of no use, as {why}: leave it out")


def _is_known(name: str, known: set[str]) -> bool:
    """Whether it is defined, or makes itself when the first dead letter comes."""
    return name in known or name.endswith(DEAD_LETTERS)


def _unknown(name: str, known: set[str]) -> str:
    if not known:
        return f'there is no queue "{name}": add a [[queue]] with name = "{name}"'
    return f'there is no queue "{name}", {did_you_mean(name, sorted(known))}; or add a [[queue]]'


# ---- a rule ----


def _route_problems(route: RouteSettings, known: set[str]) -> Iterator[Problem]:
    for key, wrong in _shape_problems(route):
        yield route.place.problem(key, wrong)
    for key in ("queue", "queues"):
        for name in getattr(route, key):
            if not _is_known(name, known):
                yield route.place.problem(key, _unknown(name, known))
    if route.from_queue and not _is_known(route.from_queue, known):
        yield route.place.problem("from_queue", _unknown(route.from_queue, known))


def _shape_problems(route: RouteSettings) -> Iterator[tuple[str, str]]:
    if not route.topic and not route.from_queue:
        yield "", 'takes no messages: add topic = "sensors/#", or from_queue = "work"'
    for each in route.topic:
        if each.startswith(QUEUES):
            wrong = f'"{each}" is never matched: no message that rules see has such a topic'
            yield "topic", f'{wrong}; write "a/+", or from_queue for what is in a queue'
    if route.topic and route.from_queue:
        yield "from_queue", "and topic exclude each other: make two routes of it"
    if not route.targets and not route.publish_to:
        yield "", 'leads nowhere: add queue = "work"'
    if route.publish_to and not route.from_queue:
        wrong = "is for messages out of a queue: add from_queue, or name a queue instead"
        yield "publish_to", wrong
    if route.share < 100 and route.from_queue:
        wrong = "is for messages of topics: what is left over would stay in the queue for ever"
        yield "share", wrong


# ---- shares ----

SAME_IN_A_SPLIT = ("topic", "when", "key")


def _split_problems(routes: Sequence[RouteSettings]) -> Iterator[Problem]:
    splits: dict[str, list[RouteSettings]] = {}
    for route in routes:
        if route.split:
            splits.setdefault(route.split, []).append(route)
    for name, members in splits.items():
        yield from _sum_problems(name, members)
        yield from _odd_members(name, members)


def _sum_problems(name: str, members: Sequence[RouteSettings]) -> Iterator[Problem]:
    total = sum(route.share for route in members)
    if total != 100:
        shares = " + ".join(str(route.share) for route in members)
        wrong = f'the shares of the split "{name}" are {shares} = {total}: make them 100'
        yield members[-1].place.problem("share", wrong)


def _odd_members(name: str, members: Sequence[RouteSettings]) -> Iterator[Problem]:
    """Each message goes to one of them only if all of them choose alike among the same ones."""
    for route in members[1:]:
        for key in SAME_IN_A_SPLIT:
            if getattr(route, key) != getattr(members[0], key):
                wrong = f'must be the same in all routes of the split "{name}"'
                yield route.place.problem(key, f"{wrong}: repeat it, or choose another split")


def _same_hash(tokens: Iterable[TokenSettings]) -> Iterator[Problem]:
    seen: set[str] = set()
    for token in tokens:
        if token.sha256.lower() in seen:
            yield token.place.problem("sha256", "is that of a token before: make a token for each")
        seen.add(token.sha256.lower())
