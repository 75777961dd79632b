"""Kills under load, with a ledger that forgives nothing; and proof that it would find a fault.

`TORTURE_ROUNDS` makes it longer; `make torture` does more, also with PostgreSQL.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.crash.__main__ import torture
from tests.crash.ledger import FAULTS
from tests.crash.rounds import Plan
from tests.support.postgresql import PostgreSQL

ROUNDS = int(os.environ.get("TORTURE_ROUNDS", "25"))
SEED = 3
SHORT = Plan(rounds=2, seed=SEED, longest=0.3, early_deaths=0.0)
LOSING = replace(SHORT, patience=1.0)  # what is missing then shows only by not coming


def faults(summary: dict[str, Any]) -> dict[str, int]:
    return {fault: summary[fault] for fault in FAULTS if summary[fault]}


def test_nothing_acknowledged_is_lost_when_the_broker_is_killed(tmp_path: Path) -> None:
    summary = torture(tmp_path, Plan(rounds=ROUNDS, seed=SEED, longest=0.3))
    assert faults(summary) == {}, summary
    assert summary["acknowledged"] > 20 * ROUNDS
    assert summary["consumed"] > 5 * ROUNDS


def test_nothing_acknowledged_is_lost_when_the_power_is_cut(tmp_path: Path) -> None:
    summary = torture(tmp_path, Plan(rounds=5, seed=SEED, longest=0.3), cut="power")
    assert faults(summary) == {}, summary
    assert summary["writes_undone"] > 0


def test_nothing_acknowledged_is_lost_when_the_database_server_is_killed_too(
    tmp_path: Path,
) -> None:
    with PostgreSQL() as server:
        summary = torture(tmp_path, SHORT, cut="server", server=server)
    assert faults(summary) == {}, summary


def test_what_is_committed_but_not_synced_survives_a_kill(tmp_path: Path) -> None:
    assert faults(torture(tmp_path, SHORT, level="commit")) == {}


def test_the_harness_finds_that_what_is_not_synced_is_lost_to_a_power_cut(tmp_path: Path) -> None:
    summary = torture(tmp_path, LOSING, level="commit", cut="power")
    assert summary["lost"] > 0, summary


def test_the_harness_finds_what_is_acknowledged_before_it_is_written(tmp_path: Path) -> None:
    summary = torture(tmp_path, LOSING, level="relaxed")
    assert summary["lost"] > 0, summary


def test_the_harness_finds_nothing_when_only_connections_break(tmp_path: Path) -> None:
    assert faults(torture(tmp_path, SHORT, level="memory", cut="spared")) == {}
