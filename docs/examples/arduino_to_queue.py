"""One command shows an emulated Arduino's readings arriving in a queue:

    .venv/bin/python docs/examples/arduino_to_queue.py

The firmware of firmware_sim/mcu runs in QEMU behind a serial port; gateway and broker run in a
process of their own; this script is the backend that takes the readings out, one at a time. What it
needs and is not there is named (Debian: gcc-avr avr-libc qemu-system-misc; pip: aiomqtt).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import aiomqtt

from firmware_sim.firmware.images import PARTS
from firmware_sim.firmware.port import emulated_port

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 5
MCU = Path(__file__).parents[2] / "firmware_sim" / "mcu"
SETTINGS = """
[broker]
data_dir = "{folder}/data"

[[listener]]
url = "tcp://127.0.0.1:{port}"

[[serial]]
port = "{folder}/ttyEMU"

[[queue]]
name = "readings"

[[route]]
name = "readings of all plants"
topic = "plant/+/reading"
queue = "readings"
"""


async def main(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "broker.toml"
    config.write_text(SETTINGS.format(folder=folder, port=port))
    broker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "broker", "run", "-c", str(config)
    )
    try:
        await listening(port)
        image = MCU / "build" / "avr.elf"
        async with emulated_port(image, PARTS["atmega328p"], folder / "ttyEMU"):
            await consume(port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            broker.terminate()
        await broker.wait()


async def listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        await writer.wait_closed()
        return


async def consume(port: int) -> None:
    """Take messages out; acknowledging one (PUBACK) ends it."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("$queue/readings", qos=1)
        taken = 0
        async for message in client.messages:
            taken += 1
            print(f"{message.topic}: {bytes(message.payload).decode()}", flush=True)
            if taken == COUNT:
                return


if __name__ == "__main__":
    if subprocess.run(["make", "-s", "-C", MCU, "avr"], check=False).returncode:
        sys.exit(1)
    with tempfile.TemporaryDirectory() as where:
        asyncio.run(asyncio.wait_for(main(Path(where)), 60))
