"""Session state (MQTT 5 section 4.1): how long it is kept, and what belongs to it; and into
whose session a message goes (section 4.5).
"""

import pytest

from broker.packets.properties import Property
from broker.packets.types import Publish, Pubrec, Pubrel, Suback, Subscribe, SubscriptionRequest
from tests.support.broker import MemoryBroker, MemoryClient

DAY = 86_400


def connect(
    broker: MemoryBroker, client_id: str, expiry: int = 600, **fields: bool
) -> MemoryClient:
    return broker.connect(
        client_id, properties={Property.SESSION_EXPIRY_INTERVAL: expiry}, **fields
    )


def session_is_present(broker: MemoryBroker, client_id: str) -> bool:
    connack = connect(broker, client_id, clean_start=False).connack
    assert connack is not None
    return connack.session_present


# -- how long -------------------------------------------------------------------------------------


@pytest.mark.parametrize("expiry", [0, 1, 600])
@pytest.mark.spec("5.0:MQTT-4.1.0-1")
def test_session_state_stays_while_the_connection_is_open(expiry: int) -> None:
    broker = MemoryBroker()
    client, other = connect(broker, "client", expiry), broker.connect("other")
    client.subscribe("t", qos=2)
    other.publish("t", b"1", qos=2)
    packet_id = client.take(Publish).packet_id
    broker.pass_time(10 * DAY)
    client.send(Pubrec(packet_id))
    assert client.take(Pubrel) == Pubrel(packet_id)
    other.publish("t", b"2")
    assert client.messages() == [("t", b"2")]


@pytest.mark.spec("5.0:MQTT-4.1.0-1")
def test_an_interval_that_began_with_an_earlier_connection_does_not_end_the_next() -> None:
    broker = MemoryBroker()
    connect(broker, "client", 10).subscribe("t")
    client = connect(broker, "client", 10, clean_start=False)  # takes over
    client.lose()
    broker.pass_time(9)
    client = connect(broker, "client", 10, clean_start=False)
    broker.pass_time(DAY)
    broker.connect("other").publish("t", b"x")
    assert client.messages() == [("t", b"x")]


@pytest.mark.spec("5.0:MQTT-4.1.0-1")
def test_the_interval_of_a_discarded_session_does_not_end_its_successor() -> None:
    broker = MemoryBroker()
    connect(broker, "client", 10).lose()
    client = connect(broker, "client", 10, clean_start=True)
    client.subscribe("t")
    broker.pass_time(DAY)
    broker.connect("other").publish("t", b"x")
    assert client.messages() == [("t", b"x")]
    client.lose()
    broker.pass_time(9)
    assert session_is_present(broker, "client")


@pytest.mark.parametrize(("absent", "present"), [(9.5, True), (10.5, False)])
@pytest.mark.spec("5.0:MQTT-4.1.0-2")
def test_session_state_goes_when_its_interval_has_run_out(absent: float, present: bool) -> None:
    broker = MemoryBroker()
    connect(broker, "client", 10).lose()
    broker.pass_time(absent)
    assert session_is_present(broker, "client") is present


@pytest.mark.spec("5.0:MQTT-4.1.0-2")
def test_the_interval_counts_from_the_last_close() -> None:
    broker = MemoryBroker()
    for _ in range(4):
        client = connect(broker, "client", 10, clean_start=False)
        client.lose()
        broker.pass_time(9)
    assert session_is_present(broker, "client")


@pytest.mark.spec("5.0:MQTT-4.1.0-2")
@pytest.mark.parametrize("way", ["lose", "disconnect"])
def test_without_an_interval_session_state_goes_with_the_connection(way: str) -> None:
    broker = MemoryBroker()
    client = broker.connect("client")
    client.subscribe("t")
    getattr(client, way)()
    assert not session_is_present(broker, "client")
    assert len(broker.engine.router) == 0


@pytest.mark.spec("5.0:MQTT-4.1.0-2")
def test_the_largest_interval_never_runs_out() -> None:
    broker = MemoryBroker()
    connect(broker, "client", 0xFFFFFFFF).lose()
    broker.pass_time(200 * 365 * DAY)
    assert session_is_present(broker, "client")


@pytest.mark.spec("5.0:MQTT-4.1.0-2")
def test_nothing_of_a_session_that_ended_comes_back() -> None:
    broker = MemoryBroker()
    client, other = connect(broker, "client", 10), broker.connect("other")
    client.subscribe("t", qos=2)
    other.publish("t", b"in flight", qos=2)
    client.publish("u", b"unreleased", qos=2, packet_id=5)
    client.lose()
    other.publish("t", b"waiting", qos=2)
    broker.pass_time(11)
    client = connect(broker, "client", 10, clean_start=False)
    other.publish("t", b"new", qos=2)
    assert client.received == []
    watcher = broker.connect("watcher")
    watcher.subscribe("u")
    client.publish("u", b"another", qos=2, packet_id=5)
    assert watcher.messages() == [("u", b"another")]


# -- what belongs to it ---------------------------------------------------------------------------


def test_subscriptions_with_their_options_belong_to_the_session() -> None:
    broker = MemoryBroker()
    client = connect(broker, "client")
    number = {Property.SUBSCRIPTION_IDENTIFIER: [7]}
    client.subscribe("t", 1, no_local=True, retain_as_published=True, properties=number)
    client.lose()
    client = connect(broker, "client", clean_start=False)
    client.publish("t", b"own")
    broker.connect("other").publish("t", b"x", qos=2, retain=True)
    publish = client.take(Publish)
    assert (publish.payload, publish.qos, publish.retain) == (b"x", 1, True)
    assert publish.properties[Property.SUBSCRIPTION_IDENTIFIER] == [7]


@pytest.mark.parametrize("qos", [1, 2])
def test_retained_messages_that_were_still_to_come_belong_to_the_session(qos: int) -> None:
    broker = MemoryBroker()
    other = broker.connect("other")
    for n in range(4):
        other.publish(f"t/{n}", b"kept", qos=qos, retain=True)
    one = {Property.RECEIVE_MAXIMUM: 1, Property.SESSION_EXPIRY_INTERVAL: 600}
    client = broker.connect("client", properties=one)
    client.send(Subscribe(1, [SubscriptionRequest("t/+", qos)]))
    client.take(Suback)
    client.acknowledge(client.take(Publish))
    client.lose()
    other.publish("t/0", b"newer", qos=qos)
    client = broker.connect("client", clean_start=False, properties=one)
    received = []
    while client.received:
        publish = client.take(Publish)
        received.append((publish.payload, publish.retain))
        client.acknowledge(publish)
    assert received == [(b"kept", True)] * 3 + [(b"newer", False)]


# -- into whose session a message goes ------------------------------------------------------------


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.spec("5.0:MQTT-4.5.0-1")
def test_a_message_reaches_every_session_with_a_matching_subscription(qos: int) -> None:
    broker = MemoryBroker()
    here, busy = connect(broker, "here"), connect(broker, "busy")
    away, elsewhere = connect(broker, "away"), connect(broker, "elsewhere")
    here.subscribe("a/+", qos)
    busy.subscribe("#", qos)
    away.subscribe("a/b", qos)
    elsewhere.subscribe("c", qos)
    busy.stop_reading()
    away.lose()
    broker.connect("publisher").publish("a/b", b"x", qos)
    busy.resume_reading()
    away = connect(broker, "away", clean_start=False)
    assert here.messages() == busy.messages() == away.messages() == [("a/b", b"x")]
    assert elsewhere.received == []
