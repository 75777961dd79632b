"""`heliograph sim`, and `python -m firmware_sim`: run a scenario, keep the books, and report.

Exit code 0: the ledger balances; 1: it does not, an emulator has ended by itself, or the run could
not be made; 2: not understood.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import ssl
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmware_sim.fleet.fleet import FleetError
from firmware_sim.network.endpoint import parse_endpoint
from firmware_sim.report.figures import as_json, figures_of
from firmware_sim.report.page import page
from firmware_sim.report.progress import Progress
from firmware_sim.report.text import text_report
from firmware_sim.scenario.checks import checked
from firmware_sim.scenario.file import load
from firmware_sim.scenario.rules import DAY, Duration, Whole
from firmware_sim.scenario.scenario import LONGEST, MOST_DEVICES, ScenarioError, scaled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from firmware_sim.fleet.fleet import Outcome
    from firmware_sim.report.figures import Figures
    from firmware_sim.scenario.scenario import Scenario

PAGE, JSON, TEXT, LEDGER = "report.html", "report.json", "report.txt", "ledger.txt"
_SHOWN: Final = 0.5  # seconds between two looks at the progress


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say."""
    options = _parser().parse_args(arguments)
    try:
        scenario = _adapted(load(options.scenario), options)
        _prepare(options)
        outcome = _run(scenario, options)
        figures = figures_of(outcome)
        print(text_report(figures), end="")
        _write(figures, outcome, options)
    except (ScenarioError, FleetError) as error:
        print(f"heliograph sim: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"heliograph sim: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 1
    return 0 if figures.is_good and not figures.gone else 1


def _run(scenario: Scenario, options: argparse.Namespace) -> Outcome:
    if scenario.time == "virtual":
        return _run_virtual(scenario)
    return asyncio.run(_run_real(scenario, options.cafile))


def _run_virtual(scenario: Scenario) -> Outcome:
    from firmware_sim.fleet.virtual import VirtualRun

    run = VirtualRun(scenario)
    progress = Progress(run.fleet)
    before = signal.signal(signal.SIGINT, lambda *_: run.stop())
    try:
        return run.run(progress.show)
    finally:
        signal.signal(signal.SIGINT, before)
        progress.close()


async def _run_real(scenario: Scenario, authority: str) -> Outcome:
    from firmware_sim.fleet.real import RealRun

    run = RealRun(scenario, authority)
    progress = Progress(run.fleet)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, run.stop)
    showing = loop.create_task(_show(progress.show))
    try:
        return await run.run()
    finally:
        showing.cancel()
        progress.close()


async def _show(show: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(_SHOWN)
        show()


# ---- what comes out ----


def _prepare(options: argparse.Namespace) -> None:
    """Find out now what would fail later, perhaps at the end of a long run. Raises FleetError."""
    if options.cafile:
        _check_authority(options.cafile)
    if options.report is not None:
        folder = options.report.parent if _is_page(options.report) else options.report
        folder.mkdir(parents=True, exist_ok=True)
    if options.json not in {None, "-"}:
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)


def _check_authority(path: str) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise FleetError(f"{path}: has no certificate in it: name a PEM file") from None
    except OSError as error:
        raise FleetError(f"{path}: cannot be read: {error.strerror}") from None


def _write(figures: Figures, outcome: Outcome, options: argparse.Namespace) -> None:
    told = json.dumps(as_json(figures), indent=1, ensure_ascii=False) + "\n"
    if options.json == "-":
        print(told, end="")
    elif options.json is not None:
        _save(Path(options.json), told)
    if options.report is None:
        return
    if _is_page(options.report):
        _save(options.report, page(figures))
        print(f"report: {options.report}")
        return
    _write_folder(figures, outcome, options.report, told)


def _write_folder(figures: Figures, outcome: Outcome, folder: Path, told: str) -> None:
    _save(folder / PAGE, page(figures))
    _save(folder / JSON, told)
    _save(folder / TEXT, text_report(figures))
    with _named(folder / LEDGER), (folder / LEDGER).open("wb") as file:
        file.writelines(outcome.books.ledger.canonical())
    print(f"report: {folder / PAGE}, and beside it {JSON}, {TEXT}, {LEDGER}")


def _save(path: Path, text: str) -> None:
    with _named(path):
        path.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """A full disk does not say which file has no room."""
    try:
        yield
    except OSError as error:
        raise FleetError(f"{path}: cannot be written: {error.strerror}") from None


def _is_page(path: Path) -> bool:
    return path.suffix.lower() in {".html", ".htm"}


# ---- what was asked for ----


def _adapted(scenario: Scenario, options: argparse.Namespace) -> Scenario:
    """The scenario with what the command line says instead. Raises as `load`, and FleetError."""
    if scenario.time == "virtual" and options.broker is not None:
        raise FleetError(
            f"{options.scenario} runs in virtual time, without a broker: leave --broker out, "
            'or write time = "real" there'
        )
    changes = {
        key: value
        for key in ("broker", "seed", "duration", "ports")
        if (value := getattr(options, key)) is not None
    }
    if options.broker is not None:
        kinds = tuple(replace(kind, broker="") for kind in scenario.kinds)
        changes["kinds"] = kinds
    adapted = replace(scenario, **changes)
    return checked(adapted if options.devices is None else scaled(adapted, options.devices))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heliograph sim",
        description="Run simulated devices against a broker, and keep the books outside it.",
        epilog="Exit code 0: the ledger balances. Ctrl-C ends a run early, with its report. "
        "Scenarios to begin with are in configs/scenarios.",
    )
    parser.add_argument("scenario", type=Path, metavar="SCENARIO.toml", help="what is to happen")
    parser.add_argument(
        "--broker",
        type=_broker,
        metavar="URL",
        help="mqtt://, mqtts://, ws:// or wss://HOST[:PORT]",
    )
    parser.add_argument(
        "--cafile", default="", metavar="FILE", help="certificates to trust, for mqtts and wss"
    )
    parser.add_argument("--seed", type=_seed, metavar="N", help="another chance")
    parser.add_argument(
        "--duration", type=_duration, metavar="T", help='seconds, or such as "10min"'
    )
    parser.add_argument(
        "--devices", type=_devices, metavar="N", help="so many in all, of each kind its part"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR|FILE.html",
        help="write the page, or a folder with the page, JSON, text and the ledger",
    )
    parser.add_argument("--json", metavar="FILE", help='write the figures; "-" prints them')
    parser.add_argument(
        "--ports", metavar="FOLDER", help="where the ports of devices on wires appear"
    )
    return parser


def _broker(text: str) -> str:
    with _complaining():
        parse_endpoint(text)
    return text


def _seed(text: str) -> int:
    with _complaining():
        seed: int = Whole(0, 2**63 - 1).read(int(text) if text.isdecimal() else text)
    return seed


def _duration(text: str) -> float:
    with _complaining():
        duration: float = Duration(0.1, LONGEST, f"seconds up to {LONGEST / DAY:.0f} days").read(
            text
        )
    return duration


def _devices(text: str) -> int:
    with _complaining():
        devices: int = Whole(1, MOST_DEVICES).read(int(text) if text.isdecimal() else text)
    return devices


@contextlib.contextmanager
def _complaining() -> Iterator[None]:
    """A bad value becomes a complaint about the command line."""
    try:
        yield
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
