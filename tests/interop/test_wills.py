"""Wills: published when a client vanishes, forgotten when it says goodbye."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.interop.clients import for_clients
from tests.interop.foreign import V5, Will
from tests.support.process import TRANSPORTS

if TYPE_CHECKING:
    from tests.interop.clients import Case
    from tests.interop.conftest import Foreigners

WATCHER = "paho-5-tcp"
MARKER = b"marker"


@for_clients(transports=TRANSPORTS)
async def test_the_will_of_a_vanished_client_is_published(
    clients: Foreigners, case: Case, name: str
) -> None:
    watcher = await clients.connect(WATCHER)
    await watcher.subscribe(f"{name}/will", 2)
    wire = await clients.lay_wire(case)
    dying = await clients.connect(case, wire=wire, will=Will(f"{name}/will", b"gone", 1))
    await dying.subscribe(f"{name}/anything")  # mosquitto_sub connects only now
    wire.cut()
    will = await watcher.next_message()
    assert (*will.same_text(), will.qos, will.retain) == (f"{name}/will", b"gone", 1, False)


@for_clients()
async def test_a_retained_will_stays(clients: Foreigners, case: Case, name: str) -> None:
    watcher = await clients.connect(WATCHER)
    await watcher.subscribe(f"{name}/will", 1)
    wire = await clients.lay_wire(case)
    will = Will(f"{name}/will", b"offline", 1, retain=True)
    dying = await clients.connect(case, wire=wire, will=will)
    await dying.subscribe(f"{name}/anything")
    wire.cut()
    await watcher.next_message()
    latecomer = await clients.connect(WATCHER)
    await latecomer.subscribe(f"{name}/+", 1)
    heard = await latecomer.next_message()
    assert (heard.payload, heard.retain) == (b"offline", True)


@for_clients("is_resident")  # mosquitto_sub asks for its will when it is told to stop: see below
async def test_a_goodbye_deletes_the_will(clients: Foreigners, case: Case, name: str) -> None:
    watcher = await clients.connect(WATCHER)
    await watcher.subscribe(f"{name}/+", 1)
    leaving = await clients.connect(case, will=Will(f"{name}/will", b"gone", 1))
    await leaving.subscribe(f"{name}/anything")
    await leaving.close()
    await watcher.publish(f"{name}/marker", MARKER, 1)
    assert (await watcher.next_message()).payload == MARKER


async def test_a_goodbye_may_ask_for_the_will(clients: Foreigners, name: str) -> None:
    watcher = await clients.connect(WATCHER)
    await watcher.subscribe(f"{name}/will", 1)
    will = Will(f"{name}/will", b"gone", 1)
    leaving = await clients.connect("mosquitto-5-tcp", will=will)
    await leaving.subscribe(f"{name}/anything")
    await leaving.close()
    assert (await watcher.next_message()).payload == b"gone"


@for_clients(versions=(V5,))
async def test_a_will_carries_its_properties(clients: Foreigners, case: Case, name: str) -> None:
    properties = {
        "content_type": "text/plain",
        "payload_format_indicator": 1,
        "response_topic": f"{name}/why",
        "correlation_data": b"case-7",
        "user_property": [("site", "roof")],
    }
    watcher = await clients.connect(WATCHER)
    await watcher.subscribe(f"{name}/will", 1)
    wire = await clients.lay_wire(case)
    will = Will(f"{name}/will", b"gone", 1, properties=properties)
    dying = await clients.connect(case, wire=wire, will=will)
    await dying.subscribe(f"{name}/anything")
    wire.cut()
    assert (await watcher.next_message()).properties == properties


@for_clients("is_resident", versions=(V5,))
async def test_who_returns_within_the_will_delay_leaves_no_will(
    clients: Foreigners, case: Case, name: str
) -> None:
    watcher = await clients.connect(WATCHER)
    await watcher.subscribe(f"{name}/+", 1)
    wire = await clients.lay_wire(case)
    will = Will(f"{name}/will", b"gone", 1, properties={"will_delay_interval": 60})
    common = {"client_id": f"{name}-flaky", "stay": True}
    await clients.connect(case, wire=wire, will=will, **common)
    wire.cut()
    back = await clients.connect(case, clean=False, **common)
    await back.publish(f"{name}/marker", MARKER, 1)
    assert (await watcher.next_message()).payload == MARKER
