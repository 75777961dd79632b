"""What `heliograph pub` and `heliograph sub` share: from the command line to a running client."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from broker.cli.client import Client, ConnectionLostError, RefusedError
from broker.cli.options import NEVER, Option, Options, UsageError, help_text, parse
from broker.cli.pipes import ConnectError, open_pipe
from broker.packets.codes import MQTT_3_1, MQTT_5, PacketType
from broker.packets.errors import ProtocolViolation
from broker.packets.properties import WILL, Properties, Property
from broker.packets.types import Connect, Will
from broker.topics.filters import check_filter, check_topic

FAILED = 1
TIMED_OUT = 27  # mosquitto_sub's exit code for -W
MOST_LEVELS = 65_535


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command: its options, and what it does with them. `work` returns the exit code."""

    name: str
    usage: str
    table: Sequence[Option]
    check: Callable[[Options], None]
    work: Callable[[Options], Awaitable[int]]


def run(command: Command, arguments: Sequence[str]) -> int:
    """Understand the arguments and do the work; every failure is one line on standard error."""
    try:
        options = parse(command.table, arguments)
        if options.help:
            print(help_text(command.name, command.usage, command.table))
            return 0
        command.check(options)
    except UsageError as error:
        print(f"Error: {error}", file=sys.stderr)
        print(f"`heliograph {command.name} --help` lists the options.", file=sys.stderr)
        return FAILED
    return asyncio.run(_work(command, options))


async def _work(command: Command, options: Options) -> int:
    try:
        return await _until_signalled(command.work(options))
    except RefusedError as error:
        complain(options, error)
        return error.reason
    except (ConnectError, ConnectionLostError, OSError, ValueError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        complain(options, error)
        return FAILED


async def _until_signalled(work: Awaitable[int]) -> int:
    """Ctrl-C and SIGTERM end the work in order: with a DISCONNECT, and exit code 0."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return 0


async def open_client(options: Options, unreleased: set[int] | None = None) -> Client:
    """A connected client. `unreleased` is that of the client before, if the session may go on."""
    pipe = await open_pipe(options)
    trace = debug if options.debug else None
    client = Client(pipe, connect_packet(options), trace, options.max_inflight)
    try:
        connack = await client.start()
    except BaseException:
        await client.stop()
        raise
    if connack.session_present and unreleased is not None:
        client.unreleased = unreleased
    return client


def connect_packet(options: Options) -> Connect:
    """The CONNECT that the options ask for."""
    password = None if options.password is None else options.password.encode()
    return Connect(
        client_id=options.client_id or _own_client_id(options),
        clean_start=not options.keep_session,
        keep_alive=options.keep_alive,
        username=options.username,
        password=password,
        will=_will(options),
        properties=_connect_properties(options),
        version=options.version,
    )


def properties_for(options: Options, packet: int) -> Properties:
    """A copy of what -D says for a packet."""
    return dict(options.properties.get(packet, {}))


def check_topics(options: Options, check: Callable[[str, int], None]) -> None:
    """Raise UsageError for a topic or filter that no broker would take."""
    every = (
        *((topic, check) for topic in options.topics),
        *((text, check_filter) for text in options.filter_out),
        *((topic, check_topic) for topic in [options.will_topic] if topic is not None),
    )
    for text, rule in every:
        try:
            rule(text, MOST_LEVELS)
        except ProtocolViolation as error:
            kind = "topic" if rule is check_topic else "topic filter"
            raise UsageError(f'"{text}" is not a valid {kind} ({error.rule})') from error


def complain(options: Options, error: object) -> None:
    """One line on standard error, unless --quiet."""
    if not options.quiet:
        print(f"Error: {error}", file=sys.stderr)


def warn(options: Options, text: str) -> None:
    """One line on standard error, unless --quiet."""
    if not options.quiet:
        print(f"Warning: {text}", file=sys.stderr)


def debug(text: str) -> None:
    """What --debug tells; on standard error, so that the output stays clean."""
    print(text, file=sys.stderr)


def _own_client_id(options: Options) -> str:
    """Empty: the broker chooses; only MQTT 3.1 knows no empty one."""
    return f"heliograph-{os.getpid()}" if options.version == MQTT_3_1 else ""


def _will(options: Options) -> Will | None:
    if options.will_topic is None:
        return None
    return Will(
        options.will_topic,
        options.will_payload,
        options.will_qos,
        options.will_retain,
        properties_for(options, WILL),
    )


def _connect_properties(options: Options) -> Properties:
    properties = properties_for(options, PacketType.CONNECT)
    expiry = options.session_expiry_interval
    if expiry is None and options.keep_session and options.version == MQTT_5:
        expiry = NEVER  # as clean session 0 means in 3.1.1
    if expiry is not None:
        properties.setdefault(Property.SESSION_EXPIRY_INTERVAL, expiry)
    return properties
