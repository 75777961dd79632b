"""The questions, on both databases, against plain readings of what they promise."""

# ruff: noqa: A002 - "filter" is the standard's word for it, and the builtin is not used here

import random

import pytest

from broker.storage.reading import SCANNED_AT_ONCE
from broker.topics.filters import matches
from tests.support.store_worker import member_row, message_row, session_row

PLENTY = 1 << 40
NEVER = -1.0


def read(rows):
    """As the questions answer: without the size."""
    return [row[:-1] for row in rows]


@pytest.fixture
def three_audiences(store):
    """Session 1 is in audiences 1 to 3, each with its own rhythm; session 2 only in 4."""
    chance = random.Random(7)
    rows = [message_row(n + 2, chance.choice([1, 1, 1, 2, 4])) for n in range(1, 300)]
    rows += [message_row(1_000_000, 3), message_row(5_000_000, 1), message_row(2, None)]
    members = [member_row(audience, 1) for audience in (1, 2, 3)] + [member_row(4, 2)]
    store.apply(
        ("session_put", [session_row(1), session_row(2)]),
        ("member_put", members),
        ("message_put", rows),
    )
    return rows


@pytest.mark.parametrize("most", [1, 7, 100, 1000])
def test_pages_hold_what_waits_in_all_audiences_in_the_order_of_numbers(
    store, three_audiences, most
):
    found, after = [], 0
    while page := store.ask("backlog", 1, after, most, PLENTY):
        assert len(page) <= most
        found += page
        after = page[-1][0]
    assert found == sorted(read(row for row in three_audiences if row[1] in (1, 2, 3)))


def test_a_page_of_one_audience_begins_after_the_number(store, three_audiences):
    waiting = sorted(read(row for row in three_audiences if row[1] == 4))
    assert store.ask("backlog", 2, waiting[4][0], 3, PLENTY) == waiting[5:8]


def test_a_page_stops_at_its_bytes_but_is_never_empty(store, three_audiences):
    assert len(store.ask("backlog", 1, 0, 100, 128 * 5)) == 5
    assert len(store.ask("backlog", 1, 0, 100, 128 * 5 - 1)) == 4
    assert len(store.ask("backlog", 1, 0, 100, 1)) == 1


def test_nothing_waits_for_a_session_without_audiences(store, three_audiences):
    assert store.ask("backlog", 3, 0, 100, PLENTY) == []


def test_a_resumed_session_has_its_flights_in_the_order_they_took_off(store):
    store.apply(
        ("message_put", [message_row(5), message_row(6, None), message_row(7)]),
        ("inflight_put", [(1, 1, 6, 50, 0, 20), (1, 2, 5, 51, 0, 10), (2, 1, 7, 52, 0, 1)]),
        ("inflight_put", [(1, 3, 0, 53, 1, 15), (1, 4, 7, 54, 1, 30), (1, 5, 99, 55, 0, 40)]),
        ("received_put", [(1, 9), (1, 3), (2, 4)]),
    )
    gone = (None,) * 7
    assert store.ask("resume", 1) == {
        "inflight": [
            (2, 51, 0, 5, *read([message_row(5)])[0][1:]),
            (3, 53, 1, 0, *gone),
            (1, 50, 0, 6, *read([message_row(6, None)])[0][1:]),
            (4, 54, 1, 7, *gone),
            (5, 55, 0, 99, *gone),
        ],
        "lent": [],
        "received": [3, 9],
    }


# -- retained --------------------------------------------------------------------------------------

LEVELS = ["", "a", "b", "ä", "a!", "a0", "$x", "\U0010ffff"]
FILTERS = ["#", "+", "+/a", "a/#", "a/+", "a/+/b", "/+", "/#", "$x/#", "+/+/#", "a/b", "ä/#"]
FILTERS += ["\U0010ffff/#", "a!/+"]


def retained_row(topic, expires_at=None, size=100):
    return (topic, topic.encode(), b"", 49, "publisher", expires_at, size)


def all_retained(store, filter, most, most_bytes=PLENTY, now=NEVER):
    found, after = [], ""
    while after is not None:
        rows, after = store.ask("retained", filter, after, most, most_bytes, now)
        assert len(rows) <= most
        found += rows
    return found


@pytest.fixture
def retained_topics(store):
    topics = {f"{a}/{b}/{c}" for a in LEVELS for b in LEVELS for c in LEVELS}
    topics |= {f"{a}/{b}" for a in LEVELS for b in LEVELS} | set(LEVELS) - {""}
    store.apply(("retained_put", [retained_row(topic) for topic in topics]))
    return sorted(topics, key=str.encode)


@pytest.mark.parametrize("filter", FILTERS)
def test_pages_of_retained_hold_what_the_filter_matches_in_binary_order(
    store, retained_topics, filter
):
    expected = read(retained_row(topic) for topic in retained_topics if matches(filter, topic))
    assert all_retained(store, filter, 1000) == expected
    assert all_retained(store, filter, 13) == expected
    assert all_retained(store, filter, 1000, most_bytes=250) == expected


def test_an_expired_retained_message_is_not_given(store):
    store.apply(("retained_put", [retained_row("a", 5.0), retained_row("b", 6.0)]))
    assert all_retained(store, "+", 10, now=5.0) == read([retained_row("b", 6.0)])
    assert all_retained(store, "a", 10, now=5.0) == []
    assert all_retained(store, "a", 10, now=4.9) == read([retained_row("a", 5.0)])


def test_one_answer_looks_at_a_bounded_number_of_topics(store):
    many = [retained_row(f"x/{n:05}") for n in range(SCANNED_AT_ONCE + 5)]
    store.apply(("retained_put", [*many, retained_row("x/9/y")]))
    rows, after = store.ask("retained", "x/+/y", "", 10, PLENTY, NEVER)
    assert (rows, after) == ([], f"x/{SCANNED_AT_ONCE - 1:05}")
    assert store.ask("retained", "x/+/y", after, 10, PLENTY, NEVER)[1] is None
    assert all_retained(store, "x/+/y", 10) == read([retained_row("x/9/y")])


# -- trim ------------------------------------------------------------------------------------------


@pytest.fixture
def ten_waiting(store):
    """Numbers 1 to 10 in two audiences of session 1, whose cursor is at 2."""
    store.apply(
        ("session_put", [session_row(1, cursor=2)]),
        ("member_put", [member_row(1, 1), member_row(2, 1)]),
        ("message_put", [message_row(n, 1 + n % 2, size=10, topic="t") for n in range(1, 11)]),
    )
    return store


def test_the_oldest_go_until_the_rest_is_within_both_bounds(ten_waiting):
    assert ten_waiting.ask("trim", 1, "oldest", 8, 80, NEVER) == (2, 0, 0, 0, 8, 80)
    assert ten_waiting.ask("trim", 1, "oldest", 5, 80, NEVER) == (5, 3, 30, 0, 5, 50)
    assert ten_waiting.ask("trim", 1, "oldest", 8, 45, NEVER) == (6, 4, 40, 0, 4, 40)
    assert ten_waiting.ask("trim", 1, "oldest", 0, 80, NEVER) == (10, 8, 80, 0, 0, 0)
    assert ten_waiting.numbers() == list(range(1, 11))  # the others may still want them


def test_what_has_expired_goes_first_wherever_it_waits(ten_waiting):
    expiring = [message_row(n, 1, expires_at=n, size=10) for n in (11, 12, 13)]
    ten_waiting.apply(
        ("message_put", [*expiring, message_row(14, 9, expires_at=1.0)]),
        ("inflight_put", [(2, 1, 11, 48, 0, 1)]),
    )
    assert ten_waiting.ask("trim", 1, "oldest", 10, 1000, 12.0) == (2, 0, 0, 1, 10, 100)
    assert ten_waiting.numbers() == [*range(1, 12), 13, 14]  # 11 is in flight, 14 another's


def test_the_last_value_of_each_topic_stays(ten_waiting):
    ten_waiting.apply(
        ("message_put", [message_row(n, 1, topic="other", size=10) for n in (11, 12)]),
        ("inflight_put", [(2, 1, 4, 48, 0, 1)]),
    )
    # Left: 4 in flight, 9 and 10 the newest of "t" in their audiences, 12 the newest of "other".
    assert ten_waiting.ask("trim", 1, "last_value", 10, 1000, NEVER) == (2, 6, 60, 0, 4, 40)
    assert ten_waiting.numbers() == [1, 2, 4, 9, 10, 12]
    assert ten_waiting.ask("trim", 1, "last_value", 3, 1000, NEVER) == (4, 1, 10, 0, 3, 30)


def test_stats_count_what_is_stored(store, three_audiences):
    stats = store.ask("stats")
    assert stats["rows"]["message"] == len(three_audiences)
    assert stats["rows"]["session"] == 2
    assert stats["position"] == 1
    assert stats["file_bytes"] > 0
