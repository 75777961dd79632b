"""PINGREQ and PINGRESP (MQTT 5 sections 3.12 and 3.13)."""

import pytest

from broker.packets.types import Pingreq, Pingresp
from tests.support.broker import MemoryBroker


@pytest.mark.spec("5.0:MQTT-3.12.4-1")
def test_every_pingreq_is_answered() -> None:
    client = MemoryBroker().connect()
    client.send(Pingreq(), Pingreq())
    assert len(client.take_all(Pingresp)) == 2
    assert client.raw.endswith(b"\xd0\0\xd0\0")


@pytest.mark.spec("5.0:MQTT-3.12.4-1")
def test_a_pingreq_keeps_a_silent_client_connected() -> None:
    broker = MemoryBroker()
    client = broker.connect(keep_alive=10)
    for _ in range(5):
        broker.pass_time(14)
        client.send(Pingreq())
        assert client.take(Pingresp)
    assert not client.is_closed
