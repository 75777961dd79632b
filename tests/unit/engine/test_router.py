"""Who gets a message: the cached answer is the answer, and a merged subscription is all of those
that it was made of.
"""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.engine.router import Router
from broker.packets.publication import Publication
from broker.session.subscription import Subscription
from broker.topics.filters import matches

FILTERS = ("a", "a/b", "a/+", "a/#", "#", "+", "b")
TOPICS = ("a", "a/b", "b", "b/c", "$SYS/a")


class Listener:
    """Notes what it is offered. Stands for a Session."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.in_flight = self.waiting = 0
        self.is_full = False
        self.offered: list[tuple[Publication, Subscription]] = []

    def readiness(self) -> int:
        return 2

    def offer(self, publication: Publication, subscription: Subscription) -> None:
        self.offered.append((publication, subscription))

    def offer_run(self, messages: list[Publication], subscription: Subscription) -> None:
        for message in messages:
            self.offer(message, subscription)


steps = st.one_of(
    st.tuples(
        st.just("add"),
        st.sampled_from("xyz"),
        st.sampled_from(FILTERS),
        st.integers(0, 2),
        st.booleans(),
        st.booleans(),
        st.sampled_from(((), (1,), (2,))),
    ),
    st.tuples(st.just("remove"), st.sampled_from("xyz"), st.sampled_from(FILTERS)),
    st.tuples(st.just("publish"), st.sampled_from("xyz"), st.sampled_from(TOPICS)),
)


class World:
    """A router, and beside it what every listener holds, plainly."""

    def __init__(self) -> None:
        self.router = Router(128, "round_robin", Random(1))
        self.listeners = {name: Listener(name) for name in "xyz"}
        self.held: dict[str, dict[str, Subscription]] = {name: {} for name in "xyz"}

    def add(
        self,
        name: str,
        topic_filter: str,
        qos: int,
        no_local: bool,
        retain_as_published: bool,
        identifiers: tuple[int, ...],
    ) -> None:
        listener = self.listeners[name]
        subscription = Subscription(
            listener,  # type: ignore[arg-type]  # as much of a Session as the router needs
            topic_filter,
            qos,
            no_local,
            retain_as_published,
            identifiers,
        )
        self.held[name][topic_filter] = subscription
        self.router.add(subscription)

    def remove(self, name: str, topic_filter: str) -> None:
        subscription = self.held[name].pop(topic_filter, None)
        if subscription is not None:
            self.router.remove(subscription)

    def publish(self, publisher: str, topic: str) -> None:
        message = Publication(topic, b"x", publisher=publisher)
        receivers = self.router.spread(message, self.router.route(topic))
        assert receivers == sum(self.check(each, publisher, topic) for each in "xyz")
        assert len(self.router) == sum(map(len, self.held.values()))

    def check(self, name: str, publisher: str, topic: str) -> bool:
        """Whether the listener got the message, which it must have as its filters say."""
        wanted = [
            each
            for topic_filter, each in self.held[name].items()
            if matches(topic_filter, topic) and not (each.no_local and name == publisher)
        ]
        offered, self.listeners[name].offered = self.listeners[name].offered, []
        assert len(offered) == bool(wanted)  # one copy, however many filters match
        if not wanted:
            return False
        ((_, subscription),) = offered
        assert subscription.qos == max(each.qos for each in wanted)
        assert subscription.retain_as_published == any(each.retain_as_published for each in wanted)
        identifiers = sorted(n for each in wanted for n in each.identifiers)
        assert sorted(subscription.identifiers) == identifiers
        return True


@given(st.lists(steps, max_size=40))
@settings(max_examples=200, deadline=None)
def test_everybody_gets_what_his_filters_say_whatever_was_cached(
    script: list[tuple[object, ...]],
) -> None:
    world = World()
    for name, *arguments in script:
        getattr(world, str(name))(*arguments)
    for topic in TOPICS:
        world.publish("x", topic)
