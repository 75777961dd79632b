"""`heliograph sub`: print messages as they come, with mosquitto_sub's options."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence

from broker.cli.client import FAILURE, Client, ConnectionLostError, RefusedError, reason_text
from broker.cli.conversation import (
    TIMED_OUT,
    Command,
    check_topics,
    complain,
    open_client,
    properties_for,
    run,
    warn,
)
from broker.cli.options import SUB_OPTIONS, Options, UsageError
from broker.cli.output import compile_format, default_format
from broker.cli.pipes import ConnectError
from broker.packets.codes import PacketType, ReasonCode
from broker.packets.types import Publish, SubscriptionRequest
from broker.topics.filters import check_filter, matches

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before another attempt to connect

# After these the broker may be back soon; every other DISCONNECT means what it says.
WORTH_ANOTHER_TRY = frozenset(
    {0, ReasonCode.SERVER_BUSY, ReasonCode.SERVER_SHUTTING_DOWN, ReasonCode.KEEP_ALIVE_TIMEOUT}
)


def main(arguments: Sequence[str]) -> int:
    """Print messages until told to stop; return the exit code (27 after -W)."""
    return run(COMMAND, arguments)


def check(options: Options) -> None:
    """Raise UsageError unless the subscriptions and the format make sense."""
    if not options.topics and not options.unsubscribe:
        raise UsageError("which topic? Add -t FILTER, for example -t '#'")
    if options.no_retained and options.retained_only:
        raise UsageError("-R and --retained-only exclude each other")
    check_topics(options, check_shared_or_plain)
    renderer(options)


def check_shared_or_plain(text: str, max_levels: int) -> None:
    """Check a filter that may be a shared subscription's."""
    if text.startswith("$share/"):
        text = text.partition("/")[2].partition("/")[2]
    check_filter(text, max_levels)


def renderer(options: Options) -> Callable[[Publish, int], bytes]:
    """How messages are printed, the end of line included. Raises UsageError."""
    if options.format is None:
        render = default_format(options.verbose)
    else:
        render = compile_format(options.format)
    if options.no_newline:
        return render
    return lambda message, arrival: render(message, arrival) + b"\n"


async def work(options: Options) -> int:
    """Connect, subscribe, print; connect again when the connection is lost."""
    try:
        async with asyncio.timeout(options.timeout or None):
            await _print_through_losses(options, Printer(options))
    except TimeoutError:
        warn(options, f"ended after {options.timeout} s")
        return TIMED_OUT
    return 0


async def _print_through_losses(options: Options, printer: "Printer") -> None:
    client = await open_client(options)
    while True:
        try:
            await _print_from(client, options, printer)
        except ConnectionLostError as error:
            if error.reason not in WORTH_ANOTHER_TRY:
                raise
            complain(options, f"{error}; trying again")
            client = await _open_again(options, client.unreleased)
        else:
            return


async def _open_again(options: Options, unreleased: set[int]) -> Client:
    pause = FIRST_PAUSE
    while True:
        await asyncio.sleep(pause)
        try:
            return await open_client(options, unreleased)
        except (ConnectError, ConnectionLostError):
            pause = min(pause * 2, LONGEST_PAUSE)


async def _print_from(client: Client, options: Options, printer: "Printer") -> None:
    """Subscribe and print until all that was asked for is there."""
    try:
        await _subscribe(client, options)
        if not options.exit_after_subscribe:
            while await printer.take(await client.next_message(), client):
                if not client.has_messages:
                    sys.stdout.buffer.flush()
    finally:
        sys.stdout.buffer.flush()
        await client.stop(properties_for(options, PacketType.DISCONNECT))


async def _subscribe(client: Client, options: Options) -> None:
    """Subscribe and unsubscribe as asked. Raises RefusedError if nothing was granted."""
    requests = [
        SubscriptionRequest(
            topic,
            options.qos,
            retain_as_published=options.retain_as_published,
            retain_handling=options.retain_handling,
        )
        for topic in options.topics
    ]
    if requests:
        properties = properties_for(options, PacketType.SUBSCRIBE)
        reasons = await client.subscribe(requests, properties)
        for request, reason in zip(requests, reasons, strict=True):
            if reason >= FAILURE:
                warn(options, f'no subscription to "{request.filter}": {reason_text(reason)}')
        if min(reasons) >= FAILURE:
            raise RefusedError("no subscription was granted", reasons[0])
    if options.unsubscribe:
        properties = properties_for(options, PacketType.UNSUBSCRIBE)
        await client.unsubscribe(options.unsubscribe, properties)


class Printer:
    """Prints the messages that are wanted, and knows when it is enough."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.render = renderer(options)
        self.printed = 0

    async def take(self, message: Publish, client: Client) -> bool:
        """Print a message if it is wanted; whether more are."""
        options = self.options
        if options.retained_only and not message.retain:
            return False
        if self._unwanted(message):
            return True
        if options.remove_retained and message.retain:
            await client.publish(Publish(message.topic, b"", 1, retain=True))
        sys.stdout.buffer.write(self.render(message, time.time_ns()))
        self.printed += 1
        return not options.count or self.printed < options.count

    def _unwanted(self, message: Publish) -> bool:
        if self.options.no_retained and message.retain:
            return True
        return any(matches(text, message.topic) for text in self.options.filter_out)


COMMAND = Command(
    "sub",
    "-t FILTER [-t FILTER ...] [OPTIONS]",
    SUB_OPTIONS,
    check,
    work,
)
