"""The ledger against a broker that keeps its word, and against one that does not."""

from __future__ import annotations

import pytest

from firmware_sim.books.balance import Balance, balance_of
from firmware_sim.books.ledger import Fate, Ledger, Stream


def stream(qos: int, messages: int = 5) -> Stream:
    """A stream of which every message was handed over and acknowledged, and none has arrived."""
    made = Ledger().open("a/b", "dev", "kind", qos)
    for seq in range(messages):
        assert made.made() == seq
        made.handed(seq, float(seq))
        made.acknowledged(seq, seq + 0.5)
    return made


def arrive(made: Stream, *seqs: int) -> Balance:
    for place, seq in enumerate(seqs):
        made.arrived(seq, 10.0 + place)
    return balance_of([made])


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_arrives_once_and_in_order_balances(qos: int) -> None:
    balance = arrive(stream(qos), 0, 1, 2, 3, 4)
    assert balance.is_good
    assert (balance.made, balance.acknowledged, balance.once) == (5, 5, 5)


@pytest.mark.parametrize("qos", [1, 2])
def test_an_acknowledged_message_that_does_not_arrive_is_lost(qos: int) -> None:
    balance = arrive(stream(qos), 0, 1, 3, 4)
    assert (balance.lost, balance.is_good) == (1, False)


def test_a_message_of_qos_0_may_be_missing() -> None:
    balance = arrive(stream(0), 0, 1, 3, 4)
    assert (balance.missing, balance.lost, balance.is_good) == (1, 0, True)


@pytest.mark.parametrize(("qos", "is_good"), [(0, False), (1, True), (2, False)])
def test_a_second_copy_is_for_qos_1_alone(qos: int, is_good: bool) -> None:
    balance = arrive(stream(qos), 0, 1, 2, 2, 3, 4)
    assert (balance.repeated, balance.copies, balance.is_good) == (1, 1, is_good)
    assert balance.duplicated == (not is_good)


@pytest.mark.parametrize("qos", [0, 2])
def test_a_message_that_was_handed_over_twice_may_arrive_twice(qos: int) -> None:
    made = stream(qos)
    made.handed(2, 6.0)
    assert arrive(made, 0, 1, 2, 2, 3, 4).is_good
    assert not arrive(made, 2).is_good


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_that_overtakes_another_is_out_of_order(qos: int) -> None:
    balance = arrive(stream(qos), 0, 2, 1, 3, 4)
    assert (balance.out_of_order, balance.is_good) == (1, False)


def test_an_old_copy_behind_newer_messages_is_no_disorder() -> None:
    assert arrive(stream(1), 0, 1, 2, 1, 2, 3, 4).is_good


@pytest.mark.parametrize("seq", [-1, 5, 1_000_000_000])
def test_what_was_never_made_is_unknown(seq: int) -> None:
    balance = arrive(stream(1), 0, 1, 2, 3, 4, seq)
    assert (balance.unknown, balance.is_good) == (1, False)


def test_what_was_made_and_not_handed_over_cannot_arrive() -> None:
    made = stream(1)
    made.made()
    assert arrive(made, 0, 1, 2, 3, 4, 5).unknown == 1


def test_every_message_has_one_fate() -> None:
    made = Ledger().open("a", "dev", "kind", 1)
    for seq in range(5):
        made.made()
        if seq > 1:
            made.handed(seq, 1.0)
    made.dropped(1)
    made.refused(3)
    made.acknowledged(4, 2.0)
    fates = [line.fate for line in made]
    assert fates == [
        Fate.KEPT,
        Fate.DROPPED,
        Fate.IN_FLIGHT,
        Fate.REFUSED,
        Fate.ACKNOWLEDGED,
    ]
    balance = balance_of([made])
    assert (balance.kept, balance.dropped, balance.in_flight, balance.refused) == (1, 1, 1, 1)


def test_an_acknowledgement_counts_before_all_that_was_said_earlier() -> None:
    made = stream(1, 1)
    made.refused(0)
    made.dropped(0)
    assert made.line(0).fate is Fate.ACKNOWLEDGED


def test_what_is_awaited_is_known_at_any_time() -> None:
    made = stream(1, 2)
    assert made.awaited == 2
    made.arrived(0, 3.0)
    made.arrived(0, 4.0)
    assert made.awaited == 1
    later = made.made()
    made.handed(later, 5.0)
    made.arrived(later, 6.0)
    made.acknowledged(later, 7.0)
    assert made.awaited == 1


def test_two_devices_cannot_share_a_topic() -> None:
    ledger = Ledger()
    ledger.open("a", "one", "kind", 1)
    with pytest.raises(ValueError, match='"two" and "one" would both publish to "a"'):
        ledger.open("a", "two", "kind", 1)


def test_the_canonical_text_is_sorted_and_tells_everything() -> None:
    ledger = Ledger()
    second, first = (ledger.open(topic, "dev", "kind", 1) for topic in ("b", "a"))
    second.made()
    first.made()
    first.handed(0, 1.5)
    first.acknowledged(0, 1.75)
    first.arrived(0, 2.0)
    assert b"".join(ledger.canonical()) == (
        b"a qos 1 of dev\n0 1500000 acknowledged 1 1 250000 500000\n"
        b"b qos 1 of dev\n0 -1 kept 0 0 -1 -1\n"
    )
    before = ledger.digest()
    first.arrived(0, 3.0)
    assert ledger.digest() != before


def test_a_message_costs_few_bytes() -> None:
    made = stream(1, 1000)
    size = sum(
        array.itemsize * len(array)
        for array in (made._handed_at, made._acked_after, made._arrived_after)
    )
    assert size + len(made._flags) + len(made._copies) + len(made._handed) == 19_000
