"""The report for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmware_sim.device.bugs import WHAT_IT_IS
from firmware_sim.report.words import count, plural, span, wait

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from firmware_sim.report.figures import Figures, KindFigures

MOST_FINDINGS: Final = 20
_COLUMNS: Final = (
    "kind",
    "devices",
    "way",
    "level",
    "qos",
    "made",
    "sent",
    "acked",
    "arrived",
    "lost",
    "dup",
    "order",
    "p50",
    "p99",
)


def text_report(figures: Figures) -> str:
    """All that matters, in some 30 lines."""
    parts = (_head, _sides, _table_part, _command_part, _reasons, _findings, _verdict)
    return "\n".join(line for part in parts for line in part(figures)) + "\n"


def _head(figures: Figures) -> Iterator[str]:
    yield ""
    yield (
        f"{figures.scenario}: {plural(figures.devices, 'device')}, {span(figures.lasted)} in "
        f"{figures.time} time, seed {figures.seed}, {figures.target}"
    )
    for at, note in figures.notes[:MOST_FINDINGS]:
        yield f"  at {span(at)}: {note}"
    yield ""


def _sides(figures: Figures) -> Iterator[str]:
    total = figures.balance
    yield (
        f"made {count(total.made)} = acknowledged {count(total.acknowledged)} + in flight "
        f"{count(total.in_flight)} + refused {count(total.refused)} + dropped "
        f"{count(total.dropped)} + kept {count(total.kept)}"
    )
    yield (
        f"arrived {count(total.arrived)} = once {count(total.once)} + more than once "
        f"{count(total.repeated)}; QoS 0 that did not arrive: {count(total.missing)}"
    )
    latency = figures.latency
    if latency.messages:
        shown = ", ".join(f"{name} {wait(value)}" for name, value in latency.percentiles.items())
        yield f"from the device to the subscriber: {shown}, longest {wait(latency.longest)}"
    yield ""


def _table_part(figures: Figures) -> Iterator[str]:
    yield from table([_COLUMNS, *(_row(kind) for kind in figures.kinds)])
    yield ""


def _row(figures: KindFigures) -> tuple[str, ...]:
    balance, latency = figures.balance, figures.latency.percentiles
    sent = balance.made - balance.kept - balance.dropped
    numbers = (
        *(balance.made, sent, balance.acknowledged, balance.arrived),
        *(balance.lost, balance.repeated, balance.out_of_order),
    )
    return (
        figures.kind,
        count(figures.devices),
        figures.way,
        figures.level,
        str(figures.qos),
        *map(count, numbers),
        *(wait(latency[name]) if latency else "-" for name in ("p50", "p99")),
    )


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns side by side: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        cells = (cell.strip().rjust(len(cell)) for cell in rest)
        yield "  ".join((first, *cells)).rstrip()


def _command_part(figures: Figures) -> Iterator[str]:
    commands = figures.commands
    if commands.made:
        yield (
            f"commands: {count(commands.made)} sent, {count(commands.arrived)} arrived at their "
            f"devices, {count(commands.made - commands.arrived)} not (yet)"
        )
        yield ""


def _reasons(figures: Figures) -> Iterator[str]:
    for title, table_of in (("disconnected", figures.downs), ("refused", figures.refusals)):
        for why, number in sorted(table_of.items(), key=lambda entry: -entry[1]):
            yield f"{title} {count(number)} times: {why}"
    if figures.strangers:
        yield f"{plural(figures.strangers, 'message')} of others on our topics"
    if figures.exhausted:
        yield f"batteries that are empty: {', '.join(figures.exhausted[:MOST_FINDINGS])}"
    if figures.gone:
        yield f"emulators that have ended by themselves: {', '.join(figures.gone)}"
    if any((figures.downs, figures.refusals, figures.strangers, figures.exhausted, figures.gone)):
        yield ""


def _findings(figures: Figures) -> Iterator[str]:
    if not figures.findings:
        return
    yield "Broken firmware:"
    for finding in figures.findings[:MOST_FINDINGS]:
        yield f"  {finding.bug}: {finding.device} {WHAT_IT_IS[finding.bug]}: it {finding.proof}"
    if len(figures.findings) > MOST_FINDINGS:
        yield f"  and {len(figures.findings) - MOST_FINDINGS} more: see --report or --json"
    yield ""


def _verdict(figures: Figures) -> Iterator[str]:
    yield f"ledger {figures.ledger}"
    total = figures.balance
    if figures.is_good:
        yield "The ledger balances: what was acknowledged arrived, as often and in order."
        return
    yield "THE LEDGER DOES NOT BALANCE:"
    for number, what in (
        (total.lost, "acknowledged and never arrived"),
        (total.duplicated, "arrived more often than their QoS allows"),
        (total.out_of_order, "arrived out of order"),
        (total.unknown, "arrived and were never sent"),
    ):
        if number:
            yield f"  {count(number)} {what}"
