"""`heliograph serial stats`: what running gateways say about their ports and devices.

It asks a broker for the topics of `bridges.gateway.figures`, with the options of `heliograph sub`.
`Report` turns topics into lines and knows no broker. Exit code 1: no gateway says anything.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from bridges.gateway.command_devices import age, aligned, plain
from bridges.gateway.figures import STATE_TOPIC
from bridges.queues.command_top import (
    CLEAR_LINE,
    CLEAR_REST,
    FIRST_SCREEN,
    HIDE,
    HOME,
    OTHER_SCREEN,
    SHOW,
)
from broker.cli.client import FAILURE, RefusedError
from broker.cli.conversation import Command, open_client, run
from broker.cli.options import CONNECTION_OPTIONS, Option, Options, UsageError
from broker.cli.pipes import ConnectError
from broker.packets.types import SubscriptionRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from broker.cli.client import Client

FILTERS: Final = (
    *(f"$SYS/broker/{part}/#" for part in ("gateway", "serial", "mqttsn")),
    "heliograph/gateway/#",
)
LONGEST_SILENCE: Final = 1.0  # seconds before the first of what is retained ...
QUIET: Final = 0.25  # ... and after the last
MOST_TOPICS: Final = 100_000
SHORTEST_WATCH: Final = 0.2  # seconds
PATIENCE: Final = 10.0  # seconds for the broker's answer
USAGE: Final = "[--json] [--watch] [OPTIONS]"
OWN_OPTIONS: Final = (
    Option(("--json",), "json", None, "as JSON"),
    Option(("--watch",), "watch", None, "again and again, until Ctrl-C"),
    Option(("--interval",), "interval", str, "with --watch: how often (2)", "SECONDS"),
)


@dataclass(slots=True)
class Wishes:
    """What was asked for beside the broker."""

    json: bool = False
    watch: bool = False
    interval: float = 2.0


def main(arguments: Sequence[str]) -> int:
    """Print what is said; return the exit code."""
    wishes = Wishes()
    try:
        rest = list(_without_ours(list(arguments), wishes))
    except UsageError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2

    async def work(options: Options) -> int:
        return await _work(options, wishes)

    table = (*OWN_OPTIONS, *CONNECTION_OPTIONS)
    return run(Command("serial stats", USAGE, table, lambda _: None, work), rest)


def _without_ours(words: list[str], wishes: Wishes) -> Iterator[str]:
    """The words that are about the broker."""
    while words:
        word = words.pop(0)
        if word == "--json":
            wishes.json = True
        elif word == "--watch":
            wishes.watch = True
        elif word == "--interval":
            wishes.interval = _seconds(words.pop(0) if words else "")
        else:
            yield word


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not SHORTEST_WATCH <= seconds < 1e6:
        raise UsageError(f"--interval needs a number of seconds, {SHORTEST_WATCH} or more")
    return seconds


async def _work(options: Options, wishes: Wishes) -> int:
    client = await open_client(options)
    report = Report()
    try:
        await _subscribe(client)
        await _gather(client, report)
        if wishes.watch:
            await _watch(client, report, wishes.interval)
            return 0
    finally:
        await client.stop()
    return _print(report, wishes, f"{options.host}:{options.port}")


def _print(report: Report, wishes: Wishes, where: str) -> int:
    if wishes.json:
        print(json.dumps(report.as_json()))
    elif not report:
        print(
            f"No gateway says anything at {where}. Does it run with a [[serial]] in its settings? "
            "It speaks some seconds after its start, unless [broker] sys_interval is 0.",
            file=sys.stderr,
        )
    else:
        print("\n".join(report.lines(time.time())))
    return 0 if report else 1


async def _subscribe(client: Client) -> None:
    """Ask for everything. Raises RefusedError if nothing is granted."""
    try:
        async with asyncio.timeout(PATIENCE):
            requests = [SubscriptionRequest(each) for each in FILTERS]
            reasons = await client.subscribe(requests, {})
    except TimeoutError as error:
        raise ConnectError("the broker does not answer") from error
    if min(reasons) >= FAILURE:
        raise RefusedError("the broker tells us nothing", reasons[0])


async def _gather(client: Client, report: Report) -> None:
    """Take what is retained; a broker does not say which was the last."""
    patience = LONGEST_SILENCE
    with suppress(TimeoutError):  # some may never be quiet
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await asyncio.wait_for(client.next_message(), patience)
                report.take(message.topic, message.payload)
                patience = QUIET


async def _drain(client: Client, report: Report) -> None:
    while client.has_messages:
        message = await client.next_message()
        report.take(message.topic, message.payload)


async def _watch(client: Client, report: Report, interval: float) -> None:
    is_screen = sys.stdout.isatty()
    print(OTHER_SCREEN + HIDE if is_screen else "", end="")
    try:
        while True:
            _draw(report.lines(time.time()), is_screen)
            await client.unless_lost(asyncio.sleep(interval))
            await _drain(client, report)
    finally:
        print(SHOW + FIRST_SCREEN if is_screen else "", end="", flush=True)


def _draw(lines: Sequence[str], is_screen: bool) -> None:
    if not is_screen:
        print("\n".join([*lines, ""]), flush=True)
        return
    width, height = shutil.get_terminal_size((80, 24))
    shown = [line[: width - 1] for line in lines[: height - 2]]
    text = "\n".join(line + CLEAR_LINE for line in [*shown, "", "Ctrl-C ends this."])
    print(HOME + text + CLEAR_REST, end="", flush=True)


# ---- from topics to lines ----


@dataclass(slots=True)
class Gateway:
    """What one gateway says; figures by the last part of their topics."""

    state: str = ""
    ports: dict[str, dict[str, str]] = field(default_factory=dict)
    devices: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    counts: dict[str, str] = field(default_factory=dict)


class Report:
    """What is known; bounded, whatever a broker sends."""

    def __init__(self) -> None:
        self._topics: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._topics)

    def take(self, topic: str, payload: bytes) -> None:
        """A message; an empty one removes its topic."""
        if not payload:
            self._topics.pop(topic, None)
        elif topic in self._topics or len(self._topics) < MOST_TOPICS:
            self._topics[topic] = plain(payload.decode(errors="replace"))

    def gateways(self) -> dict[str, Gateway]:
        """By name; "" is that of the broker itself."""
        found: dict[str, Gateway] = {}
        for topic, text in sorted(self._topics.items()):
            name, rest = _split(topic)
            if rest:
                _sort_in(found.setdefault(name, Gateway()), rest, text)
        return found

    def as_json(self) -> dict[str, object]:
        """The same for programs: figures by the last part of their topics."""
        return {
            name: {
                "state": gateway.state,
                "ports": gateway.ports,
                "devices": [
                    {"gateway": key[0], "client_id": key[1], **figures}
                    for key, figures in gateway.devices.items()
                ],
                "counts": gateway.counts,
            }
            for name, gateway in self.gateways().items()
        }

    def lines(self, now: float) -> list[str]:
        """The same for people; `now` in seconds since 1970."""
        lines: list[str] = []
        for name, gateway in self.gateways().items():
            title = f"Gateway {plain(name)}" if name else "Gateway of the broker"
            lines += ["", f"{title}: {gateway.state}"] if name or gateway.state == "offline" else []
            lines += _port_lines(gateway.ports)
            lines += _device_lines(gateway, now)
        return lines[1:] if lines[:1] == [""] else lines


def _split(topic: str) -> tuple[str, list[str]]:
    """The gateway's name, and the levels behind what all of its topics begin with."""
    levels = [unquote(level) for level in topic.split("/")]
    if levels[0] == "$SYS":
        return "", levels[2:]
    return (levels[2], levels[3:]) if len(levels) > 3 else ("", [])


def _sort_in(gateway: Gateway, levels: list[str], text: str) -> None:
    kind, *names = levels
    if "/".join(levels) == STATE_TOPIC:
        gateway.state = text
    elif kind == "serial" and len(names) > 1:
        gateway.ports.setdefault(names[0], {})["/".join(names[1:])] = text
    elif kind == "mqttsn" and len(names) > 2:
        gateway.devices.setdefault((names[0], names[1]), {})["/".join(names[2:])] = text
    elif kind == "mqttsn" and len(names) == 2:
        gateway.counts[names[1]] = text


def _port_lines(ports: Mapping[str, Mapping[str, str]]) -> list[str]:
    if not ports:
        return []
    heading = "PORT STATE MODE BAUD RTT IN OUT RESENT DAMAGED OVERRUNS RECONNECTS DEVICES"
    rows = [heading.split()]
    for name, port in ports.items():
        rows.append(
            [
                plain(name),
                port.get("state", "-"),
                port.get("mode", "-"),
                port.get("baud", "-"),
                _milliseconds(port),
                _size(port.get("bytes/received")),
                _size(port.get("bytes/sent")),
                port.get("frames/resent", "-"),
                port.get("frames/damaged", "-"),
                port.get("errors/overrun", "-"),
                port.get("reconnects", "-"),
                port.get("devices/count", "-"),
            ]
        )
    lines = aligned(rows)
    lines += [f"{plain(name)}: {port['error']}" for name, port in ports.items() if "error" in port]
    return lines


def _device_lines(gateway: Gateway, now: float) -> list[str]:
    if not gateway.devices and not gateway.counts:
        return []
    counts = [f"{count} {plain(state)}" for state, count in gateway.counts.items() if count != "0"]
    lines = ["", f"MQTT-SN devices: {', '.join(counts) or 'none'}"]
    if not gateway.devices:
        return lines
    rows = [["DEVICE", "GATEWAY", "STATE", "SEEN", "RTT", "REPEATED", "HELD"]]
    for (name, client_id), device in gateway.devices.items():
        rows.append(
            [
                plain(client_id),
                plain(name),
                device.get("state", "-"),
                _ago(device.get("last_seen", ""), now),
                _milliseconds(device),
                device.get("messages/repeated", "-"),
                _size(device.get("messages/held/bytes")),
            ]
        )
    return lines + aligned(rows)


def _milliseconds(figures: Mapping[str, str]) -> str:
    found = figures.get("round_trip/milliseconds")
    return "-" if found is None else f"{found} ms"


def _ago(stamp: str, now: float) -> str:
    try:
        return f"{age(now - datetime.fromisoformat(stamp).timestamp())} ago"
    except ValueError:
        return "-"


def _size(text: str | None) -> str:
    """Bytes in four digits or so."""
    if text is None or not text.isdigit():
        return text or "-"
    size = float(text)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
