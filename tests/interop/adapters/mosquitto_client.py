"""Debian's mosquitto_pub and mosquitto_sub: one process for each publication or subscription."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import TYPE_CHECKING, Any

from tests.interop.foreign import (
    V5,
    Connack,
    Message,
    Options,
    Properties,
    RefusedError,
    Will,
    patiently,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_LINE = 8 * 1024 * 1024  # a payload is printed in hexadecimal
MARK = "message"
# mosquitto_sub's escapes, in the order of `read_message`; no text in the tests has a tab.
FORMAT = f"{MARK}\t%t\t%x\t%q\t%r\t%F\t%E\t%C\t%R\t%D\t%S\t%P"
PROPERTY_FIELDS: tuple[tuple[str, Callable[[str], Any]], ...] = (
    ("payload_format_indicator", int),
    ("message_expiry_interval", int),
    ("content_type", str),
    ("response_topic", str),
    ("correlation_data", str.encode),
    ("subscription_identifier", lambda text: [int(text)]),
    ("user_property", lambda text: [tuple(pair.split(":", 1)) for pair in text.split(" ")]),
)


class MosquittoClient:
    """It connects when it subscribes: mosquitto_sub does nothing without a subscription."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._subscribers: list[Process] = []
        self._readers: list[asyncio.Task[None]] = []

    async def connect(self) -> Connack:
        return Connack()

    async def subscribe(
        self, topic_filter: str, qos: int = 0, properties: Properties | None = None, **options: int
    ) -> int | None:
        process = await start(
            "mosquitto_sub",
            *connection_arguments(self._options),
            *("-i", self._options.client_id, "-d", "-F", FORMAT),
            *will_arguments(self._options.will),
            *session_arguments(self._options),
            *("-t", topic_filter, "-q", str(qos)),
            *property_arguments("subscribe", properties),
        )
        self._subscribers.append(process)
        granted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._readers.append(asyncio.create_task(self._read(process, granted)))
        return await patiently(granted, "SUBACK")

    async def unsubscribe(self, topic_filter: str) -> int | None:
        raise NotImplementedError("mosquitto_sub unsubscribes only where it begins")

    async def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> int | None:
        process = await start(
            "mosquitto_pub",
            *connection_arguments(self._options),
            *("-i", f"{self._options.client_id}-pub", "-t", topic, "-q", str(qos)),
            *(("-s",) if payload else ("-n",)),
            *(("-r",) if retain else ()),
            *property_arguments("publish", properties),
        )
        _, complaint = await patiently(process.communicate(payload), "end of mosquitto_pub")
        if process.returncode in REFUSALS:
            raise RefusedError(process.returncode)
        assert process.returncode == 0, complaint.decode()
        return None

    async def next_message(self) -> Message:
        return await patiently(self._messages.get(), "message")

    async def disconnected(self) -> int | None:
        raise NotImplementedError("mosquitto_sub connects again by itself")

    async def close(self) -> None:
        for process in self._subscribers:
            if process.returncode is None:
                process.terminate()  # it says DISCONNECT before it ends
            await patiently(process.wait(), "end of mosquitto_sub")
        await asyncio.gather(*self._readers)
        self._subscribers.clear()

    async def _read(self, process: Process, granted: asyncio.Future[int]) -> None:
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode().rstrip("\n")
            if line.startswith("Subscribed (mid: ") and not granted.done():
                granted.set_result(int(line.rpartition(": ")[2]))
            elif line.startswith(MARK + "\t"):
                self._messages.put_nowait(read_message(line))


REFUSALS = (1, 2, 3, 4, 5, 0x84, 0x85, 0x86, 0x87)  # mosquitto_pub ends with the CONNACK's code


async def start(program: str, *arguments: str) -> Process:
    # stdbuf: line by line, though it is a pipe and not a terminal.
    return await asyncio.create_subprocess_exec(
        *("stdbuf", "-oL", program, *arguments),
        stdin=PIPE if program == "mosquitto_pub" else DEVNULL,
        stdout=PIPE,
        stderr=PIPE if program == "mosquitto_pub" else None,
        limit=LONGEST_LINE,
    )


def read_message(line: str) -> Message:
    _, topic, payload, qos, retain, *texts = line.split("\t")
    properties: dict[str, Any] = {
        name: convert(text)
        for (name, convert), text in zip(PROPERTY_FIELDS, texts, strict=True)
        if text
    }
    return Message(topic, bytes.fromhex(payload), int(qos), retain == "1", properties)


def connection_arguments(options: Options) -> list[str]:
    """The arguments that all three programs share."""
    endpoint = options.endpoint
    arguments = ["-V", "mqttv5" if options.version == V5 else "mqttv311"]
    if endpoint.transport == "unix":
        arguments += ["--unix", endpoint.path]
    else:
        arguments += ["-h", endpoint.host, "-p", str(endpoint.port)]
    if endpoint.certificates is not None:
        arguments += ["--cafile", str(endpoint.certificates.authority)]
    if options.username is not None:
        arguments += ["-u", options.username, "-P", options.password or ""]
    return arguments


def session_arguments(options: Options) -> list[str]:
    return ["-c"] if options.stay else []


def will_arguments(will: Will | None) -> list[str]:
    if will is None:
        return []
    arguments = ["--will-topic", will.topic, "--will-payload", will.payload.decode()]
    arguments += ["--will-qos", str(will.qos), *(["--will-retain"] if will.retain else [])]
    return arguments + property_arguments("will", will.properties)


def property_arguments(packet: str, properties: Properties | None) -> list[str]:
    arguments: list[str] = []
    for name, value in (properties or {}).items():
        for one in value if isinstance(value, list) else [value]:
            parts = one if isinstance(one, tuple) else (one,)
            texts = [part.decode() if isinstance(part, bytes) else str(part) for part in parts]
            arguments += ["-D", packet, name.replace("_", "-"), *texts]
    return arguments


def missing_mosquitto_clients() -> str | None:
    wanted = ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "stdbuf")
    absent = [program for program in wanted if shutil.which(program) is None]
    names = ", ".join(absent)
    return f"{names} missing: apt-get install mosquitto-clients coreutils" if absent else None
