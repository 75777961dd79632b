"""What a subscriber sees of payloads, hostile ones included."""

from __future__ import annotations

import pytest

from firmware_sim.books.books import Books
from firmware_sim.books.diagnosis import SAME, diagnose
from firmware_sim.device.bugs import Bug

HOSTILE = [
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"9" * 10_000,
    b'{"t":' + b"9" * 400 + b"}",
    b'{"seq":99999999999999999999}',
    b"null",
    b"[1, 2]",
]


def books() -> Books:
    made = Books(1_000_000.0)
    made.enrol("dev", "kind", "a/dev", 1)
    return made


@pytest.mark.parametrize("payload", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_payload_is_garbage_and_never_sent_by_us(payload: bytes) -> None:
    made = books()
    made.arrived("a/dev", payload, 1.0)
    assert made.ledger.streams["a/dev"].unknown == 1
    if b"seq" not in payload:
        assert made.devices["dev"].garbage == 1


def test_topics_of_others_are_counted_and_leave_no_trace() -> None:
    made = books()
    for number in range(1000):
        made.arrived(f"a/stranger-{number}", b"{}", 1.0)
    made.arrived("a/dev/command", b"{}", 1.0)
    assert (made.ledger.strangers, len(made.ledger.streams)) == (1000, 1)


@pytest.mark.parametrize("told", [b"NaN", b"Infinity", b"-1e308", b'"now"', b"true", b"[]"])
def test_any_time_can_be_told(told: bytes) -> None:
    made = books()
    made.arrived("a/dev", b'{"seq":0,"t":' + told + b"}", 1.0)
    assert all(found.proof for found in diagnose(made.devices.values()))


def test_the_same_values_are_a_fault_only_if_they_should_vary() -> None:
    made = books()
    for _ in range(SAME):
        made.arrived("a/dev", b'{"seq":0,"open":false,"opened":3}', 1.0)
    assert diagnose(made.devices.values()) == []
    for _ in range(SAME):
        made.arrived("a/dev", b'{"seq":0,"temperature":20.5}', 1.0)
    assert [found.bug for found in diagnose(made.devices.values())] == [Bug.STUCK_SENSOR]


def test_reasons_of_others_do_not_fill_the_memory() -> None:
    made = books()
    for number in range(10_000):
        made.down(made.devices["dev"], f"because of {number}")
    assert len(made.downs) < 100
    assert sum(made.downs.values()) == 10_000
