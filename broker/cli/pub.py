"""`heliograph pub`: publish messages, with mosquitto_pub's options."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

from broker.cli.client import FAILURE, Client, reason_text
from broker.cli.conversation import (
    Command,
    check_topics,
    open_client,
    properties_for,
    run,
    warn,
)
from broker.cli.options import PUB_OPTIONS, Options, UsageError
from broker.packets.codes import PacketType
from broker.packets.types import Publish
from broker.topics.filters import check_topic

LONGEST_LINE = 268_435_455  # bytes: no message is longer


def main(arguments: Sequence[str]) -> int:
    """Publish what the arguments say; return the exit code, a refusal's reason code included."""
    return run(COMMAND, arguments)


def check(options: Options) -> None:
    """Raise UsageError unless there is one topic and one source of messages."""
    if not options.topics:
        raise UsageError("which topic? Add -t TOPIC")
    if len(options.topics) > 1:
        raise UsageError("only one topic can be published to; -t was given twice")
    sources = (
        options.message is not None,
        options.file is not None,
        options.stdin_lines,
        options.stdin_whole,
        options.empty,
    )
    if sum(sources) != 1:
        raise UsageError("say once what to publish: -m TEXT, -f FILE, -l, -s or -n")
    check_topics(options, check_topic)


async def work(options: Options) -> int:
    """Connect, publish everything, wait for the acknowledgements, disconnect."""
    async with aclosing(payloads_of(options)) as payloads:
        first = await anext(payloads, None)  # no broker is bothered for a file that is not there
        client = await open_client(options)
        try:
            reasons = await _publish_all(client, options, first, payloads)
        finally:
            await client.stop(properties_for(options, PacketType.DISCONNECT))
    return _judge(options, reasons)


async def _publish_all(
    client: Client, options: Options, first: bytes | None, others: AsyncIterator[bytes]
) -> list[int]:
    """Publish every payload; the reasons of those that are not known to have gone well."""
    answers: list[asyncio.Future[int]] = []
    payload = first
    while payload is not None:
        answers.append(await client.publish(_message(options, payload)))
        answers = [answer for answer in answers if not _went_well(answer)]
        payload = await client.unless_lost(anext(others, None))
    return await asyncio.gather(*answers)


async def payloads_of(options: Options) -> AsyncGenerator[bytes, None]:
    """What to publish, one payload after another."""
    if options.stdin_lines:
        async with aclosing(_lines()) as lines:
            async for line in lines:
                yield line
        return
    payload = await asyncio.to_thread(_payload, options)
    for number in range(options.repeat):
        if number:
            await asyncio.sleep(options.repeat_delay)
        yield payload


def _payload(options: Options) -> bytes:
    if options.file is not None:
        return Path(options.file).read_bytes()
    if options.stdin_whole:
        return sys.stdin.buffer.read()
    return options.message or b""


async def _lines() -> AsyncGenerator[bytes, None]:
    """Lines of standard input as they come, without their ends."""
    reader = asyncio.StreamReader(LONGEST_LINE)
    loop = asyncio.get_running_loop()
    try:
        pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
        )
    except ValueError:  # a file, which is always ready
        for line in sys.stdin.buffer:
            yield line.rstrip(b"\r\n")
        return
    try:
        while line := await reader.readline():
            yield line.rstrip(b"\r\n")
    finally:
        pipe.close()


def _message(options: Options, payload: bytes) -> Publish:
    properties = properties_for(options, PacketType.PUBLISH)
    return Publish(options.topics[0], payload, options.qos, options.retain, properties=properties)


def _went_well(answer: "asyncio.Future[int]") -> bool:
    return answer.done() and answer.exception() is None and answer.result() < FAILURE


def _judge(options: Options, reasons: Sequence[int]) -> int:
    """0, or the first refusal's reason code."""
    refused = [reason for reason in reasons if reason >= FAILURE]
    if not refused:
        return 0
    count = f"{len(refused)} messages were" if len(refused) > 1 else "the message was"
    warn(options, f"{count} not accepted: {reason_text(refused[0])}")
    return refused[0]


COMMAND = Command(
    "pub",
    "-t TOPIC {-m TEXT | -f FILE | -l | -s | -n} [OPTIONS]",
    PUB_OPTIONS,
    check,
    work,
)
