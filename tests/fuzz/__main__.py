"""`python -m tests.fuzz --seconds 60 --seed 1`: exit code 1 when something is found."""

import argparse
import logging
import sys
import time
import tracemalloc

from tests.fuzz.fuzzer import FoundError, Fuzzer
from tests.fuzz.last_metre import LastMetreFuzzer
from tests.fuzz.mqttsn import MqttSnFuzzer
from tests.fuzz.serial_wire import SerialFuzzer

TARGETS = {
    "broker": Fuzzer,
    "mqttsn": MqttSnFuzzer,
    "serial": SerialFuzzer,
    "last-metre": LastMetreFuzzer,
}
MOST_MEMORY = 64 * 1024 * 1024  # bytes at the peak, with the fuzzer's own


def main() -> int:
    """Run until the time is over or something is found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--target", choices=TARGETS, default="broker")
    parser.add_argument("--keep-going", action="store_true", help="list everything found")
    options = parser.parse_args()
    logging.getLogger("heliograph").addHandler(logging.NullHandler())  # it has a lot to say
    tracemalloc.start()
    fuzzer = TARGETS[options.target](options.seed)
    found: dict[str, str] = {}
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        try:
            fuzzer.round()
        except FoundError as fault:
            found.setdefault(repr(fault.__cause__), str(fault))
            if not options.keep_going:
                raise
            fuzzer.begin()
    peak = tracemalloc.get_traced_memory()[1]
    print(  # noqa: T201  the command's answer
        f"seed {options.seed}: {fuzzer.rounds} rounds, {fuzzer.packets} packets, "
        f"peak {peak / 1e6:.1f} MB, {len(found)} found",
        *found.values(),
        sep="\n",
    )
    return int(bool(found) or peak > MOST_MEMORY)


if __name__ == "__main__":
    sys.exit(main())
