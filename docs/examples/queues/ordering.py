"""Ordering: the readings of one device are worked on in their order, one at a time, while eight
consumers share the devices; also when a reading fails and has to be tried again.

A second queue has the same readings without a key, to show what happens then.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

from stage import Broker, Sensors, count, tell

from bridges.queues import Queue, Received, Retry

DEVICES, CONSUMERS, FAILING = 40, 8, 0.05
SETTINGS = """
[[queue]]
name = "by-device"
order = "key"
max_failures = 0

[[queue]]
name = "any-order"
max_failures = 0

[[route]]
topic = "device/+/reading"
queues = ["by-device", "any-order"]
key = "topic:2"
"""


class Consumers:
    """Eight, each a client of its own; one message in twenty fails and is given back."""

    def __init__(self) -> None:
        self.done: dict[str, list[int]] = {}
        self.shares: list[int] = []
        self.failures = 0
        self._rng = Random(1)

    async def work(self, name: str, broker: Broker) -> None:
        async def consume() -> None:
            mine = 0
            async with Queue(name, broker.url, token=broker.token) as queue:
                async for message in queue.consume(prefetch=8, idle=1):
                    async with message:
                        await self._handle(message)
                        mine += 1
            self.shares.append(mine)

        await asyncio.gather(*(consume() for _ in range(CONSUMERS)))

    async def _handle(self, message: Received) -> None:
        await asyncio.sleep(self._rng.uniform(0, 0.002))  # the work
        if self._rng.random() < FAILING:
            self.failures += 1
            raise Retry("this time it did not work", delay=0.1)
        self.done.setdefault(message.key or "", []).append(int(message.text()))

    @property
    def disorders(self) -> int:
        """How many readings came after a later one of their device."""
        pairs = [pair for each in self.done.values() for pair in pairwise(each)]
        return sum(before > after for before, after in pairs)


async def main() -> None:
    messages = count(4000)
    with Broker(SETTINGS) as broker:
        sensors = Sensors(broker)
        sensors.publish((f"device/{n % DEVICES}/reading", str(n)) for n in range(messages))
        sensors.close()
        for name in ("by-device", "any-order"):
            consumers = Consumers()
            await consumers.work(name, broker)
            done = sum(len(each) for each in consumers.done.values())
            tell(queue=name, devices=DEVICES, consumers=CONSUMERS, done=done)
            tell(lost=messages - done, failed_and_tried_again=consumers.failures)
            tell(smallest_share=min(consumers.shares), largest_share=max(consumers.shares))
            tell(out_of_order=consumers.disorders)


if __name__ == "__main__":
    asyncio.run(main())
