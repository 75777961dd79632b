"""Who gets the next message of a shared subscription: fair, stable, never worse than needed."""

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.topics.sharing import FULL, OFFLINE, READY, STRATEGIES, ShareGroup

every_strategy = pytest.mark.parametrize("strategy", sorted(STRATEGIES))
hash_strategies = pytest.mark.parametrize("strategy", ["hash_topic", "hash_client"])


def group_of(strategy: str, *names: str) -> ShareGroup[str]:
    group: ShareGroup[str] = ShareGroup("workers", "jobs/#", strategy, Random(7))
    for name in names:
        group.add("key of " + name, name)
    return group


def everybody(_: str) -> int:
    return READY


def only(*ready: str, others: int = OFFLINE) -> Callable[[str], int]:
    return lambda name: READY if name in ready else others


def shares(group: ShareGroup[str], topics: range) -> dict[str, str | None]:
    """Which member each of many topics (and publishers) goes to."""
    names = [f"jobs/{number}" for number in topics]
    return {name: group.choose(name, name, everybody) for name in names}


@every_strategy
def test_an_empty_group_gives_the_message_to_nobody(strategy: str) -> None:
    group = group_of(strategy)
    assert group.choose("jobs/1", "publisher", everybody) is None


@every_strategy
def test_a_member_who_left_gets_nothing_more(strategy: str) -> None:
    group = group_of(strategy, "ada", "bob")
    group.choose("jobs/1", "publisher", everybody)
    assert group.remove("key of ada") == "ada"
    assert group.remove("key of ada") is None
    assert len(group) == 1
    assert set(shares(group, range(20)).values()) == {"bob"}


@every_strategy
def test_adding_a_member_again_gives_it_the_new_value_once(strategy: str) -> None:
    group = group_of(strategy, "ada")
    group.add("key of ada", "ada again")
    assert len(group) == 1
    assert group.choose("jobs/1", "publisher", everybody) == "ada again"


@every_strategy
@given(st.lists(st.sampled_from((OFFLINE, FULL, READY)), min_size=1, max_size=6), st.data())
def test_only_members_of_the_best_class_present_are_chosen(
    strategy: str, classes: list[int], data: st.DataObject
) -> None:
    group = group_of(strategy, *map(str, range(len(classes))))
    for _ in range(8):
        topic = data.draw(st.text("ab/", max_size=4))
        chosen = group.choose(topic, topic, lambda name: classes[int(name)], lambda _: 0)
        assert chosen is not None
        assert classes[int(chosen)] == max(classes)
        classes[int(chosen)] = data.draw(st.sampled_from((OFFLINE, FULL, READY)))


@pytest.mark.parametrize("strategy", ["round_robin", "least_inflight"])
@settings(max_examples=50)
@given(st.data())
def test_members_who_are_always_ready_get_equal_numbers_whatever_the_others_do(
    strategy: str, data: st.DataObject
) -> None:
    steady = ("ada", "bob", "cyd")
    group = group_of(strategy, "x", "ada", "y", "bob", "cyd")
    counts = Counter(dict.fromkeys(steady, 0))
    for _ in range(data.draw(st.integers(1, 40))):
        name = data.draw(st.sampled_from("xyz"))
        if data.draw(st.booleans()):
            group.add("key of " + name, name)
        else:
            group.remove("key of " + name)
        ready = data.draw(st.sets(st.sampled_from("xyz")))
        chosen = group.choose("jobs/1", "publisher", only(*steady, *ready))
        assert chosen is not None
        counts[chosen] += 1
        numbers = [counts[name] for name in steady]
        assert max(numbers) - min(numbers) <= 1


def test_round_robin_takes_turns_also_while_all_are_full_or_all_are_away() -> None:
    for state in (FULL, OFFLINE):
        group = group_of("round_robin", "ada", "bob", "cyd")
        turns = [group.choose("jobs/1", "publisher", only(others=state)) for _ in range(6)]
        assert turns == ["ada", "bob", "cyd"] * 2


def test_a_newcomer_is_not_given_what_it_missed() -> None:
    group = group_of("round_robin", "ada", "bob")
    shares(group, range(100))
    group.add("key of cyd", "cyd")
    assert Counter(shares(group, range(30)).values()) == {"ada": 10, "bob": 10, "cyd": 10}


def test_random_repeats_with_its_seed_and_reaches_everybody() -> None:
    runs = [shares(group_of("random", "ada", "bob", "cyd"), range(300)) for _ in range(2)]
    assert runs[0] == runs[1]
    assert min(Counter(runs[0].values()).values()) > 60


def test_sticky_stays_with_one_member_until_another_is_better() -> None:
    group = group_of("sticky", "ada", "bob")
    assert set(shares(group, range(10)).values()) == {"ada"}
    assert group.choose("jobs/1", "publisher", only("bob", others=FULL)) == "bob"
    assert set(shares(group, range(10)).values()) == {"bob"}
    assert group.choose("jobs/1", "publisher", only(others=FULL)) == "bob"


@hash_strategies
def test_hashing_gives_every_member_about_its_share(strategy: str) -> None:
    for size in (2, 3, 5, 7, 10):
        names = [f"worker-{number}" for number in range(size)]
        counts = Counter(shares(group_of(strategy, *names), range(5000)).values())
        assert len(counts) == size
        assert max(counts.values()) < 1.25 * 5000 / size
        assert min(counts.values()) > 0.75 * 5000 / size


@hash_strategies
def test_a_leaving_or_joining_member_moves_only_its_own_share(strategy: str) -> None:
    group = group_of(strategy, "ada", "bob", "cyd", "dan")
    before = shares(group, range(500))
    group.remove("key of bob")
    after = shares(group, range(500))
    assert all(after[name] == who for name, who in before.items() if who != "bob")
    assert {after[name] for name, who in before.items() if who == "bob"} == {"ada", "cyd", "dan"}
    group.add("key of bob", "bob")
    assert shares(group, range(500)) == before


def test_hashing_is_the_same_in_every_process() -> None:
    group = group_of("hash_topic", "ada", "bob", "cyd")
    chosen = [group.choose(f"jobs/{number}", "p", everybody) for number in range(6)]
    assert chosen == ["ada", "bob", "ada", "ada", "ada", "cyd"]  # once and for all


def test_hash_topic_looks_at_the_topic_and_hash_client_at_the_publisher() -> None:
    numbers = range(50)
    by_topic = group_of("hash_topic", "ada", "bob")
    assert len({by_topic.choose("jobs/1", str(number), everybody) for number in numbers}) == 1
    assert len({by_topic.choose(str(number), "publisher", everybody) for number in numbers}) == 2
    by_client = group_of("hash_client", "ada", "bob")
    assert len({by_client.choose(str(number), "publisher", everybody) for number in numbers}) == 1
    assert len({by_client.choose("jobs/1", str(number), everybody) for number in numbers}) == 2


def test_least_inflight_chooses_the_smallest_load_and_takes_turns_among_equals() -> None:
    group = group_of("least_inflight", "ada", "bob", "cyd")
    loads = {"ada": 2, "bob": 0, "cyd": 1}
    chosen = []
    for _ in range(6):
        name = group.choose("jobs/1", "publisher", everybody, loads.__getitem__)
        assert name is not None
        loads[name] += 1
        chosen.append(name)
    assert chosen[0] == "bob"
    assert loads == {"ada": 3, "bob": 3, "cyd": 3}
