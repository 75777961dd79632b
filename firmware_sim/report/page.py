"""The report as one HTML page: no script, no font, no picture from elsewhere; dark and light.

Everything that is not ours (names of devices, reasons of brokers) is escaped, and the page forbids
itself to load anything.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from firmware_sim.device.bugs import WHAT_IT_IS
from firmware_sim.report import charts
from firmware_sim.report.words import count, plural, span, wait

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from firmware_sim.report.figures import Figures, KindFigures

MOST_FINDINGS: Final = 100
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def page(figures: Figures) -> str:
    """The whole page."""
    style = (files("firmware_sim.report") / "page.css").read_text(encoding="utf-8")
    name = escape(figures.scenario)
    body = "\n".join(part for make in _PARTS for part in make(figures))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name}: report of a simulated fleet</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(figures: Figures) -> Iterator[str]:
    verdict, word = ("good", "The ledger balances") if figures.is_good else _BAD
    facts = (
        plural(figures.devices, "device"),
        f"{span(figures.lasted)} in {figures.time} time",
        f"seed {figures.seed}",
        figures.target,
        figures.started,
    )
    shown = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    about = f"<p>{escape(figures.about)}</p>" if figures.about else ""
    yield (
        f'<header><h1>{escape(figures.scenario)}</h1><span class="verdict {verdict}">{word}</span>'
        f'{about}<ul class="facts">{shown}</ul></header>'
    )


_BAD: Final = ("bad", "The ledger does not balance")


def _tiles(figures: Figures) -> Iterator[str]:
    total = figures.balance
    latency = figures.latency.percentiles
    tiles = (
        ("sent", count(total.made - total.kept - total.dropped), "", ""),
        ("acknowledged", count(total.acknowledged), "", ""),
        ("arrived", count(total.arrived), "", ""),
        ("lost", count(total.lost), "after an acknowledgement", _tone(total.lost)),
        ("duplicated", count(total.duplicated), "against their QoS", _tone(total.duplicated)),
        ("out of order", count(total.out_of_order), "", _tone(total.out_of_order)),
        ("in flight", count(total.in_flight), "at the end", ""),
        ("p99", wait(latency["p99"]) if latency else "-", "device to subscriber", ""),
    )
    yield '<section class="tiles">'
    for label, value, note, tone in tiles:
        yield f'<div class="tile {tone}"><b>{value}</b><span>{label}</span><em>{note}</em></div>'
    yield "</section>"


def _tone(number: int) -> str:
    return "bad" if number else "good"


def _findings(figures: Figures) -> Iterator[str]:
    yield '<section class="card"><h2>Broken firmware</h2>'
    if not figures.findings:
        yield "<p>None was found.</p></section>"
        return
    yield '<ul class="findings">'
    for finding in figures.findings[:MOST_FINDINGS]:
        yield (
            f"<li><b>{escape(finding.bug)}</b> <code>{escape(finding.device)}</code> "
            f"{escape(WHAT_IT_IS[finding.bug])}: it {escape(finding.proof)}.</li>"
        )
    yield "</ul>"
    if len(figures.findings) > MOST_FINDINGS:
        yield f"<p>and {len(figures.findings) - MOST_FINDINGS} more; the JSON has all of them.</p>"
    yield "</section>"


def _balance(figures: Figures) -> Iterator[str]:
    yield '<section class="card"><h2>The ledger</h2>'
    yield '<p class="note">Every message is counted once on each side; both sides are outside the '
    yield "broker. Left, what the device knows; right, what the subscriber saw.</p>"
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th>{name}</th>" for name in _HEADS)
    yield "</tr></thead><tbody>"
    for kind in figures.kinds:
        yield _ledger_row(kind)
    yield "</tbody></table></div>"
    yield from _commands(figures)
    yield f'<p class="note">SHA-256 of the ledger <code class="hash">{figures.ledger}</code></p>'
    yield "</section>"


_HEADS: Final = (
    *("kind", "devices", "way", "level", "QoS", "made", "acknowledged", "in flight", "refused"),
    *("dropped", "kept", "arrived", "once", "repeated", "lost", "out of order", "p50", "p99"),
)


def _ledger_row(kind: KindFigures) -> str:
    one = kind.balance
    latency = kind.latency.percentiles
    cells = (kind.kind, count(kind.devices), kind.way, kind.level, str(kind.qos))
    numbers = (
        *(one.made, one.acknowledged, one.in_flight, one.refused, one.dropped, one.kept),
        *(one.arrived, one.once, one.repeated, one.lost, one.out_of_order),
    )
    waits = (wait(latency[name]) if latency else "-" for name in ("p50", "p99"))
    shown = (*cells, *map(count, numbers), *waits)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in shown) + "</tr>"


def _commands(figures: Figures) -> Iterator[str]:
    commands = figures.commands
    if commands.made:
        yield (
            f"<p>Commands to devices: {count(commands.made)} sent, {count(commands.arrived)} "
            f"arrived, {count(commands.made - commands.arrived)} not, or not yet.</p>"
        )


def _charts(figures: Figures) -> Iterator[str]:
    yield '<section class="charts">'
    for title, note, draw in _CHARTS:
        drawn = draw(figures)
        if drawn:
            yield f'<figure class="card"><h2>{title}</h2><p class="note">{note}</p>{drawn}</figure>'
    yield "</section>"


_CHARTS: Final = (
    ("Messages over time", "what is sent, and what comes out", charts.messages),
    ("Connections", "devices that the broker has accepted, on average", charts.connections),
    ("Latency", "messages, from handing over to arrival at the subscriber", charts.latencies),
    ("Battery", "what is left", charts.batteries),
    ("Link quality", "bytes on the wire that came through unharmed", charts.qualities),
    ("Loss and duplicates", "by kind, as parts of all messages made", charts.losses),
)


def _events(figures: Figures) -> Iterator[str]:
    happened = (figures.notes, figures.downs, figures.refusals, figures.strangers)
    if not any((*happened, figures.exhausted, figures.gone)):
        return
    yield '<section class="card"><h2>What happened</h2><ul class="events">'
    for at, note in figures.notes[:MOST_FINDINGS]:
        yield f"<li><time>{span(at)}</time> {escape(note)}</li>"
    yield from _reasons("disconnected", figures.downs)
    yield from _reasons("refused", figures.refusals)
    if figures.strangers:
        yield f"<li>{plural(figures.strangers, 'message')} of others on our topics</li>"
    if figures.exhausted:
        names = ", ".join(map(escape, figures.exhausted[:MOST_FINDINGS]))
        yield f"<li>batteries that are empty: {names}</li>"
    if figures.gone:
        names = ", ".join(map(escape, figures.gone))
        yield f"<li>emulators that have ended by themselves: {names}</li>"
    yield "</ul></section>"


def _reasons(what: str, table: Mapping[str, int]) -> Iterator[str]:
    for why, number in sorted(table.items(), key=lambda entry: -entry[1]):
        yield f"<li>{what} {plural(number, 'time')}: {escape(why)}</li>"


def _foot(_: Figures) -> Iterator[str]:
    yield "<footer>Made by <code>heliograph sim</code>. This page loads nothing.</footer>"


_PARTS: Final = (_head, _tiles, _findings, _charts, _balance, _events, _foot)
