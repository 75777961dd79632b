"""A short run of the serial fuzzer; the long one is `make fuzz ARGS="--target serial"`."""

import pytest

from bridges.serial.receiving import Receiving
from tests.fuzz.fuzzer import FoundError
from tests.fuzz.serial_wire import SerialFuzzer


@pytest.mark.parametrize("seed", [1, 2])
def test_spoilt_bytes_on_a_wire_find_no_fault(seed: int) -> None:
    fuzzer = SerialFuzzer(seed)
    for _ in range(100):
        fuzzer.round()
    assert fuzzer.packets > 1000


def test_a_seed_repeats_exactly() -> None:
    one, other = SerialFuzzer(3), SerialFuzzer(3)
    for _ in range(30):
        one.round()
        other.round()
    assert one.link.counters == other.link.counters
    assert one.link.counters.frames_received > 0


def test_a_fault_of_the_link_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzzer = SerialFuzzer(4)
    monkeypatch.setattr(Receiving, "accept", lambda *_: 1 // 0)
    with pytest.raises(FoundError, match=r"seed 4, round \d+: ZeroDivisionError"):
        play(fuzzer, 100)


def play(fuzzer: SerialFuzzer, rounds: int) -> None:
    for _ in range(rounds):
        fuzzer.round()
