"""Every operation of a batch, on both databases: what is stored afterwards."""

import pytest

from broker.storage.store import Committed
from broker.storage.writing import SWEPT_AT_ONCE
from tests.support.store_worker import member_row, message_row, session_row

SUBSCRIPTION = (1, "a/+", 1, 0, 0, "1,2", 0)
INFLIGHT = (1, 7, 100, 48, 0, 1)
RETAINED = ("a/b", b"\x00\xff", b"", 49, "publisher", None, 10)
WILL = ("client-1", None, "will/topic", b"gone", 1, 0, b"", 30, None)

# operation, its row, the row that replaces it, the operation that drops it, the row of that
KEPT = [
    ("session", session_row(1), (1, "other", "user", 0, 12.5, 9), "session_drop", (1,)),
    ("subscription", SUBSCRIPTION, (1, "a/+", 2, 1, 1, "", 1), "subscription_drop", (1, "a/+")),
    ("member", member_row(3, 1), (3, 1, 2, 1, "4", "a/#", "group"), "audience_drop", (3,)),
    ("message", message_row(5), None, "message_drop", (5,)),
    ("inflight", INFLIGHT, (1, 7, 0, 98, 1, 2), "inflight_drop", (1, 7)),
    ("received", (1, 9), (1, 9), "received_drop", (1, 9)),
    ("retained", RETAINED, ("a/b", b"", b"\x01", 50, "", 3.5, 4), "retained_drop", ("a/b",)),
    ("will", WILL, ("client-1", "u", "t", b"", 2, 1, b"p", 0, 99.5), "will_drop", ("client-1",)),
]
EVERYTHING = [(f"{name}_put", [row]) for name, row, *_ in KEPT]
NAMES = [name for name, *_ in KEPT]


@pytest.mark.parametrize(("name", "row", "replacement", "drop", "key"), KEPT, ids=NAMES)
def test_a_row_is_put_and_replaced_and_dropped(store, name, row, replacement, drop, key):
    assert store.apply((f"{name}_put", [row])) == 2  # and meta
    assert store.rows(name) == [row]
    if replacement is not None:
        store.apply((f"{name}_put", [replacement]))
        assert store.rows(name) == [replacement]
    store.apply((drop, [key]))
    assert store.rows(name) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "message"])
def test_of_two_rows_with_one_key_in_a_batch_the_last_one_stands(store, name):
    _, row, replacement, *_ = KEPT[NAMES.index(name)]
    store.apply((f"{name}_put", [row, replacement]))
    assert store.rows(name) == [replacement]


def test_operations_are_applied_in_the_order_of_the_batch(store):
    store.apply(("retained_put", [RETAINED]), ("retained_drop", [("a/b",)]))
    assert store.rows("retained") == []
    store.apply(("retained_drop", [("a/b",)]), ("retained_put", [RETAINED]))
    assert store.rows("retained") == [RETAINED]


def test_a_dropped_session_takes_what_is_its_own_with_it(store):
    others = [(name, [(2, *row[1:])]) for name, (row,) in EVERYTHING[1:2] + EVERYTHING[4:6]]
    store.apply(*EVERYTHING, ("session_put", [session_row(2)]), *others)
    store.apply(("session_drop", [(1,)]))
    assert [row[0] for row in store.rows("session")] == [2]
    for table in ("subscription", "inflight", "received"):
        assert [row[0] for row in store.rows(table)] == [2]
    assert store.rows("member") == []


def test_a_cursor_moves_and_nothing_else(store):
    store.apply(("session_put", [session_row(1), session_row(2)]))
    store.apply(("session_cursor", [(40, 1), (50, 2)]))
    assert store.rows("session") == [session_row(1, cursor=40), session_row(2, cursor=50)]


def test_a_sweep_deletes_one_audience_up_to_a_number(store):
    store.apply(
        ("message_put", [message_row(n) for n in (1, 2, 3)] + [message_row(4, 2)]),
        ("message_put", [message_row(5, None)]),
    )
    store.apply(("message_sweep", [(1, 2), (2, 3)]))
    assert store.numbers() == [3, 4, 5]


def test_a_dropped_audience_loses_its_members_and_its_messages(store):
    store.apply(
        ("member_put", [member_row(1, 1), member_row(2, 1)]),
        ("message_put", [message_row(1), message_row(2, 2)]),
    )
    store.apply(("audience_drop", [(1,)]))
    assert store.rows("member") == [member_row(2, 1)]
    assert store.numbers() == [2]


def test_a_large_sweep_is_done_in_pieces_while_there_is_time(store):
    many = 2 * SWEPT_AT_ONCE + 10
    store.apply(("message_put", [message_row(n) for n in range(1, many + 1)]))
    store.apply(("message_put", [message_row(-n, 2) for n in range(1, many + 1)]))
    store.apply(("message_sweep", [(1, many - 1), (2, many)]))
    assert len(store.numbers()) == 2 * many - SWEPT_AT_ONCE
    while not store.store.is_tidy:
        store.store.tidy()
    assert store.numbers() == [many]


def test_a_batch_that_comes_again_is_not_applied_again(store):
    store.apply(("message_put", [message_row(1)]), ("inflight_put", [INFLIGHT]))
    store.apply(("inflight_drop", [(1, 7)]))
    again = [("message_put", [message_row(1)]), ("inflight_put", [INFLIGHT])]
    assert store.store.apply(1, True, again) == Committed()
    assert store.rows("inflight") == []


def test_after_a_restart_the_database_says_what_was_applied(store, new_store):
    store.apply(("inflight_put", [INFLIGHT]))
    store.die()
    second = new_store()
    assert second.open()["meta"][0] == 1
    assert second.store.apply(1, True, [("inflight_drop", [(1, 7)])]) == Committed()
    assert second.rows("inflight") == [INFLIGHT]


def test_truth_values_are_numbers_in_both_databases(store):
    store.apply(("subscription_put", [(1, "a", True, False, True, "", False)]))
    assert store.rows("subscription") == [(1, "a", 1, 0, 1, "", 0)]


def test_any_text_and_any_bytes_come_back_as_they_were(store):
    topic, payload = "tab\tback\\slash/\n/ü/\U0010ffff/$x", bytes(range(256))
    row = message_row(1, topic=topic, payload=payload, properties=payload, publisher="\\N")
    store.apply(("message_put", [row]), ("retained_put", [(topic, *RETAINED[1:])]))
    assert store.rows("message") == [row]
    assert store.rows("retained") == [(topic, *RETAINED[1:])]
