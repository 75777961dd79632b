"""An emulated Arduino, the real gateway and the real broker: a firmware project's test.

Copy it, name your image, your topics and what you expect. Needs pytest, pytest-asyncio, aiomqtt and
qemu-system-avr. See docs/firmware.md.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiomqtt
import pytest

from firmware_sim.firmware.images import PARTS
from firmware_sim.firmware.port import emulated_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

IMAGE = Path(os.environ.get("FIRMWARE", "firmware_sim/mcu/build/avr.elf"))
PART = PARTS["atmega328p"]  # with Arduino's core: "arduino-uno"
PATIENCE = 30  # seconds
SETTINGS = """
[broker]
data_dir = "{folder}/data"

[[listener]]
url = "tcp://127.0.0.1:{port}"

[[serial]]
port = "{folder}/ttyEMU"
"""


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[aiomqtt.Client]:
    """Broker and gateway in a process of their own; a client that sees everything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "broker.toml"
    config.write_text(SETTINGS.format(folder=folder, port=port))
    command = [sys.executable, "-m", "broker", "run", "-c", str(config)]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        async with await connected(port) as client:
            await client.subscribe("#", qos=2)
            yield client
    finally:
        process.terminate()
        await process.wait()


async def connected(port: int) -> aiomqtt.Client:
    """A client, as soon as the broker listens."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        await writer.wait_closed()
        return aiomqtt.Client("127.0.0.1", port)


async def comes(client: aiomqtt.Client, topic: str) -> str:
    """The next message on a topic."""
    async for message in client.messages:
        if message.topic.value == topic:
            return bytes(message.payload).decode()
    pytest.fail("the broker has closed")


async def test_it_publishes_and_obeys(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        broker(tmp_path) as client,
        emulated_port(IMAGE, PART, tmp_path / "ttyEMU") as port,
    ):
        assert (await comes(client, "plant/avr/said")).startswith("up")

        await client.publish("plant/avr/do", "say1 hello", qos=1)
        assert await comes(client, "plant/avr/said") == "hello"

        port.reset()  # as if its power had failed
        assert (await comes(client, "plant/avr/said")).startswith("up")
