"""Which names and filters are valid, and what matches what: the standard's examples, and worse."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.packets.codes import ReasonCode
from broker.packets.errors import ProtocolViolation
from broker.topics.filters import (
    SharedFilter,
    check_filter,
    check_topic,
    is_wildcard,
    matches,
    split_shared,
)
from tests.unit.topics.names import filters, topics

MAX_LEVELS = 128

VALID_FILTERS = (
    "#",
    "+",
    "/",
    "//",
    "/+",
    "+/+",
    "+/tennis/#",
    "sport/tennis/#",
    "sport/+/player1",
    "sport/+",
    "a//b",
    " ",
    "$SYS/#",
    "$SYS/monitor/+",
    "with space/\U0001f4a1/ä",
    "/".join("a" * MAX_LEVELS),
)

INVALID_FILTERS = (
    ("", "MQTT-4.7.3-1"),
    ("sport/tennis#", "MQTT-4.7.1-1"),
    ("sport/tennis/#/ranking", "MQTT-4.7.1-1"),
    ("##", "MQTT-4.7.1-1"),
    ("#/", "MQTT-4.7.1-1"),
    ("#/#", "MQTT-4.7.1-1"),
    ("+#", "MQTT-4.7.1-1"),
    ("sport+", "MQTT-4.7.1-2"),
    ("+sport", "MQTT-4.7.1-2"),
    ("a/++", "MQTT-4.7.1-2"),
    ("a+/#", "MQTT-4.7.1-2"),
    ("a/b\0", "MQTT-4.7.3-2"),
    ("\0", "MQTT-4.7.3-2"),
    ("a" * 65_536, "MQTT-4.7.3-3"),
    ("ä" * 32_768, "MQTT-4.7.3-3"),
    ("\U0001f4a1" * 16_384, "MQTT-4.7.3-3"),
    ("/" * MAX_LEVELS, "4.7.3"),
    ("+/" * MAX_LEVELS + "#", "4.7.3"),
)

INVALID_TOPICS = (
    ("", "MQTT-4.7.3-1"),
    ("#", "MQTT-4.7.0-1"),
    ("a/+/b", "MQTT-4.7.0-1"),
    ("a+", "MQTT-4.7.0-1"),
    ("a#b", "MQTT-4.7.0-1"),
    ("a\0b", "MQTT-4.7.3-2"),
    ("a" * 65_536, "MQTT-4.7.3-3"),
    ("ä" * 32_768, "MQTT-4.7.3-3"),
    ("/" * MAX_LEVELS, "4.7.3"),
)

MATCHING = (
    ("sport/tennis/player1/#", "sport/tennis/player1"),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
    ("sport/#", "sport"),
    ("#", "sport"),
    ("#", "/"),
    ("sport/tennis/+", "sport/tennis/player1"),
    ("sport/tennis/+", "sport/tennis/player2"),
    ("sport/+", "sport/"),
    ("+/+", "/finance"),
    ("/+", "/finance"),
    ("+", "finance"),
    ("a//+", "a//b"),
    ("a/+/b", "a//b"),
    ("$SYS/#", "$SYS/monitor"),
    ("$SYS/#", "$SYS"),
    ("$SYS/monitor/+", "$SYS/monitor/Clients"),
    ("+/$x", "a/$x"),
)

NOT_MATCHING = (
    ("sport/tennis/player1/#", "sport/tennis/player2"),
    ("sport/tennis/player1/#", "sport/tennis/player10"),
    ("sport/tennis/+", "sport/tennis/player1/ranking"),
    ("sport/+", "sport"),
    ("+", "/finance"),
    ("+", "a/b"),
    ("+/+", "a"),
    ("a/+/#", "a"),
    ("/a", "a"),
    ("a", "a/"),
    ("a/", "a"),
)

UNLIKE = (
    ("ACCOUNTS", "Accounts"),
    ("/a", "a"),
    ("a", "a/"),
    ("a/b", "a//b"),
    ("a/./b", "a/b"),
    ("ä", "a\u0308"),  # composed and decomposed
    ("\u212b", "\u00c5"),  # the Angstrom sign and the letter
    ("a", "a "),
    ("a", "\ufeffa"),
)


@pytest.mark.spec("3.1.1:MQTT-4.7.1-2", "3.1.1:MQTT-4.7.1-3")
@pytest.mark.spec("5.0:MQTT-4.7.1-1", "5.0:MQTT-4.7.1-2")
@pytest.mark.parametrize("name", VALID_FILTERS)
def test_a_well_formed_filter_is_accepted(name: str) -> None:
    check_filter(name, MAX_LEVELS)


@pytest.mark.spec("3.1.1:MQTT-4.7.1-2", "3.1.1:MQTT-4.7.1-3")
@pytest.mark.spec("5.0:MQTT-4.7.1-1", "5.0:MQTT-4.7.1-2")
@pytest.mark.spec("3.1.1:MQTT-4.7.3-1", "3.1.1:MQTT-4.7.3-2", "3.1.1:MQTT-4.7.3-3")
@pytest.mark.spec("5.0:MQTT-4.7.3-1", "5.0:MQTT-4.7.3-2", "5.0:MQTT-4.7.3-3")
@pytest.mark.parametrize(("name", "rule"), INVALID_FILTERS, ids=lambda text: text[:12])
def test_an_ill_formed_filter_is_refused_with_the_rule_it_breaks(name: str, rule: str) -> None:
    with pytest.raises(ProtocolViolation) as refusal:
        check_filter(name, MAX_LEVELS)
    assert refusal.value.reason == ReasonCode.TOPIC_FILTER_INVALID
    assert refusal.value.rule == rule
    assert len(str(refusal.value)) < 300


@pytest.mark.spec("3.1.1:MQTT-4.7.1-1", "5.0:MQTT-4.7.0-1")
@pytest.mark.spec("3.1.1:MQTT-4.7.3-1", "3.1.1:MQTT-4.7.3-2", "3.1.1:MQTT-4.7.3-3")
@pytest.mark.spec("5.0:MQTT-4.7.3-1", "5.0:MQTT-4.7.3-2", "5.0:MQTT-4.7.3-3")
@pytest.mark.parametrize(("name", "rule"), INVALID_TOPICS, ids=lambda text: text[:12])
def test_an_ill_formed_topic_name_is_refused_with_the_rule_it_breaks(name: str, rule: str) -> None:
    with pytest.raises(ProtocolViolation) as refusal:
        check_topic(name, MAX_LEVELS)
    assert refusal.value.reason == ReasonCode.TOPIC_NAME_INVALID
    assert refusal.value.rule == rule


@pytest.mark.spec("3.1.1:MQTT-4.7.3-3", "5.0:MQTT-4.7.3-3")
@pytest.mark.parametrize("character", ["a", "ä", "\U0001f4a1"])
def test_the_longest_string_is_accepted_and_one_more_character_is_not(character: str) -> None:
    longest = character * (65_535 // len(character.encode()))
    check_topic(longest, MAX_LEVELS)
    check_filter(longest, MAX_LEVELS)
    with pytest.raises(ProtocolViolation):
        check_topic(longest + character, MAX_LEVELS)


def test_as_many_levels_as_allowed_are_accepted_and_one_more_is_not() -> None:
    check_topic("/".join("abc"), 3)
    check_filter("/".join("a+#"), 3)
    with pytest.raises(ProtocolViolation):
        check_topic("/".join("abcd"), 3)
    with pytest.raises(ProtocolViolation):
        check_filter("/".join("a++#"), 3)


@given(filters)
def test_every_filter_made_of_whole_levels_is_accepted(name: str) -> None:
    check_filter(name, MAX_LEVELS)


@given(topics)
def test_every_topic_name_without_wildcards_is_accepted_as_name_and_as_filter(name: str) -> None:
    check_topic(name, MAX_LEVELS)
    check_filter(name, MAX_LEVELS)
    assert not is_wildcard(name)


@given(st.text(st.sampled_from("a/+#\0ä\ud800"), max_size=12))
def test_any_text_is_either_accepted_or_refused_with_the_one_error(text: str) -> None:
    with contextlib.suppress(ProtocolViolation):
        check_filter(text, 4)
    with contextlib.suppress(ProtocolViolation):
        check_topic(text, 4)
    with contextlib.suppress(ProtocolViolation):
        split_shared("$share/" + text)


@pytest.mark.spec("3.1.1:MQTT-3.3.2-3", "5.0:MQTT-3.3.2-3")
@pytest.mark.parametrize(("wanted", "topic"), MATCHING)
def test_the_filter_matches_the_topic(wanted: str, topic: str) -> None:
    assert matches(wanted, topic)


@pytest.mark.spec("3.1.1:MQTT-3.3.2-3", "5.0:MQTT-3.3.2-3")
@pytest.mark.parametrize(("wanted", "topic"), NOT_MATCHING)
def test_the_filter_does_not_match_the_topic(wanted: str, topic: str) -> None:
    assert not matches(wanted, topic)


@pytest.mark.spec("3.1.1:MQTT-4.7.2-1", "5.0:MQTT-4.7.2-1")
@pytest.mark.parametrize("wanted", ["#", "+", "+/#", "+/monitor/Clients", "+/+/+"])
def test_a_filter_that_begins_with_a_wildcard_matches_no_dollar_topic(wanted: str) -> None:
    assert not matches(wanted, "$SYS/monitor/Clients")
    assert not matches(wanted, "$SYS")
    assert not matches(wanted, "$")


@pytest.mark.spec("3.1.1:MQTT-4.7.3-4", "5.0:MQTT-4.7.3-4")
@pytest.mark.parametrize(("one", "other"), UNLIKE)
def test_names_that_only_look_alike_do_not_match(one: str, other: str) -> None:
    assert not matches(one, other)
    assert not matches(other, one)
    assert matches(one, one)
    assert matches(other, other)


@given(topics)
def test_every_topic_matches_itself_and_its_own_subtree(topic: str) -> None:
    assert matches(topic, topic)
    assert matches(topic + "/#", topic)
    assert matches(topic + "/#", topic + "/x")
    assert not matches(topic + "/+", topic)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("$share/group/a/b", SharedFilter("group", "a/b")),
        ("$share/consumer1//finance", SharedFilter("consumer1", "/finance")),
        ("$share/g/#", SharedFilter("g", "#")),
        ("$share/g/+/x", SharedFilter("g", "+/x")),
        ("$share/ä \U0001f4a1/$SYS/#", SharedFilter("ä \U0001f4a1", "$SYS/#")),
        ("$share/g//", SharedFilter("g", "/")),
        ("$share", None),
        ("$shared/g/a", None),
        ("share/g/a", None),
        ("/$share/g/a", None),
        ("#", None),
    ],
)
@pytest.mark.spec("5.0:MQTT-4.8.2-1", "5.0:MQTT-4.8.2-2")
def test_a_shared_filter_is_split_into_share_name_and_filter(
    name: str, parts: SharedFilter | None
) -> None:
    assert split_shared(name) == parts


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("$share/", "MQTT-4.8.2-1"),
        ("$share//a", "MQTT-4.8.2-1"),
        ("$share/g", "MQTT-4.8.2-2"),
        ("$share/g/", "MQTT-4.8.2-2"),
        ("$share/#", "MQTT-4.8.2-2"),
        ("$share/+/a", "MQTT-4.8.2-2"),
        ("$share/g+/a", "MQTT-4.8.2-2"),
        ("$share/g#/a", "MQTT-4.8.2-2"),
    ],
)
@pytest.mark.spec("5.0:MQTT-4.8.2-1", "5.0:MQTT-4.8.2-2")
def test_an_ill_formed_shared_filter_is_refused_with_the_rule_it_breaks(
    name: str, rule: str
) -> None:
    with pytest.raises(ProtocolViolation) as refusal:
        split_shared(name)
    assert refusal.value.reason == ReasonCode.TOPIC_FILTER_INVALID
    assert refusal.value.rule == rule
