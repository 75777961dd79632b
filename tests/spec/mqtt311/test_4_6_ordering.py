"""MQTT 3.1.1, section 4.6: what keeps its order."""

import pytest

from broker.packets.types import Puback, Pubcomp, Publish, Pubrec, Pubrel
from tests.support.broker import MemoryBroker, MemoryClient


def subscriber(broker: MemoryBroker, name: str = "alice") -> MemoryClient:
    """A persistent subscriber to everything at QoS 2."""
    client = broker.connect(name, version=4, clean_start=False)
    client.subscribe("#", qos=2)
    return client


def resumed(client: MemoryClient) -> MemoryClient:
    """The same client after its link broke."""
    client.lose()
    return client.broker.connect(client.connection.client_id, version=4, clean_start=False)


def payloads(client: MemoryClient) -> list[bytes]:
    """What came, acknowledged until nothing more comes."""
    found = []
    while client.received:
        message = client.take(Publish)
        found.append(message.payload)
        rest, client.received = client.received, []
        client.acknowledge(message)
        client.received = rest + client.received
    return found


# -- sending again ---------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-4.6.0-1")
@pytest.mark.parametrize("qoses", [(1, 1, 1, 1), (2, 2, 2, 2), (1, 2, 1, 2), (2, 1, 1, 2)])
def test_messages_are_sent_again_in_the_order_of_the_first_time(qoses: tuple[int, ...]) -> None:
    broker = MemoryBroker()
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    for number, qos in enumerate(qoses):
        bob.publish("t", b"%d" % number, qos=qos)
    for _ in range(3):
        alice = resumed(alice)
        messages = list(alice.received)
        assert alice.messages() == [("t", b"%d" % number) for number in range(4)]
    alice.acknowledge(messages[1])  # type: ignore[arg-type]  # the assertion before has seen to that
    assert [each.payload for each in resumed(alice).take_all(Publish)] == [b"0", b"2", b"3"]


@pytest.mark.spec("3.1.1:MQTT-4.6.0-1")
def test_what_waited_comes_after_what_is_sent_again() -> None:
    broker = MemoryBroker(max_inflight=2)
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    for number in range(4):
        bob.publish("t", b"%d" % number, qos=1)
    alice.lose()
    bob.publish("t", b"4", qos=1)
    alice = broker.connect("alice", version=4, clean_start=False)
    assert payloads(alice) == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.spec("3.1.1:MQTT-4.6.0-1")
@pytest.mark.parametrize(("qos", "wrong"), [(2, Puback), (1, Pubrec), (2, Pubcomp)])
def test_a_wrong_acknowledgement_closes_the_connection_and_leaves_the_order(
    qos: int, wrong: type[Puback]
) -> None:
    broker = MemoryBroker()
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    for number in range(3):
        bob.publish("t", b"%d" % number, qos=qos)
    first = alice.take(Publish)
    alice.send(wrong(first.packet_id))
    assert alice.is_closed
    alice = broker.connect("alice", version=4, clean_start=False)
    assert [each.payload for each in alice.take_all(Publish)] == [b"0", b"1", b"2"]


# -- acknowledgements ------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-4.6.0-2", "3.1.1:MQTT-4.6.0-6")
def test_pubacks_come_in_the_order_of_the_messages() -> None:
    bob = MemoryBroker().connect("bob", version=4)
    order = [9, 3, 7, 1, 65_535, 2]
    bob.send(*(Publish("t", b"", 1, packet_id=each) for each in order))
    assert [each.packet_id for each in bob.take_all(Puback)] == order


@pytest.mark.spec("3.1.1:MQTT-4.6.0-3")
def test_pubrecs_come_in_the_order_of_the_messages() -> None:
    bob = MemoryBroker().connect("bob", version=4)
    order = [9, 3, 7, 1, 65_535, 2, 9, 3]  # the last two are repetitions
    bob.send(*(Publish("t", b"", 2, packet_id=each) for each in order))
    assert [each.packet_id for each in bob.take_all(Pubrec)] == order


@pytest.mark.spec("3.1.1:MQTT-4.6.0-4")
def test_pubrels_come_in_the_order_of_the_pubrecs() -> None:
    broker = MemoryBroker()
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    for _ in range(4):
        bob.publish("t", qos=2)
    one, two, three, four = (each.packet_id for each in alice.take_all(Publish))
    order = [three, one, four, two]
    alice.send(*map(Pubrec, order))
    assert [each.packet_id for each in alice.take_all(Pubrel)] == order
    assert [each.packet_id for each in resumed(alice).take_all(Pubrel)] == order


# -- messages --------------------------------------------------------------------------------------


@pytest.mark.spec("3.1.1:MQTT-4.6.0-5", "3.1.1:MQTT-4.6.0-6")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("topic", ["t", "a/b/c", "/", "$own/topic"])
def test_each_publishers_messages_keep_their_order_on_every_topic(qos: int, topic: str) -> None:
    broker = MemoryBroker()
    alice = broker.connect("alice", version=4)
    alice.subscribe(topic, qos=2)
    publishers = [broker.connect(f"bob-{n}", version=4) for n in range(3)]
    for number in range(20):
        for name, publisher in enumerate(publishers):
            publisher.publish(topic, b"%d %d" % (name, number), qos=qos)
            publisher.received.clear()
    found = payloads(alice)
    for name in range(3):
        own = [each for each in found if each.startswith(b"%d " % name)]
        assert own == [b"%d %d" % (name, number) for number in range(20)]


@pytest.mark.spec("3.1.1:MQTT-4.6.0-6")
@pytest.mark.parametrize("qos", [1, 2])
def test_the_order_is_kept_through_a_full_window_and_an_absence(qos: int) -> None:
    broker = MemoryBroker(max_inflight=3)
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    for number in range(10):
        bob.publish("t", b"%d" % number, qos=qos)
    assert len(alice.received) == 3
    alice = resumed(alice)
    alice.lose()
    for number in range(10, 20):
        bob.publish("t", b"%d" % number, qos=qos)
    alice = broker.connect("alice", version=4, clean_start=False)
    bob.publish("t", b"20", qos=qos)
    assert payloads(alice) == [b"%d" % number for number in range(21)]


@pytest.mark.spec("3.1.1:MQTT-4.6.0-6")
def test_the_order_is_kept_for_a_client_that_reads_slowly() -> None:
    broker = MemoryBroker(outbox_limit=64)
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    alice.stop_reading()
    for number in range(30):
        bob.publish("t", b"%d" % number, qos=1)
    alice.resume_reading()
    bob.publish("t", b"30", qos=1)
    assert payloads(alice) == [b"%d" % number for number in range(31)]


@pytest.mark.spec("3.1.1:MQTT-4.6.0-6")
def test_a_retained_message_comes_before_those_published_after_the_subscription() -> None:
    broker = MemoryBroker(max_inflight=1)
    bob = broker.connect("bob", version=4)
    bob.publish("t", b"0", qos=1, retain=True)
    alice = subscriber(broker)
    for number in range(1, 4):
        bob.publish("t", b"%d" % number, qos=1, retain=True)
    assert payloads(alice) == [b"0", b"1", b"2", b"3"]


@pytest.mark.spec("3.1.1:MQTT-4.6.0-6")
def test_one_subscribers_slowness_does_not_disturb_the_order_of_another() -> None:
    broker = MemoryBroker(max_inflight=2)
    slow, quick = subscriber(broker, "slow"), subscriber(broker, "quick")
    bob = broker.connect("bob", version=4)
    found = []
    for number in range(10):
        bob.publish("t", b"%d" % number, qos=1)
        found += payloads(quick)
    assert found == payloads(slow) == [b"%d" % number for number in range(10)]


@pytest.mark.spec("3.1.1:MQTT-4.6.0-1")
def test_an_acknowledgement_of_what_is_about_to_be_sent_again_leaves_the_rest_in_order() -> None:
    broker = MemoryBroker(outbox_limit=64)
    alice, bob = subscriber(broker), broker.connect("bob", version=4)
    for number in range(20):
        bob.publish("t", b"%d" % number, qos=1)
    numbers = {each.packet_id: each.payload for each in alice.take_all(Publish)}
    alice.lose()
    alice = broker.client(version=4)
    alice.stop_reading()
    alice.connect("alice", clean_start=False)
    alice.send(Puback(list(numbers)[15]))  # which it has from the connection before
    alice.resume_reading()
    messages = [each for each in alice.received if isinstance(each, Publish)]
    assert [each.payload for each in messages] == [b"%d" % n for n in range(20) if n != 15]
