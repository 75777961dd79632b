"""Fleets whose firmware is the client in C, compiled for this computer, in virtual time."""

from __future__ import annotations

import pytest

from firmware_sim.books.books import COMMAND
from firmware_sim.books.ledger import Fate
from firmware_sim.firmware.identity import LONGEST_TOPIC
from firmware_sim.fleet.fleet import FleetError
from firmware_sim.scenario.scenario import Incident, Kind
from firmware_sim.scenario.wires import WireSettings
from tests.unit.firmware_sim.fleets import balance, run

MINUTE = 60.0


def compiled(name: str, count: int = 1, **keys: object) -> Kind:
    settings = {"way": "framed", "level": "compiled", "interval": 0.5, **keys}
    return Kind(name, count, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_the_firmware_measures_arrives_once_and_in_order(qos: int) -> None:
    outcome = run(compiled("c", 2, qos=qos), duration=MINUTE)
    told = balance(outcome)
    assert told.is_good
    assert told.made == told.acknowledged == told.once
    assert told.made >= 2 * (MINUTE / 0.5 - 10)


def test_its_interval_is_that_of_the_scenario() -> None:
    often, seldom = compiled("often", interval=0.25), compiled("seldom", interval=5.0)
    outcome = run(often, seldom, duration=MINUTE)
    assert balance(outcome, "often").made == pytest.approx(MINUTE / 0.25, abs=20)
    assert balance(outcome, "seldom").made == pytest.approx(MINUTE / 5, abs=2)


@pytest.mark.parametrize("qos", [1, 2])
def test_on_a_bad_wire_and_through_brown_outs_nothing_is_lost_that_was_promised(qos: int) -> None:
    kind = compiled("c", 3, qos=qos, commands=5.0, wire=WireSettings(errors=0.01))
    dark = (
        Incident(10.0, lasts=2.0, every=15.0),
        Incident(14.0, "unplug", lasts=12.0, every=30.0),
    )
    outcome = run(kind, incidents=dark, duration=3 * MINUTE)
    told = balance(outcome)
    assert told.is_good, told
    assert told.acknowledged > 100
    assert told.dropped > 0  # 16 readings have room
    commands = outcome.books.commands.streams.values()
    assert all(sum(line.copies > 0 for line in stream) > 10 for stream in commands)


def test_commands_that_are_on_their_way_at_the_end_arrive() -> None:
    outcome = run(compiled("c", 3, commands=1.0), duration=MINUTE)
    for stream in outcome.books.commands.streams.values():
        assert [line.copies for line in stream][2:] == [1] * (len(stream) - 2)


def test_numbers_go_on_after_a_brown_out() -> None:
    outcome = run(compiled("c"), incidents=(Incident(20.0, lasts=3.0),), duration=MINUTE)
    (stream,) = outcome.books.ledger.streams.values()
    fates = [line.fate for line in stream]
    assert stream.unknown == stream.out_of_order == 0
    assert fates[-1] is Fate.ACKNOWLEDGED
    assert balance(outcome).repeated == 0


def test_one_that_sleeps_is_asleep_and_gets_its_commands_when_it_looks() -> None:
    kind = compiled("c", 2, interval=5.0, sleeps=True, commands=20.0)
    outcome = run(kind, duration=5 * MINUTE)
    assert balance(outcome).is_good
    assert outcome.books.presence(5 * MINUTE).asleep > 2 * 4 * MINUTE
    for stream in outcome.books.commands.streams.values():
        waits = list(stream.latencies())
        assert len(waits) >= len(stream) - 1
        assert max(waits) < 11.0
    assert outcome.books.downs == {}


def test_the_same_seed_gives_the_same_ledger() -> None:
    kind = compiled("c", 2, wire=WireSettings(errors=0.005))
    digests = {
        seed: [run(kind, duration=MINUTE, seed=seed).books.ledger.digest() for _ in range(2)]
        for seed in (1, 2)
    }
    assert all(one == other for one, other in digests.values())
    assert digests[1] != digests[2]


def test_models_and_firmware_keep_one_ledger() -> None:
    model = Kind("m", 2, "framed", interval=0.5)
    outcome = run(model, compiled("c", 2), duration=MINUTE)
    told = {kind: balance(outcome, kind) for kind in ("m", "c")}
    assert all(each.is_good for each in told.values())
    assert told["c"].arrived == pytest.approx(told["m"].arrived, rel=0.1)


def test_a_device_that_is_not_commanded_subscribes_to_nothing() -> None:
    outcome = run(compiled("c"), duration=10.0)
    assert outcome.books.commands.streams == {}
    assert balance(outcome).is_good


def test_the_longest_topic_has_room() -> None:
    topic = "{device}/" + "x" * (LONGEST_TOPIC - len("c-0001/" + COMMAND))
    outcome = run(compiled("c", topic=topic, commands=2.0), duration=20.0)
    (stream,) = outcome.books.commands.streams.values()
    assert len(stream.topic) == LONGEST_TOPIC
    assert any(line.copies for line in stream)
    assert balance(outcome).is_good
    assert balance(outcome).arrived > 20


def test_firmware_that_cannot_be_built_ends_the_run_before_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(FleetError, match=r"^c: make is missing; install it with: .* make gcc"):
        run(compiled("c"), duration=1.0)
