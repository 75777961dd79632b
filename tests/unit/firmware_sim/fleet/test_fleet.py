"""Whole fleets in virtual time: what they tell, what survives, and that it repeats exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from firmware_sim.books.diagnosis import Finding, diagnose
from firmware_sim.device.battery import BatterySettings
from firmware_sim.device.bugs import Bug
from firmware_sim.device.signals import Row
from firmware_sim.fleet.hub import Hub
from firmware_sim.fleet.virtual import VirtualRun
from firmware_sim.scenario.scenario import Incident, Kind, SignalSettings
from firmware_sim.scenario.wires import WireSettings
from tests.unit.firmware_sim.fleets import balance, run, scenario

if TYPE_CHECKING:
    from firmware_sim.clients.client import Message
    from firmware_sim.fleet.fleet import Outcome

NOISY = WireSettings(baud=9600, latency=0.016, poll=0.01, errors=0.01, unplug_every=200.0)
ALL_WAYS = (
    Kind("plain", 3, interval=10.0, commands=60.0),
    Kind("once", 2, interval=10.0, qos=2),
    Kind("sleeper", 3, interval=60.0, sleeps=True, commands=120.0),
    Kind("framed", 2, "framed", interval=20.0, qos=2, commands=60.0, wire=NOISY),
    Kind("raw", 1, "raw", interval=20.0),
    Kind("slip", 1, "slip", interval=20.0),
    Kind("text", 1, "text", interval=20.0, qos=0),
)
DARK = (Incident(200.0, devices="*", lasts=20.0), Incident(400.0, "unplug", "*", 30.0))


def findings(outcome: Outcome) -> list[Finding]:
    return diagnose(outcome.books.devices.values())


def test_the_same_seed_gives_the_same_ledger_byte_for_byte() -> None:
    first, again = (run(*ALL_WAYS, incidents=DARK) for _ in range(2))
    assert b"".join(first.books.ledger.canonical()) == b"".join(again.books.ledger.canonical())
    assert first.books.ledger.digest() == again.books.ledger.digest()


def test_another_seed_gives_another_ledger() -> None:
    assert run(*ALL_WAYS).books.ledger.digest() != run(*ALL_WAYS, seed=8).books.ledger.digest()


def test_one_more_device_changes_no_other() -> None:
    kinds = (Kind("a", 2, interval=10.0), Kind("b", 1, interval=10.0))
    more = (Kind("a", 3, interval=10.0), kinds[1])
    few, many = (run(*each).books.ledger.streams for each in (kinds, more))
    assert [len(few[topic]) for topic in few] == [len(many[topic]) for topic in few]


def test_every_way_carries_everything_through_a_brown_out_and_without_its_wire() -> None:
    outcome = run(*ALL_WAYS, incidents=DARK)
    for kind in ALL_WAYS:
        told = balance(outcome, kind.kind)
        assert told.is_good, (kind.kind, told)
        assert told.made > 5
        assert told.acknowledged == told.made, (kind.kind, told)


def test_commands_reach_devices_also_those_that_sleep() -> None:
    commands = run(*ALL_WAYS).books.commands.streams.values()
    for kind in ("plain", "sleeper", "framed"):
        sent = [line for stream in commands if stream.kind == kind for line in stream]
        assert len(sent) > 5
        assert sum(line.copies for line in sent) >= len(sent) - 3, kind


def test_a_noisy_wire_costs_repetitions_and_no_message() -> None:
    wire = replace(NOISY, errors=0.03)
    outcome = run(Kind("framed", 2, "framed", interval=10.0, qos=2, wire=wire), duration=900.0)
    told = balance(outcome)
    assert (told.made, told.lost, told.repeated) == (told.acknowledged, 0, 0)
    assert told.is_good
    qualities = [sample.quality["framed"] for sample in outcome.record.samples if sample.quality]
    assert 0.93 < sum(qualities) / len(qualities) < 0.995


def test_raw_packets_on_a_bad_wire_are_lost_or_damaged_and_counted() -> None:
    wire = WireSettings(errors=0.01)
    outcome = run(Kind("raw", 4, "raw", interval=5.0, qos=0, wire=wire), duration=900.0)
    told = balance(outcome)
    assert told.missing > 10
    assert told.unknown > 10  # what is damaged is taken for another: nothing there checks it
    assert told.arrived + told.missing + told.in_flight + told.kept >= told.made


def test_what_would_happen_when_the_end_has_come_does_not() -> None:
    again = Incident(200.0, devices="*", lasts=5.0, every=200.0)
    outcome = run(Kind("a", 2, interval=10.0), incidents=(again,), duration=600.0)
    assert [at for at, _ in outcome.record.notes] == [200.0, 400.0]


def test_a_run_is_sampled_until_all_has_come_in() -> None:
    away = (Incident(90.0, "unplug", "*", 30.0),)
    outcome = run(Kind("a", interval=5.0), incidents=away, duration=100.0, drain=60.0)
    ats = [sample.at for sample in outcome.record.samples if sample.at > 101.0]
    assert len(ats) > 20


def test_devices_without_flash_lose_what_waits_when_the_power_goes() -> None:
    kind = Kind("ram", 5, interval=1.0, flash=8, volatile=True)
    gone = (Incident(100.0, "unplug", "*", 30.0), Incident(120.0, devices="*", lasts=5.0))
    told = balance(run(kind, incidents=gone, duration=300.0))
    assert told.dropped > 5 * 8
    assert told.is_good


def test_a_full_flash_drops_its_oldest_and_counts_them() -> None:
    kind = Kind("small", 1, interval=1.0, flash=10)
    outcome = run(kind, incidents=(Incident(100.0, "unplug", "*", 60.0),), duration=300.0)
    told = balance(outcome)
    assert told.dropped in range(45, 55)
    assert told.is_good


def test_a_battery_that_is_empty_ends_its_device() -> None:
    kind = Kind("cell", 1, interval=60.0, battery=BatterySettings(capacity=1.0, awake=10.0))
    outcome = run(kind, duration=3600.0)
    assert outcome.books.exhausted == ["cell-0001"]
    assert balance(outcome).made in range(4, 7)
    assert balance(outcome).is_good


def test_sleep_makes_a_battery_last() -> None:
    battery = BatterySettings(capacity=20.0, awake=15.0, asleep=0.01)
    outcome = run(
        Kind("awake", 1, interval=60.0, battery=battery),
        Kind("asleep", 1, interval=60.0, battery=battery, sleeps=True),
        duration=3600.0,
    )
    last = outcome.record.samples[-1].battery
    assert last["asleep"][0] > last["awake"][0] + 0.5


def test_clocks_drift_and_that_is_no_fault() -> None:
    outcome = run(Kind("drifter", 3, interval=60.0, drift_ppm=1000), duration=6 * 3600.0)
    assert findings(outcome) == []


def test_a_recording_is_told_at_its_own_pace() -> None:
    rows = tuple(Row(10.0 * number, {"x": number}) for number in range(6))
    kind = Kind("tape", 1, signals=(SignalSettings("replay", {}, rows),), interval=None)
    told = balance(run(kind, duration=119.0))
    assert told.made in {12, 13}


def test_a_run_that_is_stopped_is_wound_up() -> None:
    made = VirtualRun(scenario(Kind("plain", 3, interval=1.0)))
    outcome = made.run(made.stop)
    assert outcome.lasted < 10
    assert balance(outcome).is_good
    assert outcome.record.notes[-1][1] == "stopped early"


# ---- a broker that does not keep its word ----


class Forgetful(Hub):
    """Loses every tenth message."""

    count = 0

    def take(self, client_id: str, message: Message, now: float) -> None:
        self.count += 1
        if self.count % 10:
            super().take(client_id, message, now)


class Stuttering(Hub):
    """Says everything of QoS 2 twice, and completes before it does."""

    def take(self, client_id: str, message: Message, now: float) -> None:
        for _ in range(2):
            super().take(client_id, message, now)
            self.complete(client_id, message)


class Shuffling(Hub):
    """Holds every tenth message back behind the next one."""

    count = 0
    held: tuple[Any, ...] = ()

    def take(self, client_id: str, message: Message, now: float) -> None:
        self.count += 1
        if self.count % 10 == 0:
            self.held = (client_id, message, now)
            return
        super().take(client_id, message, now)
        if self.held:
            held, self.held = self.held, ()
            super().take(*held)


class Inventing(Hub):
    """Makes messages up."""

    def take(self, client_id: str, message: Message, now: float) -> None:
        super().take(client_id, message, now)
        made_up = message._replace(payload=message.payload.replace(b'"seq":', b'"seq":9'))
        super().take(client_id, made_up, now)


@pytest.mark.parametrize(
    ("hub", "column"),
    [
        (Forgetful, "lost"),
        (Stuttering, "duplicated"),
        (Shuffling, "out_of_order"),
        (Inventing, "unknown"),
    ],
)
def test_a_broker_that_breaks_its_word_is_found_out(hub: type[Hub], column: str) -> None:
    made = VirtualRun(scenario(Kind("once", 1, interval=1.0, qos=2)))
    made._hub = hub(made.fleet.books)
    told = balance(made.run())
    assert getattr(told, column) > 10
    assert told.broken == getattr(told, column)
    assert not told.is_good


# ---- broken firmware ----

HEALTHY = (
    Kind("healthy", 6, interval=2.0, commands=10.0),
    Kind("busy", 2, interval=0.5),
    Kind("dozing", 2, interval=5.0, sleeps=True, commands=10.0),
    Kind("door", 2, interval=30.0, signals=(SignalSettings("door", {"per_hour": 200}),)),
)


@pytest.mark.parametrize("bug", list(Bug))
def test_broken_firmware_is_named_and_healthy_devices_are_not(bug: Bug) -> None:
    broken = Kind("broken", 2, interval=2.0, bugs=frozenset({bug}), commands=10.0)
    outcome = run(*HEALTHY, broken, incidents=DARK, duration=500.0)
    assert {(found.bug, found.kind) for found in findings(outcome)} == {(bug, "broken")}
    assert {found.device for found in findings(outcome)} == {"broken-0001", "broken-0002"}
    assert balance(outcome).is_good


def test_many_bugs_of_one_device_are_all_named() -> None:
    bugs = frozenset({Bug.PAYLOAD_GARBAGE, Bug.SENDS_TWICE, Bug.CLOCK_WRONG})
    outcome = run(Kind("wreck", 1, interval=2.0, bugs=bugs))
    assert {found.bug for found in findings(outcome)} == bugs
    assert all(found.proof for found in findings(outcome))


def test_firmware_on_a_wire_is_judged_as_well() -> None:
    bugs = frozenset({Bug.PAYLOAD_GARBAGE, Bug.CLOCK_WRONG})
    outcome = run(Kind("wired", 1, "framed", interval=5.0, bugs=bugs))
    assert {found.bug for found in findings(outcome)} == bugs
