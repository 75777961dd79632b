"""Decoupling: sensors publish whether or not anybody consumes. Here the consumer is away for a
while, and in the meantime the broker is even killed.
"""

from __future__ import annotations

import asyncio
import time

from stage import Broker, Sensors, count, tell

from bridges.queues import Queue, Received

SETTINGS = """
[[queue]]
name = "readings"

[[route]]
topic = "site/+/reading"
queue = "readings"
"""


def readings(numbers: range) -> list[tuple[str, str]]:
    return [(f"site/{number % 10}/reading", str(number)) for number in numbers]


async def consume(broker: Broker) -> tuple[list[int], float]:
    """Everything that waits, and how many seconds it took."""
    done: list[int] = []

    async def handle(message: Received) -> None:
        done.append(int(message.text()))

    began = time.monotonic()
    async with Queue("readings", broker.url, token=broker.token) as queue:
        await queue.work(handle, concurrency=64, idle=0)
    return done, time.monotonic() - began


def main() -> None:
    half = count(10_000) // 2
    with Broker(SETTINGS) as broker:
        sensors = Sensors(broker)
        seconds = sensors.publish(readings(range(half)))
        tell(published_while_consumer_is_away=half, messages_a_second=half / seconds)
        sensors.close()
        broker.kill()
        broker.start()
        tell(broker_killed_and_started="yes")
        sensors = Sensors(broker)
        sensors.publish(readings(range(half, 2 * half)))
        tell(published_after_that=half)
        sensors.close()
        done, seconds = asyncio.run(consume(broker))
    tell(consumer_is_back_and_has_done=len(done), its_messages_a_second=len(done) / seconds)
    tell(lost=2 * half - len(set(done)))
    tell(twice=len(done) - len(set(done)), in_order="yes" if done == sorted(done) else "no")


if __name__ == "__main__":
    main()
