"""`python -m tests.performance profile SCENARIO`: where the broker spends its time under one load.

cProfile needs nothing installed and tells calls from time, but makes small functions look dearer
than they are; it sees the broker's first process only. py-spy (`.venv/bin/pip install py-spy`, not
a dependency) samples all its processes from outside and draws a flame graph.
"""

import argparse
import contextlib
import pstats
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.performance.brokers import KINDS, ROOT, Running, running, settle
from tests.performance.driver import Budget
from tests.performance.report import in_short, say
from tests.performance.scenarios import SCENARIOS

WHERE = ROOT / "build" / "profile"
LINES = 40
PYTHON = ("heliograph", "heliograph-queues", "amqtt")  # brokers written in it


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser("python -m tests.performance profile", description=__doc__)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--broker", choices=PYTHON, help="default: ours, as the scenario says")
    parser.add_argument("--sampler", default="cprofile", choices=["cprofile", "py-spy"])
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args(arguments)
    broker = options.broker or SCENARIOS[options.scenario].brokers[0]
    settle()
    WHERE.mkdir(parents=True, exist_ok=True)
    if options.sampler == "py-spy":
        _sample(broker, options.scenario, options.seconds)
    else:
        _trace(broker, options.scenario, options.seconds)
    return 0


def _trace(broker: str, scenario: str, seconds: float) -> None:
    """The file is written when the broker has ended cleanly."""
    target = WHERE / f"{broker}-{scenario}.prof"
    with running(KINDS[broker], wrap=("-m", "cProfile", "-o", str(target))) as profiled:
        say(in_short(SCENARIOS[scenario].run(profiled, Budget(seconds))))
    pstats.Stats(str(target)).sort_stats("tottime").print_stats(LINES)
    say(f"{target} (python -m pstats, or snakeviz)")


def _sample(broker: str, scenario: str, seconds: float) -> None:
    target = WHERE / f"{broker}-{scenario}.svg"
    with running(KINDS[broker]) as profiled, _py_spy(profiled, target, seconds):
        say(in_short(SCENARIOS[scenario].run(profiled, Budget(seconds))))
    say(f"flame graph: {target}")


@contextlib.contextmanager
def _py_spy(broker: Running, target: Path, seconds: float) -> Iterator[None]:
    program = Path(sys.executable).with_name("py-spy")
    span = str(max(1, round(seconds)))
    command = [program, "record", "-r", "500", "-n", "-s", "-o", target, "-d", span, "-p"]
    with subprocess.Popen([*map(str, command), str(broker.pid)]) as sampler:
        yield
        sampler.wait(timeout=seconds + 30)
