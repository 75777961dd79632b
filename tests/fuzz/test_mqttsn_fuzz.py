"""A short run of the MQTT-SN fuzzer; the long one is `make fuzz ARGS="--target mqttsn"`."""

import pytest

from bridges.mqttsn.inbound import Inbound
from tests.fuzz.fuzzer import FoundError
from tests.fuzz.mqttsn import MqttSnFuzzer


@pytest.mark.parametrize("seed", [1, 2])
def test_spoilt_datagrams_find_no_fault(seed: int) -> None:
    fuzzer = MqttSnFuzzer(seed)
    for _ in range(60):
        fuzzer.round()
    assert fuzzer.packets > 1000


def test_a_seed_repeats_exactly() -> None:
    one, other = MqttSnFuzzer(3), MqttSnFuzzer(3)
    for _ in range(12):
        one.round()
        other.round()
    assert one.packets == other.packets
    assert one.world.gateway.counts == other.world.gateway.counts
    assert one.world.gateway.counts


def test_a_fault_of_the_gateway_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzzer = MqttSnFuzzer(4)
    monkeypatch.setattr(Inbound, "publish", lambda *_: 1 // 0)
    with pytest.raises(FoundError, match=r"seed 4, round \d+: ZeroDivisionError"):
        play(fuzzer, 100)


def play(fuzzer: MqttSnFuzzer, rounds: int) -> None:
    for _ in range(rounds):
        fuzzer.round()
