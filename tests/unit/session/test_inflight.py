"""The two tables of what was sent and is not done: which acknowledgement leaves which state, and
which packet identifiers are free.
"""

import pytest

from broker.packets.publication import Publication
from broker.session.inflight import LAST_PACKET_ID, Inflight, Step
from broker.session.outgoing import Outgoing

QOS_1, QOS_2 = 0x32, 0x34


def outgoing(first: int) -> Outgoing:
    return (Publication("t", b"x", first >> 1 & 3), None, first)  # type: ignore[return-value]  # no subscription is looked at


def started(*firsts: int) -> Inflight:
    inflight = Inflight()
    for first in firsts:
        assert inflight.start(outgoing(first), 100)
    return inflight


@pytest.mark.parametrize(
    ("state", "puback", "pubrec", "pubrec_refused", "pubcomp"),
    [
        ("nothing", Step.UNKNOWN, Step.UNKNOWN, Step.UNKNOWN, Step.UNKNOWN),
        ("QoS 1", Step.DONE, Step.MISMATCH, Step.MISMATCH, Step.MISMATCH),
        ("QoS 2", Step.MISMATCH, Step.RELEASE, Step.DONE, Step.MISMATCH),
        ("released", Step.UNKNOWN, Step.RELEASE, Step.RELEASE, Step.DONE),
    ],
)
def test_every_acknowledgement_in_every_state(
    state: str, puback: Step, pubrec: Step, pubrec_refused: Step, pubcomp: Step
) -> None:
    def fresh() -> Inflight:
        if state == "nothing":
            return Inflight()
        inflight = started(QOS_1 if state == "QoS 1" else QOS_2)
        if state == "released":
            inflight.on_pubrec(1, False)
        return inflight

    assert fresh().on_puback(1) is puback
    assert fresh().on_pubrec(1, False) is pubrec
    assert fresh().on_pubrec(1, True) is pubrec_refused
    assert fresh().on_pubcomp(1) is pubcomp


def test_what_is_released_counts_against_the_window_until_its_pubcomp() -> None:
    inflight = started(QOS_2)
    inflight.on_pubrec(1, False)
    assert inflight.start(outgoing(QOS_1), 1) == 0
    inflight.on_pubcomp(1)
    assert inflight.start(outgoing(QOS_1), 1) == 2


def test_an_identifier_in_use_is_not_given_again_after_the_last_one() -> None:
    inflight = started(QOS_1, QOS_2, QOS_1)
    inflight.on_pubrec(2, False)  # published or released: both are in use
    inflight.on_puback(3)
    inflight._last_id = LAST_PACKET_ID
    assert inflight.start(outgoing(QOS_1), 100) == 3


@pytest.mark.parametrize("count", [1, 3])
def test_a_run_gets_the_identifiers_that_single_messages_would(count: int) -> None:
    single, run = started(QOS_1, QOS_2, QOS_1), started(QOS_1, QOS_2, QOS_1)
    for each in (single, run):
        each.on_puback(3)
        each._last_id = LAST_PACKET_ID - 1
    message, subscription, first = outgoing(QOS_1)
    wanted = [single.start((message, subscription, first), 100) for _ in range(count)]
    assert run.start_run([message] * count, subscription, first, 100) == wanted
    assert list(run.published) == list(single.published)


def test_a_run_that_does_not_fit_the_window_takes_nothing() -> None:
    inflight = started(QOS_1)
    message, subscription, first = outgoing(QOS_1)
    assert inflight.start_run([message] * 3, subscription, first, 3) == []
    assert len(inflight) == 1


def test_what_is_answered_early_is_not_sent_again() -> None:
    inflight = started(QOS_1, QOS_2, QOS_1)
    inflight.begin_again()
    inflight.on_pubrec(2, False)
    inflight.on_puback(1)
    assert inflight.next_unsent()[0] == 3
    assert not inflight.unsent
