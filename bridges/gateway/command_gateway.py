"""`heliograph gateway`: serial ports and MQTT-SN for any MQTT broker, in a process of its own.

The settings are those of the broker's own gateway: [mqttsn], [[mqttsn.device]] and [[serial]] of a
settings file, and [gateway]; or what the command line says. Exit code 0: stopped; 1: it cannot run,
and the message says what to do; 2: not understood.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import ssl
import sys
from dataclasses import replace
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Final

from bridges.gateway.checking import check_ports
from bridges.gateway.remote_broker import Place, RemoteBroker, parse_broker
from broker import settings
from broker.packets.codes import MQTT_3_1_1, MQTT_5
from broker.settings import DeviceSettings, SerialSettings
from broker.settings.gateway_checking import gateway_problems
from broker.settings.gateway_rules import SerialPort, UdpUrl

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSIONS: Final = {"auto": None, "5": MQTT_5, "3.1.1": MQTT_3_1_1}
BROKER_VARIABLE = "HELIOGRAPH_BROKER_URL"  # for a URL with a password


def main(arguments: Sequence[str]) -> int:
    """Run the gateway until it is told to stop."""
    options = _parser().parse_args(arguments)
    try:
        chosen = _chosen(options)
        place = parse_broker(options.broker)
        context = _context(options, place)
    except settings.SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"heliograph gateway: {error}", file=sys.stderr)
        return 1
    if not chosen.has_gateway:
        print("heliograph gateway: nothing to do: add --serial PORT, --udp or -c", file=sys.stderr)
        return 1
    return _run(chosen, place, context)


def _run(chosen: settings.Settings, place: Place, context: ssl.SSLContext | None) -> int:
    from broker.server import set_up_logging

    set_up_logging(chosen)
    try:
        asyncio.run(_serve(chosen, place, context))
    except OSError as error:
        print(f"heliograph gateway: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(chosen: settings.Settings, place: Place, context: ssl.SSLContext | None) -> None:
    from bridges.gateway.assembly import Assembly, log

    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    rng = Random(SystemRandom().getrandbits(64))  # noqa: S311  for pauses
    version = VERSIONS[chosen.gateway.mqtt]
    side = RemoteBroker(place, context, chosen.mqttsn.session_expiry, loop, rng, version)
    assembly = Assembly(side, chosen, loop)
    await assembly.open()
    log.info("gateway to the broker at %s", place)
    try:
        await stopping.wait()
    finally:
        log.info("stopping")
        await assembly.close()
        await asyncio.sleep(0.05)  # for the last words to leave


def _chosen(options: argparse.Namespace) -> settings.Settings:
    """The settings of the file, with what the command line adds; raises ValueError."""
    overrides: dict[str, object] = {}
    if options.data:
        overrides["broker.data_dir"] = options.data
    if options.mqtt:
        overrides["gateway.mqtt"] = options.mqtt
    if options.verbose:
        overrides["log.level"] = "debug"
    found = settings.load(options.config, os.environ, overrides)
    ports = tuple(SerialSettings(SerialPort().read(port)) for port in options.serial)
    places = tuple(UdpUrl().read(f"udp://{place}") for place in options.udp)
    mqttsn = replace(found.mqttsn, listen=(*found.mqttsn.listen, *places))
    place = parse_broker(options.broker)
    mqttsn = replace(mqttsn, devices=(*mqttsn.devices, _everybody(place)))
    chosen = replace(found, mqttsn=mqttsn, serial=_signed((*found.serial, *ports), place))
    if problems := list(gateway_problems(chosen)):
        raise settings.SettingsError(problems)
    check_ports(chosen)
    return chosen


def _everybody(place: Place) -> DeviceSettings:
    """Devices that no rule fits go with the user name and password of the URL."""
    password = (place.password or b"").decode()
    return DeviceSettings(username=place.username or "", password=password)


def _signed(ports: tuple[SerialSettings, ...], place: Place) -> tuple[SerialSettings, ...]:
    """Ports without a user name, too."""
    password = (place.password or b"").decode()
    return tuple(
        port if port.username else replace(port, username=place.username or "", password=password)
        for port in ports
    )


def _context(options: argparse.Namespace, place: Place) -> ssl.SSLContext | None:
    if not place.is_secure:
        if options.cafile:
            raise ValueError('--cafile is for TLS: write "mqtts://" in --broker')
        return None
    context = ssl.create_default_context(cafile=options.cafile)
    if options.cert:
        context.load_cert_chain(options.cert, options.key)
    return context


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heliograph gateway",
        description="Connect devices on serial ports and MQTT-SN devices on UDP with any MQTT "
        "broker. Each device is a client of its own there.",
        epilog="A URL with a password can be given as the environment variable "
        f"{BROKER_VARIABLE} instead, where `ps` does not show it. `heliograph serial ports` prints "
        "which ports there are.",
    )
    default = os.environ.get(BROKER_VARIABLE)
    parser.add_argument(
        "--broker",
        metavar="URL",
        default=default,
        required=default is None,
        help="mqtt://[USER:PASSWORD@]HOST[:PORT], or mqtts://... for TLS",
    )
    parser.add_argument(
        "--mqtt",
        metavar="VERSION",
        help="the version that the broker speaks, 5 or 3.1.1; without it as the settings say, or "
        "5 if the broker can, else 3.1.1",
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        type=Path,
        help="settings (TOML): [mqttsn], [[mqttsn.device]], [[serial]], [gateway], broker.data_dir "
        "and [log] are used",
    )
    parser.add_argument(
        "--serial",
        metavar="PORT",
        action="append",
        default=[],
        help='a serial port: "auto", a path, a pattern of paths, USB ids, tcp://HOST:PORT; may be '
        "given several times",
    )
    parser.add_argument(
        "--udp",
        metavar="ADDR:PORT",
        action="append",
        default=[],
        help="take MQTT-SN datagrams there, such as 0.0.0.0:1884; may be given several times",
    )
    parser.add_argument("--cafile", metavar="FILE", help="who may sign the broker's certificate")
    parser.add_argument("--cert", metavar="FILE", help="our certificate, if the broker wants one")
    parser.add_argument("--key", metavar="FILE", help="its key")
    parser.add_argument(
        "--data", metavar="DIR", help="where devices are remembered; without it as the settings say"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log every detail")
    return parser
