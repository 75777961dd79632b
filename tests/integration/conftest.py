"""Fixtures of the integration tests: brokers in processes of their own, with real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.support.postgresql import PostgreSQL
from tests.support.process import TRANSPORTS, BrokerProcess, Certificates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.create(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="package")
def broker(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[BrokerProcess]:
    """One broker with every transport; each test keeps to its own topics and client ids."""
    directory = tmp_path_factory.mktemp("broker")
    settings = {"limits": {"max_packet_size": 100_000}, "broker": {"sys_interval": 1}}
    with BrokerProcess(directory, TRANSPORTS, certificates=certificates, settings=settings) as made:
        yield made


class StartBroker(Protocol):
    def __call__(self, *transports: str, **settings: Any) -> BrokerProcess: ...


@pytest.fixture
def start_broker(tmp_path: Path, certificates: Certificates) -> Iterator[StartBroker]:
    """Starts a broker for one test alone, and stops it in good order."""
    started: list[BrokerProcess] = []

    def start(*transports: str, **settings: Any) -> BrokerProcess:
        made = BrokerProcess(
            tmp_path, transports or ("tcp",), certificates=certificates, **settings
        )
        made.start()
        started.append(made)
        return made

    yield start
    for each in started:
        each.stop()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The table [store] of an empty database: every test that asks for it runs on both."""
    if request.param == "sqlite":
        return {}
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return {"url": server.new_database()}
