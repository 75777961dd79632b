"""A short run of the fuzzer that is the same every time; the long one is `make fuzz`."""

import pytest

from broker.engine.retention import Retention
from broker.packets.errors import misuse
from tests.fuzz.fuzzer import FoundError, Fuzzer


@pytest.mark.parametrize("seed", [1, 2])
def test_spoilt_conversations_find_no_fault(seed: int) -> None:
    fuzzer = Fuzzer(seed)
    for _ in range(50):
        fuzzer.round()
    assert fuzzer.packets > 1000


def test_a_seed_repeats_exactly() -> None:
    one, other = Fuzzer(3), Fuzzer(3)
    for _ in range(12):
        one.round()
        other.round()
    assert one.packets == other.packets
    assert one.broker.engine.traffic.bytes_sent == other.broker.engine.traffic.bytes_sent


def test_a_fault_of_the_broker_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzzer = Fuzzer(4)
    monkeypatch.setattr(Retention, "store", lambda *_: 1 // 0)
    with pytest.raises(FoundError, match=r"seed 4, round \d+: ZeroDivisionError"):
        play(fuzzer, 50)


def test_an_exception_that_escapes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzzer = Fuzzer(5)
    fuzzer.round()

    def escape(*_: object) -> None:
        raise misuse("escaped")

    monkeypatch.setattr(fuzzer.broker.engine, "tick", escape)
    fuzzer.broker.connect("x", keep_alive=1)
    with pytest.raises(FoundError, match="escaped"):
        play(fuzzer, 90)


def play(fuzzer: Fuzzer, rounds: int) -> None:
    for _ in range(rounds):
        fuzzer.round()
