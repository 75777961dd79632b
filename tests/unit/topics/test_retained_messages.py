"""Retained messages answer as the reference does, look only where they must, and forget all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.topics import filters as filters_module
from broker.topics import retained as retained_module
from broker.topics.filters import matches
from broker.topics.retained import RetainedMessages
from tests.unit.topics.names import filters, topics


def retained(*names: str) -> RetainedMessages[str]:
    messages: RetainedMessages[str] = RetainedMessages()
    for name in names:
        messages.set(name, "value of " + name)
    return messages


def found(messages: RetainedMessages[str], wanted: str) -> list[str]:
    return sorted(topic for topic, _ in messages.match(wanted))


@pytest.mark.spec("3.1.1:MQTT-3.3.1-6")
@pytest.mark.spec("3.1.1:MQTT-4.7.2-1", "5.0:MQTT-4.7.2-1")
@pytest.mark.spec("3.1.1:MQTT-4.7.3-4", "5.0:MQTT-4.7.3-4")
@given(st.sets(topics, max_size=40), st.lists(filters, min_size=1, max_size=10))
def test_a_filter_finds_exactly_what_the_reference_matches(
    names: set[str], wanted: list[str]
) -> None:
    messages = retained(*sorted(names))
    for name in wanted:
        expected = [(topic, "value of " + topic) for topic in names if matches(name, topic)]
        assert sorted(messages.match(name)) == sorted(expected)


@pytest.mark.spec("5.0:MQTT-3.3.1-5")
def test_a_topic_keeps_its_last_value_only() -> None:
    messages: RetainedMessages[int] = RetainedMessages()
    assert messages.set("a/b", 1) is None
    assert messages.set("a/b", 2) == 1
    assert messages.get("a/b") == 2
    assert messages.match("a/+") == messages.match("a/b") == list(messages) == [("a/b", 2)]
    assert len(messages) == 1


@pytest.mark.spec("3.1.1:MQTT-3.3.1-10", "5.0:MQTT-3.3.1-6")
def test_a_deleted_topic_is_found_no_more() -> None:
    messages = retained("a", "a/b", "a/b/c")
    assert messages.delete("a/b") == "value of a/b"
    assert messages.delete("a/b") is None
    assert messages.delete("never") is None
    assert messages.get("a/b") is None
    assert messages.match("a/b") == []
    assert found(messages, "#") == ["a", "a/b/c"]


@pytest.mark.spec("3.1.1:MQTT-4.7.2-1", "5.0:MQTT-4.7.2-1")
def test_no_leading_wildcard_finds_a_dollar_topic() -> None:
    messages = retained("$SYS/a", "$SYS/b", "$SYS", "$x", "a/$b", "a")
    assert found(messages, "#") == ["a", "a/$b"]
    assert found(messages, "+") == ["a"]
    assert found(messages, "+/+") == ["a/$b"]
    assert found(messages, "$SYS/#") == ["$SYS", "$SYS/a", "$SYS/b"]
    assert found(messages, "$SYS/+") == ["$SYS/a", "$SYS/b"]
    assert found(messages, "$x/#") == ["$x"]


def test_a_parent_level_is_found_by_its_own_subtree_filter() -> None:
    messages = retained("a", "a/", "a/b", "ab", "b/a")
    assert found(messages, "a/#") == ["a", "a/", "a/b"]
    assert found(messages, "a/+") == ["a/", "a/b"]
    assert found(messages, "+/#") == ["a", "a/", "a/b", "ab", "b/a"]


def test_a_wildcard_below_two_levels_looks_at_nothing_beside_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages = retained(*(f"site/{place}/{sensor}" for place in range(100) for sensor in range(9)))
    looked_at: list[list[str]] = []

    def levels_match(wanted: list[str], given: list[str]) -> bool:
        looked_at.append(given)
        return filters_module.levels_match(wanted, given)

    monkeypatch.setattr(retained_module, "levels_match", levels_match)
    assert len(messages.match("site/7/+")) == 9
    assert looked_at == [["site", "7", str(sensor)] for sensor in range(9)]


def test_the_deepest_topics_that_fit_into_a_packet_overflow_nothing() -> None:
    messages = retained("/" * 65_535, "/" * 65_534, "/" * 65_534 + "a")
    assert len(messages.match("#")) == 3
    assert found(messages, "/" * 65_534 + "+") == ["/" * 65_534, "/" * 65_534 + "a"]
    assert len(messages.match("/" * 65_533 + "#")) == 3
    for topic, _ in list(messages):
        messages.delete(topic)
    assert messages._index == {}


def test_the_same_calls_give_the_same_order() -> None:
    names = ["b", "a/b", "a", "a/b/c", "b/a", "a/c"]
    assert retained(*names).match("#") == retained(*names).match("#")


class RetainedAgainstDict(RuleBasedStateMachine):
    """Whatever is set and deleted in whatever order, a plain dict and the reference agree."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: RetainedMessages[int] = RetainedMessages()
        self.model: dict[str, int] = {}

    @rule(topic=topics, value=st.integers())
    def set(self, topic: str, value: int) -> None:
        assert self.messages.set(topic, value) == self.model.get(topic)
        self.model[topic] = value

    @rule(topic=topics)
    def delete(self, topic: str) -> None:
        assert self.messages.delete(topic) == self.model.pop(topic, None)

    @rule(data=st.data())
    def delete_one_that_is_there(self, data: st.DataObject) -> None:
        if self.model:
            topic = data.draw(st.sampled_from(sorted(self.model)))
            assert self.messages.delete(topic) == self.model.pop(topic)

    @rule(wanted=filters)
    def match(self, wanted: str) -> None:
        expected = [item for item in self.model.items() if matches(wanted, item[0])]
        assert sorted(self.messages.match(wanted)) == sorted(expected)

    @invariant()
    def holds_what_was_set(self) -> None:
        assert dict(self.messages) == self.model
        assert len(self.messages) == len(self.model)

    @invariant()
    def keeps_no_branch_for_less_than_two_topics(self) -> None:
        fresh: RetainedMessages[int] = RetainedMessages()
        for topic, value in self.model.items():
            fresh.set(topic, value)
        assert self.messages._index == fresh._index

    def teardown(self) -> None:
        for topic in list(self.model):
            self.messages.delete(topic)
        assert len(self.messages) == 0
        assert self.messages._index == {}


TestRetainedAgainstDict = RetainedAgainstDict.TestCase
TestRetainedAgainstDict.settings = settings(max_examples=50)
