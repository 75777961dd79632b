"""Who may come in: passwords, anonymous clients, client certificates, and what is too large."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.interop.clients import for_clients
from tests.interop.foreign import V5, V311, RefusedError, patiently
from tests.support.process import BrokerProcess, add_password

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.clients import Case
    from tests.interop.conftest import Foreigners, StartBroker
    from tests.interop.foreign import ForeignClient
    from tests.support.process import Certificates, Endpoint

USER = "gärtner"
PASSWORD = "Rübe:7"
# "Bad user name or password" or "not authorized": the standard lets the broker choose.
REFUSALS = {V311: {4, 5}, V5: {0x86, 0x87}}
# What each listener would answer at once, if it let us in: with a CONNACK, with a status line.
OPENINGS = {
    "tls": b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
    "wss": b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
}
PACKET_TOO_LARGE = 0x95


@pytest.fixture(scope="module")
def locked_broker(
    tmp_path_factory: pytest.TempPathFactory, dialect: str
) -> Iterator[BrokerProcess]:
    """A broker that lets in one user and nobody else."""
    directory = tmp_path_factory.mktemp("locked")
    passwords = directory / "passwords"
    add_password(dialect, passwords, USER, PASSWORD)
    settings = {"auth": {"allow_anonymous": "never", "password_file": str(passwords)}}
    with BrokerProcess(directory, settings=settings, dialect=dialect) as broker:
        yield broker


@for_clients()
async def test_the_right_password_opens(
    clients: Foreigners, case: Case, locked_broker: BrokerProcess, name: str
) -> None:
    credentials = {"username": USER, "password": PASSWORD}
    client = await clients.connect(case, broker=locked_broker, **credentials)
    await client.subscribe(name, 1)
    await client.publish(name, b"in", 1)
    assert (await client.next_message()).payload == b"in"


@for_clients()
@pytest.mark.parametrize(
    "credentials",
    [{}, {"username": USER, "password": "rübe"}, {"username": "dieb", "password": PASSWORD}],
    ids=["anonymous", "wrong password", "unknown user"],
)
async def test_others_are_refused_with_the_reason(
    clients: Foreigners,
    case: Case,
    locked_broker: BrokerProcess,
    name: str,
    credentials: dict[str, str],
) -> None:
    stranger = clients.make(case, broker=locked_broker, **credentials)
    with pytest.raises(RefusedError) as refusal:
        await knock(stranger, name)
    assert refusal.value.reason_code in REFUSALS[case.version]


async def knock(client: ForeignClient, topic: str) -> None:
    await client.connect()
    await client.publish(topic, b"in", 1)  # mosquitto_pub connects only now


@pytest.mark.parametrize("transport", ["tls", "wss"])
async def test_a_client_certificate_can_be_demanded(
    clients: Foreigners,
    start_broker: StartBroker,
    certificates: Certificates,
    transport: str,
    name: str,
) -> None:
    demand = {"client_ca": str(certificates.authority), "require_client_certificate": True}
    broker = start_broker(transport, listener=demand)
    case = f"paho-5-{transport}"
    known = await clients.connect(case, broker=broker, show_certificate=True)
    await known.subscribe(name, 1)
    await known.publish(name, b"in", 1)
    assert (await known.next_message()).payload == b"in"
    assert await answer_without_certificate(broker.endpoints[transport], certificates) == b""


async def answer_without_certificate(endpoint: Endpoint, certificates: Certificates) -> bytes:
    """What the broker says before it hangs up. (The libraries report that each in its own way.)"""
    context = ssl.create_default_context(cafile=str(certificates.authority))
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
    writer.write(OPENINGS[endpoint.transport])
    answer = b""
    with suppress(
        ssl.SSLError, ConnectionError
    ):  # a TLS alert, or a plain end: as the broker likes
        answer = await patiently(reader.read(1), "end of the connection")
    writer.close()
    return answer


@for_clients("is_resident", versions=(V5,))
async def test_a_packet_over_the_limit_ends_the_connection_with_the_reason(
    clients: Foreigners, case: Case, start_broker: StartBroker, name: str
) -> None:
    broker = start_broker(settings={"limits": {"max_packet_size": 4096}})
    client = await clients.connect(case, broker=broker)
    publishing = asyncio.create_task(client.publish(name, bytes(8192)))
    assert await client.disconnected() == PACKET_TOO_LARGE
    publishing.cancel()
    # What the library makes of a publication that broke off is its own affair.
    await asyncio.gather(publishing, return_exceptions=True)
