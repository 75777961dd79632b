"""DISCONNECT (MQTT 5 section 3.14)."""

import pytest

from broker.packets.codes import ReasonCode
from broker.packets.encode import encode
from broker.packets.properties import Properties, Property
from broker.packets.types import (
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Publish,
    Subscribe,
    SubscriptionRequest,
)
from tests.support.broker import MemoryBroker, MemoryClient, will

STAY = {Property.SESSION_EXPIRY_INTERVAL: 600}


def disconnected_by_broker() -> dict[str, MemoryClient]:
    """One client for every way in which the broker says DISCONNECT."""
    silent = MemoryBroker()
    quiet = silent.connect("c", keep_alive=10, properties=STAY)
    silent.pass_time(16)
    taking = MemoryBroker()
    taken = taking.connect("c", properties=STAY)
    taking.connect("c")
    stopping = MemoryBroker()
    stopped = stopping.connect("c", properties=STAY)
    stopping.engine.shut_down()
    wrong = MemoryBroker().connect("c", properties=STAY)
    wrong.send_raw(b"\x60\2\0\1")
    return {"keep alive": quiet, "taken over": taken, "shut down": stopped, "malformed": wrong}


# -- what may be sent -----------------------------------------------------------------------------


@pytest.mark.parametrize("packet", [Pingreq(), Publish("t", b"x"), Disconnect()])
@pytest.mark.spec("5.0:MQTT-3.14.0-1")
def test_nothing_is_said_to_one_who_breaks_a_rule_before_connect(packet: Pingreq) -> None:
    client = MemoryBroker().client()
    client.send(packet)
    assert client.is_closed
    assert client.raw == b""


@pytest.mark.spec("5.0:MQTT-3.14.0-1")
def test_a_refused_connect_is_answered_with_connack_and_nothing_else() -> None:
    client = MemoryBroker(max_connections=0).client()
    client.send(Connect("c"), Subscribe(1, [SubscriptionRequest("#")]))
    assert client.take(Connack).reason >= 0x80
    assert client.received == []
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-3.14.0-1")
def test_a_broker_that_stops_says_nothing_to_one_who_has_not_connected() -> None:
    broker = MemoryBroker()
    client = broker.client()
    broker.engine.shut_down()
    broker.pass_time(60)
    assert client.raw == b""


@pytest.mark.spec("5.0:MQTT-3.14.2-1")
@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("keep alive", ReasonCode.KEEP_ALIVE_TIMEOUT),
        ("taken over", ReasonCode.SESSION_TAKEN_OVER),
        ("shut down", ReasonCode.SERVER_SHUTTING_DOWN),
        ("malformed", ReasonCode.MALFORMED_PACKET),
    ],
)
def test_the_broker_gives_the_reason_why_it_ends_a_connection(way: str, reason: int) -> None:
    assert disconnected_by_broker()[way].take(Disconnect).reason == reason


@pytest.mark.spec("5.0:MQTT-3.14.2-2")
def test_the_brokers_disconnect_has_no_session_expiry_interval() -> None:
    for client in disconnected_by_broker().values():
        assert Property.SESSION_EXPIRY_INTERVAL not in client.take(Disconnect).properties


@pytest.mark.spec("5.0:MQTT-3.14.2-3", "5.0:MQTT-3.1.2-24")
def test_a_reason_string_that_does_not_fit_is_left_out_of_a_real_disconnect() -> None:
    client = MemoryBroker().connect("c", properties={Property.MAXIMUM_PACKET_SIZE: 30})
    client.send_raw(b"\x60\2\0\1")
    assert client.take(Disconnect) == Disconnect(ReasonCode.MALFORMED_PACKET)


@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(
            {Property.REASON_STRING: "w" * 60}, marks=pytest.mark.spec("5.0:MQTT-3.14.2-3")
        ),
        pytest.param(
            {Property.USER_PROPERTY: [("k", "w" * 60)]}, marks=pytest.mark.spec("5.0:MQTT-3.14.2-4")
        ),
    ],
)
def test_an_explanation_that_does_not_fit_is_left_out(properties: Properties) -> None:
    packet = Disconnect(ReasonCode.QUOTA_EXCEEDED, dict(properties))
    limit = len(encode(packet, 5)) - 1
    client = MemoryBroker().connect(properties={Property.MAXIMUM_PACKET_SIZE: limit})
    client.connection.send_packet(packet)
    client.flush()
    assert client.take(Disconnect) == Disconnect(ReasonCode.QUOTA_EXCEEDED)


# -- what is received -----------------------------------------------------------------------------


@pytest.mark.parametrize("flags", range(1, 16))
@pytest.mark.spec("5.0:MQTT-3.14.1-1")
def test_a_disconnect_with_flags_is_malformed(flags: int) -> None:
    client = MemoryBroker().connect()
    client.send_raw(bytes((0xE0 | flags, 0)))
    assert client.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-3.14.2-1")
def test_a_disconnect_with_the_reason_of_another_packet_is_malformed() -> None:
    client = MemoryBroker().connect()
    client.send(Disconnect(ReasonCode.NO_MATCHING_SUBSCRIBERS))
    assert client.take(Disconnect).reason == ReasonCode.MALFORMED_PACKET


@pytest.mark.spec("5.0:MQTT-3.14.4-1", "5.0:MQTT-3.14.4-2")
@pytest.mark.parametrize("way", ["keep alive", "taken over", "shut down", "malformed"])
def test_nothing_follows_the_brokers_disconnect_and_it_closes(way: str) -> None:
    client = disconnected_by_broker()[way]
    client.take(Disconnect)
    client.connection.receive(encode(Pingreq(), 5), client.broker.now)
    client.broker.flush()
    assert client.received == []
    assert client.is_closed


@pytest.mark.spec("5.0:MQTT-3.14.4-1")
def test_packets_behind_a_violation_in_the_same_read_have_no_effect() -> None:
    broker = MemoryBroker()
    watcher, client = broker.connect("watcher"), broker.connect("client")
    watcher.subscribe("#")
    client.send_raw(b"\x60\2\0\1" + encode(Publish("t", b"x"), 5) + encode(Pingreq(), 5))
    assert len(client.take_all(Disconnect)) == 1
    assert watcher.received == []


def test_packets_behind_a_clients_disconnect_have_no_effect() -> None:
    broker = MemoryBroker()
    watcher, client = broker.connect("watcher"), broker.connect("client")
    watcher.subscribe("#")
    client.send(Disconnect(), Publish("t", b"x"), Pingreq())
    assert watcher.received == []
    assert client.received == []
    assert client.is_closed


# -- the Will -------------------------------------------------------------------------------------


@pytest.mark.spec("5.0:MQTT-3.14.4-3")
@pytest.mark.parametrize("delay", [0, 30])
def test_disconnect_0_discards_the_will_for_ever(delay: int) -> None:
    broker = MemoryBroker()
    watcher = broker.connect("watcher")
    watcher.subscribe("#")
    last = will("gone", properties={Property.WILL_DELAY_INTERVAL: delay})
    broker.connect("client", will=last, properties=STAY).disconnect()
    broker.pass_time(1000)
    assert watcher.received == []


@pytest.mark.spec("5.0:MQTT-3.14.4-3")
def test_disconnect_4_asks_for_the_will() -> None:
    broker = MemoryBroker()
    watcher = broker.connect("watcher")
    watcher.subscribe("#")
    client = broker.connect("client", will=will("gone", b"bye"))
    client.disconnect(ReasonCode.DISCONNECT_WITH_WILL_MESSAGE)
    assert watcher.messages() == [("gone", b"bye")]


# -- the session expiry interval ------------------------------------------------------------------


def test_a_disconnect_may_change_the_session_expiry_interval() -> None:
    broker = MemoryBroker()
    client = broker.connect("client", properties={Property.SESSION_EXPIRY_INTERVAL: 10})
    client.disconnect(properties={Property.SESSION_EXPIRY_INTERVAL: 100})
    broker.pass_time(50)
    again = broker.connect("client", clean_start=False)
    assert again.connack is not None
    assert again.connack.session_present


def test_a_disconnect_may_not_wish_a_session_that_the_connect_did_not() -> None:
    client = MemoryBroker().connect("client")
    client.disconnect(properties={Property.SESSION_EXPIRY_INTERVAL: 100})
    assert client.take(Disconnect).reason == ReasonCode.PROTOCOL_ERROR
