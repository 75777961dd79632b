"""Sessions outlive connections: backlog, resumption, clean start, take-over and shutdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.clients import for_clients
from tests.interop.foreign import V5, V311

if TYPE_CHECKING:
    from tests.interop.clients import Case
    from tests.interop.conftest import Foreigners, StartBroker
    from tests.interop.foreign import ForeignClient
    from tests.interop.wire import Wire

PUBLISHER = "paho-5-tcp"
SESSION_TAKEN_OVER = 0x8E
SERVER_SHUTTING_DOWN = 0x8B


@for_clients("is_resident")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("end", ["goodbye", "cut"])
async def test_a_resumed_session_gets_what_it_missed_in_order(
    clients: Foreigners, case: Case, name: str, end: str, qos: int
) -> None:
    wire = await clients.lay_wire(case)
    away = await clients.connect(case, wire=wire, client_id=name, stay=True)
    await away.subscribe(name, 2)
    await (away.close() if end == "goodbye" else cut_and_notice(wire, away))
    publisher = await clients.connect(PUBLISHER)
    missed = [b"first", b"second", b"third"]
    for payload in missed:
        await publisher.publish(name, payload, qos)
    back = clients.make(case, client_id=name, clean=False, stay=True)
    connack = await back.connect()
    assert connack.session_present in {True, None}
    heard = [await back.next_message() for _ in missed]
    assert [(message.qos, message.payload) for message in heard] == [(qos, it) for it in missed]


@pytest.mark.parametrize("kind", ["paho-3.1.1-tcp", "paho-5-tcp"])
@pytest.mark.parametrize("qos", [1, 2])
async def test_what_was_not_acknowledged_comes_again(
    clients: Foreigners, kind: str, name: str, qos: int
) -> None:
    wire = await clients.lay_wire(kind)
    common = {"client_id": name, "stay": True}
    careless = await clients.connect(kind, wire=wire, acknowledges=False, **common)
    await careless.subscribe(name, qos)
    publisher = await clients.connect(PUBLISHER)
    sent = [b"first", b"second"]
    for payload in sent:
        await publisher.publish(name, payload, qos)
    assert [(await careless.next_message()).payload for _ in sent] == sent
    await cut_and_notice(wire, careless)
    careful = await clients.connect(kind, clean=False, **common)
    await publisher.publish(name, b"third", qos)
    expected = [*sent, b"third"] if qos == 1 else [b"third"]
    assert [(await careful.next_message()).payload for _ in expected] == expected
    await careful.close()  # its last PUBACK may not have got away; all before have
    again = await clients.connect(kind, clean=False, **common)
    await publisher.publish(name, b"end", qos)
    heard = [(await again.next_message()).payload]
    if heard == [b"third"]:
        heard = [(await again.next_message()).payload]
    assert heard == [b"end"]


async def cut_and_notice(wire: Wire, client: ForeignClient) -> None:
    wire.cut()
    await client.disconnected()


@for_clients("is_resident")
async def test_a_clean_start_forgets_the_session(
    clients: Foreigners, case: Case, name: str
) -> None:
    away = await clients.connect(case, client_id=name, stay=True)
    await away.subscribe(f"{name}/old", 1)
    await away.close()
    publisher = await clients.connect(PUBLISHER)
    await publisher.publish(f"{name}/old", b"missed", 1)
    back = clients.make(case, client_id=name, clean=True)
    connack = await back.connect()
    assert connack.session_present in {False, None}
    await back.subscribe(f"{name}/new", 1)
    await publisher.publish(f"{name}/old", b"unwanted", 1)
    await publisher.publish(f"{name}/new", b"marker", 1)
    assert (await back.next_message()).payload == b"marker"


@for_clients("is_resident", versions=(V311,))
async def test_the_elder_of_two_namesakes_is_closed(
    clients: Foreigners, case: Case, name: str
) -> None:
    elder = await clients.connect(case, client_id=name)
    younger = await clients.connect(case, client_id=name)
    assert await elder.disconnected() is None
    await younger.subscribe(name, 1)
    await younger.publish(name, b"mine", 1)
    assert (await younger.next_message()).payload == b"mine"


@for_clients("is_resident", versions=(V5,))
async def test_the_elder_of_two_namesakes_is_told_why(
    clients: Foreigners, case: Case, name: str
) -> None:
    elder = await clients.connect(case, client_id=name)
    younger = await clients.connect(case, client_id=name)
    assert await elder.disconnected() == SESSION_TAKEN_OVER
    await younger.subscribe(name, 1)
    await younger.publish(name, b"mine", 1)
    assert (await younger.next_message()).payload == b"mine"


@for_clients("is_resident", versions=(V5,))
async def test_a_broker_that_stops_says_so(
    clients: Foreigners, case: Case, start_broker: StartBroker
) -> None:
    broker = start_broker()
    client = await clients.connect(case, broker=broker)
    broker.stop()
    assert await client.disconnected() == SERVER_SHUTTING_DOWN
