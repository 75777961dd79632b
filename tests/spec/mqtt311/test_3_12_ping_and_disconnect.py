"""MQTT 3.1.1, sections 3.6, 3.12 and 3.14: PUBREL's flags, PINGREQ and DISCONNECT."""

import pytest

from broker.packets.encode import encode
from broker.packets.types import Disconnect, Publish
from tests.support.broker import MemoryBroker, will


@pytest.mark.spec("3.1.1:MQTT-3.6.1-1", "3.1.1:MQTT-2.2.2-2")
@pytest.mark.parametrize("flags", [flags for flags in range(16) if flags != 2])
def test_pubrel_with_other_flags_closes_the_connection(flags: int) -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.publish("t", qos=2, packet_id=1)
    client.raw = b""
    client.send_raw(bytes([0x60 | flags]) + b"\2\0\1")
    assert client.is_closed
    assert client.raw == b""


@pytest.mark.spec("3.1.1:MQTT-3.12.4-1")
def test_pingreq_is_answered_with_pingresp() -> None:
    client = MemoryBroker().connect("alice", version=4)
    client.raw = b""
    client.send_raw(b"\xc0\0")
    assert client.raw == b"\xd0\0"
    client.send_raw(b"\xc0\0\xc0\0")
    assert client.raw == b"\xd0\0\xd0\0\xd0\0"


@pytest.mark.spec("3.1.1:MQTT-3.14.1-1", "3.1.1:MQTT-3.1.2-8")
@pytest.mark.parametrize("flags", range(1, 16))
def test_disconnect_with_flags_is_no_disconnect_but_a_violation(flags: int) -> None:
    broker = MemoryBroker()
    heir = broker.connect("heir", version=4)
    heir.subscribe("w")
    client = broker.connect("alice", version=4, will=will("w"))
    client.send_raw(bytes([0xE0 | flags, 0]))
    assert client.is_closed
    assert heir.messages() == [("w", b"gone")]


@pytest.mark.spec("3.1.1:MQTT-3.14.4-3")
@pytest.mark.parametrize("clean_start", [True, False])
def test_disconnect_discards_the_will(clean_start: bool) -> None:
    broker = MemoryBroker()
    heir = broker.connect("heir", version=4)
    heir.subscribe("w")
    client = broker.connect("alice", version=4, clean_start=clean_start, will=will("w"))
    client.send_raw(b"\xe0\0")
    assert client.is_closed
    broker.connect("alice", version=4)
    assert heir.received == []


def test_what_follows_disconnect_is_not_processed() -> None:
    broker = MemoryBroker()
    heir = broker.connect("heir", version=4)
    heir.subscribe("#")
    client = broker.connect("alice", version=4)
    client.send_raw(encode(Disconnect(), 4) + encode(Publish("t", b"x"), 4))
    assert heir.received == []


def test_the_broker_sends_no_disconnect_to_a_client_of_3_1_1() -> None:
    broker = MemoryBroker()
    client = broker.connect("alice", version=4)
    client.raw = b""
    broker.engine.shut_down()
    broker.flush()
    assert client.is_closed
    assert client.raw == b""
