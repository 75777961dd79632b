"""Handling errors (MQTT 5 section 4.13): the connection ends, with the reason where one can be
given. Each malformed packet is in tests/unit/packets/invalid.py; here is what follows from it.
"""

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.encode import encode
from broker.packets.properties import Property
from broker.packets.types import Connack, Connect, Disconnect, Publish, Subscribe
from broker.packets.types import SubscriptionRequest as Request
from tests.support.broker import MemoryBroker, will
from tests.unit.packets.invalid import INVALID, Invalid

CONNECT, CLIENT_ONLY = 1, {0, 2, 9, 11, 13}
MISTAKES = [
    case
    for case in INVALID
    if case.version == 5 and case.frame[0] >> 4 not in CLIENT_ONLY | {CONNECT}
]
BAD_CONNECTS = [case for case in INVALID if case.version == 5 and case.frame[:1] == b"\x10"]


@pytest.mark.parametrize("case", MISTAKES, ids=[case.name for case in MISTAKES])
@pytest.mark.spec("5.0:MQTT-4.13.1-1", "5.0:MQTT-4.13.2-1")
def test_every_malformed_packet_is_answered_with_its_reason_and_the_end(case: Invalid) -> None:
    broker = MemoryBroker()
    bystander, client = broker.connect("bystander"), broker.connect("client")
    client.send_raw(case.frame)
    assert client.take(Disconnect).reason == case.reason
    assert client.received == []
    assert client.is_closed
    assert not bystander.is_closed


@pytest.mark.parametrize("case", BAD_CONNECTS, ids=[case.name for case in BAD_CONNECTS])
@pytest.mark.spec("5.0:MQTT-4.13.1-1", "5.0:MQTT-4.13.2-1")
def test_every_malformed_connect_is_answered_with_its_reason_and_the_end(case: Invalid) -> None:
    client = MemoryBroker().client()
    client.send_raw(case.frame)
    assert client.take(Connack).reason == case.reason
    assert client.received == []
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-4.13.1-1")
def test_a_violation_publishes_the_will() -> None:
    broker = MemoryBroker()
    watcher = broker.connect("watcher")
    watcher.subscribe("#")
    broker.connect("client", will=will("gone")).send_raw(b"\0\0")
    assert watcher.messages() == [("gone", b"gone")]


@pytest.mark.spec("5.0:MQTT-4.13.1-1")
def test_packets_before_a_violation_count_and_those_behind_do_not() -> None:
    broker = MemoryBroker()
    watcher = broker.connect("watcher")
    watcher.subscribe("#")
    before, after = (encode(Publish("t", each), 5) for each in (b"before", b"after"))
    broker.connect("client").send_raw(before + b"\x60\2\0\1" + after)
    assert watcher.messages() == [("t", b"before")]


@pytest.mark.spec("5.0:MQTT-4.13.2-1")
def test_a_refused_connect_closes_although_its_connack_could_not_be_sent() -> None:
    client = MemoryBroker(max_connections=0).client()
    client.send(Connect("c", properties={Property.MAXIMUM_PACKET_SIZE: 2}))
    assert client.raw == b""
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-4.13.2-1")
def test_a_client_that_reads_nothing_is_closed_all_the_same() -> None:
    client = MemoryBroker().connect()
    client.stop_reading()
    client.send_raw(b"\0\0")
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-4.13.2-1")
def test_a_disconnect_that_does_not_fit_is_not_sent_and_the_connection_ends() -> None:
    properties = {Property.MAXIMUM_PACKET_SIZE: 20}
    client = MemoryBroker().connect("c", properties=properties)
    client.connection.maximum_packet_size = 2
    client.raw = b""
    client.send_raw(b"\0\0")
    assert client.raw == b""
    assert client.is_closed


def test_an_error_in_one_filter_is_no_reason_to_close() -> None:
    client = MemoryBroker().connect()
    client.send(Subscribe(1, [Request("a/#/b"), Request("t")]))
    assert not client.is_closed


def test_a_violation_after_the_connack_is_never_answered_with_another() -> None:
    client = MemoryBroker().connect("c")
    client.send(Connect("c"))
    assert client.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
    assert client.received == []
