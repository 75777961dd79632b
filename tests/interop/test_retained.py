"""Retained messages: set, replayed, replaced, cleared; and version 5's wishes about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.clients import for_clients
from tests.interop.foreign import V5

if TYPE_CHECKING:
    from tests.interop.clients import Case
    from tests.interop.conftest import Foreigners


@for_clients()
async def test_a_retained_message_is_replayed_to_who_comes_later(
    clients: Foreigners, case: Case, name: str
) -> None:
    client = await clients.connect(case)
    for payload in (b"old", b"new"):
        await client.publish(name, payload, 1, retain=True)
    await client.subscribe(f"{name}/#", 1)
    heard = await client.next_message()
    assert (heard.topic, heard.payload, heard.qos, heard.retain) == (name, b"new", 1, True)


@for_clients()
async def test_who_is_there_already_gets_it_as_live(
    clients: Foreigners, case: Case, name: str
) -> None:
    client = await clients.connect(case)
    await client.subscribe(name, 1)
    await client.publish(name, b"now", 1, retain=True)
    heard = await client.next_message()
    assert (heard.payload, heard.retain) == (b"now", False)


@for_clients()
async def test_an_empty_retained_message_clears(clients: Foreigners, case: Case, name: str) -> None:
    client = await clients.connect(case)
    await client.publish(name, b"stale", 1, retain=True)
    await client.publish(name, b"", 1, retain=True)
    await client.subscribe(name, 1)
    await client.publish(name, b"marker", 1)
    assert (await client.next_message()).payload == b"marker"


@for_clients("subscribe_options", versions=(V5,))
@pytest.mark.parametrize("as_published", [0, 1])
async def test_retain_as_published(
    clients: Foreigners, case: Case, name: str, as_published: int
) -> None:
    client = await clients.connect(case)
    await client.subscribe(name, 1, retain_as_published=as_published)
    await client.publish(name, b"now", 1, retain=True)
    assert (await client.next_message()).retain == bool(as_published)


@for_clients("subscribe_options", versions=(V5,))
async def test_retain_handling_2_replays_nothing(
    clients: Foreigners, case: Case, name: str
) -> None:
    client = await clients.connect(case)
    await client.publish(name, b"retained", 1, retain=True)
    await client.subscribe(name, 1, retain_handling=2)
    await client.publish(name, b"marker", 1)
    assert (await client.next_message()).payload == b"marker"


@for_clients("subscribe_options", versions=(V5,))
async def test_retain_handling_1_replays_to_a_new_subscription_only(
    clients: Foreigners, case: Case, name: str
) -> None:
    client = await clients.connect(case)
    await client.publish(name, b"retained", 1, retain=True)
    for _ in range(2):
        await client.subscribe(name, 1, retain_handling=1)
    await client.publish(name, b"marker", 1)
    heard = [(await client.next_message()).payload for _ in range(2)]
    assert heard == [b"retained", b"marker"]
