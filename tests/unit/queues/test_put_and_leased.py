"""What a batch puts into a queue and leases out of it at once, on both databases: as if it had come
in two.
"""

import pytest

from tests.support.queues import LEASE, Got


def put_and_lease(queues, rows, most=100, *more, queue="q", seconds=LEASE, most_bytes=1 << 30):
    """One batch, with `more` operations between the two; what is leased."""
    lease = queues.lease_operation(queue, most, "worker", seconds, most_bytes)
    *_, (leased, queues.next_in, _) = queues.do(("queue_put", rows), *more, lease)
    return [Got(*row) for row in leased]


def payloads(got):
    return [each.payload for each in got]


@pytest.fixture(autouse=True)
def known(queues):
    """Only of queues that are there something is known."""
    for name in "qab":
        queues.define(name)


def three(queues):
    """Rows that are numbered now."""
    return [queues.row("q", payload) for payload in (b"1", b"2", b"3")]


def test_they_come_in_order_and_can_be_acknowledged(queues):
    got = put_and_lease(queues, three(queues))
    assert payloads(got) == [b"1", b"2", b"3"]
    assert [each.token - got[0].token for each in got] == [0, 1, 2]
    assert queues.counts["q"] == (3, 3 * 104)
    assert queues.ack(*got) == ["ok"] * 3
    assert queues.stats("q")["messages"] == 0
    queues.check()


def test_what_is_told_is_what_is_stored(queues):
    row = queues.row(
        "q", b"load", key="k", topic="x/y", properties=b"\x01\x00", first=51, rank=2, ttl=60.0
    )
    (got,) = put_and_lease(queues, [row])
    (seen,) = queues.peek("q")
    assert (got[2:10], got[11:17]) == (seen[2:10], seen[11:17])
    assert (got.number, got.lease_until) == (seen.number, pytest.approx(seen.due, abs=1e-3))
    assert (seen.state, seen.consumer, got.acquisitions) == (1, "worker", 1)
    assert got.expires_at - got.enqueued_at == pytest.approx(60)


def test_a_queue_with_a_ttl_gives_it_to_messages_that_bring_none(queues):
    queues.define("q", ttl=50.0)
    got = put_and_lease(queues, three(queues))
    assert got[0].expires_at - got[0].enqueued_at == pytest.approx(50)
    assert queues.peek("q")[0].expires_at == pytest.approx(got[0].expires_at, abs=1e-3)


def test_a_lease_without_an_end_has_none(queues):
    got = put_and_lease(queues, three(queues), seconds=None)
    assert {each.lease_until for each in got} == {None}
    queues.pass_time(1e6)
    assert queues.ack(*got) == ["ok"] * 3


def test_their_leases_end_like_others(queues):
    queues.define("q", retry_first=0.0)
    put_and_lease(queues, three(queues))
    assert 0 < queues.next_in <= LEASE
    queues.pass_time(LEASE + 1)
    again = queues.lease("q", 100)
    assert payloads(again) == [b"1", b"2", b"3"]
    assert {each.acquisitions for each in again} == {2}


def test_they_can_be_taken_back_by_their_tokens(queues):
    got = put_and_lease(queues, three(queues))
    assert queues.admin("reclaim", "q", got[0].token, 3) == 3
    again = queues.lease("q", 100)
    assert payloads(again) == [b"1", b"2", b"3"]
    assert {each.acquisitions for each in again} == {1}


def test_what_waits_comes_first(queues):
    queues.put("q", b"0")
    assert payloads(put_and_lease(queues, three(queues), 2)) == [b"0", b"1"]
    assert queues.next_in == 0
    assert queues.payloads("q") == [b"2", b"3"]


def test_more_than_is_wanted_waits(queues):
    assert payloads(put_and_lease(queues, three(queues), 2)) == [b"1", b"2"]
    assert queues.next_in == 0
    fourth = [queues.row("q", b"4")]
    assert payloads(put_and_lease(queues, fourth, 1)) == [b"3"]
    assert queues.payloads("q") == [b"4"]
    fifth = [queues.row("q", b"5")]
    assert payloads(put_and_lease(queues, fifth)) == [b"5"]


def test_higher_priorities_come_first(queues):
    rows = [
        queues.row("q", payload, rank=rank)
        for payload, rank in ((b"low", 9), (b"usual", 5), (b"high", 0), (b"usual too", 5))
    ]
    assert payloads(put_and_lease(queues, rows, 3)) == [b"high", b"usual", b"usual too"]
    assert queues.payloads("q") == [b"low"]


def test_no_more_bytes_than_asked_for_but_one_message(queues):
    rows = [queues.row("q", bytes(size)) for size in (1000, 1000, 5000)]
    assert len(put_and_lease(queues, rows, most_bytes=2_300)) == 2
    rows = [queues.row("q", bytes(5000))]
    assert queues.payloads("q") == [bytes(5000)]
    assert len(put_and_lease(queues, rows, most_bytes=10)) == 1


def test_a_delay_that_is_over_comes_first(queues):
    queues.put("q", b"0", delay=5.0)
    assert payloads(put_and_lease(queues, three(queues)[:1])) == [b"1"]
    assert 0 < queues.next_in <= 5
    queues.pass_time(6)
    assert payloads(put_and_lease(queues, three(queues)[1:], 1)) == [b"0"]


def test_a_lease_that_has_ended_comes_first(queues):
    queues.define("q", retry_first=0.0)
    put_and_lease(queues, three(queues)[:1])
    queues.pass_time(LEASE + 1)
    assert payloads(put_and_lease(queues, three(queues)[1:], 1)) == [b"1"]


def test_what_comes_back_in_the_same_batch_comes_first(queues):
    queues.put("q", b"0")
    got = queues.take("q")
    back = ("queue_fail", [(0, got.number, got.token, "return", None, "")])
    assert payloads(put_and_lease(queues, three(queues), 2, back)) == [b"0", b"1"]


def test_a_paused_queue_gives_nothing(queues):
    queues.put("q", b"0")
    queues.payloads("q")
    queues.admin("pause", "q")
    assert put_and_lease(queues, three(queues)) == []
    queues.admin("resume", "q")
    assert queues.payloads("q") == [b"1", b"2", b"3"]


def test_a_queue_that_is_paused_in_the_same_batch_gives_nothing(queues):
    queues.put("q", b"0")
    queues.payloads("q")
    assert put_and_lease(queues, three(queues), 9, ("queue_admin", [(0, "pause", "q", ())])) == []


def test_of_a_key_only_one_is_out(queues):
    queues.define("q", order="key")
    rows = [queues.row("q", payload, key="k") for payload in (b"1", b"2")]
    (got,) = put_and_lease(queues, rows)
    assert got.payload == b"1"
    queues.ack(got)
    assert queues.payloads("q") == [b"2"]


def test_an_order_with_one_active_consumer_stays_with_it(queues):
    queues.define("q", order="single_active")
    assert payloads(put_and_lease(queues, three(queues)[:1])) == [b"1"]
    other = queues.lease_operation("q", 9, "other", LEASE, 1 << 20)
    assert queues.do(("queue_put", three(queues)[1:]), other)[0][0] == []


@pytest.mark.parametrize(
    "policy",
    [
        {"max_messages": 1, "on_full": "drop_oldest"},
        {"last_value": True},
        {"dedup_window": 60.0},
        {"max_messages": 1, "on_full": "dead_letter"},
    ],
    ids=["drop_oldest", "last_value", "dedup_window", "dead_letter"],
)
def test_what_a_policy_leaves_out_is_not_handed_out(queues, policy):
    queues.define("q", **policy)
    rows = [queues.row("q", payload, key="k", dedup_id="x") for payload in (b"1", b"2")]
    assert len(put_and_lease(queues, rows)) == 1
    queues.check()


def test_a_rate_holds(queues):
    queues.define("q", max_rate=1.0)
    assert payloads(put_and_lease(queues, three(queues))) == [b"1"]


@pytest.mark.parametrize("given", [{"delay": 9.0}, {"ttl": 0.0}], ids=["delayed", "expired"])
def test_what_is_not_ready_does_not_come(queues, given):
    rows = [queues.row("q", b"1", **given), queues.row("q", b"2")]
    assert payloads(put_and_lease(queues, rows)) == [b"2"]


def test_a_payload_that_is_kept_apart_comes_along(queues):
    row = queues.row("q", None, content=70, size=106)
    lease = queues.lease_operation("q", 9, "worker", LEASE, 1 << 20)
    got = queues.do(("queue_content", [(70, b"apart", 1)]), ("queue_put", [row]), lease)
    assert [each[5] for each in got[0][0]] == [b"apart"]


def test_two_consumers_share_what_comes(queues):
    (_, (first,)), (_, (second,)) = (
        queues.lease_operation("q", 2, name, LEASE, 1 << 20) for name in ("a", "b")
    )
    one, other = queues.do(("queue_put", three(queues)), ("queue_lease", [first, second]))
    assert [row[5] for row in one[0]] == [b"1", b"2"]
    assert [row[5] for row in other[0]] == [b"3"]


def test_dead_letters_of_the_same_batch_come_in_their_order(queues):
    queues.define("a", max_messages=1, on_full="dead_letter", dead_letter_queue="q")
    rows = [queues.row("a", b"1"), queues.row("a", b"2"), queues.row("q", b"3")]
    assert payloads(put_and_lease(queues, rows)) == [b"2", b"3"]


def test_queues_do_not_get_mixed_up(queues):
    rows = [queues.row(name, name.encode()) for name in ("b", "a", "c", "b")]
    leases = [queues.lease_operation(name, 9, "w", LEASE, 1 << 20)[1][0] for name in "ab"]
    a, b = queues.do(("queue_put", rows), ("queue_lease", leases))
    assert [row[5] for row in a[0]] == [b"a"]
    assert [row[5] for row in b[0]] == [b"b", b"b"]
    assert queues.payloads("c") == [b"c"]
    queues.ack(*(Got(*row) for row in (*a[0], *b[0])))
    queues.check()
