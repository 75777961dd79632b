"""Publications go round: every client, every version, every transport."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.interop.clients import ALL_CASES, for_clients
from tests.interop.foreign import Message
from tests.support.process import TRANSPORTS

if TYPE_CHECKING:
    from tests.interop.clients import Case
    from tests.interop.conftest import Foreigners

LARGE = bytes(range(256)) * 4 * 900  # 900 KiB; the default limit is 1 MiB
BURST = 200

TOPICS = (
    ("straße/größe", "straße/größe"),
    ("+/温度", "海/温度"),
    ("🌊/#", "🌊/a/ b /c"),
    ("+/+/e", "//e"),
    ("/", "/"),
)


@pytest.mark.spec("3.1.1:MQTT-7.0.0-2", "3.1.1:MQTT-7.1.1-1", "5.0:MQTT-4.2-1")
@for_clients(transports=TRANSPORTS)
async def test_a_message_makes_the_round_at_every_qos(
    clients: Foreigners, case: Case, name: str
) -> None:
    client = await clients.connect(case)
    assert await client.subscribe(f"{name}/+", 2) == 2
    for qos in (0, 1, 2):
        await client.publish(f"{name}/{qos}", b"reading", qos)
        heard = await client.next_message()
        assert heard == Message(f"{name}/{qos}", b"reading", qos, properties=heard.properties)


@for_clients()
@pytest.mark.parametrize("granted", [0, 1])
async def test_the_subscription_caps_the_qos(
    clients: Foreigners, case: Case, name: str, granted: int
) -> None:
    client = await clients.connect(case)
    assert await client.subscribe(name, granted) == granted
    await client.publish(name, b"reading", 2)
    assert (await client.next_message()).qos == granted


@for_clients(transports=TRANSPORTS)
async def test_a_large_payload_arrives_whole(clients: Foreigners, case: Case, name: str) -> None:
    client = await clients.connect(case)
    await client.subscribe(name, 1)
    await client.publish(name, LARGE, 1)
    heard = await client.next_message()
    assert heard.payload == LARGE


@for_clients()
async def test_an_empty_payload_arrives(clients: Foreigners, case: Case, name: str) -> None:
    client = await clients.connect(case)
    await client.subscribe(name, 1)
    await client.publish(name, b"", 1)
    assert (await client.next_message()).same_text() == (name, b"")


@for_clients()
@pytest.mark.parametrize(("topic_filter", "topic"), TOPICS)
async def test_unicode_and_wildcards_match(
    clients: Foreigners, case: Case, name: str, topic_filter: str, topic: str
) -> None:
    client = await clients.connect(case)
    await client.subscribe(f"{name}/{topic_filter}", 1)
    await client.publish(f"{name}/{topic}", "Grüße".encode(), 1)
    assert (await client.next_message()).same_text() == (f"{name}/{topic}", "Grüße".encode())


@for_clients("is_resident")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_burst_arrives_once_and_in_order(
    clients: Foreigners, case: Case, name: str, qos: int
) -> None:
    client = await clients.connect(case)
    await client.subscribe(name, qos)
    sent = [b"%d" % number for number in range(BURST)]
    async with asyncio.TaskGroup() as publishing:
        for payload in sent:
            publishing.create_task(client.publish(name, payload, qos))
        heard = [(await client.next_message()).payload for _ in sent]
    assert heard == sent


@for_clients("unsubscribes")
async def test_nothing_comes_after_unsubscribe(clients: Foreigners, case: Case, name: str) -> None:
    client = await clients.connect(case)
    await client.subscribe(f"{name}/left", 1)
    await client.subscribe(f"{name}/kept", 1)
    await client.unsubscribe(f"{name}/left")
    await client.publish(f"{name}/left", b"unwanted", 1)
    await client.publish(f"{name}/kept", b"wanted", 1)
    assert (await client.next_message()).payload == b"wanted"


async def test_every_client_hears_every_other(clients: Foreigners, name: str) -> None:
    everyone = [await clients.connect(case) for case in ALL_CASES]
    for client in everyone:
        await client.subscribe(f"{name}/#", 2)
    for client, case in zip(everyone, ALL_CASES, strict=True):
        await client.publish(f"{name}/{case}", b"here", 2)
    expected = [f"{name}/{case}" for case in ALL_CASES]
    for client in everyone:
        assert [(await client.next_message()).topic for _ in expected] == expected
