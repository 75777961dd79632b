"""The tree of subscriptions answers as the reference does, and forgets completely."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.topics.filters import matches
from broker.topics.tree import TopicTree
from tests.unit.topics.names import filters, topics

keys = st.sampled_from(("ada", "bob", "eve"))


def nodes_in(tree: TopicTree[int]) -> int:
    """How many nodes the tree is made of, its root included."""
    waiting, count = [tree._root], 0
    while waiting:
        node = waiting.pop()
        count += 1
        waiting += (node.named or {}).values()
        waiting += [child for child in (node.plus, node.rest) if child is not None]
    return count


def is_bare(tree: TopicTree[int]) -> bool:
    return not tree._literals and tree._root.is_empty() and nodes_in(tree) == 1


@pytest.mark.spec("3.1.1:MQTT-3.3.2-3", "5.0:MQTT-3.3.2-3")
@pytest.mark.spec("3.1.1:MQTT-4.7.2-1", "5.0:MQTT-4.7.2-1")
@pytest.mark.spec("3.1.1:MQTT-4.7.3-4", "5.0:MQTT-4.7.3-4")
@given(st.lists(filters, max_size=30), st.lists(topics, min_size=1, max_size=10))
def test_the_tree_matches_exactly_what_the_reference_matches(
    wanted: list[str], published: list[str]
) -> None:
    tree: TopicTree[str] = TopicTree()
    for name in wanted:
        tree.add(name, "ada", name)
    for topic in published:
        expected = sorted(name for name in set(wanted) if matches(name, topic))
        assert sorted(tree.match(topic)) == expected


@pytest.mark.spec("3.1.1:MQTT-4.7.2-1", "5.0:MQTT-4.7.2-1")
def test_no_leading_wildcard_in_the_tree_catches_a_dollar_topic() -> None:
    tree: TopicTree[str] = TopicTree()
    for name in ("#", "+", "+/#", "+/monitor", "$SYS/#", "$SYS/+", "$SYS/monitor"):
        tree.add(name, "ada", name)
    assert sorted(tree.match("$SYS/monitor")) == ["$SYS/#", "$SYS/+", "$SYS/monitor"]
    assert tree.match("$SYS") == ["$SYS/#"]
    assert tree.match("$other") == []


@pytest.mark.parametrize("name", ["a/b", "a/+", "a/#", "#", "+"])
def test_adding_the_same_pair_again_replaces_its_value(name: str) -> None:
    tree: TopicTree[int] = TopicTree()
    assert tree.add(name, "ada", 1)
    assert not tree.add(name, "ada", 2)
    assert tree.add(name, "bob", 3)
    assert not tree.add(name, "bob", 4)
    assert len(tree) == 2
    assert (tree.get(name, "ada"), tree.get(name, "bob")) == (2, 4)


@pytest.mark.parametrize("name", ["a/b", "a/+", "a/#", "#", "+", "a/+/b/#"])
def test_removing_what_is_not_there_changes_nothing(name: str) -> None:
    tree: TopicTree[int] = TopicTree()
    assert tree.remove(name, "ada") is None
    assert is_bare(tree)
    tree.add(name, "ada", 1)
    assert tree.remove(name, "bob") is None
    assert tree.remove(name + "x", "ada") is None
    assert tree.get(name, "bob") is None
    assert (len(tree), tree.get(name, "ada")) == (1, 1)


def test_a_filter_on_the_way_to_another_survives_its_removal_and_the_other_way_round() -> None:
    tree: TopicTree[int] = TopicTree()
    tree.add("a/+", "ada", 1)
    tree.add("a/+/b/#", "ada", 2)
    assert tree.remove("a/+/b/#", "ada") == 2
    assert tree.match("a/x") == [1]
    assert nodes_in(tree) == 3
    tree.add("a/+/b/#", "ada", 2)
    assert tree.remove("a/+", "ada") == 1
    assert tree.match("a/x/b") == [2]
    assert tree.match("a/x") == []


def test_the_deepest_topic_and_filter_that_fit_into_a_packet_overflow_nothing() -> None:
    tree: TopicTree[int] = TopicTree()
    deep = "/".join("+" * 32_768)
    tree.add(deep, "ada", 1)
    tree.add("/#", "ada", 2)
    assert tree.match("/" * 65_535) == [2]
    assert sorted(tree.match("/" * 32_767)) == [1, 2]
    tree.remove(deep, "ada")
    tree.remove("/#", "ada")
    assert is_bare(tree)


def test_hostile_wildcards_are_visited_once_each_and_not_once_per_way_to_combine_them() -> None:
    """All 2^10 filters of "a" and "+" over 10 levels, then "#": "a/a/..." meets each node once."""
    tree: TopicTree[int] = TopicTree()
    for bits in range(1024):
        levels = ["+" if bits >> place & 1 else "a" for place in range(10)]
        tree.add("/".join(levels) + "/#", "ada", bits)
    assert sorted(tree.match("/".join("a" * 10))) == list(range(1024))
    assert sorted(tree.match("/".join("a" * 60))) == list(range(1024))
    assert nodes_in(tree) == 1 + sum(2**depth for depth in range(1, 11)) + 1024


def test_the_same_calls_give_the_same_order() -> None:
    names = ["a/b", "a/+", "a/#", "#", "+/b", "+/+", "+/#"]
    trees: list[TopicTree[str]] = [TopicTree(), TopicTree()]
    for tree in trees:
        for name in names:
            tree.add(name, "ada", name)
            tree.add(name, "bob", name.upper())
    assert trees[0].match("a/b") == trees[1].match("a/b")


class TreeAgainstDict(RuleBasedStateMachine):
    """Whatever is added and removed in whatever order, the tree knows what a plain dict knows."""

    def __init__(self) -> None:
        super().__init__()
        self.tree: TopicTree[int] = TopicTree()
        self.model: dict[tuple[str, str], int] = {}

    @rule(name=filters, key=keys, value=st.integers())
    def add(self, name: str, key: str, value: int) -> None:
        assert self.tree.add(name, key, value) == ((name, key) not in self.model)
        self.model[name, key] = value

    @rule(name=filters, key=keys)
    def remove(self, name: str, key: str) -> None:
        assert self.tree.remove(name, key) == self.model.pop((name, key), None)

    @rule(data=st.data())
    def remove_one_that_is_there(self, data: st.DataObject) -> None:
        if self.model:
            name, key = data.draw(st.sampled_from(sorted(self.model)))
            assert self.tree.remove(name, key) == self.model.pop((name, key))

    @rule(topic=topics)
    def match(self, topic: str) -> None:
        expected = [value for (name, _), value in self.model.items() if matches(name, topic)]
        assert sorted(self.tree.match(topic)) == sorted(expected)

    @invariant()
    def knows_all_pairs(self) -> None:
        assert len(self.tree) == len(self.model)
        for (name, key), value in self.model.items():
            assert self.tree.get(name, key) == value

    @invariant()
    def keeps_no_node_that_leads_nowhere(self) -> None:
        paths: set[tuple[str, ...]] = {()}
        for name, _ in self.model:
            levels = name.split("/") if "+" in name or "#" in name else []
            paths |= {tuple(levels[: depth + 1]) for depth in range(len(levels))}
        assert nodes_in(self.tree) == len(paths)

    def teardown(self) -> None:
        for name, key in list(self.model):
            self.tree.remove(name, key)
        assert is_bare(self.tree)


TestTreeAgainstDict = TreeAgainstDict.TestCase
TestTreeAgainstDict.settings = settings(max_examples=50)
