"""What queues do, on both databases: every rule of theirs is a test here."""

import json

import pytest

from broker.queues.policy import QueuePolicy
from tests.support.queues import LEASE, Got

DAY = 86_400.0
NOBODY = 999_999_999


def numbers(messages):
    return [each.number for each in messages]


# -- first in, first out ---------------------------------------------------------------------------


def test_messages_are_leased_in_the_order_in_which_they_came(queues):
    queues.put("q", b"1", b"2", b"3")
    assert queues.payloads("q", 2) == [b"1", b"2"]
    assert queues.payloads("q", 2) == [b"3"]
    assert queues.payloads("q") == []


def test_a_lease_tells_everything_of_a_message(queues):
    queues.put("q", b"load", key="k", topic="x/y", properties=b"\x01\x00", first=51, rank=2, ttl=60)
    got = queues.take("q", seconds=10)
    assert (got.key, got.rank, got.topic, got.payload) == ("k", 2, "x/y", b"load")
    assert (got.properties, got.first, got.publisher) == (b"\x01\x00", 51, "publisher")
    assert (got.acquisitions, got.failures) == (1, 0)
    assert got.lease_until - got.enqueued_at == pytest.approx(10, abs=5)
    assert got.expires_at - got.enqueued_at == pytest.approx(60)
    assert (got.dead_from, got.dead_reason, got.dead_at) == (None, None, None)


def test_tokens_rise_from_the_one_that_is_given(queues):
    queues.put("q", b"1", b"2")
    (value,) = queues.do(("queue_lease", [(1, "q", "w", 5, 1 << 20, 30.0, 7_000)]))
    assert [row[1] for row in value[0]] == [7_000, 7_001]


def test_higher_priorities_come_first(queues):
    queues.put("q", b"low", rank=9)
    queues.put("q", b"usual", b"usual too")
    queues.put("q", b"high", rank=0)
    assert queues.payloads("q") == [b"high", b"usual", b"usual too", b"low"]


def test_a_lease_holds_no_more_bytes_than_asked_for_but_one_message(queues):
    queues.put("q", bytes(1000), bytes(1000), bytes(5000))
    assert len(queues.payloads("q", most_bytes=2_300)) == 2
    assert len(queues.payloads("q", most_bytes=10)) == 1


def test_an_unknown_queue_is_told(queues):
    assert queues.do(queues.lease_operation("no", 1, "w", None, 1)) == ["unknown"]
    assert queues.admin("purge", "no") == "unknown"
    assert queues.stats("no") == {}
    assert queues.peek("no") == []


@pytest.mark.parametrize("size", [0, 1, 4_096, 8 * 1024**2])
def test_payloads_of_any_size_come_back_as_they_were(queues, size):
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    queues.put("q", payload)
    got = queues.take("q")
    assert got.payload == payload
    assert queues.ack(got) == ["ok"]


def test_a_payload_that_queues_share_is_kept_until_the_last_is_done(queues):
    rows = [queues.row(name, None, content=70, size=50) for name in ("a", "b")]
    queues.do(("queue_content", [(70, b"shared", 2)]), ("queue_put", rows))
    first, second = queues.take("a"), queues.take("b")
    assert first.payload == second.payload == b"shared"
    queues.ack(first)
    assert [each.payload for each in queues.peek("b")] == [b"shared"]
    queues.check()
    queues.ack(second)


def test_any_text_comes_back(queues):
    text = "tab\tback\\slash/\n/ü/\U0010ffff/'\""
    queues.put("q", b"", key=text, topic=text, publisher=text)
    got = queues.take("q", consumer=text)
    assert (got.key, got.topic, got.publisher) == (text, text, text)
    queues.leave(text)
    assert queues.states("q") == {b"": "ready"}


# -- done ------------------------------------------------------------------------------------------


def test_an_acknowledged_message_is_gone(queues):
    queues.put("q", b"1", b"2")
    first, second = queues.lease("q", 2)
    assert queues.ack(first, second) == ["ok", "ok"]
    assert queues.stats("q")["messages"] == 0


def test_a_second_ack_is_told_that_it_is_gone(queues):
    queues.put("q", b"1")
    got = queues.take("q")
    assert queues.ack(got, got) == ["ok", "gone"]
    assert queues.ack(got) == ["gone"]


@pytest.mark.parametrize("number", [NOBODY, 0, -1, 2**63, 2**80, -(2**63)])
def test_a_number_that_never_was_is_gone(queues, number):
    queues.put("q", b"1")
    assert queues.ack(queues.take("q")._replace(number=number)) == ["gone"]
    assert queues.states("q") == {b"1": "leased"}


@pytest.mark.parametrize("token", [1, 0, -1, 2**63, 2**80])
def test_a_foreign_token_acknowledges_nothing(queues, token):
    queues.put("q", b"1", b"2")
    got, other = queues.lease("q", 2)
    assert queues.ack(got._replace(token=token)) == ["lost"]
    assert queues.fail(got._replace(token=token)) == "lost"
    assert queues.renew(got._replace(token=token), 5) == "lost"
    assert queues.ack(got._replace(token=other.token), other) == ["lost", "ok"]
    assert queues.ack(got) == ["ok"]


def test_a_message_that_is_not_leased_cannot_be_acknowledged(queues):
    queues.put("q", b"1")
    (seen,) = queues.peek("q")
    assert queues.ack(seen) == ["lost"]
    assert queues.states("q") == {b"1": "ready"}


def test_an_ack_after_the_end_of_the_lease_is_lost(queues):
    queues.put("q", b"1")
    got = queues.take("q")
    queues.pass_time(LEASE + 1)
    assert queues.ack(got) == ["lost"]
    again = queues.take("q")
    assert (again.payload, again.acquisitions, again.failures) == (b"1", 2, 1)
    assert queues.ack(got, again) == ["lost", "ok"]


def test_nobody_who_asks_nothing_is_answered(queues):
    queues.put("q", b"1")
    got = queues.take("q")
    assert queues.do(("queue_ack", [(0, got.number, got.token)])) == []
    assert queues.stats("q")["messages"] == 0


def test_a_batch_may_put_acknowledge_and_lease_at_once(queues):
    queues.put("q", b"1")
    got = queues.take("q")
    said = queues.do(
        ("queue_put", [queues.row("q", b"2")]),
        ("queue_ack", [(9_001, got.number, got.token)]),
        ("queue_lease", [(9_002, "q", "w", 5, 1 << 20, 30.0, 1)]),
    )
    assert said[0] == "ok"
    assert [row[5] for row in said[1][0]] == [b"2"]


# -- leases ----------------------------------------------------------------------------------------


def test_a_renewed_lease_holds_longer(queues):
    queues.put("q", b"1")
    got = queues.take("q")
    queues.pass_time(LEASE - 5)
    assert queues.renew(got, LEASE) == "ok"
    queues.pass_time(LEASE - 5)
    assert queues.payloads("q") == []
    assert queues.ack(got) == ["ok"]
    assert queues.renew(got, LEASE) == "gone"


def test_a_lease_that_has_ended_cannot_be_renewed(queues):
    queues.put("q", b"1")
    got = queues.take("q")
    queues.pass_time(LEASE + 1)
    assert queues.renew(got, LEASE) == "lost"


def test_a_lease_without_an_end_never_runs_out(queues):
    queues.put("q", b"1")
    got = queues.take("q", seconds=None)
    assert got.lease_until is None
    queues.pass_time(5 * DAY)
    assert queues.renew(got, 1) == "ok"
    queues.pass_time(DAY)
    assert queues.payloads("q") == []
    assert queues.ack(got) == ["ok"]


def test_a_consumer_that_leaves_gives_back_what_has_an_end(queues):
    queues.put("q", b"1", b"2", b"3")
    queues.put("p", b"4")
    queues.take("q", consumer="a", seconds=None)
    queues.take("q", consumer="a")
    queues.take("p", consumer="a")
    queues.take("q", consumer="b")
    queues.leave("a")
    assert queues.states("q") == {b"1": "leased", b"2": "ready", b"3": "leased"}
    got = queues.take("p")
    assert (got.acquisitions, got.failures) == (2, 0)


def test_after_a_restart_a_consumer_still_holds_what_it_held(queues):
    queues.put("q", b"1", b"2")
    got, _ = queues.lease("q", 2, consumer="a")
    queues.close()
    queues.start()
    assert queues.ack(got) == ["ok"]
    queues.leave("a")
    assert queues.states("q") == {b"2": "ready"}


def test_what_is_lent_without_an_end_comes_back_if_no_session_has_it_in_flight(queues):
    queues.define("q", order="key")
    queues.put("q", b"1", b"2", b"3", key="k")
    queues.put("q", b"kept", b"foreign")
    lost = queues.take("q", consumer="mqtt:a/q", seconds=None)
    kept = queues.take("q", consumer="mqtt:a/q", seconds=None)
    queues.take("q", consumer="http:b", seconds=None)
    queues.do(("inflight_put", [(1, 7, -kept.number, 0x34, 2, 1)]))
    assert queues.admin("disown", "", "mqtt:") == 1
    waiting = {b"2": "waiting", b"3": "waiting"}
    held = {b"kept": "leased", b"foreign": "leased"}
    assert queues.states("q") == {b"1": "ready", **waiting, **held}
    again = queues.take("q")
    assert (again.number, again.acquisitions, again.failures) == (lost.number, 2, 0)
    assert queues.ack(kept, again) == ["ok", "ok"]


def test_a_message_may_be_put_into_the_hands_of_a_consumer(queues):
    hands = {"token": 77, "consumer": "c", "lease_seconds": 10.0}
    queues.put("q", b"1", **hands)
    queues.put("q", b"2", **hands | {"token": 78, "lease_seconds": None})
    assert queues.payloads("q") == []
    first, second = queues.peek("q")
    assert (first.acquisitions, first.consumer) == (1, "c")
    assert queues.ack(first._replace(token=77)) == ["ok"]
    queues.pass_time(DAY)
    assert queues.payloads("q") == []
    assert queues.ack(second._replace(token=78)) == ["ok"]


# -- failures --------------------------------------------------------------------------------------


def test_a_failed_message_comes_back_after_its_pause_at_its_old_place(queues):
    queues.define("q", retry_first=10, retry_jitter=0)
    queues.put("q", b"1", b"2", b"3")
    got = queues.take("q")
    assert queues.fail(got) == "ok"
    assert queues.states("q")[b"1"] == "delayed"
    assert queues.payloads("q", 1) == [b"2"]
    queues.pass_time(10.5)
    again, last = queues.lease("q", 2)
    assert (again.payload, again.acquisitions, again.failures) == (b"1", 2, 1)
    assert (again.number, last.payload) == (got.number, b"3")


def test_pauses_double_up_to_the_longest(queues):
    queues.define("q", retry_first=10, retry_longest=35, retry_jitter=0, max_failures=0)
    queues.put("q", b"1")
    for pause in (10, 20, 35, 35):
        queues.fail(queues.take("q"))
        assert queues.payloads("q") == []
        assert queues.next_in == pytest.approx(pause, abs=3)
        queues.pass_time(pause + 0.1)


def test_a_pause_is_spread_by_chance(queues):
    queues.define("q", retry_first=1000, retry_longest=1000, retry_jitter=0.2)
    queues.put("q", *(b"%d" % n for n in range(20)))
    for got in queues.lease("q", 20):
        queues.fail(got)
    pauses = {each.due - queues.peek("q")[0].due for each in queues.peek("q")}
    assert len(pauses) > 10
    assert 20 < max(pauses) - min(pauses) < 400.1


def test_a_consumer_may_say_how_long_to_wait(queues):
    queues.put("q", b"1")
    assert queues.fail(queues.take("q"), delay=100) == "ok"
    queues.pass_time(99)
    assert queues.payloads("q") == []
    queues.pass_time(1.5)
    assert queues.fail(queues.take("q"), delay=0) == "ok"
    assert queues.take("q").failures == 2


@pytest.mark.parametrize("delay", [-5.0, float("nan"), float("-inf")])
def test_a_senseless_delay_is_none(queues, delay):
    queues.put("q", b"1")
    assert queues.fail(queues.take("q"), delay=delay) == "ok"
    assert queues.payloads("q") == [b"1"]


def test_an_endless_delay_ends_some_day(queues):
    queues.put("q", b"1", delay=float("inf"))
    queues.put("q", b"2")
    queues.fail(queues.take("q"), delay=1e300)
    assert queues.payloads("q") == []
    assert 0 < queues.next_in < 11 * 365 * DAY


def test_a_message_that_fails_too_often_is_a_dead_letter(queues):
    queues.define("q", max_failures=3)
    queues.put("q", b"poison", b"good")
    for said in ("ok", "ok", "dead"):
        got = queues.take("q")
        assert queues.fail(got, delay=0) == said
    assert queues.payloads("q") == [b"good"]
    dead = queues.take("q.dlq")
    assert (dead.number, dead.payload) == (got.number, b"poison")
    assert (dead.dead_from, dead.dead_reason, dead.failures) == ("q", "failures", 3)
    assert (dead.acquisitions, dead.dead_at is not None) == (4, True)
    assert queues.stats("q")["dead"] == 1


def test_the_dead_are_told(queues):
    queues.put("q", b"1")
    queues.fail(queues.take("q"), "dead")
    assert queues.events in ([("q", "dead", 1)], [])  # PostgreSQL need not
    assert queues.counts == {"q": (0, 0), "q.dlq": (1, 104)}


def test_without_a_bound_a_message_may_fail_for_ever(queues):
    queues.define("q", max_failures=0)
    queues.put("q", b"1")
    for _ in range(12):
        assert queues.fail(queues.take("q"), delay=0) == "ok"


def test_leases_that_run_out_are_failures(queues):
    queues.define("q", max_failures=2)
    queues.put("q", b"poison")
    queues.take("q")
    queues.pass_time(LEASE + 1)
    assert queues.take("q").failures == 1
    queues.pass_time(LEASE + 1)
    assert queues.payloads("q") == []
    dead = queues.take("q.dlq")
    assert (dead.dead_reason, dead.failures) == ("failures", 2)


def test_a_rejected_message_is_a_dead_letter_at_once(queues):
    queues.put("q", b"1", b"2")
    first, second = queues.lease("q", 2)
    assert queues.fail(first, "dead") == "dead"
    assert queues.fail(second, "dead", reason="no such customer") == "dead"
    reasons = [(each.payload, each.dead_reason) for each in queues.lease("q.dlq", 5)]
    assert reasons == [(b"1", "rejected"), (b"2", "no such customer")]


@pytest.mark.parametrize("reason", ["\ud800", "a\0b", "x" * 100_000, "'; DROP TABLE queued"])
def test_a_hostile_reason_does_no_harm(queues, reason):
    queues.put("q", b"1")
    assert queues.fail(queues.take("q"), "dead", reason=reason) == "dead"
    assert len(queues.take("q.dlq").dead_reason) <= 1_000


def test_a_message_that_is_given_back_has_not_failed(queues):
    queues.put("q", b"1", b"2")
    assert queues.fail(queues.take("q"), "return") == "ok"
    first, second = queues.lease("q", 2)
    assert (first.payload, first.acquisitions, first.failures) == (b"1", 2, 0)
    assert second.payload == b"2"


def test_a_message_that_kills_its_consumers_is_a_dead_letter(queues):
    queues.define("q", max_acquisitions=3)
    queues.put("q", b"1")
    assert queues.fail(queues.take("q"), "return") == "ok"
    queues.take("q", consumer="doomed")
    queues.leave("doomed")
    assert queues.fail(queues.take("q"), "return") == "dead"
    dead = queues.take("q.dlq")
    assert (dead.dead_reason, dead.failures) == ("acquisitions", 0)


def test_dead_letters_may_go_elsewhere(queues):
    queues.define("q", dead_letter_queue="morgue")
    queues.put("q", b"1")
    queues.fail(queues.take("q"), "dead")
    assert queues.take("morgue").dead_from == "q"


def test_without_dead_letters_they_are_lost_and_counted(queues):
    queues.define("q", dead_letters=False)
    queues.put("q", b"1")
    assert queues.fail(queues.take("q"), "dead") == "dead"
    assert queues.events in ([("q", "lost", 1)], [])
    assert queues.stats("q.dlq") == {}
    assert queues.stats("q")["messages"] == 0


def test_dead_letters_of_dead_letters_are_lost(queues):
    queues.put("q", b"1")
    queues.fail(queues.take("q"), "dead")
    assert queues.fail(queues.take("q.dlq"), "dead") == "dead"
    assert queues.stats("q.dlq")["messages"] == 0
    assert queues.stats("q.dlq.dlq") == {}


def test_a_queue_of_dead_letters_never_tires(queues):
    queues.put("q", b"1")
    queues.fail(queues.take("q"), "dead")
    for _ in range(8):
        assert queues.fail(queues.take("q.dlq"), delay=0) == "ok"


# -- redrive ---------------------------------------------------------------------------------------


def kill(queues, queue, *payloads):
    queues.put(queue, *payloads)
    for got in queues.lease(queue, len(payloads)):
        queues.fail(got, "dead")


def test_dead_letters_go_back_to_where_they_came_from(queues):
    kill(queues, "q", b"1", b"2")
    kill(queues, "p", b"3")
    queues.define("q.dlq")
    assert queues.redrive("q.dlq") == 2
    first, second = queues.lease("q", 5)
    assert (first.payload, second.payload) == (b"1", b"2")
    assert (first.acquisitions, first.failures) == (1, 0)
    assert (first.dead_from, first.dead_reason, first.dead_at) == (None, None, None)
    assert queues.stats("p.dlq")["messages"] == 1


def test_some_dead_letters_go_to_another_queue(queues):
    kill(queues, "q", b"1", b"2", b"3")
    queues.define("other")
    letters = queues.peek("q.dlq")
    wanted = [letters[2].number, letters[0].number, NOBODY]
    assert queues.redrive("q.dlq", wanted, "other") == 2
    assert queues.payloads("other") == [b"1", b"3"]
    assert queues.redrive("q.dlq", None, "nowhere") == "unknown"
    assert queues.redrive("q.dlq", [letters[0].number]) == 0


def test_one_dead_letter_is_edited_on_its_way_back(queues):
    kill(queues, "q", b"bad", b"bad too")
    first, second = queues.peek("q.dlq")
    assert queues.redrive("q.dlq", None, None, b"x") == 0
    assert queues.redrive("q.dlq", [first.number, second.number], None, b"x") == 0
    assert queues.redrive("q.dlq", [first.number], None, b"better") == 1
    assert queues.payloads("q") == [b"better"]
    assert queues.stats("q")["bytes"] == 109


def test_an_edited_dead_letter_lets_its_shared_payload_go(queues):
    row = queues.row("q", None, content=70, size=106)
    queues.do(("queue_content", [(70, b"bad", 1)]), ("queue_put", [row]))
    queues.fail(queues.take("q"), "dead")
    (letter,) = queues.peek("q.dlq")
    assert queues.redrive("q.dlq", [letter.number], None, b"") == 1
    assert queues.stats("q")["bytes"] == 103
    assert queues.payloads("q") == [b""]


def test_a_leased_dead_letter_stays(queues):
    kill(queues, "q", b"1", b"2")
    queues.take("q.dlq")
    assert queues.redrive("q.dlq") == 1
    assert queues.payloads("q") == [b"2"]


def test_an_old_dead_letter_that_goes_back_lives_again(queues):
    kill(queues, "q", b"1")
    queues.pass_time(20 * DAY)
    assert queues.redrive("q.dlq") == 1
    assert queues.payloads("q") == [b"1"]


# -- keys ------------------------------------------------------------------------------------------


def keyed(queues, *pairs, **policy):
    queues.define("q", order="key", **policy)
    for key, payload in pairs:
        queues.put("q", payload, key=key)


def test_of_each_key_one_message_at_a_time_is_delivered_in_order(queues):
    keyed(queues, ("a", b"a1"), ("a", b"a2"), ("b", b"b1"), ("a", b"a3"), (None, b"free"))
    first, other, free = queues.lease("q", 10)
    assert [first.payload, other.payload, free.payload] == [b"a1", b"b1", b"free"]
    assert queues.payloads("q") == []
    assert queues.ack(first) == ["ok"]
    second = queues.take("q")
    assert second.payload == b"a2"
    queues.ack(second)
    assert queues.payloads("q") == [b"a3"]


def test_messages_without_a_key_do_not_wait_for_each_other(queues):
    keyed(queues, (None, b"1"), (None, b"2"))
    assert queues.payloads("q") == [b"1", b"2"]


def test_a_failed_message_holds_back_its_key_and_no_other(queues):
    keyed(queues, ("a", b"a1"), ("a", b"a2"), ("b", b"b1"))
    first, other = queues.lease("q", 5)
    queues.fail(first, delay=50)
    queues.ack(other)
    assert queues.payloads("q") == []
    queues.pass_time(51)
    assert queues.payloads("q") == [b"a1"]
    assert queues.payloads("q") == []


@pytest.mark.parametrize("end", ["ack", "dead", "delete", "expire", "last failure"])
def test_whatever_ends_the_first_of_a_key_lets_the_next_go(queues, end):
    keyed(queues, max_failures=1)
    queues.put("q", b"a1", key="a", ttl=20 if end == "expire" else None)
    queues.put("q", b"a2", key="a")
    if end == "delete":
        assert queues.admin("delete", "q", queues.peek("q")[0].number) == 1
    elif end == "expire":
        queues.pass_time(21)
    else:
        got = queues.take("q")
        {"ack": queues.ack, "dead": lambda it: queues.fail(it, "dead")}.get(end, queues.fail)(got)
    assert queues.payloads("q") == [b"a2"]


def test_a_returned_message_of_a_key_is_next_again(queues):
    keyed(queues, ("a", b"a1"), ("a", b"a2"))
    queues.fail(queues.take("q"), "return")
    assert queues.payloads("q") == [b"a1"]
    queues.pass_time(LEASE + 1)
    assert queues.payloads("q") == [b"a1"]


def test_a_dead_letter_holds_back_nobody_where_it_lies(queues):
    keyed(queues, ("a", b"a1"), ("a", b"a2"))
    queues.fail(queues.take("q"), "dead")
    queues.fail(queues.take("q"), "dead")
    assert [(each.payload, each.key) for each in queues.lease("q.dlq", 5)] == [
        (b"a1", "a"),
        (b"a2", "a"),
    ]


def test_a_redriven_message_waits_for_the_one_of_its_key_that_is_under_way(queues):
    keyed(queues, ("a", b"a1"), ("a", b"a2"), ("a", b"a3"))
    queues.fail(queues.take("q"), "dead")
    second = queues.take("q")
    assert queues.redrive("q.dlq") == 1
    assert queues.states("q") == {b"a1": "waiting", b"a2": "leased", b"a3": "waiting"}
    queues.ack(second)
    assert queues.payloads("q") == [b"a1"]  # the oldest


def test_a_delayed_message_in_line_waits_for_its_turn_and_its_time(queues):
    keyed(queues, ("a", b"a1"))
    queues.put("q", b"a2", key="a", delay=100)
    queues.ack(queues.take("q"))
    assert queues.payloads("q") == []
    assert queues.next_in == pytest.approx(100, abs=5)
    queues.pass_time(101)
    assert queues.payloads("q") == [b"a2"]


def test_priority_counts_between_keys_and_not_within_one(queues):
    keyed(queues, ("a", b"a1"))
    queues.put("q", b"a2", key="a", rank=0)
    queues.put("q", b"b1", key="b", rank=1)
    assert queues.payloads("q") == [b"b1", b"a1"]


def test_a_queue_that_becomes_keyed_puts_its_messages_in_line(queues):
    queues.put("q", b"a1", b"a2", key="a")
    queues.put("q", b"b1", key="b")
    queues.define("q", order="key")
    assert queues.states("q") == {b"a1": "ready", b"a2": "waiting", b"b1": "ready"}
    queues.define("q", order="fifo")
    assert queues.payloads("q") == [b"a1", b"a2", b"b1"]


def test_a_purge_leaves_what_is_leased_and_nothing_behind_it(queues):
    keyed(queues, ("a", b"a1"), ("a", b"a2"), ("b", b"b1"))
    got = queues.take("q")
    assert queues.purge("q") == 2
    queues.put("q", b"a3", key="a")
    assert queues.states("q") == {b"a1": "leased", b"a3": "waiting"}
    queues.ack(got)
    assert queues.payloads("q") == [b"a3"]


# -- many at once are done in slices, with others' batches between them ----------------------------

MANY = 1_100  # more than two slices of either database


def many(queues, queue="q", **given):
    rows = [queues.row(queue, b"%d" % each, **given) for each in range(MANY)]
    queues.do(("queue_put", rows))


def first_slice(queues, verb, queue, *arguments):
    """How many it did, and where to go on."""
    count, place = queues.admin(verb, queue, *arguments, None)
    assert 0 < count < MANY / 2
    assert place is not None
    return count, place


def test_others_work_between_two_slices_of_a_purge(queues):
    many(queues)
    held = queues.take("q")
    count, place = first_slice(queues, "purge", "q")
    queues.put("q", b"new")  # in the same instant
    queues.put("other", b"x")
    assert queues.ack(held, queues.take("other")) == ["ok", "ok"]
    late = queues.take("q")
    while place is not None:
        more, place = queues.admin("purge", "q", place)
        count += more
    assert count == MANY - 2  # but for the one that was done and the one that is held
    assert queues.states("q") == {late.payload: "leased", b"new": "ready"}


def test_what_a_purge_finds_given_back_it_takes(queues):
    many(queues)
    held = queues.take("q")
    count, place = first_slice(queues, "purge", "q")
    queues.fail(held, "return")
    while place is not None:
        more, place = queues.admin("purge", "q", place)
        count += more
    assert (count, queues.stats("q")["messages"]) == (MANY, 0)


def test_dead_letters_that_come_during_a_purge_stay(queues):
    queues.put("p", b"old")
    queues.do(("queue_put", [queues.row("p.dlq", b"%d" % each) for each in range(MANY)]))
    _, place = first_slice(queues, "purge", "p.dlq")
    queues.pass_time(1)
    queues.fail(queues.take("p"), "dead")  # its number is older than all that are purged
    while place is not None:
        _, place = queues.admin("purge", "p.dlq", place)
    assert queues.payloads("p.dlq") == [b"old"]


def test_of_a_keyed_queue_all_goes_and_new_ones_come_forward(queues):
    queues.define("q", order="key")
    rows = [queues.row("q", b"%d" % each, key=f"k{each % 7}") for each in range(MANY)]
    queues.do(("queue_put", rows))
    held = queues.take("q")
    count, place = first_slice(queues, "purge", "q")
    queues.check()
    queues.pass_time(1)
    queues.put("q", b"new", key="k1")
    queues.put("q", b"behind", key="k0")
    while place is not None:
        more, place = queues.admin("purge", "q", place)
        count += more
    assert count == MANY - 1
    assert queues.states("q") == {b"0": "leased", b"behind": "waiting", b"new": "ready"}
    queues.ack(held)
    assert queues.payloads("q") == [b"new", b"behind"]


def test_a_purge_that_is_killed_has_done_its_slices(queues):
    many(queues)
    count, _ = first_slice(queues, "purge", "q")
    queues.close()
    queues.start()
    assert queues.stats("q")["messages"] == MANY - count
    queues.check()
    assert queues.purge("q") == MANY - count


def many_dead(queues):
    queues.define("q", order="key", max_messages=0)
    rows = [queues.row("q", b"%d" % each, key=f"k{each % 7}") for each in range(MANY)]
    queues.do(("queue_put", rows))
    while got := queues.lease("q", MANY):
        queues.do(("queue_fail", [(0, each.number, each.token, "dead", None, "") for each in got]))
    assert queues.stats("q.dlq")["messages"] == MANY


def test_others_work_between_two_slices_of_a_redrive(queues):
    many_dead(queues)
    count, place = first_slice(queues, "redrive", "q.dlq", None, None, None)
    queues.pass_time(1)
    one, two = queues.lease("q", 2)
    assert (one.payload, two.payload) == (b"0", b"1")
    assert queues.ack(one) == ["ok"]
    queues.fail(two, "dead")  # again: not sent back a second time
    while place is not None:
        more, place = queues.admin("redrive", "q.dlq", None, None, None, place)
        count += more
    assert count == MANY
    assert queues.payloads("q.dlq") == [b"1"]
    seen = {}
    while got := queues.lease("q", MANY):
        for each in got:
            assert seen.get(each.key, 0) < each.number, "out of order"
            seen[each.key] = each.number
        queues.ack(*got)
    assert queues.stats("q")["messages"] == 0


def test_a_redrive_that_is_killed_has_each_message_in_one_place(queues):
    many_dead(queues)
    count, _ = first_slice(queues, "redrive", "q.dlq", None, None, None)
    queues.close()
    queues.start()
    queues.check()
    here, there = queues.peek("q", most=MANY), queues.peek("q.dlq", most=MANY)
    assert sorted(int(each.payload) for each in (*here, *there)) == list(range(MANY))
    assert len(here) == count
    assert queues.redrive("q.dlq") == MANY - count


def test_a_redrive_of_many_numbers_is_done_in_slices_too(queues):
    many_dead(queues)
    wanted = [each.number for each in queues.peek("q.dlq", most=MANY)][:-1]
    count, place = first_slice(queues, "redrive", "q.dlq", [*wanted, *wanted], None, None)
    while place is not None:
        more, place = queues.admin("redrive", "q.dlq", [*wanted, *wanted], None, None, place)
        count += more
    assert count == MANY - 1


def test_a_redrive_into_the_same_queue_ends(queues):
    many(queues)
    assert queues.redrive("q", None, "q") == MANY
    assert queues.stats("q")["ready"] == MANY


def test_a_queue_of_many_is_dropped_slice_by_slice(queues):
    many(queues)
    assert queues.in_slices("drop", "q") == MANY
    assert queues.stats("q") == {}


def test_a_queue_into_which_something_comes_while_it_is_dropped_stays(queues):
    many(queues)
    _, place = first_slice(queues, "drop", "q")
    queues.pass_time(1)
    queues.put("q", b"new")
    while True:
        said = queues.admin("drop", "q", place)
        if isinstance(said, str):
            break
        place = said[1]
    assert said == "in use"
    assert queues.payloads("q") == [b"new"]


# -- one consumer at a time ------------------------------------------------------------------------


def test_a_single_active_consumer_gets_everything_until_it_leaves(queues):
    queues.define("q", order="single_active")
    queues.put("q", b"1", b"2", b"3")
    got = queues.take("q", consumer="a")
    assert queues.payloads("q", consumer="b") == []
    assert queues.next_in == pytest.approx(LEASE, abs=3)
    queues.ack(got)
    assert queues.payloads("q", consumer="b") == []
    assert queues.stats("q")["active"] == "a"
    queues.leave("a")
    assert queues.payloads("q", consumer="b") == [b"2", b"3"]


def test_an_active_consumer_that_falls_silent_is_replaced(queues):
    queues.define("q", order="single_active", lease=LEASE)
    queues.put("q", b"1", b"2")
    got = queues.take("q", consumer="a")
    queues.pass_time(LEASE - 5)
    assert queues.renew(got, LEASE) == "ok"
    queues.pass_time(LEASE - 5)
    assert queues.payloads("q", consumer="b") == []
    queues.ack(got)
    queues.pass_time(LEASE + 1)
    assert queues.payloads("q", consumer="b") == [b"2"]


def test_an_active_consumer_that_holds_something_without_end_stays(queues):
    queues.define("q", order="single_active", lease=LEASE)
    queues.put("q", b"1", b"2")
    queues.take("q", consumer="a", seconds=None)
    queues.pass_time(DAY)
    assert queues.payloads("q", consumer="b") == []
    assert queues.next_in is None


# -- delay, expiry, retention ----------------------------------------------------------------------


def test_a_delayed_message_comes_when_it_is_due(queues):
    queues.put("q", b"later", delay=60)
    queues.put("q", b"now")
    assert queues.payloads("q") == [b"now"]
    assert 0 < queues.next_in <= LEASE
    queues.pass_time(61)
    assert b"later" in queues.payloads("q")


def test_next_in_says_when_there_is_more(queues):
    queues.put("q", b"1", b"2")
    queues.take("q", seconds=10)
    assert queues.next_in == 0
    queues.take("q", seconds=20)
    assert queues.next_in == pytest.approx(10, abs=3)
    queues.define("empty")
    assert queues.lease("empty") == []
    assert queues.next_in is None


def test_an_expired_message_is_not_delivered(queues):
    queues.put("q", b"1", ttl=10)
    queues.put("q", b"2")
    queues.pass_time(11)
    assert queues.payloads("q") == [b"2"]
    assert queues.events in ([("q", "expired", 1)], [])
    assert queues.stats("q.dlq") == {}


def test_a_ttl_of_nothing_is_over_at_once(queues):
    queues.put("q", b"1", ttl=0.0)
    queues.pass_time(0.01)
    assert queues.payloads("q") == []


def test_an_expired_message_may_be_a_dead_letter(queues):
    queues.define("q", on_expiry="dead_letter", ttl=10)
    queues.put("q", b"1")
    queues.put("q", b"2", ttl=30)
    queues.pass_time(11)
    assert queues.payloads("q") == [b"2"]
    dead = queues.take("q.dlq")
    assert (dead.dead_reason, dead.expires_at) == ("expired", None)


def test_a_leased_message_expires_only_when_it_is_given_back(queues):
    queues.put("q", b"1", b"2", ttl=10)
    first, second = queues.lease("q", 2)
    queues.pass_time(11)
    assert queues.admin("reap", "q") == 0
    assert queues.ack(first) == ["ok"]
    queues.fail(second, "return")
    assert queues.payloads("q") == []


@pytest.mark.parametrize("how", ["lease", "reap"])
def test_messages_are_kept_no_longer_than_the_retention(queues, how):
    queues.define("q", retention=100)
    queues.put("q", b"1", b"2")
    queues.put("q", b"3", rank=0)
    queues.pass_time(60)
    queues.put("q", b"4")
    queues.pass_time(60)
    if how == "reap":
        assert queues.admin("reap", "q") == 3
        assert queues.stats("q")["messages"] == 1
    assert queues.payloads("q") == [b"4"]


def test_dead_letters_are_kept_from_the_day_of_their_death(queues):
    queues.define("q", retention=0)
    queues.put("q", b"1")
    queues.pass_time(60 * DAY)
    queues.fail(queues.take("q"), "dead")
    queues.pass_time(20 * DAY)
    assert len(queues.peek("q.dlq")) == 1
    assert queues.admin("reap", "q.dlq") == 0
    queues.pass_time(11 * DAY)
    assert queues.payloads("q.dlq") == []
    assert queues.stats("q.dlq")["messages"] == 0


def test_reaping_does_what_time_asks_for_in_all_queues(queues):
    queues.define("a", dedup_window=10)
    queues.put("a", b"1", dedup_id="x")
    queues.put("b", b"2", ttl=10)
    queues.put("c", b"3", delay=10)
    queues.take("a", seconds=10)
    queues.pass_time(11)
    assert queues.admin("reap", "") == 4
    assert queues.states("a") == {b"1": "ready"}
    assert queues.states("b") == {}
    assert queues.states("c") == {b"3": "ready"}


# -- limits ----------------------------------------------------------------------------------------


def test_a_full_queue_drops_the_oldest(queues):
    queues.define("q", max_messages=2, on_full="drop_oldest")
    queues.put("q", b"1", b"2", b"3")
    assert queues.counts["q"] == (2, 208)
    assert queues.events in ([("q", "dropped", 1)], [])
    assert queues.payloads("q") == [b"2", b"3"]


def test_a_full_queue_drops_the_lowest_priority_first(queues):
    queues.define("q", max_messages=2, on_full="drop_oldest")
    queues.put("q", b"high", rank=0)
    queues.put("q", b"low", rank=9)
    queues.put("q", b"usual")
    assert queues.payloads("q") == [b"high", b"usual"]


def test_a_queue_with_too_many_bytes_drops_the_oldest(queues):
    queues.define("q", max_bytes=3_000, on_full="drop_oldest")
    queues.put("q", bytes(800), bytes(801), bytes(802))
    assert queues.stats("q")["messages"] == 3
    queues.put("q", bytes(2000))
    assert queues.stats("q")["bytes"] == 2_103
    assert [len(each) for each in queues.payloads("q")] == [2000]


def test_what_is_leased_is_not_dropped(queues):
    queues.define("q", max_messages=2, on_full="drop_oldest")
    queues.put("q", b"1", b"2")
    queues.lease("q", 2)
    queues.put("q", b"3")
    assert queues.states("q") == {b"1": "leased", b"2": "leased"}


def test_dropping_the_first_of_a_key_lets_the_next_go(queues):
    keyed(queues, ("a", b"a1"), ("a", b"a2"), max_messages=2, on_full="drop_oldest")
    queues.put("q", b"b1", key="b")
    assert queues.payloads("q") == [b"a2", b"b1"]


def test_what_a_full_queue_does_not_take_is_a_dead_letter(queues):
    queues.define("q", max_messages=2, on_full="dead_letter")
    queues.put("q", b"1", b"2", b"3")
    assert queues.payloads("q") == [b"1", b"2"]
    dead = queues.take("q.dlq")
    assert (dead.payload, dead.dead_from, dead.dead_reason) == (b"3", "q", "full")
    assert queues.stats("q")["messages"] == 2


def test_a_queue_that_rejects_takes_what_the_store_is_given(queues):
    queues.define("q", max_messages=1)
    queues.put("q", b"1", b"2")
    assert queues.payloads("q") == [b"1", b"2"]


# -- last value, doubles, rate ---------------------------------------------------------------------


def test_a_newer_value_of_a_key_replaces_the_one_that_waits(queues):
    queues.define("q", last_value=True)
    queues.put("q", b"a1", key="a")
    queues.put("q", b"b1", key="b")
    queues.put("q", b"a2", b"a3", key="a")
    queues.put("q", b"no key", b"no key either")
    assert queues.payloads("q") == [b"b1", b"a3", b"no key", b"no key either"]


def test_a_newer_value_leaves_what_is_under_way(queues):
    queues.define("q", last_value=True, order="key")
    queues.put("q", b"a1", key="a")
    got = queues.take("q")
    queues.put("q", b"a2", key="a")
    queues.put("q", b"a3", key="a")
    assert queues.states("q") == {b"a1": "leased", b"a3": "waiting"}
    queues.ack(got)
    assert queues.payloads("q") == [b"a3"]


def test_a_double_within_the_window_is_not_put(queues):
    queues.define("q", dedup_window=100)
    queues.put("q", b"1", b"again", dedup_id="x")
    queues.put("q", b"2", dedup_id="y")
    queues.put("other", b"3", dedup_id="x")
    queues.put("q", b"4", b"5")
    queues.pass_time(50)
    queues.put("q", b"and again", dedup_id="x")
    assert queues.events in ([("q", "duplicate", 1)], [])
    queues.pass_time(51)
    queues.put("q", b"6", dedup_id="x")
    assert queues.payloads("q") == [b"1", b"2", b"4", b"5", b"6"]


def test_a_double_lets_its_shared_payload_go(queues):
    queues.define("q", dedup_window=100)
    queues.put("q", b"1", dedup_id="x")
    row = queues.row("q", None, content=70, dedup_id="x")
    queues.do(("queue_content", [(70, b"double", 1)]), ("queue_put", [row]))
    assert queues.payloads("q") == [b"1"]


def test_a_rate_bounds_what_consumers_get(queues):
    queues.define("q", max_rate=5)
    queues.put("q", *(b"%d" % n for n in range(20)))
    assert len(queues.lease("q", 10, seconds=None)) == 5
    assert queues.lease("q", 10, consumer="other", seconds=None) == []
    assert 0 < queues.next_in <= 0.2
    queues.pass_time(0.41)
    assert 2 <= len(queues.lease("q", 10, seconds=None)) <= 5
    queues.pass_time(60)
    assert len(queues.lease("q", 10, seconds=None)) == 5


def test_a_rate_below_one_still_lets_one_go(queues):
    queues.define("q", max_rate=0.1)
    queues.put("q", b"1", b"2")
    assert queues.payloads("q", seconds=None) == [b"1"]
    assert queues.payloads("q", seconds=None) == []
    assert queues.next_in == pytest.approx(10, abs=3)
    queues.pass_time(10.1)
    assert queues.payloads("q", seconds=None) == [b"2"]


# -- people ----------------------------------------------------------------------------------------


def test_a_paused_queue_hands_out_nothing(queues):
    queues.put("q", b"1")
    assert queues.admin("pause", "q") == "paused"
    assert queues.payloads("q") == []
    assert queues.stats("q")["mode"] == "paused"
    assert queues.admin("resume", "q") == "running"
    assert queues.payloads("q") == [b"1"]


def test_a_draining_queue_still_delivers(queues):
    queues.put("q", b"1")
    assert queues.admin("drain", "q") == "draining"
    queues.close()
    opened = queues.start()
    assert [(row[0], row[4], row[5]) for row in opened["queues"]] == [("q", "draining", 1)]
    assert queues.payloads("q") == [b"1"]


def test_one_message_is_deleted_if_it_is_there_and_not_leased(queues):
    queues.put("q", b"1", b"2")
    queues.put("p", b"3")
    got, _ = queues.take("q"), None
    first, second = queues.peek("q")
    assert first.number == got.number
    assert queues.admin("delete", "q", first.number) == 0
    assert queues.admin("delete", "p", second.number) == 0
    assert queues.admin("delete", "q", NOBODY) == 0
    assert queues.admin("delete", "q", second.number) == 1
    assert queues.states("q") == {b"1": "leased"}


def test_a_purge_lets_shared_payloads_go(queues):
    rows = [queues.row(name, None, content=70) for name in ("a", "a", "b")]
    queues.do(("queue_content", [(70, b"shared", 3)]), ("queue_put", rows))
    assert queues.purge("a") == 2
    assert queues.counts["a"] == (0, 0)
    assert queues.payloads("b") == [b"shared"]


def test_a_queue_in_use_is_not_dropped(queues):
    queues.put("q", b"1", b"2")
    got = queues.take("q")
    assert queues.in_slices("drop", "q") == "in use"
    queues.ack(got)
    assert queues.in_slices("drop", "q") == 1
    assert queues.stats("q") == {}
    queues.put("q", b"3")
    assert queues.payloads("q") == [b"3"]
    assert queues.stats("q")["messages"] == 1


def test_statistics_count_by_state(queues):
    keyed(queues, ("a", b"a1"), ("a", b"a2"), ("b", b"b1"), ("c", b"c1"))
    queues.put("q", b"later", delay=60)
    queues.take("q")
    queues.pass_time(10)
    found = queues.stats("q")
    assert (found["name"], found["mode"], found["origin"]) == ("q", "running", "client")
    assert (found["messages"], found["bytes"]) == (5, 4 * 105 + 108)
    states = [found[each] for each in ("ready", "leased", "waiting", "delayed")]
    assert states == [2, 1, 1, 1]
    assert found["oldest_age"] == pytest.approx(10, abs=3)
    assert (found["dead"], found["active"]) == (0, None)
    assert QueuePolicy.from_json(found["policy"]).order == "key"


@pytest.mark.parametrize("most", ["ready", "leased", "waiting", "delayed"])
def test_statistics_are_exact_whatever_there_is_most_of(queues, most):
    queues.define("q", order="key", max_messages=0)
    rows = [queues.row("q", key="line") for _ in range(4)]
    rows += [queues.row("q", delay=60.0) for _ in range(4)]
    rows += [queues.row("q") for _ in range(10)]
    more = {"waiting": {"key": "line"}, "delayed": {"delay": 90.0}}.get(most, {})
    rows += [queues.row("q", **more) for _ in range(9_000)]
    queues.do(("queue_put", rows))
    queues.lease("q", 5)
    if most == "leased":
        while queues.lease("q", 1_000):
            pass
    found = queues.stats("q")
    told = {each: found[each] for each in ("ready", "leased", "waiting", "delayed")}
    (head, *_) = queues.sql(
        "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),"
        " count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3)"
        f" FROM {'' if queues.is_sqlite else 'heliograph.'}queued"
    )
    assert tuple(told.values()) == head
    assert max(told, key=told.__getitem__) == most


def test_a_look_finds_the_same_wherever_other_queues_lie(queues):
    queues.define("q", order="key")
    rows = [queues.row("q", b"head", key="a"), queues.row("q", b"line", key="a")]
    rows += [queues.row("q", b"later", key="a", delay=9.0), queues.row("q", b"late", delay=9.0)]
    rows += [queues.row("q", b"high", rank=0), queues.row("q", b"held", rank=0, delay=1.0)]
    for row in rows:  # more of others between each two than are looked at
        queues.do(("queue_put", [row]), ("queue_put", [queues.row("p") for _ in range(1_100)]))
    queues.lease("q", 1)
    seen = queues.peek("q")
    payloads = [b"head", b"line", b"later", b"late", b"high", b"held"]
    assert [each.payload for each in seen] == payloads
    assert [each.state for each in seen] == [0, 2, 2, 3, 1, 3]
    for place, each in enumerate(seen, 1):
        behind = [one.payload for one in queues.peek("q", each.number, 2)]
        assert behind == payloads[place:][:2]


def test_statistics_tell_what_a_queue_is_bound_to(queues):
    policy = QueuePolicy().to_json()
    queues.do(("queue_define", [("q", policy, "client", '["a/#", "b"]')]))
    assert json.loads(queues.stats("q")["bindings"]) == ["a/#", "b"]
    queues.do(("queue_define", [("q", policy, "client", '["b"]')]))
    queues.close()
    (row,) = queues.start()["queues"]
    assert json.loads(row[3]) == ["b"]
    assert json.loads(queues.stats("q")["bindings"]) == ["b"]


def test_statistics_of_all_queues_come_by_name(queues):
    for name in ("b", "a", "c"):
        queues.define(name)
    assert [each["name"] for each in queues.store.answer("queue_stats", (None, 0.0))] == [
        "a",
        "b",
        "c",
    ]
    assert queues.stats("a")["oldest_age"] is None


def test_to_look_has_no_effect(queues):
    queues.put("q", b"1", b"2", b"3")
    queues.put("q", b"high", rank=0)
    got = queues.lease("q", 2, consumer="c")
    assert [each.payload for each in got] == [b"high", b"1"]
    seen = queues.peek("q")
    assert [each.payload for each in seen] == [b"1", b"2", b"3", b"high"]
    assert [each.state for each in seen] == [1, 0, 0, 1]
    assert [each.consumer for each in seen] == ["c", None, None, "c"]
    assert {each.token for each in seen} == {0}
    assert [each.payload for each in queues.peek("q", seen[0].number, 2)] == [b"2", b"3"]
    assert len(queues.peek("q", most_bytes=250)) == 2
    assert len(queues.peek("q", most_bytes=1)) == 1


def test_the_configuration_wins_over_clients(queues):
    queues.close()
    queues.start(("q", QueuePolicy(max_messages=7)))
    queues.define("q", max_messages=8)
    queues.define("mine", max_messages=9)
    queues.close()
    found = {row[0]: row for row in queues.start(("q", QueuePolicy(max_messages=7)))["queues"]}
    assert QueuePolicy.from_json(found["q"][1]).max_messages == 7
    assert QueuePolicy.from_json(found["mine"][1]).max_messages == 9
    assert (found["q"][2], found["mine"][2]) == ("config", "client")


def test_numbers_are_never_given_twice(queues):
    queues.put("q", b"1", b"2")
    highest = max(numbers(queues.peek("q")))
    queues.close()
    opened = queues.start()
    if queues.is_sqlite:  # PostgreSQL has a sequence
        assert opened["queued_next"] > highest
    queues.put("q", b"3")
    assert queues.peek("q")[-1].number > highest


def test_a_batch_that_comes_again_changes_nothing(queues):
    queues.put("q", b"1")
    again = [("queue_clock", [(queues.now,)]), ("queue_put", [queues.row("q", b"1")])]
    done = queues.store.apply(queues.position, False, again)
    assert (list(done.results), list(done.counts)) == ([], [])
    assert queues.stats("q")["messages"] == 1


def test_a_message_is_a_tuple_of_what_the_contract_says():
    assert Got._fields[:5] == ("number", "token", "key", "rank", "topic")
