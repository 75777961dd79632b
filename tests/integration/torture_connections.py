"""`python -m tests.integration.torture_connections`: 20,000 clients want in where 5,000 may.

Not part of `make test`: it takes a while and most of the machine's file descriptors. What must
hold: everyone is let in, told 0x97 or cut off; those inside are served all the while; afterwards
there is room again and the broker has not grown.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from broker.packets.encode import encode
from broker.packets.types import Connect, Pingreq
from tests.integration.peer import memory_of
from tests.support.process import HOST, BrokerProcess

ANSWERS = {0x00: "let in", 0x97: "refused with 0x97", 0x9F: "refused with 0x9F"}
PING, PONG = encode(Pingreq(), 5), b"\xd0\x00"
INSIDERS = 50
AT_A_TIME = 1000


class Torture:
    """The crowd; `outcomes` counts what became of everyone."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.outcomes: Counter[str] = Counter()
        self.inside: list[asyncio.StreamWriter] = []
        self.slowest = 0.0  # seconds that an insider waited for the answer to his ping
        self._is_over = False
        self._gate = asyncio.Semaphore(AT_A_TIME)

    async def run(self, attempts: int) -> None:
        insiders = [await self._dial(f"insider{n}") for n in range(INSIDERS)]
        watch = asyncio.create_task(self._watch(insiders))
        await asyncio.gather(*(self._attempt(n) for n in range(attempts)))
        self._is_over = True
        await watch
        for _, reader, writer in insiders:
            writer.write(PING)
            assert await reader.readexactly(2) == PONG, "an insider was harmed"
        for writer in (*self.inside, *(writer for _, _, writer in insiders)):
            writer.close()

    async def _watch(
        self, insiders: list[tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]]
    ) -> None:
        while not self._is_over:
            for _, reader, writer in insiders:
                began = time.monotonic()
                writer.write(PING)
                assert await reader.readexactly(2) == PONG
                self.slowest = max(self.slowest, time.monotonic() - began)
            await asyncio.sleep(0.05)

    async def _attempt(self, number: int) -> None:
        async with self._gate:
            try:
                answer, _, writer = await asyncio.wait_for(self._dial(f"crowd{number}"), 60)
            except (OSError, asyncio.IncompleteReadError) as fault:
                self.outcomes[f"cut off ({type(fault).__name__})"] += 1
                return
            self.outcomes[ANSWERS.get(answer[3], f"reason {answer[3]:#04x}")] += 1
            if answer[3]:
                writer.close()
            else:
                self.inside.append(writer)

    async def _dial(
        self, client_id: str
    ) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        try:
            writer.write(encode(Connect(client_id, keep_alive=600), 5))
            answer = await reader.readexactly(4)
            await reader.readexactly(answer[1] - 2)
        except BaseException:
            writer.close()
            raise
        return answer, reader, writer


def main() -> int:
    """Print what was seen; 1 when somebody inside was harmed or room is not given back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=20_000)
    parser.add_argument("--limit", type=int, default=5000)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    settings = {"limits": {"max_connections": options.limit}, "log": {"level": "warning"}}
    with TemporaryDirectory() as folder, BrokerProcess(Path(folder), settings=settings) as broker:
        before, began = memory_of(broker.pid), time.monotonic()
        torture = Torture(broker.port)
        asyncio.run(torture.run(options.attempts))
        seconds = time.monotonic() - began
        again = Torture(broker.port)
        asyncio.run(again.run(100))
        grown = memory_of(broker.pid) - before
        say(f"{options.attempts} attempts, {seconds:.1f} s: {dict(torture.outcomes)}")
        say(f"slowest ping of an insider {torture.slowest:.2f} s; memory grew by {grown >> 20} MiB")
        say(f"afterwards: {dict(again.outcomes)}; the log has {len(broker.log.splitlines())} lines")
        return int(again.outcomes["let in"] != 100)


def say(line: str) -> None:
    print(line)  # noqa: T201  the command's answer


if __name__ == "__main__":
    sys.exit(main())
