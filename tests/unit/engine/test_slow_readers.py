"""Who does not read costs himself something, and nobody else: the outbox is bounded in bytes, QoS 0
is shed and counted, QoS 1 and 2 wait, and at last the slow one is dropped.
"""

import pytest

from broker.packets.properties import Property
from broker.packets.types import Connect, Pingreq, Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.broker import MemoryBroker, MemoryClient, will

LIMIT = 10_000


def make_broker(**policy: object) -> MemoryBroker:
    return MemoryBroker(outbox_limit=LIMIT, stall_timeout=60.0, **policy)


def slow_subscriber(broker: MemoryBroker, qos: int, **fields: object) -> MemoryClient:
    slow = broker.connect("slow", **fields)
    slow.subscribe("t/#", qos=qos)
    slow.stop_reading()
    return slow


def waiting_for(client: MemoryClient) -> int:
    """Bytes in the broker's outbox for a client."""
    return client.connection._outbox_size


def test_qos_0_is_shed_and_counted_when_the_outbox_is_full() -> None:
    broker = make_broker()
    slow = slow_subscriber(broker, qos=0)
    publisher = broker.connect("publisher")
    for _ in range(200):
        publisher.publish("t/1", bytes(1000))
    assert waiting_for(slow) < LIMIT + 2000
    slow.resume_reading()
    came = len(slow.take_all(Publish))
    assert 9 <= came <= 11
    assert broker.engine.traffic.lost == {"slow_reader_qos_0": 200 - came}


@pytest.mark.parametrize("qos", [1, 2])
def test_qos_1_and_2_wait_in_the_session_and_arrive_in_order(qos: int) -> None:
    broker = make_broker()
    slow = slow_subscriber(broker, qos)
    publisher = broker.connect("publisher")
    for number in range(200):
        publisher.publish("t/1", bytes(1000) + bytes([number]), qos=qos)
    assert waiting_for(slow) < LIMIT + 2000
    slow.resume_reading()
    arrived: list[int] = []
    while slow.received:
        packet = slow.received.pop(0)
        if isinstance(packet, Pubrel):
            slow.send(Pubcomp(packet.packet_id))
            continue
        assert isinstance(packet, Publish)
        arrived.append(packet.payload[-1])
        slow.send(Puback(packet.packet_id) if qos == 1 else Pubrec(packet.packet_id))
    assert arrived == list(range(200))
    assert broker.engine.traffic.lost == {}


def test_the_publisher_is_answered_at_once_however_slow_the_subscriber() -> None:
    broker = make_broker()
    slow_subscriber(broker, qos=1)
    publisher = broker.connect("publisher")
    for _ in range(300):
        publisher.publish("t/1", bytes(1000), qos=1)
        assert publisher.take(Puback).reason == 0
    assert not publisher.held


def test_what_waits_in_the_session_is_bounded_in_bytes_and_the_rest_is_counted() -> None:
    broker = make_broker(backlog_size=50_000)
    slow_subscriber(broker, qos=1)
    publisher = broker.connect("publisher")
    for _ in range(300):
        publisher.publish("t/1", bytes(1000), qos=1)
    session = broker.engine.sessions.get("slow")
    assert session is not None
    assert session.waiting <= 50
    assert session.waiting + session.in_flight + broker.engine.traffic.lost["backlog_full"] == 300


def test_one_who_takes_no_byte_for_the_time_allowed_is_dropped() -> None:
    broker = make_broker()
    slow = slow_subscriber(broker, qos=0, keep_alive=0)
    broker.connect("publisher", keep_alive=0).publish("t/1", bytes(1000))
    broker.pass_time(59)
    assert not slow.is_closed
    broker.pass_time(2)
    assert slow.aborted


def test_the_will_of_a_dropped_slow_reader_is_published() -> None:
    broker = make_broker()
    watcher = broker.connect("watcher", keep_alive=0)
    watcher.subscribe("gone")
    slow_subscriber(broker, qos=0, keep_alive=0, will=will("gone"))
    broker.pass_time(61)
    assert watcher.messages() == [("gone", b"gone")]


@pytest.mark.parametrize("packet", [Pingreq(), Publish("x", b"", 1, packet_id=1)])
def test_one_who_reads_no_answers_is_not_listened_to(packet: Pingreq | Publish) -> None:
    broker = make_broker()
    client = broker.connect("talker")
    client.stop_reading()
    for _ in range(1000):
        if client.held:
            break
        client.send(*[packet] * 1000)
    assert client.held
    assert waiting_for(client) < LIMIT + 65_536 + 10 * 1000
    client.resume_reading()
    assert not client.held


def test_a_long_replay_goes_out_in_turns_and_completely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = MemoryBroker()
    publisher = broker.connect("publisher")
    for number in range(400):
        publisher.publish(f"t/{number}", bytes(1000), retain=True)
    reader = broker.connect("reader")
    sizes: list[int] = []
    arrive = reader._arrive

    def measure(data: bytes) -> None:
        sizes.append(len(data))
        arrive(data)

    monkeypatch.setattr(reader, "_arrive", measure)
    reader.subscribe("t/#")
    assert len(reader.take_all(Publish)) == 400
    assert max(sizes) < 70_000
    assert len(sizes) > 5


def test_a_replay_through_a_tiny_outbox_does_not_go_deep() -> None:
    broker = MemoryBroker(outbox_limit=100)
    publisher = broker.connect("publisher")
    for number in range(3000):
        publisher.publish(f"t/{number}", bytes(200), retain=True)
    reader = broker.connect("reader")
    reader.subscribe("t/#")
    assert len(reader.take_all(Publish)) == 3000


def test_a_returning_client_is_sent_again_what_it_has_missed_without_filling_the_outbox() -> None:
    broker = make_broker()
    kept = {Property.SESSION_EXPIRY_INTERVAL: 1000}
    reader = broker.connect("reader", properties=kept)
    reader.subscribe("t", qos=1)
    publisher = broker.connect("publisher")
    for _ in range(90):
        publisher.publish("t", bytes(1000), qos=1)
    reader.lose()
    again = broker.client()
    again.stop_reading()
    again.send(Connect("reader", clean_start=False, properties=kept))
    assert waiting_for(again) < LIMIT + 2000
    again.resume_reading()
    assert sum(isinstance(each, Publish) and each.dup for each in again.received) == 90
