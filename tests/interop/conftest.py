"""Fixtures of the interop tests: the broker in its own process, foreign clients closed at the end.

All tests here share one event loop, for the node process behind MQTT.js lives through them all.
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import pytest_asyncio

from tests.interop.adapters.mqttjs_client import Driver
from tests.interop.clients import find_case
from tests.interop.foreign import ForeignClient, Options
from tests.interop.wire import Wire, laid_wire
from tests.support.process import TRANSPORTS, BrokerProcess, Certificates, explain_missing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.interop.clients import Case

HERE = Path(__file__).parent
NUMBERS = count(1)


# What mosquitto 2.0.11 cannot do, for `--broker mosquitto`: pattern of the tests' ids -> why.
MOSQUITTO_LACKS = {
    r"large_payload.*-wss?\]": "stalls on large WebSocket messages",
    r"told_why": "does not yet send 0x8E",
    r"broker_that_stops_says_so": "does not yet send 0x8B",
    r"uses_the_aliases": "does not yet use topic aliases",
    r"certificate_can_be_demanded\[wss\]": "cannot demand client certificates over WebSocket",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker",
        default="heliograph",
        choices=("heliograph", "mosquitto"),
        help="interop: run against Debian's mosquitto instead, to test the tests",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    dialect = items and items[0].config.getoption("--broker", default="heliograph")
    lacks = MOSQUITTO_LACKS if dialect == "mosquitto" else {}
    for item in items:
        for part, reason in lacks.items():
            if re.search(part, item.nodeid):
                item.add_marker(pytest.mark.skip(reason=f"Debian's mosquitto {reason}"))
        if item.path.is_relative_to(HERE) and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def dialect(pytestconfig: pytest.Config) -> str:
    """Which broker is tested; the option is unknown when pytest began at another folder."""
    return str(pytestconfig.getoption("--broker", default="heliograph"))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.create(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def shared_broker(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates, dialect: str
) -> Iterator[BrokerProcess]:
    """One broker with every transport; each test keeps to its own topics and client ids."""
    directory = tmp_path_factory.mktemp("broker")
    broker = BrokerProcess(directory, TRANSPORTS, certificates=certificates, dialect=dialect)
    with broker:
        yield broker


class StartBroker(Protocol):
    def __call__(self, *transports: str, **settings: Any) -> BrokerProcess: ...


@pytest.fixture
def start_broker(tmp_path: Path, certificates: Certificates, dialect: str) -> Iterator[StartBroker]:
    """Starts a broker for one test alone; see `BrokerProcess` for the keywords."""
    started: list[BrokerProcess] = []

    def start(*transports: str, **settings: Any) -> BrokerProcess:
        broker = BrokerProcess(
            tmp_path, transports or ("tcp",), certificates=certificates, dialect=dialect, **settings
        )
        broker.start()
        started.append(broker)
        return broker

    yield start
    for broker in started:
        broker.stop()


@pytest.fixture
def name() -> str:
    """A word that no other test uses: for topics and client identifiers."""
    return f"t{next(NUMBERS)}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def driver() -> AsyncIterator[Driver]:
    node = Driver()
    yield node
    await node.stop()


class Foreigners:
    """Makes foreign clients, and closes them when the test is over."""

    def __init__(self, broker: BrokerProcess, driver: Driver, name: str) -> None:
        self._broker = broker
        self._driver = driver
        self._name = name
        self._stack = AsyncExitStack()

    def make(self, case: Case | str, *, wire: Wire | None = None, **options: Any) -> ForeignClient:
        """A client that has not yet connected; the options are those of `Options`."""
        chosen = find_case(case) if isinstance(case, str) else case
        explain_missing(chosen.library.missing())
        options.setdefault("client_id", f"{self._name}-c{next(NUMBERS)}")
        broker = options.pop("broker", self._broker)
        endpoint = wire.endpoint if wire else broker.endpoints[chosen.transport]
        wanted = Options(endpoint=endpoint, version=chosen.version, **options)
        client = chosen.library.make(wanted, self._driver)
        self._stack.push_async_callback(client.close)
        return client

    async def connect(self, case: Case | str, **options: Any) -> ForeignClient:
        client = self.make(case, **options)
        await client.connect()
        return client

    async def lay_wire(self, case: Case | str) -> Wire:
        """A wire to the broker that the test may cut; for `connect(case, wire=wire)`."""
        chosen = find_case(case) if isinstance(case, str) else case
        far = self._broker.endpoints[chosen.transport]
        return await self._stack.enter_async_context(laid_wire(far))

    async def close(self) -> None:
        await self._stack.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def clients(
    shared_broker: BrokerProcess, start_broker: StartBroker, driver: Driver, name: str
) -> AsyncIterator[Foreigners]:
    # It asks for `start_broker` so that a test's own broker stops after the clients have left.
    foreigners = Foreigners(shared_broker, driver, name)
    yield foreigners
    await foreigners.close()
