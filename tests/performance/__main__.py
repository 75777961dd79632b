"""`make bench`: every scenario on every broker, side by side.

Rounds are interleaved (A B C, A B C, ...) so that a slow minute of the machine hits all alike.
The exit status tells of faults, not of speed: 1 when Heliograph or mosquitto lost, repeated,
reordered or spoilt a message or did not run; 0 even if a bar is lost, which the table says.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.performance import profiling, report
from tests.performance.brokers import (
    ALL_CORES,
    BROKER_CORES,
    KINDS,
    ROOT,
    WORK,
    Kind,
    running,
    settle,
)
from tests.performance.disk import data_disk
from tests.performance.driver import Budget
from tests.performance.measure import FaultError, Figures
from tests.performance.scenarios import SCENARIOS, Scenario

QUEUES = "queues"  # all scenarios of them
TIME_LIMIT = 40 * 60.0  # seconds; whatever has not begun by then is left out
SLOW_SHRINK = 10  # a slow broker gets a tenth of the clients, filters and retained messages
QUICK_SHRINK = 10

Place = tuple[str, str]


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["profile"]:
        return profiling.main(arguments[1:])
    options = _options(arguments)
    machine = report.describe_machine(_brokers(options), options.cores)
    settle()
    results: dict[Place, list[Figures]] = {}
    try:
        _measure_all(options, results)
    except KeyboardInterrupt:
        report.say("interrupted; what was measured:")
    table = report.markdown(results, machine)
    report.say("\n" + table)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(report.as_json(results, machine))
    if options.markdown:
        report.write_between_markers(options.markdown, table)
    return int(
        any(
            figures.fault and KINDS[broker].must_be_faultless
            for (_, broker), rounds in results.items()
            for figures in rounds
        )
    )


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.performance", description=__doc__)
    parser.add_argument(
        "--scenario", nargs="+", choices=[*SCENARIOS, QUEUES], default=list(SCENARIOS)
    )
    parser.add_argument("--broker", nargs="+", choices=KINDS, help="default: as the scenario says")
    parser.add_argument(
        "--share-cores", action="store_true", help="let the broker use the generator's core too"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="measured in each round")
    parser.add_argument("--quick", action="store_true", help="one short round of small counts")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json")
    parser.add_argument("--markdown", type=Path, help="page whose marked part gets the table")
    options = parser.parse_args(arguments)
    options.scenario = [*_expanded(options.scenario)]
    options.cores = ALL_CORES if options.share_cores else BROKER_CORES
    options.shrink = QUICK_SHRINK if options.quick else 1
    if options.quick:
        options.rounds, options.seconds = 1, 0.5
    return options


def _expanded(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name == QUEUES:
            yield from (scenario.name for scenario in SCENARIOS.values() if scenario.queued)
        else:
            yield name


def _measure_all(options: argparse.Namespace, results: dict[Place, list[Figures]]) -> None:
    deadline = time.monotonic() + TIME_LIMIT
    for scenario, kind, number in _schedule(options):
        rounds = results.setdefault((scenario.name, kind.name), [])
        if any(figures.fault for figures in rounds):
            continue  # it is known; repeating it only takes time
        if time.monotonic() > deadline:
            report.say("the time is over; what is missing was not measured")
            return
        shrink = max(options.shrink, SLOW_SHRINK if kind.slow else 1)
        budget = Budget(options.seconds, shrink=shrink)
        rounds.append(_measure(scenario, kind, budget, options.cores))
        said = f"{scenario.name:<11}{kind.name:<21}round {number + 1}"
        report.say(f"{said}  {report.in_short(rounds[-1])}")


def _schedule(options: argparse.Namespace) -> Iterator[tuple[Scenario, Kind, int]]:
    for name in options.scenario:
        scenario = SCENARIOS[name]
        for number in range(min(options.rounds, scenario.rounds or options.rounds)):
            for broker in options.broker or scenario.brokers:
                if scenario.suits(KINDS[broker]):
                    yield scenario, KINDS[broker], number


def _brokers(options: argparse.Namespace) -> list[str]:
    """Those that will be measured, in the order of the table of brokers."""
    wanted = {name for each in options.scenario for name in SCENARIOS[each].brokers}
    return options.broker or [name for name in KINDS if name in wanted]


def _measure(scenario: Scenario, kind: Kind, budget: Budget, cores: Sequence[int]) -> Figures:
    """A fresh broker for each measurement; whatever goes wrong becomes its fault."""
    if scenario.durable and (disk := data_disk(WORK)).is_memory:
        return Figures(fault=f"{WORK} is {disk}: nothing there is durable")
    try:
        with running(kind, cores=cores) as broker:
            return scenario.run(broker, budget)
    except (FaultError, OSError) as error:
        return Figures(fault=str(error) or type(error).__name__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
