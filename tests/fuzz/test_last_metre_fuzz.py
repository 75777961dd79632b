"""A short run; the long one is `make fuzz ARGS="--target last-metre"`."""

import pytest

from bridges.gateway.wire import Wire
from tests.fuzz.fuzzer import FoundError
from tests.fuzz.last_metre import LastMetreFuzzer


@pytest.mark.parametrize("seed", [1, 2])
def test_spoilt_bytes_in_every_mode_find_no_fault(seed: int) -> None:
    fuzzer = LastMetreFuzzer(seed)
    for _ in range(150):
        fuzzer.round()
    assert fuzzer.packets > 1000


def test_a_seed_repeats_exactly() -> None:
    one, other = LastMetreFuzzer(3), LastMetreFuzzer(3)
    for _ in range(30):
        one.round()
        other.round()
    assert one.packets == other.packets
    assert one.wire.counts == other.wire.counts
    assert one.wire.gateway.counts == other.wire.gateway.counts


def test_a_fault_of_the_wire_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzzer = LastMetreFuzzer(4)
    monkeypatch.setattr(Wire, "_pass_on", lambda *_: 1 // 0)
    with pytest.raises(FoundError, match=r"seed 4, round \d+, .*ZeroDivisionError"):
        play(fuzzer, 100)


def play(fuzzer: LastMetreFuzzer, rounds: int) -> None:
    for _ in range(rounds):
        fuzzer.round()
