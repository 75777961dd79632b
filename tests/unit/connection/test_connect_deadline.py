"""The time a client has for its CONNECT ends with it; from then on the keep alive counts."""

import pytest

from tests.support.broker import MemoryBroker


@pytest.mark.parametrize("version", [4, 5])
def test_a_connected_client_without_keep_alive_stays_whatever_the_connect_timeout(
    version: int,
) -> None:
    broker = MemoryBroker(connect_timeout=10)
    client = broker.connect("quiet", version=version, keep_alive=0)
    broker.pass_time(100_000)
    assert not client.is_closed


@pytest.mark.parametrize("version", [4, 5])
def test_a_closed_connection_leaves_no_deadline_behind(version: int) -> None:
    broker = MemoryBroker(connect_timeout=10)
    client = broker.connect("brief", version=version, keep_alive=5)
    client.lose()
    broker.pass_time(100)
    assert broker.engine.next_deadline() is None
