"""Shared subscriptions: every message to exactly one of the group."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.interop.foreign import Will, patiently

if TYPE_CHECKING:
    from tests.interop.conftest import Foreigners
    from tests.interop.foreign import ForeignClient, Message

MANY = 40


@pytest.mark.parametrize("kind", ["paho-3.1.1-tcp", "paho-5-tcp"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_two_consumers_share_the_work(
    clients: Foreigners, kind: str, qos: int, name: str
) -> None:
    consumers = [await clients.connect(kind) for _ in range(2)]
    publisher = await clients.connect(kind)
    for consumer in consumers:
        await consumer.subscribe(f"$share/{name}/{name}/+", qos)
    sent = [b"%d" % number for number in range(MANY)]
    for payload in sent:
        await publisher.publish(f"{name}/job", payload, qos)
    shares = await collect(consumers, MANY)
    assert sorted(payload for share in shares for payload in share) == sorted(sent)
    assert all(shares), "one consumer got nothing"


async def test_the_work_of_a_vanished_consumer_goes_to_the_other(
    clients: Foreigners, name: str
) -> None:
    kind = "paho-5-tcp"
    wire = await clients.lay_wire(kind)
    leaving = await clients.connect(kind, wire=wire, will=Will(f"{name}/gone", b"", 1))
    staying = await clients.connect(kind)
    await staying.subscribe(f"{name}/gone", 1)
    for consumer in (leaving, staying):
        await consumer.subscribe(f"$share/{name}/{name}", 1)
    wire.cut()
    assert (await staying.next_message()).topic == f"{name}/gone"
    sent = [b"%d" % number for number in range(MANY)]
    for payload in sent:
        await staying.publish(name, payload, 1)
    assert [(await staying.next_message()).payload for _ in sent] == sent


async def collect(consumers: list[ForeignClient], total: int) -> list[list[bytes]]:
    """What each consumer got, once they have `total` messages together."""
    shares: list[list[bytes]] = [[] for _ in consumers]
    all_there = asyncio.Event()

    async def listen(consumer: ForeignClient, share: list[bytes]) -> None:
        while True:
            message: Message = await consumer.next_message()
            share.append(message.payload)
            if sum(map(len, shares)) >= total:
                all_there.set()

    listening = [
        asyncio.create_task(listen(consumer, share))
        for consumer, share in zip(consumers, shares, strict=True)
    ]
    await patiently(all_there.wait(), f"{total} messages for the group")
    for task in listening:
        task.cancel()
    await asyncio.gather(*listening, return_exceptions=True)
    return shares
