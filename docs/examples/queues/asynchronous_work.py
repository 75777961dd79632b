"""Asynchronous work: who asks has an answer in a moment, "it is stored"; the work takes as long as
it takes. More consumers do it faster. What cannot be done is put aside, mended, and sent back.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

from stage import Broker, Sensors, count, tell

from bridges.queues import Queue, Received, Reject

WORK = 0.05  # seconds for each job
SETTINGS = """
[[queue]]
name = "jobs"

[[route]]
topic = "jobs"
queue = "jobs"
"""


async def work(broker: Broker, workers: int, jobs: int) -> tuple[list[str], float]:
    """What was done, and how many seconds it took."""
    done: list[str] = []

    async def handle(message: Received) -> None:
        if not message.text().isdecimal():
            raise Reject("a job is a number")
        await asyncio.sleep(WORK)
        done.append(message.text())
        if len(done) == jobs:
            queue.stop()

    began = time.monotonic()
    async with Queue("jobs", broker.url, token=broker.token) as queue:
        await queue.work(handle, concurrency=workers)
    return done, time.monotonic() - began


async def main() -> None:
    jobs = count(400)
    with Broker(SETTINGS) as broker:
        sensors = Sensors(broker)
        for workers in (1, 4, 16):
            asked = [
                sensors.publish([("jobs", "seven" if number == 7 else str(number))])
                for number in range(jobs)
            ]
            done, seconds = await work(broker, workers, jobs - 1)
            tell(workers=workers, jobs_done=len(set(done)))
            tell(jobs_a_second=len(done) / seconds)
            tell(milliseconds_until_it_is_stored=1000 * median(asked))
        sensors.close()
        async with Queue("jobs.dlq", broker.url, token=broker.token) as dead:
            letters = await dead.peek()
            tell(dead_letters=len(letters), why=letters[0].dead_reason)
            for letter in letters:
                await dead.redrive([letter.id], payload=b"7")
        done, _ = await work(broker, 1, len(letters))
        tell(mended_and_done=len(done))


if __name__ == "__main__":
    asyncio.run(main())
