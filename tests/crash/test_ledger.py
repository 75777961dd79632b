"""The judge itself: each fault is found, and what is lawful is not called one."""

import pytest

from tests.crash.ledger import Ledger, Message


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger()
    made.add_receiver("twice", {"t/+": 2})
    made.add_receiver("once", {"t/#": 1})
    return made


@pytest.fixture
def group() -> Ledger:
    made = Ledger()
    made.add_receiver("left", {"t/#": 2}, "group")
    made.add_receiver("right", {"t/#": 2}, "group")
    return made


def send(ledger: Ledger, qos: int, *, topic: str = "t/1", acknowledged: bool = True) -> Message:
    message = ledger.new_message("p", topic, qos, 40)
    if acknowledged:
        ledger.acknowledge(message)
    return message


def give(ledger: Ledger, message: Message, *sessions: str) -> None:
    for session in sessions:
        ledger.arrive(session, message.topic, message.payload)


def retain(ledger: Ledger, size: int, *, acknowledged: bool = True) -> Message:
    message = ledger.new_message("r", "r/1", 1, size, retain=True)
    if acknowledged:
        ledger.acknowledge(message)
    return message


def judged(ledger: Ledger) -> dict[str, int]:
    ledger.await_all()
    ledger.judge()
    return {name: number for name, number in ledger.faults.items() if number}


def test_everything_arrived_is_no_fault(ledger: Ledger) -> None:
    for qos in (1, 2, 1, 2):
        give(ledger, send(ledger, qos), "twice", "once")
    assert judged(ledger) == {}


def test_an_acknowledged_message_that_one_receiver_misses_is_lost(ledger: Ledger) -> None:
    give(ledger, send(ledger, 1), "once")
    assert judged(ledger) == {"lost": 1}
    assert ledger.lost_by == {"twice": 1}


def test_a_message_is_lost_once_however_often_one_judges(ledger: Ledger) -> None:
    send(ledger, 1)
    judged(ledger)
    assert judged(ledger) == {"lost": 2}


def test_a_message_that_was_not_acknowledged_may_arrive_or_not(ledger: Ledger) -> None:
    send(ledger, 2, acknowledged=False)
    give(ledger, send(ledger, 2, acknowledged=False), "twice")
    assert judged(ledger) == {}


def test_a_message_that_was_not_acknowledged_may_arrive_after_a_judgement(ledger: Ledger) -> None:
    message = send(ledger, 2, acknowledged=False)
    judged(ledger)
    give(ledger, message, "twice")
    assert judged(ledger) == {}


@pytest.mark.parametrize("acknowledged", [True, False])
def test_qos_2_twice_is_a_duplicate(ledger: Ledger, acknowledged: bool) -> None:
    give(ledger, send(ledger, 2, acknowledged=acknowledged), "twice", "twice", "once")
    assert judged(ledger) == {"duplicates": 1}


def test_qos_2_again_after_a_judgement_is_a_duplicate(ledger: Ledger) -> None:
    message = send(ledger, 2)
    give(ledger, message, "twice", "once")
    judged(ledger)
    give(ledger, message, "twice")
    assert judged(ledger) == {"duplicates": 1}


def test_qos_1_may_be_repeated_on_either_side(ledger: Ledger) -> None:
    give(ledger, send(ledger, 1), "twice", "twice", "once")
    give(ledger, send(ledger, 2), "twice", "once", "once")
    assert judged(ledger) == {}
    assert ledger.counts["repeated"] == 2


def test_first_arrivals_out_of_order_are_a_fault(ledger: Ledger) -> None:
    first, second = send(ledger, 1), send(ledger, 1)
    give(ledger, second, "twice", "once")
    give(ledger, first, "twice", "once")
    assert judged(ledger) == {"out_of_order": 2}


def test_a_whole_sequence_may_come_again(ledger: Ledger) -> None:
    messages = [send(ledger, 1), send(ledger, 1)]
    for message in messages + messages:
        give(ledger, message, "twice", "once")
    assert judged(ledger) == {}


def test_other_topics_and_qos_have_their_own_order(ledger: Ledger) -> None:
    messages = [send(ledger, 1), send(ledger, 2), send(ledger, 1, topic="t/2")]
    for message in reversed(messages):
        give(ledger, message, "twice", "once")
    assert judged(ledger) == {}


def test_a_changed_payload_is_damaged(ledger: Ledger) -> None:
    message = send(ledger, 1, acknowledged=False)
    ledger.arrive("once", message.topic, message.payload[:-1] + b"!")
    ledger.arrive("once", "t/2", message.payload)
    assert judged(ledger) == {"damaged": 2}


def test_what_nobody_sent_or_asked_for_is_stray(ledger: Ledger) -> None:
    ledger.arrive("once", "t/1", b"p 7 1 t/1 ")
    ledger.arrive("once", "t/1", b"what is this")
    give(ledger, send(ledger, 1, topic="t/deep/topic", acknowledged=False), "twice")
    assert judged(ledger) == {"stray": 3}


def test_a_group_is_one_receiver(group: Ledger) -> None:
    give(group, send(group, 2), "left")
    give(group, send(group, 2), "right")
    send(group, 1)
    give(group, send(group, 2), "left", "right")
    assert judged(group) == {"lost": 1, "duplicates": 1}


def test_a_drain_is_complete_when_the_last_message_is_there(ledger: Ledger) -> None:
    message = send(ledger, 1)
    ledger.await_all()
    give(ledger, message, "twice")
    assert not ledger.is_complete.is_set()
    give(ledger, message, "once")
    assert ledger.is_complete.is_set()


def retained_faults(ledger: Ledger, found: dict[str, bytes]) -> int:
    ledger.judge_retained(found)
    return ledger.faults["wrong_retained"]


def test_the_last_acknowledged_message_or_a_later_one_is_retained(ledger: Ledger) -> None:
    retain(ledger, 30)
    last, later = retain(ledger, 30), retain(ledger, 30, acknowledged=False)
    assert retained_faults(ledger, {"r/1": last.payload}) == 0
    assert retained_faults(ledger, {"r/1": later.payload}) == 0


def test_an_older_message_or_none_is_a_fault(ledger: Ledger) -> None:
    older = retain(ledger, 30)
    retain(ledger, 30)
    assert retained_faults(ledger, {"r/1": older.payload}) == 1
    assert retained_faults(ledger, {}) == 2


def test_a_cleared_topic_stays_cleared(ledger: Ledger) -> None:
    message = retain(ledger, 30)
    retain(ledger, 0)
    assert retained_faults(ledger, {}) == 0
    assert retained_faults(ledger, {"r/1": message.payload}) == 1


def test_who_clears_without_an_answer_leaves_it_open(ledger: Ledger) -> None:
    message = retain(ledger, 30)
    retain(ledger, 0, acknowledged=False)
    assert ledger.retained_expected() == set()
    assert retained_faults(ledger, {"r/1": message.payload}) == 0
    assert retained_faults(ledger, {}) == 0


def test_a_first_message_without_an_answer_may_be_retained(ledger: Ledger) -> None:
    message = retain(ledger, 30, acknowledged=False)
    assert retained_faults(ledger, {"r/1": message.payload}) == 0
    assert retained_faults(ledger, {}) == 0


def test_a_retained_topic_that_nobody_wrote_is_a_fault(ledger: Ledger) -> None:
    assert retained_faults(ledger, {"r/2": b"here"}) == 1
