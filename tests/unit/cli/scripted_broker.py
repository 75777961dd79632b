"""A broker that says what a test wants, as the pipe of a command-line client: no sockets."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from broker.cli.client import Client
from broker.packets.decode import decode
from broker.packets.encode import encode
from broker.packets.reader import Reader
from broker.packets.types import Connack, Connect, Packet

PATIENCE = 10  # seconds until a test that waits for nothing fails

Result = TypeVar("Result")


async def soon(work: Awaitable[Result]) -> Result:
    """What the work gives, or a failed test instead of one that never ends."""
    return await asyncio.wait_for(work, PATIENCE)


class ScriptedBroker:
    """A pipe whose far end is the test: `say` packets, `hear` what the client sends.

    `answers` has packets to say when a packet of that type is heard.
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self.reader = Reader()
        self.to_client: asyncio.Queue[bytes] = asyncio.Queue()
        self.from_client: asyncio.Queue[Packet] = asyncio.Queue()
        self.answers: dict[type, list[Packet]] = {}
        self.closed = False

    async def read(self) -> bytes:
        return await self.to_client.get()

    def write(self, data: bytes) -> None:
        buffer, frames = self.reader.cut(data)
        for first, start, end in frames:
            packet = decode(first, buffer, start, end, self.version)
            self.from_client.put_nowait(packet)
            self.say(*self.answers.pop(type(packet), []))

    async def drain(self) -> None:
        if self.closed:
            raise ConnectionResetError("closed")

    async def close(self) -> None:
        self.closed = True

    def say(self, *packets: Packet) -> None:
        if not packets:  # no bytes would mean the end
            return
        self.to_client.put_nowait(b"".join(encode(each, self.version) for each in packets))

    def hang_up(self) -> None:
        self.to_client.put_nowait(b"")

    async def hear(self) -> Packet:
        return await soon(self.from_client.get())


async def connected(version: int, **limits: int) -> tuple[Client, ScriptedBroker]:
    broker = ScriptedBroker(version)
    client = Client(broker, Connect(version=version), **limits)
    broker.say(Connack())
    await client.start()
    await broker.hear()
    return client, broker
