"""`heliograph serial monitor PORT`: what a device says, decoded, as it comes.

It listens and sends nothing. With --tap it stands between the device and the gateway, passes on
what both say, and shows it. Exit code 0: ended by Ctrl-C; 1: not possible; 2: not understood.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
import tty
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from bridges.gateway.wire_view import MODES, view_of
from bridges.serial.carrier import Carrier, PortSettings
from bridges.serial.events import Received
from bridges.serial.frames import Channel
from bridges.serial.modes import Plain, Unframed
from bridges.serial.overhearing import Way
from bridges.serial.pcapng import HINT, PcapngWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bridges.gateway.wire_view import Seen
    from bridges.serial.carrier import PortInfo
    from bridges.serial.events import Event

TICK = 0.1  # seconds


def main(arguments: Sequence[str]) -> int:
    """Watch until Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        settings = PortSettings(
            options.port, bauds=(options.baud,), flow=options.flow, lines=options.lines
        )
    except ValueError as error:
        print(f"heliograph serial monitor: {error}", file=sys.stderr)
        return 2
    logging.getLogger("heliograph.serial").addHandler(logging.NullHandler())  # we say it ourselves
    try:
        return _run(options, settings)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"heliograph serial monitor: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, settings: PortSettings) -> int:
    with ExitStack() as stack:
        pcap = None
        if options.write:
            pcap = PcapngWriter(stack.enter_context(Path(options.write).open("wb")))
            print(f"to read it: {HINT.format(file=options.write)}", file=sys.stderr)
        with suppress(KeyboardInterrupt):
            asyncio.run(watch(settings, Screen(options.mode, pcap), options.tap))
    return 0


async def watch(settings: PortSettings, screen: Screen, is_tapped: bool) -> None:
    """Show what goes over the wire, until cancelled."""
    loop = asyncio.get_running_loop()
    machine = Unframed(Plain())
    owner = Watcher(machine, screen)
    carrier = Carrier(settings, machine, owner, loop, Random())  # noqa: S311 - only for waits
    tap = Tap(owner, carrier, loop) if is_tapped else None
    if tap is not None:
        owner.tap = tap
        screen.say(f'point the gateway at this, in its settings: port = "{tap.path}"')
    refusal = ""
    carrier.start()
    try:
        while True:  # until Ctrl-C
            await asyncio.sleep(TICK)
            screen.tick()
            figures = carrier.figures
            if not figures.is_open and figures.last_error not in {"", refusal}:
                refusal = figures.last_error
                screen.say(f"{refusal}; waiting for it")
    finally:
        await carrier.close()
        if tap is not None:
            tap.close()


class Screen:
    """Prints what is seen, and writes it down."""

    def __init__(self, mode: str, pcap: PcapngWriter | None) -> None:
        self._mode = mode
        self._view = view_of(mode)
        self._pcap = pcap

    def begin(self) -> None:
        """The port is open: nothing is known of what it says."""
        self._view = view_of(self._mode)

    def see(self, way: Way, data: bytes) -> None:
        """Bytes went over the wire."""
        self._show(self._view.see(way, data, time.monotonic()))

    def tick(self) -> None:
        """Time has passed."""
        self._show(self._view.tick(time.monotonic()))

    def say(self, text: str) -> None:
        """Tell something that was not on the wire."""
        print(f"{_clock(time.time())} -- {text}", flush=True)

    def _show(self, things: Iterable[Seen]) -> None:
        now = time.time()
        for seen in things:
            print(f"{_clock(now)} {seen.way.value} {seen.text}", flush=True)
            if self._pcap is not None:
                _record(self._pcap, now, seen)


def _record(pcap: PcapngWriter, now: float, seen: Seen) -> None:
    is_outbound = seen.way is Way.TO_DEVICE
    if seen.wire:
        pcap.wire(
            now,
            seen.wire,
            is_outbound=is_outbound,
            is_damaged=seen.is_damaged,
            comment=seen.text,
        )
    if seen.kind is not None:
        pcap.packet(now, seen.kind, seen.packet, is_outbound=is_outbound)


class Watcher:
    """The Carrier's owner: passes on what the device says."""

    def __init__(self, machine: Unframed, screen: Screen) -> None:
        self.machine = machine
        self.screen = screen
        self.tap: Tap | None = None

    def on_plugged(self, info: PortInfo) -> None:
        """The port is open."""
        self.screen.begin()
        self.screen.say(f"{info.path} is open, {info.baud} baud")

    def on_unplugged(self, why: str) -> None:
        """It is not any more."""
        self.screen.say(f"closed: {why}")

    def on_events(self, events: Sequence[Event], now: float) -> None:  # noqa: ARG002 - as all owners
        """The device has said something; or there is room for what it is told."""
        for event in events:
            if isinstance(event, Received):
                self.screen.see(Way.FROM_DEVICE, event.payload)
                if self.tap is not None:
                    self.tap.to_gateway(event.payload)
        if self.tap is not None and self.machine.writable(Channel.RAW):
            self.tap.read_on()


class Tap:
    """A pty that the gateway opens instead of the port."""

    def __init__(self, owner: Watcher, carrier: Carrier, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._carrier = carrier
        self._loop = loop
        self._end, self._device = os.openpty()  # the device stays open: no gateway is no hang-up
        tty.setraw(self._device)
        os.set_blocking(self._end, False)
        self.path = os.ttyname(self._device)
        loop.add_reader(self._end, self._on_readable)

    def to_gateway(self, data: bytes) -> None:
        """Pass on what the device said; without a gateway that reads it, it is lost."""
        with suppress(BlockingIOError):
            os.write(self._end, data)

    def read_on(self) -> None:
        """The device takes more."""
        self._loop.add_reader(self._end, self._on_readable)

    def close(self) -> None:
        """Take the pty away."""
        self._loop.remove_reader(self._end)
        os.close(self._end)
        os.close(self._device)

    def _on_readable(self) -> None:
        machine = self._owner.machine
        if not machine.writable(Channel.RAW):
            self._loop.remove_reader(self._end)
            return
        data = os.read(self._end, 1024)
        self._owner.screen.see(Way.TO_DEVICE, data)
        machine.send(Channel.RAW, data, self._loop.time())
        self._carrier.wake()


def _clock(now: float) -> str:
    moment = time.localtime(now)
    return f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}.{int(now % 1 * 1000):03}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heliograph serial monitor",
        description="Show what a device on a serial port says, decoded. Nothing is sent.",
        epilog="The gateway must not have the port open, or use --tap and point it at the pty.",
    )
    parser.add_argument("port", help="auto, /dev/ttyUSB0, vid:pid[:serial], tcp://host:port, ...")
    parser.add_argument("--baud", type=int, default=115_200, help="default: %(default)s")
    parser.add_argument("--mode", choices=MODES, default="auto", help="default: %(default)s")
    parser.add_argument("--flow", choices=("none", "rtscts", "xonxoff"), default="none")
    parser.add_argument("--lines", choices=("keep", "on", "off"), default="keep", help="DTR, RTS")
    parser.add_argument("--write", metavar="FILE.pcapng", help="also write it down for Wireshark")
    parser.add_argument("--tap", action="store_true", help="stand between device and gateway")
    return parser
