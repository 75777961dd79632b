"""Kills under load, with a ledger that forgives nothing; and proof that it would find a fault.

`TORTURE_ROUNDS` makes it longer; `make torture` does more, also with PostgreSQL.
"""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.crash.__main__ import torture
from tests.crash.ledger import FAULTS
from tests.crash.rounds import Plan

ROUNDS = int(os.environ.get("TORTURE_ROUNDS", "25"))
SEED = 3


def faults(summary: dict[str, Any]) -> dict[str, int]:
    return {fault: summary[fault] for fault in FAULTS if summary[fault]}


def test_nothing_acknowledged_is_lost_when_the_broker_is_killed(tmp_path: Path) -> None:
    summary = torture(tmp_path, Plan(rounds=ROUNDS, seed=SEED, longest=0.6))
    assert faults(summary) == {}, summary
    assert summary["acknowledged"] > 100 * ROUNDS


@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_nothing_acknowledged_is_lost_when_the_power_is_cut(tmp_path: Path, seed: int) -> None:
    summary = torture(tmp_path, Plan(rounds=5, seed=seed, longest=0.5), cut="power")
    assert faults(summary) == {}, summary
    assert summary["writes undone"] > 0


def test_the_harness_finds_what_a_relaxed_broker_loses_to_a_power_cut(tmp_path: Path) -> None:
    plan = Plan(rounds=2, seed=SEED, longest=0.3, early_deaths=0.0)
    summary = torture(tmp_path, plan, level="relaxed", cut="power")
    assert summary["lost"] > 0, summary


def test_the_harness_finds_nothing_when_only_connections_break(tmp_path: Path) -> None:
    plan = Plan(rounds=4, seed=SEED, longest=0.4)
    assert faults(torture(tmp_path, plan, level="memory", cut="spared")) == {}
