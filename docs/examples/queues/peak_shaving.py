"""Peak shaving: a burst comes at ten times the rate that the backend can take. The queue takes it
in at once, and hands it out at the backend's rate: flat, without loss, and from the disk.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from stage import Broker, Sensors, count, tell

from bridges.queues import Queue, Received

CONSUMERS = 4
TIMES = 10  # too fast
SIZE = 1000  # bytes of a payload


def settings(rate: int) -> str:
    return f"""
[[queue]]
name = "readings"
max_rate = {rate}

[[route]]
topic = "readings"
queue = "readings"
"""


class Consumers:
    """They do what they get at once, and count how much that is in each second."""

    def __init__(self, messages: int) -> None:
        self.left = messages
        self.numbers: set[int] = set()
        self.by_second: Counter[int] = Counter()
        self._began = time.monotonic()

    async def work(self, broker: Broker) -> None:
        async def handle(message: Received) -> None:
            self.numbers.add(int(message.text()))
            self.by_second[int(time.monotonic() - self._began)] += 1
            self.left -= 1
            if not self.left:
                for each in queues:
                    each.stop()

        queues = [Queue("readings", broker.url, token=broker.token) for _ in range(CONSUMERS)]
        await asyncio.gather(*(each.work(handle) for each in queues))
        await asyncio.gather(*(each.close() for each in queues))


def burst(broker: Broker, messages: int, rate: int) -> float:
    """How many a second it was."""
    sensors = Sensors(broker)
    seconds = sensors.publish((("readings", f"{n:>{SIZE}}") for n in range(messages)), rate)
    sensors.close()
    return messages / seconds


async def main() -> None:
    messages = count(3000)
    rate = max(messages // 30, 10)
    with Broker(settings(rate)) as broker:
        tell(MiB_of_the_broker_before=broker.memory, messages=messages, allowed_a_second=rate)
        consumers = Consumers(messages)
        work = asyncio.create_task(consumers.work(broker))
        came = await asyncio.to_thread(burst, broker, messages, rate * TIMES)
        tell(burst_a_second=came, MiB_after_the_burst=broker.memory, waiting_then=consumers.left)
        await work
        rates = [consumers.by_second[n] for n in range(max(consumers.by_second) + 1)]
        tell(MiB_at_the_end=broker.memory, seconds_to_drain=len(rates))
        tell(in_each_second=" ".join(map(str, rates)), lost=messages - len(consumers.numbers))


if __name__ == "__main__":
    asyncio.run(main())
