"""What goes wrong on a wire: as often as asked, and the same again for the same seed."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.wire.faults import Faults, Incident, Incidents, Spoiler, What, errors

BAD = Faults(drop=0.05, flip=0.05, duplicate=0.05, burst=0.02)


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300)), seed=st.integers(0, 99))
def test_the_way_a_stream_is_cut_does_not_change_what_happens_to_it(
    data: bytes, cuts: list[int], seed: int
) -> None:
    whole, pieces = Spoiler(BAD, Random(seed)), Spoiler(BAD, Random(seed))
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    parts = [data[a:b] for a, b in pairwise(places)]
    assert b"".join(pieces.spoil(part) for part in parts) == whole.spoil(data)


@given(data=st.binary())
def test_without_faults_nothing_happens(data: bytes) -> None:
    assert Spoiler(Faults(jitter=1.0), Random(1)).spoil(data) == data


def test_another_seed_is_another_day() -> None:
    data = bytes(10_000)
    assert Spoiler(BAD, Random(1)).spoil(data) != Spoiler(BAD, Random(2)).spoil(data)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05, 0.2])
def test_a_rate_of_errors_is_a_share_of_bytes(rate: float) -> None:
    spoiler = Spoiler(errors(rate), Random(5))
    size = 400_000
    spoiler.spoil(bytes(size))
    assert spoiler.counters.total / size == pytest.approx(rate, rel=0.12)


def test_each_kind_comes_as_often_as_asked() -> None:
    spoiler = Spoiler(Faults(drop=0.01, flip=0.02, duplicate=0.03), Random(3))
    size = 200_000
    out = spoiler.spoil(bytes(size))
    counters = spoiler.counters
    assert counters.dropped / size == pytest.approx(0.01, rel=0.1)
    assert counters.flipped / size == pytest.approx(0.02, rel=0.1)
    assert counters.duplicated / size == pytest.approx(0.03, rel=0.1)
    assert len(out) == size - counters.dropped + counters.duplicated
    assert len(out) - out.count(0) == counters.flipped


def test_a_certain_fault_happens_to_every_byte() -> None:
    assert Spoiler(Faults(drop=1.0), Random(1)).spoil(bytes(1000)) == b""
    assert Spoiler(Faults(duplicate=1.0), Random(1)).spoil(b"ab") == b"aabb"


def test_a_burst_replaces_bytes_in_a_row() -> None:
    spoiler = Spoiler(Faults(burst=0.001, burst_length=20), Random(2))
    out = spoiler.spoil(bytes(50_000))
    assert len(out) == 50_000
    assert spoiler.counters.noise / 50_000 == pytest.approx(0.001 * 10.5, rel=0.3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"drop": -0.1},
        {"drop": 0.6, "flip": 0.6},
        {"burst_length": 0},
        {"piece": -1},
        {"jitter": -1.0},
        {"unplug_every": 1.0, "unplug_seconds": 5.0},
        {"reset_every": -1.0},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"chances|burst_length|_every"):
        Faults(**wrong)  # type: ignore[arg-type]


def test_incidents_come_as_often_as_asked_and_when_scheduled() -> None:
    planned = Incident(500.0, What.BROWN_OUT, 3.0)
    faults = Faults(unplug_every=100.0, reset_every=50.0, schedule=(planned,))
    found = all_until(100_000.0, Incidents(faults, Random(1)))
    assert found == sorted(found)
    kinds = [incident.what for incident in found]
    assert kinds.count(What.UNPLUG) == pytest.approx(1000 / 1.05, rel=0.15)
    assert kinds.count(What.RESET) == pytest.approx(2000, rel=0.1)
    assert [incident for incident in found if incident.what is What.BROWN_OUT] == [planned]
    assert all_until(100_000.0, Incidents(faults, Random(1))) == found


def test_incidents_of_one_kind_do_not_move_those_of_another() -> None:
    alone = all_until(9e3, Incidents(Faults(reset_every=50.0), Random(1)))
    among = all_until(9e3, Incidents(Faults(reset_every=50.0, unplug_every=20.0), Random(1)))
    assert [incident for incident in among if incident.what is What.RESET] == alone


def all_until(end: float, incidents: Incidents) -> list[Incident]:
    found: list[Incident] = []
    while (time := incidents.next_deadline()) is not None and time < end:
        found += incidents.due(time)
    return found
